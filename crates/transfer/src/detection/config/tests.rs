use super::*;

fn sets(all: &[&str]) -> Vec<String> {
    all.iter().map(|s| (*s).to_owned()).collect()
}

#[test]
fn presets_are_whole_and_read_back() {
    for (name, _, _) in PRESETS {
        let config = DetectionConfig::resolve(Some(name), None, &[]).unwrap();
        config.check().unwrap();
        let text = config.table().unwrap().to_string();
        assert_eq!(DetectionConfig::parse(&text, "x").unwrap(), config, "{name}");
    }
    let published = DetectionConfig::resolve(Some("voc-24k"), None, &[]).unwrap();
    assert_eq!(published, DetectionConfig::default());
    assert_eq!((published.spans(), published.steps()), ((1, 24_000), 24_000));
}

#[test]
fn values_are_laid_over_and_judged() {
    let config =
        DetectionConfig::resolve(Some("small"), Some(("f", "[optim]\nlr = 1")), &sets(&["rpn.nms_iou=0.6"]));
    let config = config.unwrap();
    assert_eq!((config.optim.lr, config.rpn.nms_iou), (1.0, 0.6));
    for (set, words) in [
        ("optim.lrr=1", "unknown key \"optim.lrr\""),
        ("optim.lr=fast", "optim.lr: expected float"),
        ("nothing", "expected key=value"),
    ] {
        let message = config.with(&sets(&[set])).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
    for (set, key) in [
        ("accumulate=3", "accumulate"),
        ("optim.lr=0", "optim.lr"),
        ("rpn.background_below=0.9", "rpn.background_below"),
        ("anchors.sizes_px=[]", "anchors.sizes_px"),
        ("optim.milestones=[5,5]", "optim.milestones"),
        ("roi.cells=0", "roi.cells"),
        ("iterations=0", "iterations"),
        ("task=x", "task"),
        ("method=x", "method"),
        ("loader.views=gpu", "loader.views"),
        ("log.checkpoint_every_minutes=1e300", "log.checkpoint_every_minutes"),
        ("log.checkpoint_every_minutes=nan", "log.checkpoint_every_minutes"),
    ] {
        let message = config.with(&sets(&[set])).unwrap().check().unwrap_err().to_string();
        assert!(message.starts_with(key), "{message}");
    }
    let message = DetectionConfig::resolve(Some("big"), None, &[]).unwrap_err().to_string();
    assert!(message.contains("voc-24k"), "{message}");
    for (text, words) in [("task = \"linear\"", "task \"linear\""), ("", "task \"pretraining\"")] {
        let message = DetectionConfig::parse(text, "x").unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn notes_are_about_what_is_so() {
    let of =
        |all: &[&str]| DetectionConfig::resolve(Some("small"), None, &sets(all)).unwrap().notes(100).join("\n");
    assert!(of(&[]).contains("the curves count 500 steps as an epoch, 4 epochs in all"), "{}", of(&[]));
    let short = of(&["iterations=1001", "eval.every_iterations=300"]);
    assert!(short.contains("1004 steps instead of 1001, so that every epoch"), "{short}");
    let warned =
        |all: &[&str]| DetectionConfig::resolve(Some("small"), None, &sets(all)).unwrap().warnings().join("\n");
    assert!(warned(&["iterations=1001"]).contains("optim.milestones 1500, 1850 come after the run's"));
    assert!(!warned(&["optim.milestones=[]"]).contains("milestones"));
}

#[test]
fn a_file_lies_over_what_the_weights_say() {
    let weights = DetectionConfig::default().with(&sets(&["arch=resnet-18", "views.std=[1, 1, 1]"])).unwrap();
    let over = weights.with_file(("f", "[views]\nstd = [0.5, 0.5, 0.5]")).unwrap();
    assert_eq!((over.arch, over.views.std), (weights.arch, [0.5; 3]));
    assert!(weights.with_file(("f", "x = 1")).unwrap_err().to_string().contains("unknown key \"x\""));
}

#[test]
fn spans_cover_all_iterations() {
    let of = |iterations, every_iterations| {
        let eval = DetectionEval { every_iterations, ..DetectionEval::default() };
        let config = DetectionConfig { iterations, eval, ..DetectionConfig::default() };
        (config.spans(), config.steps())
    };
    assert_eq!(of(24_000, 1000), ((24, 1000), 24_000));
    assert_eq!(of(1000, 300), ((4, 250), 1000));
    assert_eq!(of(1001, 300), ((4, 251), 1004));
    assert_eq!(of(10, 300), ((1, 10), 10));
    assert_eq!(of(10, 0), ((1, 10), 10));
}
