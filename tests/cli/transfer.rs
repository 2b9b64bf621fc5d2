//! Fine-tuned detection and segmentation from the command line, on the built-in scenes and with tiny networks.

use std::fs;
use std::path::Path;
use std::process::Output;

use ocelli::models::weights::{ModuleState as _, StateDict, read_safetensors, write_safetensors};
use ocelli::models::{BackboneConfig, Init, ResNetArch};
use serde_json::Value;

use super::command::{ocelli, refused, stdout};

/// Steps of a millisecond or so. What is found is kept whatever its score, so that there is something to look at.
pub(super) const DETECTION: &str = "--data scenes:12:64 --weights random:resnet-18c8 --preset small --device cpu --iterations 4 \
     --batch-size 2 --set views.short_px=[64] --set views.max_px=96 --set anchors.sizes_px=[16,32] \
     --set rpn.batch_size_per_image=32 --set rpn.train_before_nms=64 --set rpn.train_after_nms=32 --set rpn.test_before_nms=32 \
     --set rpn.test_after_nms=16 --set roi.batch_size_per_image=16 --set roi.cells=4 --set roi.score=0.001 --set roi.top=5 \
     --set eval.every_iterations=2 --set eval.short_px=64 --set eval.max_images=4 --set eval.precise_bn_batches=2 \
     --set log.every_steps=1";
pub(super) const SEGMENTATION: &str = "--data scenes:12:64 --weights random:resnet-18c8 --preset laptop --device cpu --iterations 4 \
     --batch-size 2 --set evaluate_every=2 --set views.scale_px=[64,64] --set views.crop_px=[48,48] --set channels=16 \
     --set auxiliary_channels=8 --set eval.max_pictures=4 --set log.every_steps=1";
/// A checkpoint after every step, to choose from.
const BUSY: &str = "--set log.checkpoint_every_minutes=0.000001 --set log.keep_checkpoints=100";

fn finetune(task: &str, flags: &str, out: &Path, extra: &[&str]) -> Output {
    let mut args = vec!["finetune", task, "--out", out.to_str().unwrap()];
    args.extend(flags.split_whitespace());
    args.extend(extra);
    ocelli(&args)
}

fn json(args: &[&str]) -> Value {
    let text = stdout(&ocelli(args));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn read(path: &Path) -> StateDict {
    read_safetensors(&fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

fn rows(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Trains in one go and in two parts, of which the first was killed after three of four steps; the ends must be equal.
fn whole_and_in_parts(task: &str, flags: &str, folder: &Path, kept: &str) -> String {
    let (whole, parts) = (folder.join("whole"), folder.join("parts"));
    let text = stdout(&finetune(task, flags, &whole, &[]));
    let busy: Vec<&str> = BUSY.split_whitespace().collect();
    stdout(&finetune(task, flags, &parts, &busy));
    let mut files: Vec<_> = fs::read_dir(parts.join("checkpoints")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let middle = files.iter().position(|f| f.ends_with("epoch-0001_step-000001.safetensors"));
    let middle = middle.unwrap_or_else(|| panic!("no checkpoint after three steps: {files:?}"));
    files[middle + 1..].iter().for_each(|file| fs::remove_file(file).unwrap());
    let resumed =
        stdout(&ocelli(&["finetune", task, "--resume", "--device", "cpu", "--out", parts.to_str().unwrap()]));
    assert!(resumed.contains("after 3 steps"), "{resumed}");
    for file in ["checkpoints/epoch-0002.safetensors", kept] {
        assert_eq!(read(&whole.join(file)).tensors, read(&parts.join(file)).tensors, "{file}, bit for bit");
    }
    let losses = |run: &Path| -> Vec<Value> {
        rows(run).iter().filter(|r| r["event"] == "step").map(|r| r["loss"].clone()).collect()
    };
    assert_eq!((losses(&whole).len(), losses(&whole)), (4, losses(&parts)));
    text
}

#[test]
fn from_weights_to_boxes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let text = whole_and_in_parts("detection", DETECTION, folder.path(), "detector.safetensors");
    for words in ["normalisation:", "4 steps of 2 images", "AP50", "detector.safetensors", "use it: ocelli detect"]
    {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    let kept = read(&at("whole/detector.safetensors"));
    assert!(kept.get("roi_heads.box_predictor.cls_score.weight").is_some(), "detectron2's names");
    let table: Value = serde_json::from_slice(&fs::read(at("whole/detection.json")).unwrap()).unwrap();
    assert_eq!(table["images"], 4, "{table}");
    let page = fs::read_to_string(at("whole/report.html")).unwrap();
    for words in ["What was found", "VOC AP", "What is taken for what"] {
        assert!(page.contains(words), "{words}");
    }

    // Pictures, JSON and COCO's results of the same boxes.
    let (run, found, results) = (at("whole"), at("found"), at("results.json"));
    let (run, out, file) = (run.to_str().unwrap(), found.to_str().unwrap(), results.to_str().unwrap());
    let detect =
        ["detect", "scenes:3", "--weights", run, "--out", out, "--score", "0", "--json", "--device", "cpu"];
    let told = json(&[&detect[..], &["--coco", file]].concat());
    let images = told["images"].as_array().unwrap();
    assert_eq!(images.len(), 3);
    let mut objects = 0;
    for image in images {
        let size = image::image_dimensions(image["picture"].as_str().unwrap()).unwrap();
        assert_eq!((size.0.into(), size.1.into()), (image["width"].clone(), image["height"].clone()));
        for object in image["objects"].as_array().unwrap() {
            objects += 1;
            let number = |i: usize| object["box"][i].as_f64().unwrap();
            let inside = |v: f64, side: &str| (0.0..=image[side].as_f64().unwrap()).contains(&v);
            assert!(
                inside(number(0), "width") && inside(number(3), "height") && number(0) <= number(2),
                "{object}"
            );
            assert!(told["classes"].as_array().unwrap().contains(&object["name"]));
        }
    }
    let rows: Value = serde_json::from_slice(&fs::read(&results).unwrap()).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), objects);
    assert!(
        objects > 0
            && rows[0]["category_id"].as_u64() >= Some(1)
            && rows[0]["bbox"].as_array().unwrap().len() == 4
    );
    assert_eq!(fs::read_dir(&found).unwrap().count(), 3);
    // Pictures are drawn again over their like; results are not.
    refused(&[&detect[..], &["--coco", file]].concat(), &["results.json", "--overwrite"]);
    let text = stdout(&ocelli(&["detect", "scenes:2", "--weights", run, "--out", out, "--device", "cpu"]));
    assert!(text.contains("objects in 2 images"), "{text}");

    // A run keeps what it began with.
    let resume = ["finetune", "detection", "--resume", "--device", "cpu", "--out", run];
    for (flags, word) in [
        (&["--normalise", "half"][..], "--normalise"),
        (&["--mean", "0,0,0", "--std", "1,1,1"], "--mean"),
        (&["--set", "eval.max_images=3"], "eval.max_images"),
        (&["--data", "scenes:13:64"], "other data"),
    ] {
        refused(&[&resume[..], flags].concat(), &[word]);
    }

    // What a detector finds, and the same out of its results.
    let data = ["eval", "detection", "--data", "scenes:12:64", "--json"];
    let of_weights =
        json(&[&data[..], &["--weights", run, "--device", "cpu", "--coco", file, "--overwrite"]].concat());
    let of_results = json(&[&data[..], &["--detections", file]].concat());
    for (protocol, key) in [("coco", "ap"), ("coco", "ar100"), ("voc", "ap50")] {
        let of = |told: &Value| told[protocol][key].as_f64().unwrap_or_else(|| panic!("{protocol} {key}: {told}"));
        assert!((of(&of_weights) - of(&of_results)).abs() < 1e-6, "{protocol} {key}");
        assert!((0.0..=1.0).contains(&of(&of_weights)));
    }
    let table = stdout(&ocelli(&["eval", "detection", "--data", "scenes:12:64", "--detections", file]));
    for words in ["VOC, 11 points", "all classes", "categories by name", "not comparable"] {
        assert!(table.contains(words), "expected \"{words}\" in: {table}");
    }
}

#[test]
fn from_weights_to_classes_of_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let text = whole_and_in_parts("segmentation", SEGMENTATION, folder.path(), "segmenter.safetensors");
    for words in ["normalisation:", "mIoU", "segmenter.safetensors", "use it: ocelli segment"] {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    let table: Value = serde_json::from_slice(&fs::read(at("whole/segmentation.json")).unwrap()).unwrap();
    let classes = table["classes"].as_array().unwrap().len();
    assert!(classes > 1 && table["confusion"].as_array().unwrap().len() == classes, "{table}");
    let page = fs::read_to_string(at("whole/report.html")).unwrap();
    for words in ["Classes of the pixels", "What is taken for what", "Pixel by pixel"] {
        assert!(page.contains(words), "{words}");
    }

    let (run, out) = (at("whole"), at("coloured"));
    let (run, out) = (run.to_str().unwrap(), out.to_str().unwrap());
    let told = json(&["segment", "scenes:2", "--weights", run, "--out", out, "--json", "--device", "cpu"]);
    let images = told["images"].as_array().unwrap();
    assert_eq!((images.len(), told["classes"].as_array().unwrap().len()), (2, classes));
    for image in images {
        let shares = image["classes"].as_array().unwrap();
        let all: f64 = shares.iter().map(|s| s["share"].as_f64().unwrap()).sum();
        assert!((all - 1.0).abs() < 1e-9 && !shares.is_empty(), "{image}");
        // The index PNG has the picture's size and the classes' numbers; the picture has a legend below.
        let file = fs::File::open(image["index"].as_str().unwrap()).unwrap();
        let mut decoder = png::Decoder::new(std::io::BufReader::new(file));
        decoder.set_transformations(png::Transformations::IDENTITY);
        let mut reader = decoder.read_info().unwrap();
        let mut numbers = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut numbers).unwrap();
        let (width, height) = (image["width"].as_u64().unwrap(), image["height"].as_u64().unwrap());
        assert_eq!(numbers.len() as u64, width * height);
        for share in shares {
            let class = share["class"].as_u64().unwrap();
            let there = numbers.iter().filter(|n| u64::from(**n) == class).count() as u64;
            assert_eq!(Some(there), share["pixels"].as_u64(), "class {class}");
        }
        let drawn = image::image_dimensions(image["picture"].as_str().unwrap()).unwrap();
        assert!(u64::from(drawn.0) == width && u64::from(drawn.1) > height);
    }
    assert_eq!(fs::read_dir(out).unwrap().count(), 4);

    let eval =
        ["eval", "segmentation", "--data", "scenes:12:64", "--weights", run, "--device", "cpu", "--limit", "4"];
    let told = json(&[&eval[..], &["--json"]].concat());
    // The same images as in the run's last evaluation, if that was its best.
    assert!((0.0..=100.0).contains(&told["miou"].as_f64().unwrap()) && told["pictures"] == 4, "{told}");
    assert!(stdout(&ocelli(&eval)).contains("mIoU"));
}

/// What people say lies over what the weights say, and the plan says what is so.
#[test]
fn a_normalisation_of_ones_own_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let plan = |extra: &[&str]| -> Value {
        let text =
            stdout(&finetune("detection", DETECTION, &at("run"), &[&["--dry-run", "--json"], extra].concat()));
        serde_json::from_str(&text).unwrap()
    };
    let std = |plan: &Value| plan["config"]["views"]["std"][0].as_f64().unwrap() as f32;
    assert_eq!(std(&plan(&[])), 0.229);
    fs::write(at("own.toml"), "[views]\nstd = [0.25, 0.25, 0.25]\n").unwrap();
    let file = ["--config", &at("own.toml").display().to_string()].map(str::to_owned);
    let file: Vec<&str> = file.iter().map(String::as_str).collect();
    let own = plan(&file);
    assert_eq!((std(&own), &own["config"]["weights_crc32"]), (0.25, &"".into()));
    let flag = [&file[..], &["--normalise", "half"]].concat();
    assert_eq!(std(&plan(&flag)), 0.5);
    assert_eq!(std(&plan(&[&flag[..], &["--set", "views.std=[1.0,1.0,1.0]"]].concat())), 1.0);
    // Spans are equal: 2 of 2 steps, not 3 and 1.
    let spans = plan(&["--set", "eval.every_iterations=3"]);
    assert!(spans["evaluated"].as_str().unwrap().starts_with("every 2 steps on 4 held-out images"), "{spans}");
    assert!(spans["memory"].as_str().unwrap().contains("regions"), "{spans}");
    assert!(!at("run").exists());
}

/// Images whose labels cannot be read are no images without objects.
#[test]
fn unreadable_labels_are_left_out_of_results_too() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("set/labels")).unwrap();
    fs::write(at("set/data.yaml"), "names: [ant, bee]\n").unwrap();
    for i in 0..100 {
        picture(&at(&format!("set/images/{i}.png")), 16, i);
        fs::write(at(&format!("set/labels/{i}.txt")), "0 0.5 0.5 0.5 0.5\n").unwrap();
    }
    fs::write(at("set/labels/7.txt"), "ant somewhere\n").unwrap();
    let row =
        |image: usize| format!(r#"{{"image_id": {image}, "category_id": 1, "bbox": [4, 4, 8, 8], "score": 1}}"#);
    fs::write(at("found.json"), format!("[{}, {}]", row(3), row(7))).unwrap();
    let (set, found) = (at("set").display().to_string(), at("found.json").display().to_string());
    let eval = ["eval", "detection", "--data", &set, "--detections", &found, "--json"];
    let told = json(&eval);
    assert_eq!(told["images"], 99, "{told}");
    assert!(told["notes"].to_string().contains("they or their labels cannot be read: 1"), "{told}");
    assert_eq!(told["voc"]["per_class"][0]["detections"], 1, "{told}");
    // Three of a hundred are tolerated, four are not.
    for i in 8..11 {
        fs::write(at(&format!("set/labels/{i}.txt")), "ant somewhere\n").unwrap();
    }
    refused(&eval, &["4 of 100", ".txt"]);
    refused(&["eval", "detection", "--data", &set, "--weights", "x", "--instances", &found], &["--coco"]);
}

/// The backbone's file is needed to begin with, and not to go on from a checkpoint.
#[test]
fn a_segmentation_goes_on_without_its_backbones_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let file = at("backbone.safetensors");
    let write = |seed: u64| {
        let device = burn::tensor::Device::flex();
        let arch: ResNetArch = "resnet-18c8".parse().unwrap();
        let net = BackboneConfig::ResNet(arch.into()).init(&mut Init::new(seed, &device)).unwrap();
        let mut state = StateDict::default();
        state.add_module("", &net).unwrap();
        fs::write(&file, write_safetensors(&state).unwrap()).unwrap();
    };
    write(1);
    let run = at("run");
    let flags = SEGMENTATION.replace("random:resnet-18c8", file.to_str().unwrap());
    let busy: Vec<&str> = BUSY.split_whitespace().collect();
    stdout(&finetune("segmentation", &flags, &run, &busy));
    let weights = || -> Value {
        let manifest: Value = serde_json::from_slice(&fs::read(run.join("manifest.json")).unwrap()).unwrap();
        manifest["understood"]["weights"].clone()
    };
    let begun = weights();
    assert!(begun["description"].as_str().unwrap().contains("backbone.safetensors"), "{begun}");
    let checkpoints = || fs::read_dir(run.join("checkpoints")).unwrap().map(|e| e.unwrap().path());
    let last = run.join("checkpoints/epoch-0002.safetensors");
    let whole = read(&last);
    fs::remove_file(&last).unwrap();
    fs::remove_file(&file).unwrap();
    let resume = ["finetune", "segmentation", "--resume", "--device", "cpu", "--out", run.to_str().unwrap()];
    stdout(&ocelli(&resume));
    assert_eq!(read(&last).tensors, whole.tensors, "bit for bit");
    assert_eq!(weights(), begun);
    // Damaged checkpoints are none, and another backbone is not the one it began with.
    checkpoints().for_each(|path| fs::write(path, "no checkpoint").unwrap());
    refused(&resume, &["backbone.safetensors", "cannot be opened", "CRC-32", "--weights"]);
    checkpoints().for_each(|path| fs::remove_file(path).unwrap());
    refused(&resume, &["backbone.safetensors", "cannot be opened", "CRC-32", "--weights"]);
    write(2);
    refused(&resume, &["backbone.safetensors", "found resnet-18c8 with CRC-32"]);
    write(1);
    stdout(&ocelli(&resume));
    assert_eq!(read(&last).tensors, whole.tensors, "begun anew");
}

#[test]
fn a_plan_writes_nothing_and_every_command_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for (task, flags, words) in [
        ("detection", DETECTION, ["Faster R-CNN", "short side 64 px", "every 2 steps on 4 held-out images"]),
        (
            "segmentation",
            SEGMENTATION,
            ["crops of 48 × 48 px", "4 of 2 images", "every 2 steps on 4 held-out images"],
        ),
    ] {
        let text = stdout(&finetune(task, flags, &out, &["--dry-run"]));
        for words in words.into_iter().chain(["measured; the first took", "a checkpoint"]) {
            assert!(text.contains(words), "expected \"{words}\" in: {text}");
        }
        let text = stdout(&finetune(task, flags, &out, &["--dry-run", "--json"]));
        let plan: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&plan["numbers"]["task"], &plan["numbers"]["steps"]), (&task.into(), &4.into()));
        assert!(!out.exists());
        let help = stdout(&ocelli(&["finetune", task, "--help"]));
        assert!(
            help.contains("Examples:") && help.contains("--iterations") && !help.contains("--epochs"),
            "{help}"
        );
        assert!(help.contains("Recipe by name:") && help.contains("`scenes[:COUNT[:SIZE]]`"), "{help}");
    }
    for command in [&["detect"][..], &["segment"], &["eval", "detection"], &["eval", "segmentation"]] {
        assert!(stdout(&ocelli(&[command, &["--help"]].concat())).contains("Examples:"), "{command:?}");
    }
}

/// A folder of images with a text file of boxes, or a map of classes, each.
fn picture(path: &Path, side: u32, level: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_fn(side, side, |x, y| image::Rgb([level, x as u8, y as u8])).save(path).unwrap();
}

fn map(path: &Path, width: u32, label: impl Fn(u32) -> u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::GrayImage::from_fn(width, 48, |x, _| image::Luma([label(x)])).save(path).unwrap();
}

#[test]
fn what_cannot_be_learnt_from_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for i in 0..12u8 {
        for set in ["empty", "strange", "text"] {
            picture(&at(&format!("{set}/images/{i}.png")), 48, 10 * i);
        }
        for set in ["other", "void", "one"] {
            picture(&at(&format!("{set}/images/{i}.png")), 48, 10 * i);
        }
        for set in ["empty", "strange", "text"] {
            fs::create_dir_all(at(&format!("{set}/labels"))).unwrap();
            fs::write(at(&format!("{set}/data.yaml")), "names: [ant, bee]\n").unwrap();
        }
        fs::write(at(&format!("empty/labels/{i}.txt")), "").unwrap();
        fs::write(at(&format!("strange/labels/{i}.txt")), "7 0.5 0.5 0.2 0.2\n").unwrap();
        fs::write(at(&format!("text/labels/{i}.txt")), "ant somewhere\n").unwrap();
        map(&at(&format!("other/masks/{i}.png")), 40, |x| u8::from(x > 20));
        map(&at(&format!("void/masks/{i}.png")), 48, |_| 255);
        map(&at(&format!("one/masks/{i}.png")), 48, |_| 0);
    }
    let out = at("run");
    let with = |task: &str, flags: &str, data: &str, extra: &[&str], words: &[&str]| {
        let flags = flags.replace("scenes:12:64", data);
        let output = finetune(task, &flags, &out, extra);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{data}: {message}");
        for word in words {
            assert!(message.contains(word), "{data}: expected \"{word}\" in: {message}");
        }
        assert!(!message.contains("panicked"), "{message}");
    };
    let path = |name: &str| at(name).display().to_string();
    with("detection", DETECTION, &path("empty"), &[], &["empty", "no boxes", "12 images"]);
    with("detection", DETECTION, &path("strange"), &[], &["strange", "7"]);
    with("detection", DETECTION, &path("text"), &[], &["text"]);
    with("detection", DETECTION, &path("nowhere"), &[], &["nowhere"]);
    with("segmentation", SEGMENTATION, &path("other"), &[], &["other", "40x48"]);
    with("segmentation", SEGMENTATION, &path("void"), &[], &["void"]);
    with("segmentation", SEGMENTATION, &path("one"), &[], &["classes"]);
    with("segmentation", SEGMENTATION, &path("empty/images"), &[], &["empty"]);

    let scenes = "scenes:12:64";
    with("detection", DETECTION, scenes, &["--set", "roi.cell=4"], &["roi.cell"]);
    with("detection", DETECTION, scenes, &["--set", "roi.cells=0"], &["roi.cells", "1 to 64"]);
    with("detection", DETECTION, scenes, &["--set", "iterations=0"], &["iterations"]);
    for (set, words) in [
        ("task=x", ["task", "detection"]),
        ("method=x", ["method", "faster-rcnn"]),
        ("loader.views=gpu", ["loader.views", "auto or cpu"]),
        ("log.checkpoint_every_minutes=1e300", ["log.checkpoint_every_minutes", "a number from 0"]),
        ("arch=resnet-50", ["arch: expected resnet-18c8", "found resnet-50"]),
        ("stem=cifar", ["stem: expected", "cifar"]),
    ] {
        with("detection", DETECTION, scenes, &["--set", set], &words);
    }
    with("detection", DETECTION, scenes, &["--heads", "3"], &["--heads", "ResNet"]);
    with("detection", &DETECTION.replace("small", "tiny"), scenes, &[], &["tiny", "voc-24k"]);
    with("detection", &DETECTION.replace("resnet-18c8", "vit-32x1x2/8"), scenes, &[], &["expected a ResNet"]);
    with("detection", &DETECTION.replace("random:resnet-18c8", "nowhere.pth"), scenes, &[], &["nowhere.pth"]);
    with("segmentation", SEGMENTATION, scenes, &["--set", "head=linear"], &["head", "fcn"]);
    with("segmentation", SEGMENTATION, scenes, &["--set", "evaluate_every=3"], &["evaluate_every"]);
    with("segmentation", SEGMENTATION, scenes, &["--set", "arch=resnet-50"], &["arch", "resnet-18c8"]);
    let minutes = "log.checkpoint_every_minutes";
    with("segmentation", SEGMENTATION, scenes, &["--set", &format!("{minutes}=1e300")], &[minutes]);
    with("segmentation", &SEGMENTATION.replace("laptop", "phone"), scenes, &[], &["phone", "voc-20k"]);
    assert!(!out.exists(), "nothing was begun");

    // Weights of another kind, pictures that are none, and flags out of range.
    let weights = at("backbone.safetensors");
    fs::write(&weights, "no weights").unwrap();
    let weights = weights.to_str().unwrap();
    fs::write(at("broken.png"), "no picture").unwrap();
    let broken = path("broken.png");
    for command in ["detect", "segment"] {
        refused(&[command, "scenes:1", "--weights", weights], &["backbone.safetensors"]);
        refused(&[command, "scenes:1", "--weights", "nowhere"], &["nowhere"]);
        refused(&[command, &path("nowhere.png"), "--weights", weights], &["nowhere.png"]);
        let flag = if command == "detect" { "--score" } else { "--alpha" };
        refused(&[command, &broken, "--weights", weights, flag, "7"], &[flag, "0 to 1", "7"]);
    }
    refused(&["eval", "detection", "--data", scenes, "--detections", &broken], &["broken.png", "JSON"]);
    refused(&["eval", "detection", "--data", &path("empty"), "--detections", &broken], &["no boxes"]);
}
