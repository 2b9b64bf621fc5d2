//! The report of a run: what is in it, and what must not be.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::path::Path;

use ocelli_report::{Reporter, Run, State, compare_html, differences, find_runs, report_html};
use serde_json::json;
use support::{START, finished, rows, text, write_run};

/// A 1 × 1 PNG.
const PNG: [u8; 67] = [
    0x89, b'P', b'N', b'G', 13, 10, 26, 10, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0,
    0, 0, 0x3a, 0x7e, 0x9b, 0x55, 0, 0, 0, 10, b'I', b'D', b'A', b'T', 0x78, 0x9c, 0x63, 0x60, 0, 0, 0, 2, 0, 1,
    0x48, 0xaf, 0xa4, 0x71, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];

fn html_of(dir: &Path, now: f64) -> String {
    let defaults = "epochs = 100\nbatch_size = 32\n[optim]\nlr = 0.0005\n".parse().unwrap();
    report_html(&Run::read(dir).unwrap(), Some(&defaults), now)
}

/// Nothing in the page asks anybody for anything, and it closes what it opens.
fn is_self_contained(html: &str) {
    for word in ["http:", "https:", "//cdn", "src=\"/", "@import", "url(", "<link", "<iframe", "fetch(", "XMLHttp"]
    {
        assert!(!html.contains(word), "the page contains {word}");
    }
    let sources = html.match_indices("src=\"").map(|(at, _)| &html[at + 5..]);
    assert!(sources.into_iter().all(|s| s.starts_with("data:image/png;base64,")));
    assert!(html.contains("default-src 'none'"));
    for tag in
        ["section", "figure", "div", "svg", "dl", "p", "h1", "h2", "h3", "ol", "table", "header", "footer", "main"]
    {
        let count = |what: String| html.matches(&what).count();
        let opened = count(format!("<{tag}>")) + count(format!("<{tag} "));
        assert_eq!(opened, count(format!("</{tag}>")), "<{tag}> is not closed as often as opened");
    }
    assert!(!html.contains("NaN") && !html.contains("inf\""));
}

#[test]
fn a_finished_run_shows_its_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("first");
    write_run(&dir, &text(&finished(rows(3))), "scenes:640");
    fs::create_dir(dir.join("pictures")).unwrap();
    for name in ["views", "attention-images", "attention-0000", "attention-0003", "attention-0099", "heads"] {
        fs::write(dir.join("pictures").join(format!("{name}.png")), PNG).unwrap();
    }
    fs::write(dir.join("pictures/attention-0002.png"), "no picture").unwrap();
    let html = html_of(&dir, START + 1e6);
    is_self_contained(&html);
    for part in [
        ">finished<",
        "3 of 3 epochs in 1 min 40 s",
        "<b>32.0 %</b>",
        "k = 20, epoch 3; untrained 18.2, raw pixels 22.5",
        "raw pixels 22.5 %",
        "untrained 18.25 %",
        "ln K = 5.545",
        "81 % of ln K",
        "<h3>Loss</h3><b>4.875</b>",
        "<h3>Images per second</h3><b>320</b>",
        "clipped from 3",
        "default 0.0005",
        "epoch-0003.safetensors</dt><dd>1.5 kB",
        "dino · vit-96x4x3/8",
        "<code>ocelli pretrain --data scenes:640</code>",
        "<figcaption>untrained</figcaption>",
        "<figcaption>epoch 3</figcaption>",
    ] {
        assert!(html.contains(part), "{part} is missing");
    }
    for absent in ["epoch 99", "epoch 2<", "http-equiv=\"refresh\"", "default 32"] {
        assert!(!html.contains(absent), "{absent} should not be there");
    }
    assert_eq!(html.matches("<figure class=\"chart\">").count(), 10);
}

/// The report knows figures by what the run declares; of a run of an earlier version by what its method is known to tell.
#[test]
fn figures_signs_and_scores_are_the_runs_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = rows(3);
    all[0]["figures"] = json!([{"name": "kl", "title": "Own title", "healthy": "Own words.", "headline": true,
        "bar": {"label": "kl", "unit": " %", "times": 100.0, "digits": 1}}]);
    all[0]["scores"] = json!([
        {"name": "top1", "title": "Accuracy", "healthy": "Up."},
        {"name": "rate", "title": "Best rate", "healthy": "",
            "bar": {"label": "rate", "unit": "", "times": 1.0, "digits": 4}},
    ]);
    let last = all.len() - 1;
    all[last]["signs"] = json!(["uniform"]);
    all[last]["top1"] = json!(61.25);
    all[last]["rate"] = json!(0.125);
    write_run(folder.path(), &text(&finished(all)), "scenes");
    let html = html_of(folder.path(), START);
    for part in [
        "Own title",
        "Own words.",
        "<b>37.5 %</b>",
        "the teacher is uniform",
        "a lower temperature",
        "<b>61.2 %</b>",
        // A score with a unit of its own is no share.
        "<b>0.125</b>",
    ] {
        assert!(html.contains(part), "{part} is missing");
    }
    assert!(html.contains("<h3>teacher entropy</h3>"), "a figure nobody declares has its name");

    let mut old = rows(3);
    for key in ["figures", "levels", "signs", "title"] {
        old[0].as_object_mut().unwrap().remove(key);
    }
    old[0]["uniform_entropy"] = json!(256f64.ln());
    write_run(folder.path(), &text(&old), "scenes");
    let mut run = Run::read(folder.path()).unwrap();
    assert!(run.history.declared.figures.is_empty());
    run.history.declare(json!({"figures": support::figures()}).as_object().unwrap());
    let html = report_html(&run, None, START);
    assert!(html.contains("ln K = 5.545") && html.contains("<h3>Teacher entropy</h3>"));
}

#[test]
fn the_curves_hold_the_figures() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path(), &text(&rows(2)), "scenes");
    let html = html_of(folder.path(), START + 50.0);
    // Steps 9, 19, 29 and 39 of 20 an epoch, and the means in the middle of their epochs.
    let json = |value: serde_json::Value| value.to_string().replace('"', "&quot;");
    assert!(html.contains(&json(json!(["steps", 0, [0.5, 1.0, 1.5, 2.0], [4.91, 4.81, 4.71, 4.61]]))));
    assert!(html.contains(&json(json!(["mean of epoch", 0, [0.5, 1.5], [4.875, 4.875]]))));
    assert!(html.contains(&json(json!(["k = 20", 0, [0.0, 1.0, 2.0], [18.25, 30.0, 31.0]]))));
}

#[test]
fn states_follow_from_the_rows_and_the_clock() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let mut all = rows(3);
    all.truncate(5);
    write_run(dir, &text(&all), "scenes");
    let running = html_of(dir, START + 30.0);
    is_self_contained(&running);
    assert!(running.contains(">running<") && running.contains("http-equiv=\"refresh\""));
    assert!(running.contains("1 of 3 epochs, about 40 s to go"), "20 steps took 20 s, 40 are left");
    assert!(html_of(dir, START + 4000.0).contains("no news for 1 h 6 min"));

    all.push(json!({"event": "stopped", "reason": "the disk is full", "unix_s": START + 21.0}));
    fs::write(dir.join("metrics.jsonl"), text(&all)).unwrap();
    assert_eq!(Run::read(dir).unwrap().state(START), State::Stopped("the disk is full".into()));
    assert!(html_of(dir, START + 30.0).contains("Stopped: the disk is full"));

    fs::remove_file(dir.join("metrics.jsonl")).unwrap();
    is_self_contained(&html_of(dir, START));
}

#[test]
fn runs_without_clocks_still_tell_their_time() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let mut all = finished(rows(3));
    for row in &mut all {
        row.as_object_mut().unwrap().remove("unix_s");
    }
    write_run(dir, &text(&all), "scenes");
    let done = Run::read(dir).unwrap();
    assert_eq!((done.active_s(), done.state(START)), (100.0, State::Finished));
    is_self_contained(&report_html(&done, None, START));

    all.truncate(all.len() - 2);
    write_run(dir, &text(&all), "scenes");
    let cut = Run::read(dir).unwrap();
    assert_eq!(cut.active_s(), 4.0, "two epochs of 2 s are written down");
    assert_eq!(cut.remaining_s(), Some(0.0), "all steps are done");
    let written = cut.modified_unix_s.unwrap();
    assert_eq!(cut.state(written + 10.0), State::Running);
    assert_eq!(cut.state(written + 1e4), State::Silent(written));
    all.truncate(7);
    write_run(dir, &text(&all), "scenes");
    assert_eq!(Run::read(dir).unwrap().remaining_s(), Some(2.0), "an epoch took 2 s, one and a half are done");
}

#[test]
fn hostile_names_stay_text() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("<img src=x onerror=alert(1)>");
    let nasty = "photos\"'><script>alert(1)</script>&";
    let mut all = rows(2);
    all.push(json!({"event": "warning", "message": nasty}));
    all.push(json!({"event": nasty, "message": nasty}));
    for row in &mut all {
        if row["event"] == "step" {
            row[nasty] = json!(1.0);
        }
    }
    write_run(&dir, &text(&all), nasty);
    fs::write(dir.join("config.toml"), format!("arch = '''{nasty}'''\n\"{}\" = 1\n", nasty.replace('"', "\\\"")))
        .unwrap();
    fs::write(dir.join(format!("checkpoints/{}.safetensors", "<b>x<b>")), "").unwrap();
    let mut runs = [Run::read(&dir).unwrap(), Run::read(&dir).unwrap()];
    runs[1].manifest.insert("data".into(), json!("other"));
    for html in [html_of(&dir, START), compare_html(&runs, START)] {
        is_self_contained(&html);
        assert_eq!(html.matches("<script").count(), 1, "the page's own");
        assert!(!html.contains("<img src=x") && !html.contains("<b>x<b>"));
        assert!(html.contains("photos&quot;&#39;&gt;&lt;script&gt;"));
    }
}

#[test]
fn damage_is_tolerated_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let whole = text(&finished(rows(2)));
    write_run(dir, &whole, "scenes");
    for end in (0..whole.len()).step_by(97) {
        fs::write(dir.join("metrics.jsonl"), &whole[..end]).unwrap();
        let html = html_of(dir, START + 10.0);
        let complete = end == 0 || whole[..end].ends_with('\n') || whole[end..].starts_with('\n');
        assert_eq!(html.contains("1 damaged line of"), !complete, "cut at {end}");
    }
    for name in ["config.toml", "manifest.json"] {
        fs::write(dir.join(name), [0xff, 0x00, b'{']).unwrap();
    }
    fs::write(dir.join("metrics.jsonl"), whole.replace("4.875", "null").replace("4.5", "1e308")).unwrap();
    is_self_contained(&html_of(dir, -5.0));
    fs::write(dir.join("metrics.jsonl"), whole.replace("\"step\":39", "\"step\":18446744073709551615")).unwrap();
    is_self_contained(&html_of(dir, f64::NAN));
}

#[test]
fn runs_are_found_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_run(&root.join("a"), &text(&finished(rows(3))), "scenes:640");
    write_run(&root.join("group/b"), &text(&rows(2)), "photos");
    let config = fs::read_to_string(root.join("a/config.toml")).unwrap().replace("0.012", "0.004");
    fs::write(root.join("group/b/config.toml"), config).unwrap();
    fs::create_dir(root.join("foreign")).unwrap();
    fs::write(root.join("foreign/config.toml"), "x = 1").unwrap();
    let found = find_runs(root, 3);
    assert_eq!(found, [root.join("a"), root.join("group/b")]);
    assert!(Run::read(&root.join("foreign")).unwrap_err().to_string().contains("no run here"));
    assert!(Run::read(&root.join("nowhere")).unwrap_err().to_string().contains("found nothing"));

    let runs: Vec<Run> = found.iter().map(|dir| Run::read(dir).unwrap()).collect();
    let rows: Vec<(String, Vec<String>)> = differences(&runs).into_iter().map(|d| (d.key, d.values)).collect();
    let pair = |key: &str, a: &str, b: &str| (key.to_owned(), vec![a.to_owned(), b.to_owned()]);
    assert_eq!(rows, [pair("data", "scenes:640", "photos"), pair("optim.lr", "0.012", "0.004")]);
    let html = compare_html(&runs, START + 1e5);
    is_self_contained(&html);
    assert!(html.contains("<td>32.0 % (epoch 3)</td><td>31.0 % (epoch 2)</td>"));
    assert!(html.contains("<path class=\"bold c0\"") && html.contains("<path class=\"bold c1\""));
}

#[test]
fn the_reporter_follows_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_run(dir, "", "scenes");
    let mut reporter = Reporter::open(dir, None).unwrap();
    let report = || fs::read_to_string(dir.join("report.html")).unwrap();
    for row in finished(rows(2)) {
        reporter.event(&row).unwrap();
    }
    assert!(report().contains("2 of 2 epochs") && report().contains(">finished<"));
    assert!(fs::read_dir(dir).unwrap().all(|e| !e.unwrap().file_name().to_string_lossy().starts_with(".ocelli-")));

    // A report that cannot be written is an error, not the end.
    fs::remove_file(dir.join("report.html")).unwrap();
    fs::create_dir(dir.join("report.html")).unwrap();
    let error = reporter.event(&json!({"event": "finished", "wall_s": 1.0})).unwrap_err().to_string();
    assert!(error.contains("report.html"), "{error}");
    fs::remove_dir(dir.join("report.html")).unwrap();
    reporter.event(&json!({"event": "finished", "wall_s": 1.0})).unwrap();
    assert!(report().contains(">finished<"));
}

#[test]
fn long_runs_stay_small() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path(), &text(&rows(3000)), "scenes");
    let html = html_of(folder.path(), START);
    assert!(html.len() < 1_000_000, "{} bytes", html.len());
}

/// What fine-tuned detection and segmentation leave beside the metrics is shown, and what is damaged is passed over.
#[test]
fn boxes_and_classes_of_pixels_are_told_class_by_class() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = rows(3);
    all[0]["figures"][0]["headline"] = json!(true);
    all[0]["scores"] = json!([{"name": "ap50", "title": "AP50", "healthy": "Up."}]);
    let last = all.len() - 1;
    all[last]["ap50"] = json!(12.5);
    write_run(folder.path(), &text(&finished(all)), "scenes:640");
    let class =
        |ap: f64, objects: u64| json!({"ap": ap, "ap50": 0.75, "ap75": null, "objects": objects, "detections": 9});
    let detection = json!({
        "images": 12, "least_score": 0.5,
        "voc": {"interpolation": "11-point", "ap": 0.25, "ap50": 0.5, "ap75": 0.125, "per_class": [class(0.3125, 4), class(0.0, 2)]},
        "coco": {"ap": 0.2, "ap50": 0.5, "ap75": null, "per_class": [{"ap": 0.1, "ap50": 0.2, "ap75": 0.3, "ar100": 0.4}, {}]},
        "classes": [
            {"name": "<cat>", "curve": {"recall": [0.25, 0.5], "precision": [1.0, 0.5], "score": [0.9, 0.8]}},
            {"name": "dog", "curve": {"recall": [], "precision": [], "score": []}},
        ],
        "confusion": {"classes": 2, "counts": [3, 0, 1, 1, 1, 0, 0, 7, 0]},
    });
    fs::write(folder.path().join("detection.json"), detection.to_string()).unwrap();
    let segmentation = json!({
        "pictures": 5, "miou": 50.0, "mean_accuracy": 62.5, "pixel_accuracy": 87.5,
        "classes": [
            {"name": "sky", "colour": "#000000", "iou": 50.25, "pixels_labelled": 40, "pixels_predicted": 30},
            {"name": "road", "colour": null, "iou": null, "pixels_labelled": 40, "pixels_predicted": 50},
        ],
        "confusion": [[30, 10], [0, 40]],
        "skipped": [{"name": "b.png", "reason": "no picture"}],
        "worst": [{"name": "<a>.png", "miou": 12.5}], "best": [],
    });
    fs::write(folder.path().join("segmentation.json"), segmentation.to_string()).unwrap();
    fs::create_dir(folder.path().join("pictures")).unwrap();
    for name in ["detections", "segmentations"] {
        fs::write(folder.path().join("pictures").join(format!("{name}.png")), PNG).unwrap();
    }
    let html = html_of(folder.path(), START + 1e6);
    is_self_contained(&html);
    assert_eq!(html.matches("<img ").count(), 2);
    assert_eq!(
        html.matches("<span>Loss</span>").count(),
        1,
        "a card of the loss, also where the task calls it its headline"
    );
    for part in [
        "12 held-out images",
        "<span>Best AP50</span>",
        "Found and missed",
        "Pixel by pixel",
        "11-point AP",
        "<th>all classes</th><td>25.0</td><td>50.0</td><td>12.5</td><td>20.0</td>",
        "<th>&lt;cat&gt;</th><td>31.2</td><td>75.0</td><td>–</td><td>10.0</td>",
        "<h3>&lt;cat&gt;</h3><b>AP50 75.0 %</b>",
        "score of 0.5 or more",
        "--share:75%",
        "<th>nothing</th>",
        "<td>7</td>",
        "5 held-out images (1 more could not be read), all pixels",
        "mIoU 50.0 %",
        "<th>sky</th><td>50.2</td>",
        "width:50.2%",
        "<dt>&lt;a&gt;.png</dt><dd>mIoU 12.5 %</dd>",
        "<th>road</th><td>–</td>",
    ] {
        assert!(html.contains(part), "{part} is missing");
    }
    assert!(!html.contains("<cat>") && !html.contains("<h3>dog</h3>"), "a class without a curve has none");
    for damaged in [
        "",
        "[]",
        "{}",
        "{\"classes\": 3}",
        "{\"classes\": [\"a\"], \"confusion\": [[1, 2], [3]]}",
        "{\"classes\": [{}], \"confusion\": {\"classes\": 1e18, \"counts\": [1, \"x\", null, 2]}}",
    ] {
        for file in ["detection.json", "segmentation.json"] {
            fs::write(folder.path().join(file), damaged).unwrap();
        }
        is_self_contained(&html_of(folder.path(), START + 1e6));
    }
}
