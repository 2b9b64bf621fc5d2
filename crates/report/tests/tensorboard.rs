//! TensorBoard event files: their bytes, and TensorBoard's own reader.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ocelli_report::{Reporter, Run, rebuild_tensorboard};
use serde_json::{Value, json};
use support::{START, finished, rows, text, write_run};

/// One event as this test's own reader understands it.
#[derive(Debug, Default, Clone, PartialEq)]
struct Event {
    wall_time: f64,
    step: i64,
    version: String,
    scalars: BTreeMap<String, f32>,
}

/// CRC-32C bit by bit.
fn crc32c(data: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

fn check(data: &[u8], stored: &[u8]) {
    let crc = crc32c(data);
    let masked = crc.rotate_right(15).wrapping_add(0xa282_ead8);
    assert_eq!(stored, masked.to_le_bytes(), "checksum of {} bytes", data.len());
}

fn varint(data: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = data[0];
        *data = &data[1..];
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return value;
        }
    }
}

/// (field, wire type's value as bytes or number) of a message.
fn fields(mut data: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
    let mut out = Vec::new();
    while !data.is_empty() {
        let key = varint(&mut data);
        let (number, length) = match key & 7 {
            0 => (varint(&mut data), 0),
            1 => (0, 8),
            2 => (0, varint(&mut data) as usize),
            5 => (0, 4),
            other => panic!("wire type {other}"),
        };
        out.push((key >> 3, number, data[..length].to_vec()));
        data = &data[length..];
    }
    out
}

fn read(path: &Path) -> Vec<Event> {
    let bytes = fs::read(path).unwrap();
    let (mut rest, mut events) = (bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        check(&rest[..8], &rest[8..12]);
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let data = &rest[12..12 + length];
        check(data, &rest[12 + length..16 + length]);
        rest = &rest[16 + length..];
        let mut event = Event::default();
        for (field, number, bytes) in fields(data) {
            match field {
                1 => event.wall_time = f64::from_le_bytes(bytes.try_into().unwrap()),
                2 => event.step = number as i64,
                3 => event.version = String::from_utf8(bytes).unwrap(),
                5 => {
                    for (_, _, value) in fields(&bytes) {
                        let parts = fields(&value);
                        let tag = String::from_utf8(parts[0].2.clone()).unwrap();
                        if parts[1].0 == 2 {
                            event.scalars.insert(tag, f32::from_le_bytes(parts[1].2.clone().try_into().unwrap()));
                        }
                    }
                }
                other => panic!("field {other}"),
            }
        }
        events.push(event);
    }
    events
}

fn event_file(dir: &Path) -> PathBuf {
    let files: Vec<PathBuf> =
        fs::read_dir(dir.join("tensorboard")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "one event file: {files:?}");
    let name = files[0].file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("events.out.tfevents.") && name.ends_with(".ocelli"), "{name}");
    files[0].clone()
}

/// (step, value) of one tag.
fn series(events: &[Event], tag: &str) -> Vec<(i64, f32)> {
    events.iter().filter_map(|e| Some((e.step, *e.scalars.get(tag)?))).collect()
}

#[test]
fn what_is_written_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_run(dir, "", "scenes");
    let mut reporter = Reporter::open(dir, None).unwrap();
    for row in finished(rows(2)) {
        reporter.event(&row).unwrap();
    }
    let live = read(&event_file(dir));
    assert_eq!(live[0].version, "brain.Event:2");
    assert_eq!(series(&live, "train/loss"), [(9, 4.91), (19, 4.81), (29, 4.71), (39, 4.61)]);
    assert_eq!(series(&live, "eval/knn_20"), [(0, 18.25), (19, 30.0), (39, 31.0)]);
    assert_eq!(series(&live, "eval/raw_pixels_knn_20"), [(0, 22.5)]);
    assert_eq!(series(&live, "epoch/loss"), [(19, 4.875), (39, 4.875)]);
    assert_eq!(series(&live, "schedule/lr").len(), 4);
    let step = live.iter().find(|e| e.step == 29).unwrap();
    assert_eq!(step.wall_time, START + 29.0);

    // Made anew from metrics.jsonl it says the same, if in another order.
    fs::write(dir.join("metrics.jsonl"), text(&finished(rows(2)))).unwrap();
    rebuild_tensorboard(&Run::read(dir).unwrap()).unwrap();
    let again = read(&event_file(dir));
    assert_eq!(again.len(), live.len());
    for event in &live {
        assert!(again.contains(event), "{event:?}");
    }
}

#[test]
fn a_resumed_run_has_each_step_once() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    // Killed in the third epoch, after steps 49 and 59, and while writing a row.
    let mut all = rows(3);
    all.truncate(all.len() - 1);
    let killed = text(&all) + "{\"event\":\"epoch\",\"epo";
    write_run(dir, &killed, "scenes");
    fs::create_dir(dir.join("tensorboard")).unwrap();
    fs::write(dir.join("tensorboard/events.out.tfevents.1.ocelli"), "old").unwrap();
    fs::write(dir.join("metrics.jsonl"), killed + "\n").unwrap();

    let mut reporter = Reporter::open(dir, None).unwrap();
    let start: Value = json!({"event": "started", "steps_per_epoch": 20, "epochs": 3, "unix_s": START + 500.0});
    let again =
        |step: u64| json!({"event": "step", "step": step, "epoch": 2, "loss": 1.0, "unix_s": START + 501.0});
    for row in [start.clone(), again(49), again(59)] {
        reporter.event(&row).unwrap();
    }
    drop(reporter);
    // The rows of the second start are in metrics.jsonl too; a third start makes the file from all of them.
    let mut metrics = fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    metrics += &text(&[start, again(49), again(59)]);
    fs::write(dir.join("metrics.jsonl"), metrics).unwrap();
    let _reporter = Reporter::open(dir, None).unwrap();
    let events = read(&event_file(dir));
    let losses = series(&events, "train/loss");
    assert_eq!(losses.iter().map(|l| l.0).collect::<Vec<_>>(), [9, 19, 29, 39, 49, 59]);
    assert_eq!(losses[4..], [(49, 1.0), (59, 1.0)]);
}

#[test]
fn tensorboards_own_reader_reads_it() {
    let python = std::env::var("OCELLI_PYTHON").unwrap_or_else(|_| "python3".into());
    let import = "from tensorboard.backend.event_processing import event_accumulator";
    let there = Command::new(&python).args(["-c", import]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        println!("skipped: {python} has no tensorboard (set OCELLI_PYTHON to one that has)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    write_run(dir, &text(&finished(rows(3))), "scenes");
    fs::create_dir(dir.join("pictures")).unwrap();
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x02\0\0\0\x03\x08\0\0\0\0";
    fs::write(dir.join("pictures/attention-0002.png"), png).unwrap();
    rebuild_tensorboard(&Run::read(dir).unwrap()).unwrap();
    let script = format!(
        "{import}\nimport json, sys\na = event_accumulator.EventAccumulator(sys.argv[1])\na.Reload()\n\
         s = lambda tag: [[e.wall_time, e.step, e.value] for e in a.Scalars(tag)]\n\
         i = [[e.step, e.width, e.height] for e in a.Images('attention')]\n\
         print(json.dumps({{'tags': a.Tags()['scalars'], 'loss': s('train/loss'), 'knn': s('eval/knn_20'), 'images': i}}))"
    );
    let output = Command::new(&python).args(["-c", &script]).arg(dir.join("tensorboard")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    let loss: Vec<Vec<f64>> = serde_json::from_value(seen["loss"].clone()).unwrap();
    assert_eq!(loss.len(), 6);
    assert_eq!(loss[2][..2], [START + 29.0, 29.0]);
    assert!((loss[2][2] - 4.71).abs() < 1e-6);
    let knn: Vec<Vec<f64>> = serde_json::from_value(seen["knn"].clone()).unwrap();
    assert_eq!(
        knn.iter().map(|k| (k[1], k[2])).collect::<Vec<_>>(),
        [(0.0, 18.25), (19.0, 30.0), (39.0, 31.0), (59.0, 32.0)]
    );
    assert_eq!(seen["images"], json!([[39, 2, 3]]));
    for tag in ["train/teacher_entropy", "schedule/momentum", "speed/images_per_second", "epoch/kl"] {
        assert!(seen["tags"].as_array().unwrap().contains(&json!(tag)), "{tag}: {}", seen["tags"]);
    }
}
