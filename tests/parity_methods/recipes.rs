//! What holds for every method: it trains, goes on bit for bit, and declares everything it has.

use std::collections::HashSet;

use burn::tensor::Tensor;
use ocelli::data::ViewBox;
use ocelli::methods::{Batch, METHODS, Method, Recipe, StepClock};
use ocelli::models::weights::StateDict;
use ocelli::models::{BackboneKind, Init};
use ocelli::train::device::{DeviceChoice, open};
use ocelli::train::{Event, Pretraining, RunConfig, Task, TrainError, Trainer, config};

use crate::support::tiny::{Tiny, methods};
use crate::support::values;

/// Three steps an epoch, two epochs.
const TINY: Tiny = Tiny { images: 12, batch: 4, most: 8, epochs: 2 };
const PER_EPOCH: usize = 3;
const STEPS: usize = 6;

fn cpu() -> burn::tensor::Device {
    open(DeviceChoice::Cpu).unwrap().device
}

/// On another device the arithmetic is the same, and its order may not be.
fn elsewhere() -> bool {
    std::env::var("OCELLI_TEST_DEVICE").is_ok_and(|device| device != "cpu")
}

fn task_of(config: &RunConfig) -> Pretraining {
    Pretraining::new(config, &cpu(), &TINY.source(), None).unwrap()
}

/// Steps `from` to the end, with a look at the task before each. Returns the bits of every figure.
fn steps(task: &mut Pretraining, from: usize, mut before: impl FnMut(usize, &Pretraining)) -> Vec<Vec<u32>> {
    (from..STEPS)
        .map(|step| {
            before(step, task);
            if step == from || step % PER_EPOCH == 0 {
                task.begin_epoch(step / PER_EPOCH, step % PER_EPOCH);
                task.look_through(usize::MAX).unwrap();
            }
            let row = values(task.step(step).unwrap());
            assert!(row.iter().all(|v| v.is_finite()), "{} step {step}: {row:?}", task.declared().title);
            row.iter().map(|v| v.to_bits()).collect()
        })
        .collect()
}

/// Bit for bit, the optimizer's moments too.
fn assert_same(what: &str, a: &StateDict, b: &StateDict) {
    let names = |s: &StateDict| s.tensors.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
    assert_eq!(names(a), names(b), "{what}");
    for ((name, a), (_, b)) in a.tensors.iter().zip(&b.tensors) {
        assert_eq!(a.shape, b.shape, "{what}: {name}");
        let same = a.values.iter().zip(&b.values).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "{what}: {name} is another");
    }
}

/// Wherever it stops, within an epoch or between two, whatever begins or thaws in the meantime: networks, running statistics,
/// what is held between steps and the optimizer's moments are in the end those of the run that never stopped.
#[test]
fn every_method_trains_and_goes_on_bit_for_bit() {
    if elsewhere() {
        return;
    }
    for (recipe, kind) in methods() {
        let what = format!("{} with {kind:?}", recipe.name);
        let config = TINY.config(recipe, kind, &[]);
        let mut whole = task_of(&config);
        let start = whole.state().unwrap();
        let rows = steps(&mut whole, 0, |_, _| ());
        let end = whole.state().unwrap();
        let moved = |(name, tensor): &(String, _)| end.get(name).is_some_and(|t| t != tensor);
        let backbone = |name: &str| name.ends_with("conv1.weight") || name.ends_with("patch_embed.proj.weight");
        let first: Vec<_> = start.tensors.iter().filter(|(name, _)| backbone(name)).collect();
        assert!(!first.is_empty() && first.into_iter().all(moved), "{what}: the backbone is not trained");
        assert_eq!(rows[0].len(), whole.declared().figures.len() + 2, "{what}");

        let mut stored = Vec::new();
        let mut looked_at = task_of(&config);
        let again = steps(&mut looked_at, 0, |step, task| {
            if step > 1 {
                stored.push((step, task.state().unwrap()));
            }
        });
        assert_eq!(again, rows, "{what}: another run of the same seed, which is looked at");
        assert_same(&what, &looked_at.state().unwrap(), &end);
        for (step, state) in stored {
            let what = format!("{what}, on from step {step}");
            let mut task = task_of(&config);
            task.load(&state).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_same(&what, &task.state().unwrap(), &state);
            assert_eq!(steps(&mut task, step, |_, _| ()), rows[step..], "{what}");
            assert_same(&what, &task.state().unwrap(), &end);
        }
    }
}

/// A checkpoint of another shape, in the networks or in what is held between steps, is refused whole.
#[test]
fn state_of_another_shape_changes_nothing() {
    if elsewhere() {
        return;
    }
    for (recipe, kind) in methods() {
        let what = format!("{} with {kind:?}", recipe.name);
        let config = TINY.config(recipe, kind, &[]);
        let other = match kind {
            BackboneKind::ResNet => "arch=resnet-18c6",
            BackboneKind::Vit => "arch=vit-48x2x2/8",
        };
        let mut other = task_of(&TINY.config(recipe, kind, &[other]));
        steps(&mut other, STEPS - 1, |_, _| ());
        let mut task = task_of(&config);
        steps(&mut task, 0, |_, _| ());
        let state = task.state().unwrap();
        assert!(task.load(&other.state().unwrap()).is_err(), "{what}: another backbone");
        assert_same(&what, &task.state().unwrap(), &state);
        let of_method = |name: &str| !name.starts_with("optimizer.");
        for (i, (name, tensor)) in state.tensors.iter().enumerate() {
            if !of_method(name) || tensor.shape.len() < 2 {
                continue;
            }
            let mut wrong = state.clone();
            let tensor = &mut wrong.tensors[i].1;
            tensor.shape[0] *= 2;
            tensor.values = tensor.values.repeat(2);
            assert!(task.load(&wrong).is_err(), "{what}: twice the rows of {name}");
            assert_same(&format!("{what}, after {name}"), &task.state().unwrap(), &state);
            wrong.tensors.remove(i);
            assert!(task.load(&wrong).is_err(), "{what}: no {name}");
            assert_same(&format!("{what}, without {name}"), &task.state().unwrap(), &state);
        }
    }
}

/// A method and a batch of noise, as many views and as large as the plan has them, with all that a batch may know.
fn drawn(recipe: &Recipe, config: &RunConfig) -> (Box<dyn Method>, Batch) {
    let (device, backbone, n) = (cpu(), config.backbone(), TINY.batch);
    let facts = config.facts(&backbone, Some(TINY.images), Some(10));
    recipe.check(&facts).unwrap();
    let method = (recipe.build)(&facts, 3, &device).unwrap();
    let plan = config.view_plan();
    plan.validate().unwrap();
    let noise = |(side, views): &(u32, std::ops::Range<usize>)| -> Tensor<4> {
        let (rows, side) = (views.len() * n, *side as usize);
        Init::new(u64::from(views.start as u32), &device).uniform([rows, 3, side, side], 1.7).val().detach()
    };
    let place = ViewBox { left: 0.0, top: 0.0, width: 64.0, height: 64.0, flip: false };
    let batch = Batch {
        views: plan.groups().iter().map(noise).collect(),
        images: n,
        indices: (0..n).collect(),
        labels: (0..n).map(|i| Some(i as u32 % 2)).collect(),
        places: vec![vec![place; plan.views.len()]; n],
    };
    (method, batch)
}

/// What a loss tells is what the recipe declares, in its order; every level that is named has a value; a parameter's name says
/// whether it is the backbone's.
#[test]
fn every_figure_is_declared_and_every_level_known() {
    for (recipe, kind) in methods() {
        let what = format!("{} with {kind:?}", recipe.name);
        let config = TINY.config(recipe, kind, &[]);
        let (mut method, mut batch) = drawn(recipe, &config);
        let figures: Vec<&str> = method.figures().iter().map(|f| f.name).collect();
        assert_eq!(figures, recipe.figures.iter().map(|f| f.name).collect::<Vec<_>>(), "{what}");
        assert_eq!(figures[0], "loss", "{what}");
        assert_eq!(figures.iter().collect::<HashSet<_>>().len(), figures.len(), "{what}: a figure twice");
        let momentum = method.momentum(0, STEPS).unwrap_or_default();
        let clock = StepClock { epoch: 0, iteration: 0, micro_batch: 0, momentum, seed: config.seed };
        if method.wants_pass() {
            for micro_batch in 0..PER_EPOCH {
                batch.indices = (micro_batch * batch.images..(micro_batch + 1) * batch.images).collect();
                method.see(&batch, &StepClock { micro_batch, ..clock });
            }
        }
        method.begin_epoch(0);
        method.before_step(&clock);
        let output = method.loss(&batch, &clock);
        let told: Vec<&str> = output.scalars.iter().map(|(name, _)| *name).collect();
        assert_eq!(told, figures, "{what}");
        assert!(output.scalars.iter().all(|(_, v)| v.dims() == [1]), "{what}");
        assert_eq!(output.loss.dims(), [1], "{what}");

        let levels: Vec<&str> = method.levels().iter().map(|l| l.name).collect();
        assert!(method.levels().iter().all(|l| l.value.is_finite()), "{what}: {:?}", method.levels());
        for figure in recipe.figures {
            assert!(!figure.title.is_empty() && !figure.healthy.is_empty(), "{what}: {}", figure.name);
            assert!(
                figure.level.is_none_or(|l| levels.contains(&l)),
                "{what}: {} has {:?}",
                figure.name,
                figure.level
            );
        }
        for sign in recipe.signs {
            assert!(!sign.when.is_empty() && !sign.meaning.is_empty() && !sign.remedies.is_empty(), "{what}");
            for condition in sign.when {
                assert!(
                    figures.contains(&condition.figure),
                    "{what}: {} looks at {}",
                    sign.name,
                    condition.figure
                );
                assert!(condition.level.is_none_or(|l| levels.contains(&l)), "{what}: {}", sign.name);
            }
        }
        let trained = method.network().parameters();
        assert!(trained.iter().any(|p| p.name.starts_with("backbone.")), "{what}");
        assert!(!method.kept().is_empty(), "{what}");
        // A backbone can be given, and another one cannot.
        let mut state = StateDict::default();
        for param in method.kept() {
            let tensor = ocelli::models::weights::HostTensor { shape: vec![3], values: vec![0.0; 3] };
            state.tensors.push((param.name, tensor));
        }
        assert!(method.start_from(&state).is_err(), "{what}");
    }
}

/// Every key is in a section and says what it is, where its default comes from and what it may be; every recipe can be read and
/// passes its method's checks with as many images as ImageNet has.
#[test]
fn every_key_is_described_and_every_preset_passes() {
    let mut names = HashSet::new();
    for recipe in METHODS {
        assert!(!recipe.title.is_empty() && recipe.paper.contains("http"), "{}", recipe.name);
        let own = (recipe.sections)().unwrap();
        for key in recipe.keys {
            let about = format!("{}: {}", recipe.name, key.name);
            assert!(key.meaning.len() > 5 && !key.source.is_empty(), "{about}");
            let default = own.value(key.name).unwrap_or_else(|| panic!("{about} is in no section"));
            assert_eq!(key.range.refuses(default), None, "{about}");
        }
        let declared: HashSet<&str> = recipe.keys.iter().map(|k| k.name).collect();
        for (section, values) in &own.0 {
            leaves(section, values, &mut |key| assert!(declared.contains(key), "{}: {key}", recipe.name));
        }
        assert!(!recipe.presets.is_empty(), "{}", recipe.name);
        for preset in recipe.presets {
            assert!(names.insert(preset.name), "{} twice", preset.name);
            assert!(!preset.about.is_empty(), "{}", preset.name);
            let config =
                config::resolve(Some(preset.name), None, &[]).unwrap_or_else(|e| panic!("{}: {e}", preset.name));
            assert_eq!(config.recipe().name, recipe.name, "{}", preset.name);
            let backbone = config.backbone();
            let checked = recipe.check(&config.facts(&backbone, Some(1_281_167), Some(1000)));
            checked.unwrap_or_else(|e| panic!("{}: {e}", preset.name));
            config.view_plan().validate().unwrap_or_else(|e| panic!("{}: {e}", preset.name));
        }
    }
}

fn leaves(name: &str, value: &serde_json::Value, see: &mut dyn FnMut(&str)) {
    match value.as_object() {
        Some(inner) => inner.iter().for_each(|(key, value)| leaves(&format!("{name}.{key}"), value, see)),
        None => see(name),
    }
}

/// A run that has only begun may show a sign for a moment, as nothing is learnt yet. It is healthy again long before the watch
/// would say anything, which takes 100 steps.
#[test]
fn no_healthy_start_shows_a_sign() {
    const PATIENCE: usize = 100;
    if elsewhere() {
        return;
    }
    let tiny = Tiny { images: 96, batch: 16, most: 32, epochs: 30 };
    let mut judged = 0;
    for (recipe, kind) in methods() {
        // Learning rates are tuned for the backbone of the recipe.
        let laptop = recipe.presets.iter().find(|p| p.name.ends_with("laptop")).unwrap();
        if config::resolve(Some(laptop.name), None, &[]).unwrap().arch.kind() != kind {
            continue;
        }
        let config = tiny.config(recipe, kind, &["log.every_steps=2"]);
        let mut trainer = Trainer::new(&config, &cpu(), &tiny.source(), None).unwrap();
        let (declared, settled) = (trainer.shape().declared, trainer.task().unsettled_steps());
        // Where figures settle later than this run ends, the watch does not look either.
        if settled + 20 > tiny.images / tiny.batch * tiny.epochs {
            continue;
        }
        judged += 1;
        let (mut healthy, mut last) = (None, None);
        let mut look = |event: &Event| -> Result<(), TrainError> {
            let Event::Step(row) = event else { return Ok(()) };
            last = Some(format!("{row:?}"));
            if row.step < settled || declared.signs.iter().any(|s| s.is_seen(&row.figures, &declared.levels)) {
                return Ok(());
            }
            healthy = Some(row.step);
            // It has shown what it had to.
            Err(TrainError::TooFewImages { images: 0, batch: 0 })
        };
        let ended = trainer.run(None, &mut look);
        assert!(
            ended.is_err() && healthy.is_some_and(|step| step < settled + PATIENCE),
            "{} with {kind:?}: a sign after {settled} steps and until {healthy:?}; the last row: {last:?}",
            recipe.name
        );
    }
    assert!(judged > METHODS.len() / 2, "{judged} were judged");
}
