//! `ocelli devices --selftest` and `--tune`, on the device under test (`OCELLI_TEST_DEVICE`, else the CPU).

use std::collections::BTreeSet;
use std::fs;

use ocelli::kernels::gpu::shaders;
use serde_json::Value;

use super::command::{ocelli, refused, stdout};

fn device() -> String {
    std::env::var("OCELLI_TEST_DEVICE").unwrap_or_else(|_| "cpu".into())
}

/// The report of a self-test that passes.
fn report(more: &[&str]) -> Value {
    let device = device();
    let args = [&["devices", "--selftest", "--seconds", "0", "--json", "--device", &device][..], more].concat();
    let text = stdout(&ocelli(&args));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
}

#[test]
fn the_selftest_passes_and_its_report_says_what_was_tested() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("selftest.json");
    let told = report(&["--out", out.to_str().unwrap()]);
    assert_eq!((&told["passed"], &told["doing"]), (&true.into(), &Value::Null));
    let rows = told["rows"].as_array().unwrap();
    assert!(rows.len() > 40, "{}", rows.len());
    for row in rows {
        let (parts, on_cpu) = (row["parts"].as_array().unwrap(), device() == "cpu");
        assert!(!parts.is_empty() && parts.iter().all(|part| part["right"] == true), "{row}");
        assert!(row["launched"].as_array().unwrap().is_empty() == on_cpu && row["ours_s"].is_null(), "{row}");
    }
    let kept: Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    assert_eq!((&kept["rows"], &kept["device"]), (&told["rows"], &told["device"]));
    assert!(told["device"]["features"].is_array() && told["kernels"].is_string(), "{told}");
}

/// Every template that a launch expands, by one family or the other: what only templates include is named `parts` or `place`.
#[test]
fn the_selftest_launches_every_template() {
    if device() == "cpu" {
        refused(
            &["devices", "--selftest", "--device", "cpu", "--family", "hardware"],
            &["--family", "--device gpu"],
        );
        refused(&["devices", "--selftest", "--family", "soft"], &["hardware, software or plain"]);
        return;
    }
    let mut launched = BTreeSet::new();
    for family in ["hardware", "software", "plain"] {
        let told = report(&["--family", family]);
        for row in told["rows"].as_array().unwrap() {
            launched
                .extend(row["launched"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()));
        }
    }
    let left: Vec<&str> = shaders()
        .filter(|name| !name.ends_with("_parts") && *name != "gemm_place" && !launched.contains(*name))
        .collect();
    assert!(left.is_empty(), "no case of crates/kernels/src/selftest launches {left:?}");
}

#[test]
fn the_selftest_of_the_cpu_has_times_and_a_text() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("selftest.txt");
    let args = ["devices", "--selftest", "--seconds", "1", "--device", "cpu", "--out", out.to_str().unwrap()];
    let text = stdout(&ocelli(&args));
    for words in ["attention_branch", "similarity_topk", "apart by", "comparisons are right", "the report is in"] {
        assert!(text.contains(words), "expected \"{words}\" in: {text}");
    }
    assert!(text.contains(" ms") && !text.contains("WRONG"), "{text}");
    let kept = fs::read_to_string(&out).unwrap();
    assert!(kept.starts_with("ocelli devices --selftest\n") && kept.contains("comparisons are right"), "{kept}");
    fs::write(&out, "mine").unwrap();
    refused(&args, &["selftest.txt", "found another"]);
}

#[test]
fn there_is_nothing_to_tune_where_one_kernel_is_always_the_faster() {
    let device = device();
    let listed: Value =
        serde_json::from_str(&stdout(&ocelli(&["devices", "--device", &device, "--json"]))).unwrap();
    let adapters = listed["adapters"].as_array().unwrap();
    if adapters.iter().any(|a| a["device"] == listed["takes"] && a["kind"] != "software (CPU)") {
        return;
    }
    refused(
        &["devices", "--tune", "--device", &device],
        &["--tune: expected a graphics card", "nothing to choose"],
    );
    assert_eq!(ocelli(&["devices", "--preset", "laptop"]).status.code(), Some(2), "a preset is of --tune");
}
