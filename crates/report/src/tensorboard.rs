//! TensorBoard event files.
//!
//! A file is a row of records: length (u64), masked CRC-32C of the length, data, masked CRC-32C of the data, all little
//! endian. The data of a record is an `Event` message of protocol buffers; the few fields written here are those of
//! tensorflow's `event.proto` and `summary.proto`:
//!
//! ```text
//! Event   1 wall_time: double   2 step: int64   3 file_version: string   5 summary: Summary
//! Summary 1 value: repeated Value
//! Value   1 tag: string   2 simple_value: float   4 image: Image
//! Image   1 height: int32   2 width: int32   3 colorspace: int32   4 encoded_image_string: bytes
//! ```
//!
//! Steps are optimizer steps throughout, so that curves of steps and of epochs lie over each other.
//!
//! ```
//! use ocelli_report::{Run, tensorboard::event_file};
//!
//! // Of a run without any row, the record that every file begins with.
//! let bytes = event_file(&Run::default());
//! assert!(bytes.windows(13).any(|part| part == b"brain.Event:2"));
//! ```

use std::collections::BTreeMap;

use crate::pictures::{self, Png};
use crate::{Rows, Run};

/// What TensorBoard shows under a tag.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Scalar(f64),
    Image(Png),
}

/// The whole event file of a run.
pub fn event_file(run: &Run) -> Vec<u8> {
    let mut out = header(run.started_unix_s().unwrap_or(0.0));
    out.extend(views(run));
    if run.history.baseline.is_some() {
        out.extend(baseline(run));
    }
    for row in 0..run.history.steps.len() {
        out.extend(step(run, row));
    }
    for row in 0..run.history.epochs.len() {
        out.extend(epoch(run, row));
    }
    out
}

/// The record every file begins with.
pub(crate) fn header(wall_time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    double(&mut event, 1, wall_time);
    bytes(&mut event, 3, b"brain.Event:2");
    record(&event)
}

/// A row of steps.
pub(crate) fn step(run: &Run, row: usize) -> Vec<u8> {
    let rows = &run.history.steps;
    let values = values_of(rows, row, |name| match name {
        "lr" | "weight_decay" | "momentum" => Some(format!("schedule/{name}")),
        "images_per_second" => Some(format!("speed/{name}")),
        _ => Some(format!("train/{name}")),
    });
    event(wall_time(run, rows, row), rows.steps[row], &values)
}

/// A row of an epoch, with its picture of attention where there is one.
pub(crate) fn epoch(run: &Run, row: usize) -> Vec<u8> {
    let rows = &run.history.epochs;
    let mut values = values_of(rows, row, |name| match name {
        "lr" | "weight_decay" | "momentum" => None,
        "wall_s" | "cpu_s" | "memory_bytes" => Some(format!("speed/epoch_{name}")),
        knn if knn.starts_with("knn_") => Some(format!("eval/{name}")),
        score if run.history.declared.scores.iter().any(|s| s.name == score) => Some(format!("eval/{name}")),
        _ => Some(format!("epoch/{name}")),
    });
    for kind in pictures::KINDS {
        let picture = pictures::after(&run.dir, kind, rows.epochs[row].saturating_add(1));
        values.extend(picture.map(|png| (kind.to_owned(), Value::Image(png))));
    }
    event(wall_time(run, rows, row), rows.steps[row], &values)
}

/// k-NN before training, at step 0: the curves begin where the untrained network stands.
pub(crate) fn baseline(run: &Run) -> Vec<u8> {
    let Some(baseline) = &run.history.baseline else { return Vec::new() };
    let tagged = |prefix: &str, values: &BTreeMap<u64, f64>| {
        let scalars = values.iter().map(|(k, v)| (format!("{prefix}_{k}"), Value::Scalar(*v)));
        scalars.collect::<Vec<_>>()
    };
    let mut values = tagged("eval/knn", &baseline.untrained);
    values.extend(tagged("eval/raw_pixels_knn", &baseline.raw_pixels));
    event(run.started_unix_s().unwrap_or(0.0), 0, &values)
}

/// The views and the untrained network's attention, where there are pictures of them.
pub(crate) fn views(run: &Run) -> Vec<u8> {
    let views = Png::read(&run.dir.join("pictures").join("views.png")).map(|png| ("views", png));
    let attention = pictures::KINDS.iter().filter_map(|kind| Some((*kind, pictures::after(&run.dir, kind, 0)?)));
    let values: Vec<_> =
        views.into_iter().chain(attention).map(|(tag, png)| (tag.to_owned(), Value::Image(png))).collect();
    if values.is_empty() { Vec::new() } else { event(run.started_unix_s().unwrap_or(0.0), 0, &values) }
}

fn values_of(rows: &Rows, row: usize, tag: impl Fn(&str) -> Option<String>) -> Vec<(String, Value)> {
    let at_row = rows.columns().map(|(name, values)| (name, values[row])).filter(|(_, v)| v.is_finite());
    at_row.filter_map(|(name, v)| Some((tag(name)?, Value::Scalar(v)))).collect()
}

/// When a row was written; runs of before rows had times count from their start.
fn wall_time(run: &Run, rows: &Rows, row: usize) -> f64 {
    let time = rows.unix_s[row];
    if time.is_finite() { time } else { run.started_unix_s().unwrap_or(0.0) }
}

/// One event as a record.
pub(crate) fn event(wall_time: f64, step: u64, values: &[(String, Value)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in values {
        let mut message = Vec::new();
        bytes(&mut message, 1, tag.as_bytes());
        match value {
            Value::Scalar(v) => {
                varint(&mut message, 2 << 3 | 5);
                message.extend((*v as f32).to_le_bytes());
            }
            Value::Image(png) => {
                let mut image = Vec::new();
                // The colour space is the number of channels; the PNG says for itself what it holds.
                for (field, number) in [(1, png.height), (2, png.width), (3, 3)] {
                    varint(&mut image, field << 3);
                    varint(&mut image, number.into());
                }
                bytes(&mut image, 4, &png.bytes);
                bytes(&mut message, 4, &image);
            }
        }
        bytes(&mut summary, 1, &message);
    }
    let mut event = Vec::new();
    double(&mut event, 1, wall_time);
    varint(&mut event, 2 << 3);
    // The field is signed; steps beyond it come from damaged rows.
    varint(&mut event, step.min(i64::MAX as u64));
    bytes(&mut event, 5, &summary);
    record(&event)
}

/// A field of eight bytes.
fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    varint(out, field << 3 | 1);
    out.extend(value.to_le_bytes());
}

/// A field with a length.
fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

/// Seven bits per byte, the lowest first, the top bit set on all but the last.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Length and data, each with its checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend(length);
    out.extend(masked_crc(&length).to_le_bytes());
    out.extend(data);
    out.extend(masked_crc(data).to_le_bytes());
    out
}

/// CRC-32C, rotated right by 15 bits plus a constant: a checksum of data that holds checksums is a poor one.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_record() {
        // Written out by hand from the format: tag 0x09 double 1.5, tag 0x10 step 300, tag 0x2a summary of 11 bytes.
        let message = [
            0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0x10, 0xac, 0x02, 0x2a, 0x0c, 0x0a, 0x0a, 0x0a, 0x03, b'a', b'/',
            b'b', 0x15, 0, 0, 0, 0x40,
        ];
        let record = event(1.5, 300, &[("a/b".into(), Value::Scalar(2.0))]);
        assert_eq!(record[..8], 26u64.to_le_bytes());
        assert_eq!(record[12..record.len() - 4], message);
    }

    #[test]
    fn the_checksum_is_crc_32c_masked() {
        // RFC 3720, B.4: 32 bytes of zeros give 0x8a9136aa.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(masked_crc(&[0; 32]), 0x0fd7_fffa);
    }
}
