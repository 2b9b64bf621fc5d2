use std::collections::BTreeMap;

use ocelli_models::{PositionRule, Vit, VitConfig};

use super::*;

const EPOCH: Epoch = Epoch { images: 34, batch_size: 16, part: 16 };

fn deepcluster(heads: &[usize]) -> DeepCluster<Vit> {
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
    let config =
        DeepClusterConfig { heads: heads.to_vec(), hidden_dim: 16, out_dim: 8, ..DeepClusterConfig::default() };
    DeepCluster::new(&config, EPOCH, |init: &mut Init| vit.init(init), 1, &Device::flex()).unwrap()
}

/// Two views of noise that are nearly the same, and of images that all are.
fn batch(from: usize, alike: bool) -> Batch {
    let n = EPOCH.batch_size;
    let mut init = Init::new(from as u64, &Device::flex());
    let images = init.uniform([n, 3, 8, 8], 2.0).val();
    let images = if alike { images.narrow(0, 0, 1).repeat_dim(0, n) } else { images };
    let mut noise = || init.uniform([n, 3, 8, 8], if alike { 0.0 } else { 0.1 }).val();
    let views = vec![images.clone() + noise(), images + noise()];
    Batch { indices: (from..from + n).collect(), ..Batch::of_views(vec![Tensor::cat(views, 0)], n) }
}

fn clock(iteration: usize) -> StepClock {
    StepClock { epoch: 0, iteration, micro_batch: 0, momentum: 0.0, seed: 0 }
}

fn first_step(method: &mut DeepCluster<Vit>, alike: bool) -> BTreeMap<&'static str, f64> {
    for (t, from) in [0, 17].into_iter().enumerate() {
        assert!(method.wants_pass());
        method.see(&batch(from, alike), &clock(t));
    }
    assert!(!method.wants_pass());
    method.begin_epoch(0);
    let scalars = method.loss(&batch(0, alike), &clock(0)).scalars;
    method.after_step(&clock(0));
    scalars.into_iter().map(|(name, value)| (name, f64::from(value.into_scalar::<f32>()))).collect()
}

#[test]
fn a_collapse_is_seen_and_a_beginning_is_none() {
    let seen = |row: &BTreeMap<&'static str, f64>, levels: &[Level]| {
        SIGNS.iter().filter(|s| s.is_seen(row, levels)).map(|s| s.name).collect::<Vec<_>>()
    };
    let mut method = deepcluster(&[6, 4]);
    let healthy = first_step(&mut method, false);
    assert_eq!(seen(&healthy, &method.levels()), Vec::<&str>::new(), "{healthy:?}");
    assert!(healthy["top1"] > 0.5 && healthy["cluster_entropy"] > 0.7, "{healthy:?}");
    let mut method = deepcluster(&[6, 4]);
    let alike = first_step(&mut method, true);
    let found = seen(&alike, &method.levels());
    assert!(found.contains(&"one_cluster") && found.contains(&"constant_features"), "{found:?} {alike:?}");
    assert!(alike["empty_clusters"] > 0.6, "{alike:?}");
}

#[test]
fn an_epoch_is_clustered_once() {
    let mut method = deepcluster(&[5]);
    method.begin_epoch(0);
    assert!(method.clusters.is_none(), "there is nothing to cluster");
    first_step(&mut method, false);
    let state = method.state().unwrap();
    method.begin_epoch(0);
    assert_eq!(method.state().unwrap().tensors, state.tensors);
    method.begin_epoch(1);
    let next = method.state().unwrap();
    assert_ne!(next.get("assignments"), state.get("assignments"));
    assert_eq!(next.get("bank.next").unwrap().values, [0.0]);

    let mut other = deepcluster(&[5, 5]);
    let before = other.state().unwrap();
    let message = other.load_state(&state).unwrap_err().to_string();
    assert!(message.contains("deepcluster.heads") && message.contains("[1, 34]"), "{message}");
    assert_eq!(other.state().unwrap().tensors, before.tensors, "a refused state changes nothing");
}

#[test]
fn a_pass_that_is_taken_up_again_begins_anew() {
    let mut method = deepcluster(&[5]);
    method.see(&batch(3, false), &clock(0));
    method.see(&batch(0, false), &clock(0));
    assert!(method.wants_pass());
    // What is clustered before the bank is full starts from the rows there are.
    let mut wide = deepcluster(&[20]);
    wide.see(&batch(0, false), &clock(0));
    wide.begin_epoch(0);
    assert_eq!(wide.state().unwrap().get("centroids0").unwrap().shape, [20, 8]);
    // Images nobody has seen have no cluster, and without any the loss is 0.
    let scalars = wide.loss(&batch(18, false), &clock(1)).scalars;
    assert_eq!(scalars[0].1.clone().into_scalar::<f32>(), 0.0);
}

#[test]
fn more_prototypes_than_images_are_refused() {
    let own = (DEEPCLUSTER.sections)().unwrap();
    let views = crate::ViewSettings::default();
    let backbone =
        ocelli_models::BackboneConfig::ResNet("resnet-50".parse::<ocelli_models::ResNetArch>().unwrap().into());
    let of = |images| Facts {
        own: &own,
        views: &views,
        backbone: &backbone,
        batch_size: 64,
        accumulate: 1,
        images: Some(images),
        classes: None,
    };
    assert!(DEEPCLUSTER.check(&of(3008)).is_ok());
    let message = DEEPCLUSTER.check(&of(3007)).unwrap_err().to_string();
    assert!(message.contains("deepcluster.heads") && message.contains("at most 2944"), "{message}");
    assert!(message.contains("found 3000"), "{message}");
    assert!(check_heads(&[]).is_err() && check_heads(&[2, 1]).is_err());
}
