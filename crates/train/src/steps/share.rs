//! How processes share the steps of a run.

use crate::RunConfig;
use crate::config::ConfigError;

/// How several processes, W of them, share the micro-batches of a step, which are numbered through: rank r computes those with the
/// numbers i·W + r.
///
/// Where a method's loss is a mean over images these are the parts of a batch (`accumulate`). Where it couples the images that are
/// computed at once, each part is divided over all processes, which compute it together: results do not depend on their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Micro-batches of one process.
    pub own: usize,
    /// Micro-batches of all.
    pub all: usize,
    /// Images in each.
    pub images: usize,
}

impl Share {
    /// Of so many processes.
    ///
    /// # Errors
    /// When they cannot share the steps of this configuration.
    pub fn of(config: &RunConfig, processes: usize) -> Result<Self, ConfigError> {
        let (processes, parts) = (processes.max(1), config.accumulate.max(1));
        let fail = |key, expected: String, found: usize| {
            Err(ConfigError::Value { key, expected, found: found.to_string() })
        };
        let images = config.batch_size / parts;
        if !config.recipe().needs.coupled {
            if !parts.is_multiple_of(processes) {
                let expected = format!(
                    "a multiple of the number of processes, {processes}: each of them computes as many of the parts of a batch, \
                     and a run goes on with as many parts as it began with"
                );
                return fail("accumulate", expected, parts);
            }
            return Ok(Self { own: parts / processes, all: parts, images });
        }
        let title = config.recipe().title;
        if !images.is_multiple_of(processes) {
            let expected = format!(
                "a multiple of the number of processes, {processes}, in each of {parts} parts (accumulate): {title} computes a part \
                 on all of them together"
            );
            return fail("batch_size", expected, config.batch_size);
        }
        let groups = config.resnet.norm_groups;
        if processes > 1 && groups > 1 && config.backbone().has_batch_norm() {
            let expected =
                format!("1 where {processes} processes train {title}, which normalise over all of their images");
            return fail("resnet.norm_groups", expected, groups);
        }
        Ok(Self { own: parts, all: parts * processes, images: images / processes })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use burn::tensor::Device;
    use ocelli_data::{SceneConfig, SceneSource, Source};
    use ocelli_methods::METHODS;
    use ocelli_models::weights::StateDict;
    use ocelli_world::{Alone, Shared as World, threads};

    use super::*;
    use crate::Steps;
    use crate::config::{TaskKind, resolve};

    const IMAGES: usize = 16;

    /// A method's laptop recipe at toy size. With SGD, as AdamW makes steps of the full rate of what is rounding, and at a low rate:
    /// where an activation is 0 but for rounding, ReLU lets all of a gradient through or nothing.
    fn toy(method: &str, own: &[&str]) -> RunConfig {
        let batch = format!("batch_size={IMAGES}");
        let common = [
            "arch=resnet-18c4",
            &batch,
            "epochs=3",
            "views.global_size_px=64",
            "resnet.norm_groups=1",
            "optim.optimizer=sgd",
            "optim.lr=1e-7",
            "optim.min_lr=1e-7",
            "optim.warmup_epochs=0",
            "optim.scale_base=0",
            "eval.every_epochs=0",
            "loader.threads=1",
        ];
        let sets: Vec<String> = common.iter().chain(own).map(|set| (*set).to_owned()).collect();
        resolve(Some(&format!("{method}-laptop")), None, &sets).unwrap()
    }

    fn methods() -> Vec<(&'static str, Vec<&'static str>)> {
        vec![
            ("simclr", vec!["simclr.hidden_dim=16", "simclr.out_dim=8"]),
            ("barlow", vec!["barlow.hidden_dim=16", "barlow.out_dim=16"]),
            ("vicreg", vec!["vicreg.dim=16"]),
            (
                "swav",
                vec![
                    "swav.prototypes=8",
                    "swav.hidden_dim=16",
                    "swav.out_dim=8",
                    "swav.queue=16",
                    "swav.queue_from_epoch=0",
                    "swav.freeze_prototypes_steps=0",
                ],
            ),
            ("deepcluster", vec!["views.local_size_px=32", "deepcluster.heads=[3, 4]", "deepcluster.out_dim=8"]),
            ("obow", vec!["views.global_size_px=40", "views.local_size_px=24", "obow.words=32"]),
        ]
    }

    /// Figures of every step of two epochs, and what is there after the first step and after the last.
    fn train(world: World, config: &RunConfig) -> (Vec<Vec<f32>>, [StateDict; 2]) {
        // An image more than whole batches: one without a place in DeepCluster's bank.
        let scenes = SceneConfig { count: 3 * IMAGES + 1, size_px: 64, ..SceneConfig::default() };
        let source: Arc<dyn Source> = Arc::new(SceneSource::new(scenes).unwrap());
        let mut steps = Steps::new_in(world, config, TaskKind::Pretraining, &Device::flex(), &source).unwrap();
        let (mut figures, mut first) = (Vec::new(), None);
        for epoch in 0..2 {
            steps.begin_epoch(epoch, 0);
            steps.look_through(usize::MAX).unwrap();
            for _ in 0..3 {
                let row = steps.step(figures.len()).unwrap();
                figures.push(row.into_data().try_to_vec().unwrap());
                first.get_or_insert_with(|| steps.state().unwrap());
            }
        }
        (figures, [first.unwrap(), steps.state().unwrap()])
    }

    fn together(ranks: usize, config: &RunConfig) -> Vec<(Vec<Vec<f32>>, [StateDict; 2])> {
        let worlds = threads(ranks);
        std::thread::scope(|scope| {
            let running: Vec<_> =
                worlds.iter().map(|world| scope.spawn(|| train(world.clone(), config))).collect();
            running.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    /// The largest difference, as a share of the largest value where that is above 1.
    fn apart(a: &[f32], b: &[f32]) -> f32 {
        let scale = a.iter().fold(1.0f32, |most, value| most.max(value.abs()));
        a.iter().zip(b).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f32::max)
    }

    /// The largest difference of any value whose name counts, and the name.
    fn most_apart<'a>(a: &'a StateDict, b: &StateDict, counts: fn(&str) -> bool) -> (f32, &'a str) {
        assert_eq!(a.tensors.len(), b.tensors.len());
        let mut most = (0.0, "");
        for ((name, a), (other, b)) in a.tensors.iter().zip(&b.tensors) {
            assert_eq!((name, &a.shape), (other, &b.shape));
            let apart = apart(&a.values, &b.values);
            if counts(name) && apart > most.0 {
                most = (apart, name);
            }
        }
        most
    }

    /// Losses, gradients (the optimizer's momentum after the first step), weights, running statistics, queues, banks and vocabularies
    /// of methods whose loss couples the batch: several processes with a share of it each against one with all, in one part and in
    /// two.
    ///
    /// An activation that is 0 but for rounding lets all of a gradient through or nothing. That may move the gradients of one of the
    /// three cases by some thousandths; a fault would show in all of them.
    #[test]
    fn coupled_methods_do_not_depend_on_the_number_of_processes() {
        let coupled = METHODS.iter().filter(|recipe| recipe.needs.coupled).map(|recipe| recipe.name);
        assert!(
            coupled.into_iter().all(|name| methods().iter().any(|(method, _)| *method == name)),
            "one is missing"
        );
        for (method, own) in methods() {
            let mut gradients = Vec::new();
            for (parts, ranks) in [(1, 2), (1, 4), (2, 2)] {
                let accumulate = format!("accumulate={parts}");
                let own: Vec<&str> = own.iter().copied().chain([accumulate.as_str()]).collect();
                let config = toy(method, &own);
                let (figures, [first, last]) = train(Arc::new(Alone), &config);
                assert!(figures.iter().flatten().all(|figure| figure.is_finite()), "{method}: {figures:?}");
                for (rank, (its_figures, [its_first, its_last])) in
                    together(ranks, &config).into_iter().enumerate()
                {
                    // The last two are norms of the gradients.
                    let told = |rows: &[Vec<f32>]| -> Vec<f32> {
                        rows.iter().flat_map(|row| row[..row.len() - 2].to_vec()).collect()
                    };
                    let figure = apart(&told(&figures), &told(&its_figures));
                    let (gradient, of) = most_apart(&first, &its_first, |_| true);
                    let (weight, name) = most_apart(&last, &its_last, |name| !name.starts_with("optimizer."));
                    let what = format!(
                        "{method} in {parts} parts, rank {rank} of {ranks}: figures {figure:e}, gradients {gradient:e} ({of}), \
                         weights {weight:e} ({name})"
                    );
                    println!("{what}");
                    assert!(figure < 1e-5 && gradient < 1e-2 && weight < 1e-5, "{what}");
                    gradients.push(gradient);
                }
            }
            let least = gradients.iter().copied().fold(f32::INFINITY, f32::min);
            assert!(least < 2e-5, "{method}: gradients {gradients:?}");
        }
    }

    #[test]
    fn shares_are_whole() {
        let dino = resolve(Some("laptop"), None, &["batch_size=24".into(), "accumulate=6".into()]).unwrap();
        assert_eq!(Share::of(&dino, 1).unwrap(), Share { own: 6, all: 6, images: 4 });
        assert_eq!(Share::of(&dino, 3).unwrap(), Share { own: 2, all: 6, images: 4 });
        assert!(Share::of(&dino, 4).unwrap_err().to_string().contains("accumulate: expected a multiple"));
        let simclr = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            resolve(Some("simclr-laptop"), None, &sets).unwrap()
        };
        let parts = simclr(&["batch_size=24", "accumulate=2"]);
        assert_eq!(Share::of(&parts, 1).unwrap(), Share { own: 2, all: 2, images: 12 });
        assert_eq!(Share::of(&parts, 3).unwrap(), Share { own: 2, all: 6, images: 4 });
        let message = Share::of(&parts, 5).unwrap_err().to_string();
        assert!(message.contains("batch_size: expected a multiple of the number of processes, 5"), "{message}");
        let groups = simclr(&["batch_size=24", "resnet.norm_groups=2"]);
        assert!(Share::of(&groups, 1).is_ok());
        assert!(Share::of(&groups, 3).unwrap_err().to_string().contains("resnet.norm_groups: expected 1"));
    }
}
