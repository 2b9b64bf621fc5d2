//! The report of a run and the table of runs, on the command line.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::command::{ocelli, refused, stdout};

fn pretrain(out: &Path, lr: &str) {
    let (out, lr) = (out.display().to_string(), format!("optim.lr={lr}"));
    let mut args = vec!["pretrain", "--data", "scenes:48", "--preset", "demo", "--out", &out, "--device", "cpu"];
    let sets = ["arch=vit-32x2x2/8", "epochs=2", "batch_size=16", "dino.head.out_dim=64", "log.every_steps=1"];
    for set in sets.iter().chain([&lr.as_str()]) {
        args.extend(["--set", set]);
    }
    stdout(&ocelli(&args));
}

#[test]
fn a_run_shows_itself() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let (a, b) = (root.join("runs/a"), root.join("runs/deep/b"));
    pretrain(&a, "0.001");
    pretrain(&b, "0.002");

    // The run left its report and its event file; made anew from its files the report says the same.
    let live = fs::read_to_string(a.join("report.html")).unwrap();
    for part in
        ["2 of 2 epochs", ">finished<", "scenes:48", "vit-32x2x2/8", "<h3>Loss</h3>", "k-NN accuracy (k = "]
    {
        assert!(live.contains(part), "{part} is missing");
    }
    let rows = fs::read_to_string(a.join("metrics.jsonl")).unwrap();
    let last =
        rows.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()).rfind(|r| r["event"] == "epoch").unwrap();
    let loss = format!("{:.3}", last["loss"].as_f64().unwrap());
    assert!(live.contains(&loss), "the loss {loss} is missing");
    assert_eq!(fs::read_dir(a.join("tensorboard")).unwrap().count(), 1);
    fs::remove_file(a.join("report.html")).unwrap();
    let a = a.display().to_string();
    let text = stdout(&ocelli(&["report", &a, "--tensorboard"]));
    assert!(text.contains("report.html") && text.contains("events.out.tfevents."), "{text}");
    let again = fs::read_to_string(Path::new(&a).join("report.html")).unwrap();
    let charts = |html: &str| html.matches("<figure class=\"chart\">").count();
    assert_eq!(charts(&live), charts(&again));

    // A broken run, a foreign folder and a file beside them.
    let runs = root.join("runs");
    fs::create_dir_all(runs.join("broken/checkpoints")).unwrap();
    fs::write(
        runs.join("broken/metrics.jsonl"),
        "{\"event\":\"step\",\"step\":3,\"epoch\":0,\"loss\":4.5}\n{\"ev",
    )
    .unwrap();
    fs::write(runs.join("broken/config.toml"), "arch = [").unwrap();
    fs::create_dir_all(runs.join("foreign")).unwrap();
    fs::write(runs.join("foreign/notes.txt"), "x").unwrap();
    fs::write(runs.join("loose.txt"), "x").unwrap();
    let runs = runs.display().to_string();
    let table = stdout(&ocelli(&["runs", &runs]));
    let line =
        |name: &str| table.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name}: {table}"));
    assert!(
        line("a ").contains("finished") && line("a ").contains("dino vit-32x2x2/8") && line("a ").contains("2/2")
    );
    assert!(line("deep/b").contains(" %"));
    assert!(line("broken").contains("4.500"));
    assert!(!table.contains("foreign") && !table.contains("loose"));
    let json: Value = serde_json::from_str(&stdout(&ocelli(&["runs", &runs, "--json"]))).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 3);
    let of_a = json.as_array().unwrap().iter().find(|r| r["name"] == "a").unwrap();
    assert_eq!((of_a["epochs_done"].as_f64(), &of_a["loss"]), (Some(2.0), &last["loss"]));

    let page = root.join("compared.html").display().to_string();
    let text = stdout(&ocelli(&["runs", &runs, "--compare", "a", "deep/b", "--out", &page]));
    assert!(text.contains("optim.lr") && text.contains("0.001") && text.contains("0.002"), "{text}");
    assert!(!text.contains("batch_size"), "what is the same is not listed: {text}");
    assert!(fs::read_to_string(&page).unwrap().contains("<path class=\"bold c1\""));
    assert!(stdout(&ocelli(&["report", &format!("{runs}/broken")])).contains("report.html"));

    refused(&["report", &format!("{runs}/foreign")], &["no run here"]);
    refused(&["report", &a, "--out", &format!("{runs}/loose.txt")], &["found another file"]);
    assert_eq!(fs::read_to_string(format!("{runs}/loose.txt")).unwrap(), "x");
    refused(&["runs", &format!("{runs}/nowhere")], &["nowhere"]);
    refused(&["runs", &runs, "--compare", "a", "c"], &["no run here"]);
    let empty = root.join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(stdout(&ocelli(&["runs", &empty.display().to_string()])).contains("no runs in"));
}

#[test]
fn a_run_that_fails_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("data"), folder.path().join("run"));
    fs::create_dir(&data).unwrap();
    for i in 0..24 {
        let path = data.join(format!("{i:02}.png"));
        match i % 3 {
            0 => fs::write(&path, "no picture").unwrap(),
            _ => image::RgbImage::from_pixel(40, 40, image::Rgb([i * 9, 80, 120])).save(&path).unwrap(),
        }
    }
    let (data, out) = (data.display().to_string(), out.display().to_string());
    let args = [
        "pretrain",
        "--data",
        &data,
        "--preset",
        "demo",
        "--out",
        &out,
        "--device",
        "cpu",
        "--arch",
        "vit-32x2x2/8",
    ];
    let output = ocelli(&[&args[..], &["--set", "batch_size=8"]].concat());
    assert_eq!(output.status.code(), Some(2));
    let report = fs::read_to_string(Path::new(&out).join("report.html")).unwrap();
    assert!(report.contains(">stopped<") && report.contains(".png"), "{}", &report[..2000.min(report.len())]);
    assert!(!report.contains("http-equiv=\"refresh\""));
    let json: Value = serde_json::from_str(&stdout(&ocelli(&["runs", &out, "--json"]))).unwrap();
    assert_eq!(json[0]["state"], "stopped");
    assert!(json[0]["reason"].as_str().unwrap().contains(".png"));
}
