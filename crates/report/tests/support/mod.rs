//! A run's folder, written by hand.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

pub const STEPS_PER_EPOCH: u64 = 20;
pub const START: f64 = 1_790_000_000.0;

/// What a run of DINO declares.
pub fn figures() -> Value {
    json!([
        {"name": "loss", "title": "Loss", "healthy": "Slowly down."},
        {"name": "teacher_entropy", "title": "Teacher entropy", "healthy": "Well above 0.", "from_zero": true,
         "level": "ln K", "headline": true, "bar": {"label": "H", "unit": "", "times": 1.0, "digits": 2}},
        {"name": "kl", "title": "KL divergence", "healthy": "Above 0.", "from_zero": true},
        {"name": "feature_std", "title": "Spread of the features", "healthy": "About 1.", "from_zero": true,
         "headline": true},
    ])
}

/// The rows of `epochs` epochs; the loss of step s is 5 − s/100, the k-NN of epoch e is 30 + e.
pub fn rows(epochs: u64) -> Vec<Value> {
    let mut rows = vec![json!({
        "event": "started", "images": 640, "steps_per_epoch": STEPS_PER_EPOCH, "epochs": epochs,
        "title": "DINO", "figures": figures(), "levels": [{"name": "ln K", "value": 256f64.ln()}],
        "signs": [{"name": "uniform", "meaning": "the teacher is uniform", "remedies": "a lower temperature"}],
        "views_about": "The student sees all of them.", "backbone_parameters": 469_728, "head_parameters": 123_456, "unix_s": START,
    })];
    for epoch in 0..epochs {
        for step in (epoch * STEPS_PER_EPOCH + 9..(epoch + 1) * STEPS_PER_EPOCH).step_by(10) {
            let s = step as f64;
            rows.push(json!({
                "event": "step", "epoch": epoch, "step": step, "loss": 5.0 - s / 100.0, "teacher_entropy": 4.5,
                "kl": 0.5 - s / 100.0, "feature_std": 0.75, "gradient_norm": 2.0 + s, "lr": 0.001,
                "max_parameter_gradient_norm": 1.0, "weight_decay": 0.04, "momentum": 0.99,
                "images_per_second": 321.0, "unix_s": START + s,
            }));
        }
        if epoch == 0 {
            rows.push(json!({
                "event": "baseline", "raw_pixels": {"10": 21.5, "20": 22.5}, "untrained": {"10": 17.0, "20": 18.25},
                "unix_s": START + 19.1,
            }));
        }
        rows.push(json!({
            "event": "epoch", "epoch": epoch, "loss": 4.875, "teacher_entropy": 4.5, "kl": 0.375, "feature_std": 0.75,
            "max_parameter_gradient_norm": 1.0, "lr": 0.001, "weight_decay": 0.04, "momentum": 0.99,
            "knn": {"10": 29.0, "20": 30.0 + epoch as f64}, "wall_s": 2.0, "cpu_s": 4.0,
            "unix_s": START + ((epoch + 1) * STEPS_PER_EPOCH) as f64 - 0.5,
        }));
    }
    rows
}

pub fn finished(mut rows: Vec<Value>) -> Vec<Value> {
    rows.push(json!({"event": "finished", "wall_s": 100.0, "unix_s": START + 100.0}));
    rows
}

pub fn text(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// A folder with everything a run writes.
pub fn write_run(dir: &Path, metrics: &str, data: &str) {
    fs::create_dir_all(dir.join("checkpoints")).unwrap();
    let config = "method = \"dino\"\narch = \"vit-96x4x3/8\"\nepochs = 3\nbatch_size = 32\n[optim]\nlr = 0.012\nclip_grad = 3.0\n";
    fs::write(dir.join("config.toml"), config).unwrap();
    let manifest = json!({
        "ocelli": "0.1.0", "device": "CPU", "data": data, "started_unix_s": START as u64,
        "command": ["ocelli", "pretrain", "--data", data],
    });
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    fs::write(dir.join("metrics.jsonl"), metrics).unwrap();
    fs::write(dir.join("checkpoints/epoch-0003.safetensors"), vec![0; 1500]).unwrap();
}
