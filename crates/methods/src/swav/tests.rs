use std::collections::BTreeMap;

use ocelli_models::{PositionRule, Vit, VitConfig};

use super::*;
use crate::swav::SIGNS;

const IMAGES: usize = 16;

fn swav(config: &SwavConfig) -> Swav<Vit> {
    let vit = VitConfig {
        image_size_px: 8,
        patch_size_px: 4,
        dim: 12,
        depth: 1,
        heads: 2,
        mlp_ratio: 2,
        drop_path: 0.0,
        registers: 0,
        position_rule: PositionRule::Dino,
    };
    Swav::new(config, IMAGES, |init: &mut Init| vit.init(init), 1, &Device::flex()).unwrap()
}

fn config() -> SwavConfig {
    SwavConfig {
        prototypes: 20,
        hidden_dim: 16,
        out_dim: 8,
        queue: 40,
        queue_from_epoch: 1,
        ..SwavConfig::default()
    }
}

/// Two views of noise that are nearly the same, and of images that all are.
fn batch(alike: bool) -> Batch {
    let mut init = Init::new(3, &Device::flex());
    let images = init.uniform([IMAGES, 3, 8, 8], 2.0).val();
    let images = if alike { images.narrow(0, 0, 1).repeat_dim(0, IMAGES) } else { images };
    let mut noise = || init.uniform([IMAGES, 3, 8, 8], if alike { 0.0 } else { 0.1 }).val();
    let views = vec![images.clone() + noise(), images + noise()];
    Batch::of_views(vec![Tensor::cat(views, 0)], IMAGES)
}

fn clock(epoch: usize, iteration: usize) -> StepClock {
    StepClock { epoch, iteration, micro_batch: 0, momentum: 0.0, seed: 0 }
}

fn figures(method: &mut Swav<Vit>, batch: &Batch) -> BTreeMap<&'static str, f64> {
    method.before_step(&clock(0, 0));
    let scalars = method.loss(batch, &clock(0, 0)).scalars;
    scalars.into_iter().map(|(name, value)| (name, f64::from(value.into_scalar::<f32>()))).collect()
}

#[test]
fn a_collapse_is_seen_and_a_beginning_is_none() {
    let mut method = swav(&config());
    let levels = method.levels();
    let seen = |row: &BTreeMap<&'static str, f64>| {
        SIGNS.iter().filter(|s| s.is_seen(row, &levels)).map(|s| s.name).collect::<Vec<_>>()
    };
    let healthy = figures(&mut method, &batch(false));
    assert_eq!(seen(&healthy), Vec::<&str>::new(), "{healthy:?}");
    assert!(healthy["top1"] > 0.3 && healthy["prototypes_used"] > 0.2, "{healthy:?}");
    let alike = figures(&mut method, &batch(true));
    let found = seen(&alike);
    assert!(found.contains(&"uniform_codes") && found.contains(&"constant_features"), "{found:?} {alike:?}");
    assert!((alike["prototypes_used"] - 1.0 / 20.0).abs() < 1e-6, "{alike:?}");
}

#[test]
fn agreement_and_use_are_counted() {
    let of = |rows: &[[f32; 3]]| {
        let data = burn::tensor::TensorData::new(rows.concat(), [rows.len(), 3]);
        Tensor::<2>::from_data(data, &Device::flex())
    };
    let [a, b, c] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    // Of two images three views: the first's codes are a and c in both crops, the second's b.
    let codes = [of(&[a, b]), of(&[c, b])];
    let scores = of(&[c, b, a, a, a, b]);
    let (top1, used) = first_prototypes(scores, &codes, 2);
    // View 1 is asked for crop 2's codes: c, b, both right. View 2 for crop 1's: a right, b wrong. View 3 for both: a and b are
    // crop 1's, of crop 2's only b.
    assert_eq!(top1.into_scalar::<f32>(), 6.0 / 8.0);
    assert_eq!(used.into_scalar::<f32>(), 1.0);
}

#[test]
fn the_queue_waits_for_its_epoch_and_holds_whole_batches() {
    let mut method = swav(&config());
    assert_eq!(method.held_values(), 2 * 32 * 8);
    for (iteration, epoch, full) in [(0, 0, None), (1, 1, Some(false)), (2, 1, Some(true))] {
        method.before_step(&clock(epoch, iteration));
        method.loss(&batch(false), &clock(epoch, iteration));
        method.after_step(&clock(epoch, iteration));
        assert_eq!(method.queue().map(EmbeddingQueue::is_full), full, "{iteration}");
    }
    let state = method.state().unwrap();
    let mut other = swav(&SwavConfig { queue: 16, ..config() });
    let before = other.state().unwrap();
    let message = other.load_state(&state).unwrap_err().to_string();
    assert!(message.contains("swav.queue") && message.contains("[2, 32, 8]"), "{message}");
    assert_eq!(other.state().unwrap().tensors, before.tensors, "a refused state changes nothing");
}
