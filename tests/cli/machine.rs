//! What is asked about the machine and the command line itself: `doctor`, `completions`, `man`, `--quiet`, `--verbose`, colours; and
//! about several machines: `plan`.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::command::{ocelli, refused, stdout};

fn json(args: &[&str]) -> Value {
    let text = stdout(&ocelli(args));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
}

#[test]
fn the_doctor_says_what_a_report_needs() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("runs/first").display().to_string();
    let args = ["doctor", "--device", "cpu", "--data", "scenes:16", "--out", &out];
    let text = stdout(&ocelli(&args));
    for words in [
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        "threads",
        "adapters",
        "auto takes",
        "kernel choices",
        "CPU works",
        "the first image can be read",
        "can be made in",
        "Everything that was tried works.",
    ] {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a trial leaves nothing");
    let told = json(&[&args[..], &["--json"]].concat());
    assert_eq!(told["ocelli"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(told["adapters"].is_array() && told["computing"]["took_ms"].is_number(), "{told}");
    assert!(told["cpu"]["threads"].as_u64() > Some(0) && told["data"]["first_image_px"][0].is_number(), "{told}");
    assert_eq!(told["problems"], Value::Array(Vec::new()));
}

#[test]
fn the_doctor_names_only_what_is_set_and_not_the_user() {
    let home = tempfile::tempdir().unwrap();
    let cache = home.path().join("cache");
    let output = Command::new(env!("CARGO_BIN_EXE_ocelli"))
        .args(["doctor", "--device", "cpu"])
        .env("HOME", home.path())
        .env("XDG_CACHE_HOME", &cache)
        .env("OCELLI_SIMD", "portable")
        .env("HF_TOKEN", "a-secret")
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap();
    let text = stdout(&output);
    assert!(text.contains("OCELLI_SIMD=portable") && text.contains("XDG_CACHE_HOME=~"), "{text}");
    let user = home.path().display().to_string();
    for words in ["a-secret", "HF_TOKEN", "RUST_BACKTRACE", &user] {
        assert!(!text.contains(words), "expected no \"{words}\" in: {text}");
    }
}

#[test]
fn what_does_not_work_is_said_and_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file").display().to_string();
    fs::write(&file, "x").unwrap();
    let nothing = folder.path().join("nothing").display().to_string();
    let doctor = ["doctor", "--device", "cpu"];
    refused(&[&doctor[..], &["--data", &nothing]].concat(), &["data: ", "nothing"]);
    refused(&[&doctor[..], &["--out", &file]].concat(), &["out: ", "expected a folder, found a file"]);
    let output = ocelli(&[&doctor[..], &["--out", &file, "--json"]].concat());
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), told["problems"].as_array().map(Vec::len)), (Some(2), Some(1)));
}

#[test]
fn shells_and_manuals_know_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = stdout(&ocelli(&["completions", shell]));
        for words in ["pretrain", "low-shot", "dry-run"] {
            assert!(script.contains(words), "{shell}: expected {words}");
        }
    }
    refused(&["completions", "cmd"], &["bash", "elvish"]);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man");
    let args = ["man", "--out", out.to_str().unwrap()];
    stdout(&ocelli(&args));
    let page = fs::read_to_string(out.join("ocelli-eval-low-shot.1")).unwrap();
    assert!(page.contains("ocelli eval low") && page.contains("logistic regression"), "{page}");
    assert!(out.join("ocelli.1").exists() && !out.join("ocelli-fault.1").exists());
    // The same again replaces them.
    stdout(&ocelli(&args));
}

#[test]
fn quiet_leaves_results_and_verbose_adds_to_the_other_stream() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("f.csv").display().to_string();
    let embed = ["embed", "scenes:2", "--weights", "random:vit-32x1x2/8", "--device", "cpu", "--size", "32"];
    let embed = [&embed[..], &["--overwrite", "--out", &out]].concat();
    let (usual, quiet) = (ocelli(&embed), ocelli(&[&embed[..], &["--quiet"]].concat()));
    assert!(stdout(&usual).contains("normalisation:") && usual.stderr.is_empty());
    let quiet = stdout(&quiet);
    assert_eq!(quiet.lines().count(), 1, "{quiet}");
    assert!(quiet.contains("features of 2 images"), "{quiet}");
    let verbose = ocelli(&[&["--verbose"], &embed[..]].concat());
    assert_eq!(stdout(&verbose), stdout(&usual));
    let more = String::from_utf8_lossy(&verbose.stderr).into_owned();
    assert!(more.contains(env!("CARGO_PKG_VERSION")) && more.contains("device: CPU"), "{more}");
    let both = ocelli(&["--quiet", "--verbose", "presets"]);
    assert_eq!(both.status.code(), Some(2));
    // Results are printed without notes, too.
    let knn =
        ["eval", "knn", "--data", "scenes:40", "--weights", "random:vit-32x1x2/8", "--device", "cpu", "--k", "5"];
    let text = stdout(&ocelli(&[&knn[..], &["--quiet"]].concat()));
    assert!(text.contains("top-1") && !text.contains("normalisation"), "{text}");
}

#[test]
fn figures_come_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("match.png").display().to_string();
    let devices = json(&["devices", "--device", "cpu", "--json"]);
    assert_eq!((&devices["takes"], &devices["asked_for"]), (&"cpu".into(), &"cpu".into()));
    let presets = json(&["presets", "--json"]);
    let rows = presets["tables"][0]["rows"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["preset"] == "vit-s16-800" && row["linear"].is_number()), "{presets}");
    let weights = ["--weights", "random:vit-32x1x2/8", "--device", "cpu", "--out", &out, "--json"];
    let matched = json(&[&["match", "scenes:1", "scenes:1", "--size", "32"], &weights[..]].concat());
    assert_eq!((&matched["cells"], &matched["mutual"]), (&16.into(), &16.into()), "a picture is like itself");
    assert_eq!(matched["drawn"].as_array().unwrap().len(), 16);
}

#[test]
fn colours_are_left_out_where_they_are_not_wanted() {
    let help = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ocelli"));
        command.arg("--help").env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").envs(variables.iter().copied());
        stdout(&command.output().unwrap())
    };
    assert!(help(&[("CLICOLOR_FORCE", "1")]).contains('\u{1b}'), "else the next line says nothing");
    assert!(!help(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).contains('\u{1b}'));
    assert!(!help(&[]).contains('\u{1b}'), "nor where nobody reads them");
}

/// What each rank sends follows from the formula, whatever this machine takes for the rest.
#[test]
fn a_run_on_several_devices_is_predicted() {
    let plan = ["plan", "--preset", "demo", "--device", "cpu", "--step", "0.5", "--images", "1000"];
    let link = ["--ranks", "6", "--bandwidth", "0.008", "--latency", "100", "--part", "8", "--price", "3"];
    let told = json(&[&plan[..], &link, &["--json"]].concat());
    let rows = told["rows"].as_array().unwrap();
    let numbers = |key: &str| rows.iter().map(|row| row[key].as_f64().unwrap()).collect::<Vec<_>>();
    assert_eq!(numbers("ranks"), [1.0, 2.0, 4.0, 6.0]);
    assert_eq!(numbers("batch_size"), [8.0, 16.0, 32.0, 48.0]);
    let bytes = told["gradient_bytes"].as_f64().unwrap();
    assert!(bytes > 1e5, "{bytes}");
    // A million bytes a second.
    for (wire, ranks) in numbers("wire_s").iter().zip(numbers("ranks")) {
        let expected = 2.0 * bytes * (ranks - 1.0) / ranks / 1e6;
        assert!((wire - expected).abs() <= 1e-9 * expected, "{ranks} ranks: {wire}, expected {expected}");
    }
    let halves = json(&[&plan[..], &link, &["--json", "--set", "optim.gradients=f16"]].concat());
    let [whole, half] = [&told, &halves].map(|told| told["rows"][3]["wire_s"].as_f64().unwrap());
    assert!((half / whole - 0.501).abs() < 1e-3, "half of {whole}, and scales: {half}");
    assert!((rows[0]["step_s"].as_f64().unwrap() - 0.5).abs() < 1e-12, "one rank sends nothing");
    let [alone, two] = [0, 1].map(|i| numbers("efficiency")[i]);
    assert!((alone - 1.0).abs() < 1e-12 && two < 1.0, "{alone} {two}");
    let (run, cost) = (numbers("run_s")[3], numbers("cost")[3]);
    assert!((cost - 3.0 * 6.0 * run / 3600.0).abs() < 1e-9 * cost, "{cost}");
    let text = stdout(&ocelli(&[&plan[..], &link].concat()));
    assert!(text.contains("a prediction by a model") && text.contains("as --step says"), "{text}");

    refused(&[&plan[..], &["--ranks", "7"]].concat(), &["expected a batch that 7 ranks can share", "--part"]);
    refused(&[&plan[..], &["--ranks", "126", "--part", "8"]].concat(), &["--images", "1008 images, found 1000"]);
    refused(&[&plan[..], &["--ranks", "2", "--bandwidth", "0"]].concat(), &["--bandwidth", "above 0"]);
    // Normalisation over the images of all: 20 norms of the backbone and 2 of the head, there and back.
    let simclr =
        ["plan", "--preset", "simclr-laptop", "--device", "cpu", "--ranks", "2", "--step", "0.5", "--json"];
    let [dino, simclr] = [told, json(&simclr)].map(|told| told["norm_messages"].as_u64().unwrap());
    assert_eq!([dino, simclr], [0, 44]);
}
