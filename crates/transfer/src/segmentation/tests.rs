//! The task as the loop sees it, on a few scenes.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use ocelli_data::annotated::{IGNORED, LabelMap, LabelMaps, MaskedPart};
use ocelli_data::scenes::CLASS_NAMES;
use ocelli_data::{DataError, Image, MaskedSet, SceneConfig, SceneSource, Understood};
use ocelli_models::weights::StateDict;
use ocelli_models::{BackboneConfig, Init, PositionRule, VitConfig};
use ocelli_train::{Loaded, Loading, RunDir, Task, TrainError, Trainer};

use super::*;
use crate::Judged;

/// Scenes: 0 is the background, then the classes; the first row has no label.
struct SceneMaps(SceneSource);

impl LabelMaps for SceneMaps {
    fn label_map(&self, index: usize) -> Result<LabelMap, DataError> {
        let scene = self.0.scene(index);
        let (width, height) = (scene.mask.width as usize, scene.mask.height as usize);
        let mut labels: Vec<u8> = scene.mask.data.iter().map(|on| on * (scene.label as u8 + 1)).collect();
        labels[..width].fill(IGNORED);
        Ok(LabelMap { width, height, labels })
    }
}

fn scenes(count: usize, seed: u64) -> MaskedPart {
    let source = SceneSource::new(SceneConfig { count, size_px: 48, seed, ..SceneConfig::default() }).unwrap();
    MaskedPart { source: Arc::new(source.clone()), maps: Arc::new(SceneMaps(source)) }
}

fn data() -> SegmentedData {
    let classes = std::iter::once("background").chain(CLASS_NAMES).map(str::to_owned).collect();
    SegmentedData::new(scenes(4, 1), Some(scenes(3, 2)), classes)
}

fn config(sets: &[&str]) -> SegmentationConfig {
    let tiny = [
        "channels=8",
        "auxiliary_channels=4",
        "convs=1",
        "iterations=6",
        "evaluate_every=3",
        "batch_size=2",
        "views.scale_px=[48, 48]",
        "views.crop_px=[40, 32]",
        "eval.scale_px=[0, 0]",
        "loader.threads=1",
        "loader.prefetch=1",
        "log.every_steps=1",
        "seed=5",
    ];
    let sets: Vec<String> = tiny.iter().chain(sets).map(|set| (*set).to_owned()).collect();
    SegmentationConfig::resolve(None, None, &sets).unwrap()
}

fn loaded(name: &str) -> Loaded {
    Loading::default().open(Path::new(name), &Device::flex()).unwrap()
}

fn task(weights: &str, sets: &[&str]) -> SegmentationTask {
    let loaded = loaded(weights);
    let config = config(sets).for_weights(&loaded, weights).unwrap();
    SegmentationTask::new(&config, &Device::flex(), &loaded, &data()).unwrap()
}

/// Takes the steps, as the loop does.
fn steps(task: &mut SegmentationTask, range: std::ops::Range<usize>) -> Vec<Vec<f32>> {
    let per_epoch = task.size().steps_per_epoch;
    let mut rows = Vec::new();
    for iteration in range.clone() {
        if iteration == range.start || iteration % per_epoch == 0 {
            task.begin_epoch(iteration / per_epoch, iteration % per_epoch);
        }
        let row: Tensor<1> = task.step(iteration).unwrap();
        rows.push(row.into_data().try_to_vec().unwrap());
    }
    rows
}

const RESNET: &str = "random:resnet-18c2";
const VIT: &str = "random:vit-32x2x2/8";
const OF_VIT: &[&str] = &["head=linear", "blocks=2", "frozen=true", "optim.optimizer=adamw", "optim.lr=0.01"];

fn assert_same(a: &StateDict, b: &StateDict, what: &str) {
    assert_eq!(a.tensors.len(), b.tensors.len(), "{what}");
    for ((name, x), (other, y)) in a.tensors.iter().zip(&b.tensors) {
        assert_eq!(name, other, "{what}");
        let same = x.values.iter().map(|v| v.to_bits()).eq(y.values.iter().map(|v| v.to_bits()));
        assert!(same && x.shape == y.shape, "{what}: {name}");
    }
}

/// Weights, running statistics and momentum after a stop are those of a run that was not stopped, to the last bit.
#[test]
fn it_goes_on_bit_for_bit() {
    for (weights, sets) in [(RESNET, &["accumulate=2", "convs=2"][..]), (RESNET, &["frozen=true"]), (VIT, OF_VIT)]
    {
        // Two batches to a pass, three steps to an epoch of the loop: the stop is in the middle of both.
        for stop in [2, 3, 5] {
            let mut whole = task(weights, sets);
            let rows = steps(&mut whole, 0..6);
            let mut first = task(weights, sets);
            assert_eq!(steps(&mut first, 0..stop), rows[..stop]);
            let mut second = task(weights, sets);
            second.load(&first.state().unwrap()).unwrap();
            assert_eq!(steps(&mut second, stop..6), rows[stop..], "{weights} {sets:?}, stopped after {stop}");
            assert_same(&whole.state().unwrap(), &second.state().unwrap(), &format!("{weights} after {stop}"));
            let untouched = task(weights, sets).state().unwrap();
            let of = |state: &StateDict, name: &str| state.get(name).unwrap().values.clone();
            let name = "decode_head.conv_seg.weight";
            assert_ne!(of(&untouched, name), of(&whole.state().unwrap(), name), "nothing was trained");
        }
    }
}

#[test]
fn figures_are_those_declared_and_the_loss_falls() {
    let mut task = task(RESNET, &["iterations=60", "evaluate_every=60", "batch_size=4", "optim.lr=0.05"]);
    let declared = task.declared();
    let rows = steps(&mut task, 0..60);
    assert!(rows.iter().all(|row| row.len() == declared.figures.len() + 2 && row.iter().all(|v| v.is_finite())));
    assert_eq!(declared.figures[0].name, "loss");
    let mean = |rows: &[Vec<f32>]| rows.iter().map(|row| row[0]).sum::<f32>() / rows.len() as f32;
    assert!(mean(&rows[50..]) < 0.7 * mean(&rows[..5]), "{} {}", mean(&rows[..5]), mean(&rows[50..]));
    for row in &rows {
        assert!((row[0] - row[1] - row[2]).abs() < 1e-4, "the loss is the sum of both heads'");
        assert!((0.0..=1.0).contains(&row[3]) && (0.3..=1.0).contains(&row[4]), "{row:?}");
    }
    // The heads move, and a backbone with a share of 0 does not.
    let state = |task: &SegmentationTask, name: &str| task.state().unwrap().get(name).unwrap().values.clone();
    let mut still = self::task(RESNET, &["optim.backbone_lr=0"]);
    let before = (state(&still, "backbone.conv1.weight"), state(&still, "auxiliary_head.conv_seg.bias"));
    steps(&mut still, 0..2);
    assert_eq!(before.0, state(&still, "backbone.conv1.weight"));
    assert_ne!(before.1, state(&still, "auxiliary_head.conv_seg.bias"));
}

#[test]
fn the_loop_keeps_a_network_that_segments() {
    for (weights, sets) in [(RESNET, &["eval.window_px=32", "eval.window_stride_px=16"][..]), (VIT, OF_VIT)] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("run");
        let dir = RunDir::create(&root, false).unwrap();
        let mut trainer = Trainer::of(task(weights, sets));
        assert_eq!((trainer.steps_per_epoch(), trainer.shape().epochs), (3, 2));
        let summary = trainer
            .run(Some(&dir), &mut |event| match event {
                ocelli_train::Event::Warning { message } => panic!("{message}"),
                _ => Ok(()),
            })
            .unwrap();
        let best = summary.best.unwrap();
        assert_eq!(best.what, "mIoU");
        let last = summary.last.unwrap();
        for score in ["miou", "mean_accuracy", "pixel_accuracy"] {
            assert!((0.0..=100.0).contains(&last.scores[score]), "{score}");
        }
        assert!(root.join("pictures/segmentations.png").exists());

        // What was kept segments as the trainer's own network does, and comes to the same.
        let segmenter = Segmenter::open(&root, &Device::flex()).unwrap();
        assert_eq!(segmenter.classes(), data().classes);
        let accuracy = segmenter.accuracy().unwrap();
        assert!(accuracy.starts_with("mIoU") && accuracy.ends_with("% of 3 held-out pictures"), "{accuracy}");
        let val = data().val.unwrap();
        let found = segmenter.evaluate(&val, &data().classes, 0, &mut |_| {}).unwrap();
        assert!((100.0 * found.scores.miou - best.accuracy).abs() < 1e-9);
        let told: serde_json::Value =
            serde_json::from_slice(&std::fs::read(root.join(SEGMENTATION_FILE)).unwrap()).unwrap();
        assert_eq!(told["pictures"], serde_json::json!(3));
        assert!((told["miou"].as_f64().unwrap() - best.accuracy).abs() < 0.006);
        let total: u64 = found.confusion.counts().iter().sum();
        assert_eq!(total, 3 * 47 * 48, "every pixel but the first rows'");
        // Pictures of any size.
        let map = segmenter.segment(&Image::filled(57, 31, [90, 120, 40])).unwrap();
        assert_eq!((map.width, map.height, map.labels.len()), (57, 31, 57 * 31));
        // Another set's pictures are refused.
        let message = segmenter.evaluate(&val, &["sky".into()], 0, &mut |_| {}).unwrap_err().to_string();
        assert!(message.contains("1 (sky)") && message.contains("segmenter.safetensors"), "{message}");
    }
}

#[test]
fn figures_of_the_training_pictures_are_called_so() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("run");
    let train = scenes(4, 1);
    let data = SegmentedData { val: Some(train.clone()), train, ..data() };
    assert_eq!(data.judged(), Judged::Training);
    let loaded = loaded(RESNET);
    let config = config(&["iterations=2", "evaluate_every=2"]).for_weights(&loaded, RESNET).unwrap();
    let task = SegmentationTask::new(&config, &Device::flex(), &loaded, &data).unwrap();
    let notes = task.declared().notes.join("; ");
    assert!(notes.contains("the training images are evaluated"), "{notes}");
    let dir = RunDir::create(&root, false).unwrap();
    Trainer::of(task).run(Some(&dir), &mut |_| Ok(())).unwrap();
    let told: serde_json::Value =
        serde_json::from_slice(&std::fs::read(root.join(SEGMENTATION_FILE)).unwrap()).unwrap();
    assert_eq!(told["judged"], "training");
    let segmenter = Segmenter::open(&root, &Device::flex()).unwrap();
    let accuracy = segmenter.accuracy().unwrap();
    assert!(accuracy.ends_with("% of 4 training pictures"), "{accuracy}");
}

#[test]
fn files_that_lie_are_refused() {
    let task = task(RESNET, &[]);
    let colours = (&data().classes[..], &data().palette[..]);
    let net = task.plain_net().unwrap();
    let text = task.config().unwrap().to_string();
    let config = SegmentationConfig::parse(&text, "x").unwrap();
    let bytes = load::segmenter_file(&net, &config, colours, &[]).unwrap();
    let state = ocelli_models::weights::read_safetensors(&bytes).unwrap();
    let open = |state: &StateDict| Segmenter::of(state, "x", &Device::flex());
    assert!(open(&state).is_ok());
    let refused = |key: &str, value: &str, words: &str| {
        let mut state = state.clone();
        state.metadata.insert(key.into(), value.into());
        let message = open(&state).err().unwrap().to_string();
        assert!(message.contains(words), "{key}: {message}");
    };
    refused("task", "detection", "found detection");
    refused("classes", "[]", "classes");
    refused("classes", "[\"sky\", \"road\"]", "conv_seg");
    refused("config", "task = \"linear\"", "found a run of task \"linear\"");
    let huge = text
        .replace("channels = 8", "channels = 16000")
        .replace("auxiliary_channels = 4", "auxiliary_channels = 16000");
    refused("config", &huge, "values");
    let mut short = state.clone();
    short.tensors.retain(|(name, _)| name != "decode_head.conv_seg.bias");
    assert!(open(&short).err().unwrap().to_string().contains("decode_head.conv_seg.bias"));
    let missing = Segmenter::open(Path::new("/nowhere/segmenter.safetensors"), &Device::flex()).err().unwrap();
    assert!(missing.to_string().contains("expected a run of segmentation"), "{missing}");
}

#[test]
fn data_and_weights_that_do_not_go_together_are_refused() {
    let refuse = |weights: &str, sets: &[&str], data: &SegmentedData| {
        let loaded = loaded(weights);
        let config = config(sets).for_weights(&loaded, weights).unwrap();
        SegmentationTask::new(&config, &Device::flex(), &loaded, data).err().unwrap().to_string()
    };
    assert!(refuse(VIT, &[], &data()).contains("\"linear\" or \"conv\""));
    assert!(refuse(RESNET, &["batch_size=5", "accumulate=1"], &data()).contains("fewer than one batch of 5"));
    let one = SegmentedData { classes: vec!["all".into()], ..data() };
    assert!(refuse(RESNET, &[], &one).contains("2 to 255"));
    // Nothing to learn from is no reason to fail, and nothing held out is no reason to evaluate.
    let alone = SegmentedData { val: None, ..data() };
    let loaded = loaded(RESNET);
    let task = SegmentationTask::new(&config(&[]), &Device::flex(), &loaded, &alone).unwrap();
    assert_eq!((task.cadence().evaluate_every, task.evaluation_bytes(), task.held_out()), (0, 0, 0));
    assert!(task.declared().scores.is_empty());
}

/// Labels that no class of the network has: the picture is left out and told, and where all are, that is an error.
#[test]
fn held_out_pictures_that_cannot_be_used_are_told() {
    struct Strange(SceneMaps);
    impl LabelMaps for Strange {
        fn label_map(&self, index: usize) -> Result<LabelMap, DataError> {
            let mut map = self.0.label_map(index)?;
            match index {
                0 => map.labels.iter_mut().for_each(|label| *label = 77),
                1 => map.labels.truncate(5),
                2 => map.labels.fill(IGNORED),
                _ => {}
            }
            Ok(map)
        }
    }
    let source =
        SceneSource::new(SceneConfig { count: 4, size_px: 48, seed: 3, ..SceneConfig::default() }).unwrap();
    let strange = |count: usize| {
        let few = SceneSource::new(SceneConfig { count, ..*source.config() }).unwrap();
        MaskedPart { source: Arc::new(few), maps: Arc::new(Strange(SceneMaps(source.clone()))) }
    };
    let task = task(RESNET, &[]);
    let config = SegmentationConfig::parse(&task.config().unwrap().to_string(), "x").unwrap();
    let net = task.plain_net().unwrap();
    let inference = config.inference(&config.backbone(&loaded(RESNET).config).unwrap());
    let within = |part: &MaskedPart, max_bad_fraction: f32| -> Result<SegmentationFound, TrainError> {
        let limits = Limits { most: 0, max_bad_fraction };
        evaluate((&net, &inference), part, (11, limits), &Device::flex(), &mut |_| {})
    };
    let run = |part: &MaskedPart| within(part, 1.0);
    let found = run(&strange(4)).unwrap();
    assert_eq!((found.pictures.len(), found.skipped.len()), (1, 2));
    assert_eq!(found.pictures[0].index, 3);
    let message = run(&strange(2)).unwrap_err().to_string();
    assert!(message.contains("no picture can be evaluated"), "{message}");
    // As in training, a figure of too few of them is none.
    assert_eq!(within(&strange(4), 0.5).unwrap().skipped.len(), 2);
    let message = within(&strange(4), 0.0).unwrap_err().to_string();
    assert!(message.contains("1 of 4 images are unreadable, at most 0"), "{message}");
}

/// Drawn backbones are the seed's, and weights that are read are the file's.
#[test]
fn a_drawn_backbone_is_the_seeds() {
    let of = |seed: &str| {
        let task = task(RESNET, &[seed]);
        assert_eq!(task.config().unwrap()["weights_crc32"].as_str(), Some(""));
        task.state().unwrap().get("backbone.conv1.weight").unwrap().values.clone()
    };
    assert_eq!(of("seed=1"), of("seed=1"));
    assert_ne!(of("seed=1"), of("seed=2"));
}

/// A run goes on without its backbone's file from a checkpoint, and not without either.
#[test]
fn weights_come_from_the_checkpoint_or_are_asked_for() {
    for (weights, sets) in [(RESNET, &[][..]), (VIT, OF_VIT)] {
        let loaded = loaded(weights);
        let config = config(sets).for_weights(&loaded, "backbone.pth").unwrap();
        assert_eq!(config.weights_crc32.len(), 8);
        let make = |loaded: &Loaded| SegmentationTask::new(&config, &Device::flex(), loaded, &data()).unwrap();
        let mut whole = make(&loaded);
        let rows = steps(&mut whole, 0..4);
        let mut first = make(&loaded);
        steps(&mut first, 0..2);
        // Another backbone of the shape, in whose place the checkpoint's comes.
        let encoder = loaded.config.init(&mut Init::new(77, &Device::flex())).unwrap();
        let other = Loaded { encoder, ..loaded.clone() };
        let mut second = make(&other).without_weights("gone".into());
        second.begin_epoch(0, 0);
        let message = second.step(0).err().unwrap().to_string();
        assert_eq!(message, "backbone.pth: gone");
        second.load(&first.state().unwrap()).unwrap();
        assert_eq!(steps(&mut second, 2..4), rows[2..], "{weights}");
        assert_same(&whole.state().unwrap(), &second.state().unwrap(), weights);
    }
}

/// How positions are interpolated goes with a checkpoint, from which a run may have to go on alone.
#[test]
fn the_rule_of_positions_stays_with_a_checkpoint() {
    let usual = loaded(VIT);
    let BackboneConfig::Vit(vit) = &usual.config else { panic!("{VIT}") };
    for rule in [PositionRule::Dino, PositionRule::Bicubic, PositionRule::Antialiased] {
        let backbone = BackboneConfig::Vit(VitConfig { position_rule: rule, ..vit.clone() });
        let encoder = backbone.init(&mut Init::new(5, &Device::flex())).unwrap();
        let loaded = Loaded { encoder, config: backbone, ..usual.clone() };
        let config = config(OF_VIT).for_weights(&loaded, "backbone.pth").unwrap();
        let make = |loaded: &Loaded| SegmentationTask::new(&config, &Device::flex(), loaded, &data()).unwrap();
        let mut first = make(&loaded);
        steps(&mut first, 0..1);
        let mut checkpoint = first.state().unwrap();
        checkpoint.metadata = first.describes().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let mut second = make(&usual).without_weights("gone".into());
        second.load(&checkpoint).unwrap();
        for task in [&first, &second] {
            assert_eq!(task.net().backbone.as_vit().unwrap().position_rule(), rule);
        }
    }
}

/// What decides the figures and which network is kept is known again: both parts and the classes.
#[test]
fn names_are_of_everything() {
    let of = |train: usize, val: usize, first: &str| {
        let mut data = SegmentedData { train: scenes(train, 1), val: Some(scenes(val, 2)), ..data() };
        data.classes[0] = first.to_owned();
        let loaded = loaded(RESNET);
        let config = config(&[]).for_weights(&loaded, RESNET).unwrap();
        SegmentationTask::new(&config, &Device::flex(), &loaded, &data).unwrap().names_crc32()
    };
    let own = of(4, 3, "background");
    assert_eq!(own, of(4, 3, "background"));
    for other in [of(5, 3, "background"), of(4, 2, "background"), of(4, 3, "nothing")] {
        assert_ne!(own, other);
    }
}

/// What the weights want lies over the recipe, and what a person says over that; only the architecture is theirs.
#[test]
fn values_lie_over_those_of_the_weights() {
    let loaded = loaded("random:resnet-18");
    let of = |file: Option<&str>, sets: &[&str]| {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let file = file.map(|text| ("own.toml", text));
        SegmentationConfig::resolve_for((&loaded, "a.pth"), None, file, &sets)
    };
    let plain = of(None, &[]).unwrap();
    assert_eq!((plain.arch.to_string().as_str(), plain.weights.as_str()), ("resnet-18", "a.pth"));
    assert_eq!(plain.views.mean, loaded.statistics.value.mean);
    let file = "weights = \"b.pth\"\n[views]\nmean = [0.25, 0.25, 0.25]\nstd = [0.5, 0.5, 0.5]\n";
    let own = of(Some(file), &["views.std=[0.75, 0.75, 0.75]"]).unwrap();
    assert_eq!((own.views.mean, own.views.std), ([0.25; 3], [0.75; 3]));
    assert_eq!((own.weights, own.weights_crc32), (plain.weights, plain.weights_crc32));
    assert!(of(Some("arch = \"resnet-18\""), &[]).is_ok());
    for (file, sets) in [(Some("arch = \"resnet-50\""), &[][..]), (None, &["arch=resnet-50"])] {
        let message = of(file, sets).unwrap_err().to_string();
        assert!(message.contains("arch: expected resnet-18") && message.contains("found resnet-50"), "{message}");
    }
}

/// Where nothing is held out by the set, every tenth image is, with its own labels.
#[test]
fn every_tenth_image_is_held_out() {
    let set = |count: usize, val: Option<MaskedPart>| MaskedSet {
        train: scenes(count, 1),
        val,
        classes: data().classes,
        palette: palette(11),
        understood: Understood::default(),
    };
    let found = SegmentedData::of(&set(20, None)).unwrap();
    let (all, val) = (scenes(20, 1), found.val.unwrap());
    assert_eq!((found.train.source.len(), val.source.len()), (18, 2));
    assert_eq!((val.source.name(1), val.maps.label_map(1)), (all.source.name(19), all.maps.label_map(19)));
    assert_eq!(found.train.maps.label_map(9), all.maps.label_map(10));
    assert!(found.train.maps.label_map(18).is_err() && found.notes[0].contains("2 of 20"), "{:?}", found.notes);
    let given = SegmentedData::of(&set(3, Some(scenes(2, 7)))).unwrap();
    assert_eq!((given.train.source.len(), given.val.as_ref().unwrap().source.len(), given.notes.len()), (3, 2, 0));
    let few = given.with_few_labels(2);
    assert_eq!((few.train.source.len(), few.val.as_ref().unwrap().source.len()), (2, 2));
    assert_eq!(few.train.maps.label_map(1), scenes(3, 1).maps.label_map(1));
    // Where the training images judge, they are those that are learnt from.
    let own = SegmentedData::new(all.clone(), Some(all), few.classes).with_few_labels(5);
    assert_eq!((own.judged(), own.val.unwrap().source.len()), (Judged::Training, 5));
    let message = SegmentedData::of(&set(9, None)).err().unwrap().to_string();
    assert!(message.contains("held-out part"), "{message}");
}
