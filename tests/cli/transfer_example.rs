//! The example that compares pre-trainings after fine-tuning, with as few steps as there can be.

use std::fs;
use std::path::Path;

use serde_json::Value;

#[allow(dead_code)] // Its `main`.
#[path = "../../examples/transfer.rs"]
mod example;

use example::flags::Args;

const TINY: &str = "--data scenes:24:32 --arch resnet-18c4 --seeds 1 --size 32 --view 24 --pretrain-steps 1 --pretrain-batch 8 \
     --queue 16 --test-images 2 --detection-steps 2 --detection-batch 2 --regions 4 --precise-bn 1 --segmentation-steps 2 \
     --segmentation-batch 2 --device cpu";

const PAGE: &str = "before\n<!-- table of scenes -->\nold\n<!-- end of table of scenes -->\nafter\n";

fn run(out: &Path, docs: &Path, more: &str) -> Result<(), String> {
    let (out, docs) = (out.to_str().unwrap(), docs.to_str().unwrap());
    let words = format!("transfer {TINY} --out {out} --docs {docs} {more}");
    let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    example::run(&Args::of(&words)).map_err(|error| format!("{error:#}"))
}

#[test]
fn a_table_is_made_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (out, docs) = (folder.path().join("out"), folder.path().join("page.md"));
    fs::write(&docs, "no place for it").unwrap();
    let message = run(&out, &docs, "").unwrap_err();
    assert!(message.contains("<!-- table of scenes -->") && !out.exists(), "{message}");

    fs::write(&docs, PAGE).unwrap();
    run(&out, &docs, "").unwrap();
    let cells = out.join("cells");
    assert_eq!(fs::read_dir(&cells).unwrap().count(), 9, "three rows of pre-training, detection and segmentation");
    let page = fs::read_to_string(&docs).unwrap();
    let table = fs::read_to_string(out.join("table.md")).unwrap();
    assert!(page.starts_with("before\n") && page.ends_with("after\n") && !page.contains("old"), "{page}");
    assert!(page.contains(&table), "{page}");
    for words in
        ["| pre-training | AP | AP50 | AP75 | mIoU |", "| random initialisation |", "| DenseCL − MoCo v2 |"]
    {
        assert!(table.contains(words), "expected \"{words}\" in: {table}");
    }

    // A figure that is there is taken as it is.
    let path = cells.join("segmentation-densecl-0.json");
    let mut cell: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!((&cell["figures"]["steps"], &cell["figures"]["images"]), (&2.into(), &2.into()), "{cell}");
    cell["figures"]["miou"] = 87.5.into();
    fs::write(&path, cell.to_string()).unwrap();
    run(&out, &docs, "").unwrap();
    assert!(fs::read_to_string(&docs).unwrap().contains("| 87.5 |"));

    let message = run(&out, &docs, "--detection-steps 3").unwrap_err();
    assert!(message.contains("expected detection_steps 3, found 2"), "{message}");
}
