//! Weights from elsewhere and for elsewhere: a real network reproduces its reference outputs, and what is exported loads
//! in PyTorch.
//!
//! `OCELLI_DATA` is the folder with `vit-tiny-in1k`; `OCELLI_PYTHON` a Python with torch (else `python3`). Without them
//! the tests that need them say that they skip.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[path = "support/command.rs"]
mod command;
mod support;
mod weights_layouts;

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module as _;
use burn::tensor::{Bytes, Tensor, TensorData};
use command::{ocelli, refused, stdout};
use ocelli::data::{Image, normalise_into};
use ocelli::models::weights::preprocessing::Statistics;
use ocelli::models::weights::{
    Dtype, HostTensor, ModuleState as _, Part, StateDict, Weights, read_safetensors, write_pth, write_safetensors,
};
use ocelli::models::{AnyBackbone, BackboneConfig, Init, Mode, PositionRule, VitConfig, params};
use ocelli::train::{Loaded, Loading, TrainError, load_into};
use support::{Tolerance, assert_close, device, formula_tensor, values};

/// A tiny file of the weights crate, made by PyTorch.
fn fixture(name: &str) -> PathBuf {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    Path::new(&root).join("crates/weights/tests/fixtures").join(name)
}

/// A Vision Transformer's weights, as the commands open them.
fn load(path: &Path, heads: Option<usize>) -> Result<Loaded, TrainError> {
    Loading { heads, only_vit: true, ..Loading::default() }.open(path, &device())
}

/// The parameters of a network by name.
fn parameters(encoder: &AnyBackbone) -> Vec<params::FlatParam> {
    match encoder {
        AnyBackbone::Vit(vit) => params::collect(vit),
        AnyBackbone::ResNet(net) => params::collect(net),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The folder of the real network.
fn vit_tiny() -> Option<PathBuf> {
    let found =
        std::env::var_os("OCELLI_DATA").map(|d| PathBuf::from(d).join("vit-tiny-in1k")).filter(|p| p.is_dir());
    if found.is_none() {
        eprintln!("skipped: OCELLI_DATA names no folder with vit-tiny-in1k");
    }
    found
}

#[test]
fn a_real_network_reproduces_its_reference() {
    let Some(folder) = vit_tiny() else { return };
    let expected = read_safetensors(&fs::read(folder.join("golden/expected.safetensors")).unwrap()).unwrap();
    let close = Tolerance { atol: 2e-3, rtol: 2e-3 };
    for file in ["vit_tiny_patch16_224.fp16.safetensors", "vit_tiny_patch16_224.fp16.backbone.pth"] {
        let path = folder.join(file);
        let backbone = load(&path, None).unwrap();
        assert!(backbone.description.starts_with("backbone vit-ti/16 of"), "{}", backbone.description);
        let vit = backbone.vit().unwrap();
        let bytes = fs::read(&path).unwrap();
        let weights = Weights::open(&bytes).unwrap();
        assert!(weights.entries().iter().all(|e| e.dtype == Dtype::F16));
        // 5,717,416 with the classifier of 1000 classes.
        assert_eq!(weights.network(None).unwrap().parameters, 5_524_416, "{file}");
        for (name, class) in [("chelsea", 285), ("coffee", 967)] {
            let picture = image::open(folder.join(format!("golden/{name}.png"))).unwrap().to_rgb8();
            let (width, height) = picture.dimensions();
            let picture = Image { width, height, data: picture.into_raw() };
            let mut data = vec![0.0; 3 * (width * height) as usize];
            normalise_into(&picture, [0.5; 3], [0.5; 3], &mut data);
            let shape = [1, 3, height as usize, width as usize];
            let pixels = Tensor::<4>::from_data(TensorData::new(data, shape), &device());
            let want = |what: &str| &expected.get(&format!("{name}.{what}")).unwrap().values;

            let cls = values(vit.forward(pixels.clone(), Mode::Eval));
            assert_close(&format!("{file}: {name}.cls"), &cls, want("cls"), close);
            let attention = values(vit.cls_attention(pixels.clone()));
            let near = Tolerance { atol: 2e-3, rtol: 0.0 };
            assert_close(&format!("{file}: {name}.cls_attention"), &attention, want("cls_attention"), near);
            let tokens = values(vit.tokens(pixels).narrow(1, 1, 8));
            let patches = want("patch_tokens_first8");
            assert_close(&format!("{file}: {name}.patch_tokens_first8"), &tokens, patches, close);

            // The classifier is only in one of the files.
            let Some(head) = weights.get("head.weight") else { continue };
            let (rows, bias) = (weights.values(head).unwrap(), weights.get("head.bias").unwrap());
            let bias = weights.values(bias).unwrap();
            let dot = |row: &[f32]| row.iter().zip(&cls).map(|(a, b)| f64::from(a * b)).sum::<f64>() as f32;
            let logits: Vec<f32> = rows.chunks(cls.len()).zip(&bias).map(|(row, b)| dot(row) + b).collect();
            assert_close(&format!("{name}.logits"), &logits, want("logits"), Tolerance { atol: 5e-3, rtol: 2e-3 });
            let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
            assert_eq!(best, Some(class), "{name}");
        }
    }
}

#[test]
fn attention_of_a_real_network() {
    let Some(folder) = vit_tiny() else { return };
    let out = tempfile::tempdir().unwrap();
    let (weights, picture) =
        (folder.join("vit_tiny_patch16_224.fp16.backbone.pth"), folder.join("golden/coffee.png"));
    let args = ["attention", text(&picture), "--weights", text(&weights), "--device", "cpu", "--out"];
    let said = stdout(&ocelli(&[&args[..], &[text(out.path())]].concat()));
    assert!(said.contains("vit-ti/16"), "{said}");
    assert!(out.path().join("sheet.png").exists());
}

/// Features of pictures by `ocelli embed`, and what it printed.
fn embedded(pictures: &[&Path], weights: &Path, flags: &[&str]) -> (Vec<f32>, String) {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("f.safetensors");
    let pictures: Vec<&str> = pictures.iter().map(|p| text(p)).collect();
    let rest = ["--weights", text(weights), "--device", "cpu", "--out", text(&file)];
    let said = stdout(&ocelli(&[&["embed"], &pictures[..], &rest, flags].concat()));
    let table = read_safetensors(&fs::read(&file).unwrap()).unwrap();
    (table.get("features").unwrap().values.clone(), said)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The command line gives the reference's features where it normalises as the weights want, and others where it does not.
#[test]
fn the_command_line_normalises_as_the_weights_want() {
    let Some(folder) = vit_tiny() else { return };
    let expected = read_safetensors(&fs::read(folder.join("golden/expected.safetensors")).unwrap()).unwrap();
    let want: Vec<f32> =
        ["chelsea.cls", "coffee.cls"].iter().flat_map(|n| expected.get(n).unwrap().values.clone()).collect();
    let pictures = ["chelsea", "coffee"].map(|name| folder.join(format!("golden/{name}.png")));
    let pictures = [pictures[0].as_path(), pictures[1].as_path()];
    let close = Tolerance { atol: 2e-3, rtol: 2e-3 };
    let own = folder.join("vit_tiny_patch16_224.fp16.safetensors");
    let as_they_are = ["--size", "0"];

    let (half, said) = embedded(&pictures, &own, &[&as_they_are[..], &["--normalise", "half"]].concat());
    assert_close("half", &half, &want, close);
    assert!(
        said.contains("normalisation: half (mean and std 0.5) (--normalise); size: images as they are"),
        "{said}"
    );
    let (same, _) = embedded(
        &pictures,
        &own,
        &[&as_they_are[..], &["--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"]].concat(),
    );
    assert_eq!(same, half);
    // timm's name is the file's.
    let (by_name, said) = embedded(&pictures, &own, &as_they_are);
    assert_eq!(by_name, half);
    assert!(said.contains("half (mean and std 0.5) (that of vit_tiny_patch16_224"), "{said}");

    // Under a name that says nothing ImageNet's is taken, which is wrong here and called a guess.
    let copies = tempfile::tempdir().unwrap();
    let nameless = copies.path().join("weights.safetensors");
    fs::copy(&own, &nameless).unwrap();
    let (wrong, said) = embedded(&pictures, &nameless, &as_they_are);
    assert!(said.contains("ImageNet's mean and std (a guess: the file does not say; --normalise half"), "{said}");
    let dim = want.len() / 2;
    for ((wrong, right), want) in wrong.chunks(dim).zip(half.chunks(dim)).zip(want.chunks(dim)) {
        assert!(cosine(right, want) > 0.9999, "{}", cosine(right, want));
        assert!(
            cosine(wrong, want) < 0.99,
            "the wrong normalisation gives other features: {}",
            cosine(wrong, want)
        );
    }
    // A config.json beside it tells.
    let config = r#"{"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {"mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5], "input_size": [3, 224, 224], "crop_pct": 0.9}}"#;
    fs::write(copies.path().join("config.json"), config).unwrap();
    let (told, said) = embedded(&pictures, &nameless, &as_they_are);
    assert_eq!(told, half);
    assert!(said.contains("config.json beside the file"), "{said}");
}

/// A network's own normalisation and size go with it into safetensors, and the command says what a `.pth` leaves out.
#[test]
fn normalisation_travels_with_exports() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let picture = at("picture.png");
    image::RgbImage::from_fn(48, 48, |x, y| image::Rgb([x as u8 * 5, y as u8 * 5, 90])).save(&picture).unwrap();
    let (_, mut state) = small(4);
    let mut run = ocelli::train::RunConfig::default();
    (run.views.mean, run.views.std) = ([0.3, 0.35, 0.4], [0.2, 0.25, 0.3]);
    (run.eval.resize_px, run.eval.crop_px) = (36, 32);
    run.arch = "vit-64x2x1/8".parse().unwrap();
    state.metadata.insert("config".into(), toml::to_string(&run).unwrap());
    let source = at("source.safetensors");
    fs::write(&source, write_safetensors(&state).unwrap()).unwrap();
    let (own, said) = embedded(&[&picture], &source, &[]);
    assert!(
        said.contains(
            "normalisation: mean 0.3,0.35,0.4, std 0.2,0.25,0.3 (the run's); size: short side 36 px, centre crop"
        ),
        "{said}"
    );
    let export = |from: &Path, format: &str, to: &Path, flags: &[&str]| {
        let args = ["export", text(from), "--format", format, "--out", text(to)];
        stdout(&ocelli(&[&args[..], flags].concat()))
    };
    let flags = ["--mean", "0.3,0.35,0.4", "--std", "0.2,0.25,0.3", "--resize", "36", "--crop", "32"];

    let bare = at("bare.pth");
    let said = export(&source, "pth-layout", &bare, &[]);
    assert!(
        said.contains(&format!("a .pth does not hold them; when you use it, give {}", flags.join(" "))),
        "{said}"
    );
    let (guessed, said) = embedded(&[&picture], &bare, &[]);
    assert!(said.contains("a guess"), "{said}");
    assert_ne!(guessed, own);
    assert_eq!(embedded(&[&picture], &bare, &flags).0, own);

    // Keys of another version of Ocelli do not hide the ones that matter.
    let other = format!("key_of_another_version = 1\n{}", toml::to_string(&run).unwrap());
    state.metadata.insert("config".into(), other);
    let newer = at("newer.safetensors");
    fs::write(&newer, write_safetensors(&state).unwrap()).unwrap();
    let (known, said) = embedded(&[&picture], &newer, &[]);
    assert_eq!(known, own);
    assert!(said.contains("(the run's)") && said.contains("(as the run evaluates)"), "{said}");

    // From the .pth on, the flags say it once and for all; the run's configuration is not needed.
    let whole = at("whole.safetensors");
    assert!(export(&bare, "safetensors", &whole, &flags).contains("both are in the file's metadata"));
    let (again, said) = embedded(&[&picture], &whole, &[]);
    assert_eq!(again, own);
    assert!(said.contains("(the file's metadata)") && !said.contains("guess"), "{said}");
    let json = stdout(&ocelli(&["weights", text(&whole), "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["input"]["mean"], serde_json::json!([0.3, 0.35, 0.4]));
    assert_eq!(
        (&json["input"]["crop_px"], &json["input"]["normalisation_is_a_guess"]),
        (&32.into(), &false.into())
    );

    // A guess stays one, and flags are stronger than any file.
    let kept = at("kept.safetensors");
    export(&bare, "safetensors", &kept, &[]);
    let (_, said) = embedded(&[&picture], &kept, &[]);
    assert!(said.contains("ImageNet's mean and std (a guess: it was one when the file was written)"), "{said}");
    let (_, said) = embedded(&[&picture], &source, &["--normalise", "none", "--crop", "24"]);
    assert!(
        said.contains("none (levels from 0 to 1) (--normalise)") && said.contains("crop of 24 px (--crop"),
        "{said}"
    );

    // What pixels cannot be normalised by is refused before anything is read.
    let bad = |flags: &[&str], words: &[&str]| {
        let out = at("no.csv");
        let args = ["embed", text(&picture), "--weights", text(&source), "--out", text(&out)];
        refused(&[&args[..], flags].concat(), words);
        assert!(!out.exists());
    };
    bad(&["--mean", "0.5,0.5", "--std", "1,1,1"], &["--mean", "three numbers"]);
    bad(&["--mean", "0.5,0.5,0.5", "--std", "1,0,1"], &["--std: expected three numbers above 0, found 1,0,1"]);
    bad(&["--mean", "123,116,103", "--std", "1,1,1"], &["--mean: expected three numbers from 0 to 1", "by 255"]);
    bad(&["--mean", "0,0,0"], &["--std"]);
    bad(&["--normalise", "half", "--mean", "0,0,0", "--std", "1,1,1"], &["--normalise", "--mean"]);
    state.metadata = [("mean", "[0,0,0]"), ("std", "[0,0,0]")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    fs::write(&source, write_safetensors(&state).unwrap()).unwrap();
    bad(
        &[],
        &["source.safetensors: std: expected three numbers above 0", "Give --mean and --std, or --normalise"],
    );
}

/// A small Vision Transformer with formula weights, as a state dict. Its heads are 64 wide.
fn small(grid: usize) -> (VitConfig, StateDict) {
    let config = VitConfig {
        image_size_px: 8 * grid,
        patch_size_px: 8,
        dim: 64,
        depth: 2,
        heads: 1,
        mlp_ratio: 4,
        drop_path: 0.0,
        registers: 0,
        position_rule: PositionRule::Dino,
    };
    let vit = config.init(&mut Init::new(0, &device())).unwrap();
    let mut state = StateDict::default();
    state.add_module("", &vit).unwrap();
    for (name, tensor) in &mut state.tensors {
        *tensor = formula_tensor("weights", name, &tensor.shape);
    }
    (config, state)
}

#[test]
fn a_run_can_start_from_another_grid() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pth");
    let (config, state) = small(4);
    fs::write(&path, write_pth(&state, Dtype::F32).unwrap()).unwrap();
    let into = |path: &Path, config: &VitConfig| {
        load_into(path, &BackboneConfig::Vit(config.clone()), Statistics::IMAGENET, &device())
    };
    let same = into(&path, &config).unwrap();
    assert!(!same.1.contains("resampled"), "{}", same.1);
    let larger = VitConfig { image_size_px: 56, ..config };
    let (vit, words) = into(&path, &larger).unwrap();
    assert!(words.contains("resampled from 4×4 to 7×7"), "{words}");
    // The positions are those the smaller network would use for that image itself.
    let positions = |encoder: &AnyBackbone| values(encoder.as_vit().unwrap().position_embedding(56, 56));
    let (wanted, found) = (positions(&same.0), positions(&vit));
    assert_close("positions", &found, &wanted, Tolerance { atol: 1e-6, rtol: 0.0 });

    let other = VitConfig { depth: 3, mlp_ratio: 2, ..config };
    let error = into(&path, &other).unwrap_err().to_string();
    for word in ["a.pth", "12 missing: blocks.2.norm1.weight", "and 7 more", "6 of another shape", "[128, 64]"] {
        assert!(error.contains(word), "expected \"{word}\" in: {error}");
    }
    let shallow = VitConfig { depth: 1, mlp_ratio: 4, ..other };
    let error = into(&path, &shallow).unwrap_err().to_string();
    assert!(error.contains("12 unexpected: blocks.1."), "{error}");
}

/// A network of a million times the file's size is not built.
#[test]
fn shapes_that_no_tensor_fills_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge.safetensors");
    for (name, shape, words) in [
        ("patch_embed.proj.weight", vec![1 << 30, 3, 8, 0], "square patches"),
        ("patch_embed.proj.weight", vec![64, 3, 1 << 40, 0], "square patches"),
        ("pos_embed", vec![0, 1 << 40, 64], "pos_embed (expected shape [1, "),
        ("blocks.0.mlp.fc1.weight", vec![1 << 50, 0], "mlp.fc1.weight (expected shape [1125899906842624, 64]"),
        ("blocks", vec![], "missing: blocks.2.norm1.bias"),
    ] {
        let (_, mut state) = small(4);
        state.tensors.retain(|(n, _)| n != name);
        let empty = |shape| HostTensor { shape, values: Vec::new() };
        if name == "blocks" {
            state.tensors.extend((2..500).map(|i| (format!("blocks.{i}.norm1.weight"), empty(vec![0]))));
        } else {
            state.tensors.push((name.to_owned(), empty(shape)));
        }
        fs::write(&path, write_safetensors(&state).unwrap()).unwrap();
        let error = load(&path, None).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("huge.safetensors"), "expected \"{words}\" in: {error}");
    }
}

#[test]
fn a_run_is_exported_with_what_it_knows() {
    let folder = tempfile::tempdir().unwrap();
    let (run, out) = (folder.path().join("run"), folder.path().join("backbone.safetensors"));
    let mut args = vec!["pretrain", "--preset", "laptop", "--data", "scenes:16", "--arch", "vit-32x1x2/8"];
    args.extend(["--epochs", "1", "--device", "cpu", "--out", text(&run)]);
    for set in ["batch_size=16", "dino.head.out_dim=32", "dino.head.hidden_dim=16", "dino.head.bottleneck_dim=8"] {
        args.extend(["--set", set]);
    }
    args.extend(["--set", "optim.warmup_epochs=0"]);
    stdout(&ocelli(&args));
    let said = stdout(&ocelli(&["weights", text(&run)]));
    for words in ["an Ocelli checkpoint, after 1 epochs", "teacher: ViT of width 32", "student: "] {
        assert!(said.contains(words), "expected \"{words}\" in: {said}");
    }
    stdout(&ocelli(&["export", text(&run), "--format", "safetensors", "--out", text(&out)]));
    let (from_run, exported) = (load(&run, None).unwrap(), load(&out, None).unwrap());
    // Heads of 16 and the views' normalisation are not in the tensors.
    assert_eq!(exported.vit().unwrap().heads(), 2);
    assert_eq!(exported.config, from_run.config);
    assert_eq!(exported.run, from_run.run);
    assert!(exported.run.is_some());
    for (a, b) in parameters(&exported.encoder).iter().zip(parameters(&from_run.encoder)) {
        assert_eq!(values((a.values.clone() - b.values).abs().max())[0], 0.0, "{}", a.name);
    }
    let student = folder.path().join("student.pth");
    stdout(&ocelli(&[
        "export",
        text(&run),
        "--what",
        "student",
        "--format",
        "pth-layout",
        "--out",
        text(&student),
    ]));
    assert!(load(&student, None).unwrap_err().to_string().contains("--heads"));
    assert_eq!(load(&student, Some(2)).unwrap().config, from_run.config);
}

#[test]
fn a_dino_checkpoint_loads_its_teacher_or_its_student() {
    let path = fixture("dino.pth");
    let first = |part| {
        let loading = Loading { part, heads: Some(2), ..Loading::default() };
        let loaded = loading.open(&path, &device()).unwrap();
        (values(loaded.vit().unwrap().cls_token.val())[0], loaded.description)
    };
    let (teacher, words) = first(None);
    assert_eq!(teacher, 0.0);
    assert!(words.starts_with("teacher backbone vit-8x1x2/2 after 100 epochs of"), "{words}");
    assert_eq!(first(Some(Part::Student)).0, 1.0);
    let error = load(&path, None).unwrap_err().to_string();
    assert!(error.contains("--heads"), "{error}");
}

#[test]
fn weights_are_described() {
    let path = fixture("dino.pth");
    let said = stdout(&ocelli(&["weights", text(&path)]));
    for words in [
        "a DINO checkpoint (student and teacher), after 100 epochs",
        "PyTorch zip",
        "teacher: ViT of width 8, depth 1, patches of 2 px",
        "under student.module.backbone.",
        "args.arch: vit_small",
        "teacher.backbone.pos_embed",
        "--heads",
    ] {
        assert!(said.contains(words), "expected \"{words}\" in: {said}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&ocelli(&["weights", text(&path), "--json"]))).unwrap();
    assert_eq!(json["networks"][0]["part"], "teacher");
    assert_eq!(json["epochs"], "100");
    let names: Vec<&str> =
        json["tensors"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"dino_loss.center") && names.contains(&"student.module.head.last_layer.weight_v"));

    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.pth");
    fs::write(&bad, b"\x80\x02cos\nsystem\nU\x02id\x85R.").unwrap();
    refused(&["weights", text(&bad)], &["bad.pth", "os.system", "Nothing was run"]);
    refused(&["attention", "scenes:1", "--weights", text(&bad)], &["bad.pth", "os.system"]);
    refused(&["weights", "nowhere.pth"], &["nowhere.pth", "found nothing there"]);
}

#[test]
fn other_layouts_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.pth");
    let resnet = |prefixes: &[&str]| {
        let mut state = StateDict::default();
        for prefix in prefixes {
            let mut add = |name: &str, shape: &[usize]| {
                let name = format!("{prefix}{name}");
                let tensor = formula_tensor("resnet", &name, shape);
                state.tensors.push((name, tensor));
            };
            add("conv1.weight", &[64, 3, 7, 7]);
            for (stage, count) in [(1, 3), (2, 4), (3, 6), (4, 3)] {
                for block in 0..count {
                    add(&format!("layer{stage}.{block}.conv1.weight"), &[64, 1, 1, 1]);
                    add(&format!("layer{stage}.{block}.conv3.weight"), &[1, 1, 1, 1]);
                }
            }
        }
        fs::write(&path, write_pth(&state, Dtype::F32).unwrap()).unwrap();
        stdout(&ocelli(&["weights", text(&path)]))
    };
    for (prefixes, words) in [
        (&[""][..], "a ResNet in torchvision's names"),
        (&["state_dict.module.encoder_q.", "state_dict.module.encoder_k."][..], "a MoCo checkpoint"),
        (
            &["state_dict.encoder_q.0.", "state_dict.encoder_k.0.", "state_dict.backbone."][..],
            "a DenseCL checkpoint",
        ),
    ] {
        let said = resnet(prefixes);
        assert!(said.contains(words) && said.contains("ResNet-50"), "expected \"{words}\" in: {said}");
    }
    // Its layers are a ResNet-50's, its numbers are not.
    refused(
        &["embed", "scenes:1", "--weights", text(&path), "--out", "f.csv"],
        &["DenseCL", "ResNet-50", "no network here is such a ResNet", "missing: bn1.weight"],
    );
    refused(&["attention", "scenes:1", "--weights", text(&path), "--out", "f"], &["DenseCL", "ResNet-50"]);
}

#[test]
fn exports_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let (config, state) = small(4);
    let source = folder.path().join("source.safetensors");
    fs::write(&source, write_safetensors(&state).unwrap()).unwrap();
    let original = load(&source, None).unwrap();
    let same = |path: &Path, within: f32| {
        let found = load(path, None).unwrap();
        assert_eq!(found.config, original.config);
        for (a, b) in parameters(&found.encoder).iter().zip(parameters(&original.encoder)) {
            assert_eq!(a.name, b.name);
            let apart = values((a.values.clone() - b.values).abs().max())[0];
            assert!(apart <= within, "{}: {} is {apart} off", path.display(), a.name);
        }
    };
    for (format, dtype, within) in [
        ("safetensors", "f32", 0.0),
        ("safetensors", "f16", 1e-3),
        ("pth-layout", "f32", 0.0),
        ("pth-layout", "f16", 1e-3),
    ] {
        let out = folder.path().join(format!("{format}.{dtype}"));
        let args = ["export", text(&source), "--format", format, "--dtype", dtype, "--out", text(&out)];
        let said = stdout(&ocelli(&args));
        assert!(said.contains("30 tensors"), "{said}");
        same(&out, within);
        let before = fs::read(&out).unwrap();
        refused(&args, &["is there already", "--overwrite"]);
        assert_eq!(fs::read(&out).unwrap(), before);
        stdout(&ocelli(&[&args[..], &["--overwrite"]].concat()));
    }

    // burn's own format, through burn's own reader.
    let out = folder.path().join("a.bpk");
    stdout(&ocelli(&["export", text(&source), "--format", "bpk", "--out", text(&out)]));
    let bytes = Bytes::from_bytes_vec(fs::read(&out).unwrap());
    let record = burn::store::ModuleRecord::from_bytes(bytes).unwrap();
    let fresh = config.init(&mut Init::new(9, &device())).unwrap();
    let loaded = fresh.load_record(record);
    for (a, b) in params::collect(&loaded).iter().zip(parameters(&original.encoder)) {
        assert_eq!(values((a.values.clone() - b.values).abs().max())[0], 0.0, "{}", a.name);
    }

    // Parts of a checkpoint.
    let dino = fixture("dino.pth");
    let tensors = |what: &str| -> Vec<String> {
        let out = folder.path().join(what);
        stdout(&ocelli(&["export", text(&dino), "--what", what, "--format", "safetensors", "--out", text(&out)]));
        let state = read_safetensors(&fs::read(&out).unwrap()).unwrap();
        assert_eq!(state.metadata["epochs_done"], "100");
        state.tensors.into_iter().map(|(n, t)| format!("{n} {}", t.values[0])).collect()
    };
    assert_eq!(tensors("head"), ["last_layer.weight_v 0", "mlp.0.weight 0"]);
    assert!(tensors("student").contains(&"cls_token 1".to_owned()));
    assert!(tensors("backbone").contains(&"cls_token 0".to_owned()));
    let out = folder.path().join("none");
    let args = ["export", text(&source), "--what", "head", "--format", "safetensors", "--out", text(&out)];
    refused(&args, &["projection head"]);
    refused(
        &["export", text(&source), "--what", "student", "--format", "bpk", "--out", text(&out)],
        &["no student"],
    );
    assert!(!out.exists());
}
