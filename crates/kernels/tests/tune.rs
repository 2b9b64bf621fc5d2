//! Choices made ahead of time, on the device under test. In a process of its own: from the first one on, everything is measured.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use burn::tensor::Device;
use ocelli_kernels::{choices, keep_choices};
use ocelli_train::config::resolve;
use ocelli_train::tune::Work;

#[test]
fn a_step_chooses_for_every_operation_once() {
    let name = std::env::var("OCELLI_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    let device = ocelli_train::device::open(name.parse().unwrap()).unwrap().device;
    let file = std::env::temp_dir().join(format!("ocelli-tune-{}.tsv", std::process::id()));
    keep_choices("an adapter", Some(file.clone()));
    let sets = ["batch_size=2", "arch=vit-32x3x1/8", "dino.head.out_dim=64", "dino.head.hidden_dim=32"];
    let config = resolve(Some("laptop"), None, &sets.map(str::to_owned)).unwrap();
    Work::Step("laptop".to_owned(), Box::new(config)).choose(&device).unwrap();
    let found = choices().unwrap();
    if device == Device::flex() {
        assert!(found.is_empty() && !file.exists(), "the CPU has nothing to choose");
        return;
    }
    for operation in ["linear", "mlp branch", "attention branch"] {
        for training in [false, true] {
            let is = |class: &str| class.starts_with(operation) && class.ends_with(" training") == training;
            assert!(found.iter().any(|c| is(&c.class)), "{operation}, training {training}: {found:#?}");
        }
    }
    let kept = std::fs::read_to_string(&file).unwrap();
    assert_eq!(kept.lines().count(), found.len() + 1, "{kept}");
    std::fs::remove_file(&file).unwrap();
}
