//! Training keeps its memory: the largest resident set of the fifty steps after step 50 and up to step 300 within 2 %.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use ocelli::data::{SceneConfig, SceneSource, Source};
use ocelli::train::{Event, Trainer, config};

/// Resident set of this process, bytes.
fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096.0
}

/// Growth of the resident set over a run of 300 steps and the sizes it is computed from.
fn growth(preset: &str, sets: &[&str]) {
    let scenes = SceneSource::new(SceneConfig { count: 400, ..SceneConfig::default() }).unwrap();
    let source: Arc<dyn Source> = Arc::new(scenes);
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    let config = config::resolve(Some(preset), None, &sets).unwrap();
    let mut trainer = Trainer::new(&config, &support::device(), &source, None).unwrap();
    // Fifty steps each: a loader that was held up by other work has fewer batches in memory for a while.
    let mut at = [0.0f64; 2];
    trainer
        .run(None, &mut |event| {
            match event {
                Event::Tick { step: 51..=100 } => at[0] = at[0].max(resident_bytes()),
                Event::Tick { step: 251..=300 } => at[1] = at[1].max(resident_bytes()),
                _ => {}
            }
            Ok(())
        })
        .unwrap();
    let growth = at[1] / at[0] - 1.0;
    println!(
        "{preset}: after 50 steps {:.1} MB, after 300 {:.1} MB: {:+.2} %",
        at[0] / 1e6,
        at[1] / 1e6,
        100.0 * growth
    );
    assert!(growth < 0.02, "{preset}: the resident set grew by {:.1} %", 100.0 * growth);
}

/// One after the other: they share the process.
#[test]
fn three_hundred_steps_keep_their_memory() {
    growth(
        "demo",
        &[
            // Batches waiting for the trainer come and go; with few of them, and a network that outweighs them, what is
            // left is what training keeps.
            "loader.prefetch=1",
            // The last layer's moments come into being when it thaws; here that is at once.
            "dino.freeze_last_layer_epochs=0",
            "arch=vit-96x3x3/8",
            "epochs=6",
            "batch_size=8",
            "optim.warmup_epochs=1",
            "dino.head.out_dim=16384",
            "dino.head.hidden_dim=64",
            "dino.head.bottleneck_dim=32",
            "eval.every_epochs=0",
        ],
    );
    // As elsewhere, a matter of the arithmetic, not of the device.
    if std::env::var("OCELLI_TEST_DEVICE").is_ok_and(|device| device != "cpu") {
        return;
    }
    growth(
        "densecl-laptop",
        &[
            "loader.prefetch=1",
            "epochs=6",
            "batch_size=8",
            "moco.queue=320",
            "arch=resnet-18c4",
            "views.global_size_px=32",
            // A head that outweighs the batches.
            "moco.hidden_dim=4096",
            "eval.every_epochs=0",
        ],
    );
}
