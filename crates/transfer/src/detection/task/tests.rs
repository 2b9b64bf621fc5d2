use std::sync::Arc;

use ocelli_models::AnyBackbone;
use ocelli_train::{Event, Loading, RunDir, Trainer, weights_crc32};

use super::super::data::tests::scenes;
use super::super::load::Detector;
use super::*;

/// A detector small enough for a test.
fn config() -> DetectionConfig {
    let sets = [
        "arch=resnet-18c4",
        "iterations=6",
        "batch_size=2",
        "views.short_px=[48, 64]",
        "views.max_px=96",
        "anchors.sizes_px=[12, 24, 48]",
        "rpn.batch_size_per_image=32",
        "rpn.train_before_nms=120",
        "rpn.train_after_nms=30",
        "rpn.test_before_nms=60",
        "rpn.test_after_nms=20",
        "roi.batch_size_per_image=12",
        "roi.cells=4",
        "roi.score=0.01",
        "optim.lr=0.01",
        "optim.warmup_iterations=2",
        "optim.milestones=[5]",
        "eval.every_iterations=3",
        "eval.short_px=64",
        "eval.precise_bn_batches=3",
    ];
    DetectionConfig::resolve(None, None, &sets.map(String::from)).unwrap()
}

fn task_of(config: &DetectionConfig) -> DetectionTask {
    let (all, classes) = scenes(20, 64);
    let data = DetectionData::of(&all, None, &classes).unwrap();
    DetectionTask::new(config, &Device::flex(), None, &data).unwrap()
}

fn steps(task: &mut DetectionTask, which: std::ops::Range<usize>) -> Vec<Vec<f32>> {
    which.map(|i| task.step(i).unwrap().into_data().try_to_vec::<f32>().unwrap()).collect()
}

#[test]
fn a_run_goes_on_bit_for_bit_and_evaluations_leave_no_trace() {
    let config = config();
    let mut whole = task_of(&config);
    let rows = steps(&mut whole, 0..4);
    assert!(rows.iter().all(|row| row.len() == whole.declared().figures.len() + 2));
    assert!(rows.iter().flatten().all(|v| v.is_finite()), "{rows:?}");
    let mut first = task_of(&config);
    assert_eq!(steps(&mut first, 0..2), rows[..2]);
    let scores = first.evaluate().unwrap();
    assert!(scores.quoted.is_some_and(|(what, v)| what == "AP50" && (0.0..=100.0).contains(&v)));
    let before = first.state().unwrap();
    let mut second = task_of(&DetectionConfig { seed: config.seed, ..config.clone() });
    second.load(&before).unwrap();
    assert_eq!(steps(&mut second, 2..4), rows[2..]);
    assert_eq!(second.state().unwrap(), whole.state().unwrap());
    // The one that was evaluated stands where it stood, too.
    assert_eq!(steps(&mut first, 2..4), rows[2..]);
    // Another seed is another run, and another network's state is refused.
    assert_ne!(steps(&mut task_of(&DetectionConfig { seed: 1, ..config.clone() }), 0..1), rows[..1]);
    let other = DetectionConfig { arch: "resnet-18c6".parse().unwrap(), ..config };
    assert!(task_of(&other).load(&before).is_err());
}

#[test]
fn norms_are_precise_in_an_evaluation_and_nowhere_else() {
    let config = config();
    let mut task = task_of(&config);
    steps(&mut task, 0..2);
    let running = |net: &FasterRcnn<ResNetC4>| -> Vec<(String, Vec<f32>)> {
        let all = params::collect(net).into_iter().filter(|p| !p.trainable);
        all.map(|p| (p.name, p.values.into_data().try_to_vec().unwrap())).collect()
    };
    let before = running(task.net());
    let precise = running(&task.precise().unwrap());
    assert_eq!(running(task.net()), before);
    assert_eq!(precise.len(), before.len());
    // Two steps from 0 and 1 are far from any batch's statistics, in every norm.
    for ((name, before), (_, after)) in before.iter().zip(&precise) {
        assert_ne!(before, after, "{name}");
    }
    assert_eq!(running(&task.precise().unwrap()), precise, "the same batches each time");
    // Three batches in two parts each are six batches of a part.
    let halves = |batch_size: usize, accumulate: usize, batches: usize| {
        let mut config = DetectionConfig { batch_size, accumulate, ..config.clone() };
        config.eval.precise_bn_batches = batches;
        running(&task_of(&config).precise().unwrap())
    };
    assert_eq!(halves(2, 2, 3), halves(1, 1, 6));
    let off = DetectionConfig {
        eval: super::super::config::DetectionEval { precise_bn_batches: 0, ..config.eval.clone() },
        ..config
    };
    let mut plain = task_of(&off);
    steps(&mut plain, 0..2);
    assert_eq!(running(&plain.precise().unwrap()), before);
}

#[test]
fn the_loop_trains_keeps_and_the_kept_one_finds_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    let run = RunDir::create(&folder.path().join("run"), false).unwrap();
    let mut trainer = Trainer::of(task_of(&config));
    assert_eq!((trainer.shape().epochs, trainer.shape().steps_per_epoch), (2, 3));
    let mut warnings = Vec::new();
    let summary = trainer
        .run(Some(&run), &mut |event| {
            if let Event::Warning { message } = event {
                warnings.push(message.clone());
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    let best = summary.best.unwrap();
    assert_eq!(best.what, "AP50");
    let told: DetectionSummary =
        serde_json::from_slice(&std::fs::read(run.path().join(DETECTION_FILE)).unwrap()).unwrap();
    assert!((100.0 * told.voc.ap50.unwrap() - best.accuracy).abs() < 1e-9);
    let kept = std::fs::read_to_string(run.path().join(DETECTION_FILE)).unwrap();
    assert!(kept.contains("\"left_out\":0"), "{kept}");
    assert!(run.path().join("pictures/detections.png").exists());

    let detector = Detector::open(run.path(), &Device::flex()).unwrap();
    assert_eq!(detector.config, config);
    assert_eq!(detector.classes, trainer.task().data().classes);
    assert!(!detector.description.contains("guess"), "{}", detector.description);
    // The last evaluation's network is the kept one where it was the best; what it finds is what was told of it.
    if best.epoch == 1 {
        let val = &trainer.task().data().val;
        let evaluated = trainer.task().evaluated.as_ref().unwrap();
        for image in 0..val.source.len() {
            let found = detector.detect(&val.source.load(image).unwrap()).unwrap();
            let expected: Vec<_> = evaluated.findings.detections.iter().filter(|d| d.image == image).collect();
            assert_eq!(found.len(), expected.len());
            for (a, b) in found.iter().zip(expected) {
                assert_eq!((a.class, a.score, a.xyxy), (b.class, b.score, b.xyxy));
            }
        }
    }
    let missing = Detector::open(&folder.path().join("nothing"), &Device::flex()).unwrap_err().to_string();
    assert!(missing.contains("found nothing there"), "{missing}");
    let empty = Detector::open(folder.path(), &Device::flex()).unwrap_err().to_string();
    assert!(empty.contains("no detector.safetensors"), "{empty}");
}

#[test]
fn a_backbone_is_taken_over_and_others_are_refused() {
    let config = config();
    let (all, classes) = scenes(20, 64);
    let data = DetectionData::of(&all, None, &classes).unwrap();
    let open = |name: &str| Loading::default().open(Path::new(name), &Device::flex()).unwrap();
    let given = open("random:resnet-18c4");
    let task = DetectionTask::new(&config, &Device::flex(), Some(&given), &data).unwrap();
    let own = params::collect(&task.net().network.backbone);
    let AnyBackbone::ResNet(theirs) = &given.encoder else { panic!("a ResNet was asked for") };
    for (a, b) in own.into_iter().zip(params::collect(theirs)) {
        let values = |p: FlatParam| p.values.into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(a.name, b.name);
        assert_eq!(values(a), values(b));
    }
    for other in ["random:resnet-18c6", "random:vit-32x2x2/8"] {
        let refused = DetectionTask::new(&config, &Device::flex(), Some(&open(other)), &data);
        let message = refused.err().unwrap().to_string();
        assert!(message.starts_with("weights: expected resnet-18c4"), "{message}");
    }
    let large = DetectionConfig { batch_size: 64, ..config };
    let message = DetectionTask::new(&large, &Device::flex(), None, &data).err().unwrap().to_string();
    assert!(message.contains("fewer than one batch"), "{message}");
}

/// Where there is no checkpoint, a run begins again from its weights or not at all.
#[test]
fn a_run_without_a_checkpoint_begins_from_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backbone.safetensors");
    let write = |name: &str, seed: u64| {
        let arch: ocelli_models::ResNetArch = name.parse().unwrap();
        let net = ResNetConfig::from(arch).init(&mut Init::new(seed, &Device::flex())).unwrap();
        let mut state = StateDict::default();
        state.add_module("", &net).unwrap();
        std::fs::write(&path, write_safetensors(&state).unwrap()).unwrap();
    };
    write("resnet-18c4", 7);
    let given = Loading::default().open(&path, &Device::flex()).unwrap();
    let crc = weights_crc32(&given.encoder).unwrap();
    let config = DetectionConfig { weights: path.display().to_string(), weights_crc32: crc, ..config() };
    let (all, classes) = scenes(20, 64);
    let data = DetectionData::of(&all, None, &classes).unwrap();
    let new = |backbone| DetectionTask::new(&config, &Device::flex(), backbone, &data).unwrap();
    let mut begun = new(Some(&given));
    let rows = steps(&mut begun, 0..2);
    let state = begun.state().unwrap();

    let mut again = new(None);
    assert!(again.init().unwrap().is_some_and(|words| words.contains("backbone.safetensors")));
    assert_eq!(steps(&mut again, 0..2), rows);
    let refused = |task: &mut DetectionTask, words: &[&str]| {
        let message = task.step(0).unwrap_err().to_string();
        for word in [&["the weights that the run began from", "backbone.safetensors"], words].concat() {
            assert!(message.contains(word), "expected \"{word}\" in: {message}");
        }
    };
    write("resnet-18c4", 8);
    let mut other = new(None);
    assert_eq!(other.init().unwrap(), None);
    refused(&mut other, &["CRC-32"]);
    std::fs::remove_file(&path).unwrap();
    let mut gone = new(None);
    refused(&mut gone, &[]);
    assert_eq!(gone.init().unwrap(), None);
    refused(&mut gone, &[]);
    // A checkpoint has all values.
    gone.load(&state).unwrap();
    assert_eq!(steps(&mut gone, 2..3), steps(&mut begun, 2..3));
}

#[test]
fn data_are_known_again_by_both_parts_and_the_classes() {
    let (all, classes) = scenes(20, 64);
    let of = |held_out: &[usize], classes: &[String], max_images: usize| {
        let mut config = config();
        config.eval.max_images = max_images;
        let val = super::super::data::some_of(&all, held_out);
        let data = DetectionData::of(&all, Some(&val), classes).unwrap();
        DetectionTask::new(&config, &Device::flex(), None, &data).unwrap()
    };
    let crc = |held_out: &[usize], classes: &[String]| of(held_out, classes, 0).names_crc32();
    let same = crc(&[1, 2, 3], &classes);
    assert_eq!(same, of(&[1, 2, 3], &classes, 2).names_crc32(), "what is looked at of it is another matter");
    assert_ne!(same, crc(&[1, 2, 4], &classes));
    let mut renamed = classes.clone();
    renamed[0] += "s";
    assert_ne!(same, crc(&[1, 2, 3], &renamed));
    let notes = of(&[1, 2, 3], &classes, 2).declared().notes.join("\n");
    assert!(notes.contains("2 of 3 held-out images are evaluated"), "{notes}");
    assert!(of(&[1], &classes, 0).needs().bytes > 0);
}

/// An image without objects is learnt from as background, and a step of such images alone does no harm.
#[test]
fn images_without_objects_are_background() {
    let (mut all, classes) = scenes(20, 64);
    let objects = all.objects.iter().enumerate().map(|(i, o)| if i == 0 { o.clone() } else { Vec::new() });
    all.objects = Arc::new(objects.collect());
    let data = DetectionData::of(&all, Some(&all), &classes).unwrap();
    let mut task = DetectionTask::new(&config(), &Device::flex(), None, &data).unwrap();
    let rows = steps(&mut task, 0..3);
    assert!(rows.iter().flatten().all(|v| v.is_finite()), "{rows:?}");
    // Neither loss of places has anything to say of them.
    assert!(rows.iter().any(|row| row[2] == 0.0 && row[4] == 0.0), "{rows:?}");
    task.evaluate().unwrap();
}
