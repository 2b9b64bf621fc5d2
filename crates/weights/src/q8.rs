//! Weights in eight bits: integers from −127 to 127 with one f32 scale per output row.
//!
//! A matrix or convolution `NAME` of shape `[rows, …]` is stored as int8. Beside it stands `NAME.scale`, f32 of shape
//! `[rows]`: value = integer × the scale of its row. The scale of a row is its largest absolute value / 127, and each value
//! becomes the nearest integer (symmetric quantisation per channel, Krishnamoorthi 2018). The metadata say so under [`KEY`].
//! Norms, biases, positions and tokens stay f32: they are small, and rounding them costs more than it saves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use crate::dtype::Dtype;
use crate::entry::{Entry, num_elements};
use crate::{HostTensor, WeightsError};

/// The key in a file's metadata under which it says how its int8 tensors are read.
pub const KEY: &str = "ocelli.quantization";
/// What it says there.
pub const PER_ROW: &str = "int8-per-row";
/// What follows a tensor's name in the name of its scales.
const SCALE: &str = ".scale";
/// The largest integer. −128 is not used, so that the levels are symmetric about 0.
const LEVELS: f32 = 127.0;

/// The name of a tensor's scales.
pub fn scale_name(name: &str) -> String {
    format!("{name}{SCALE}")
}

/// Whether a tensor is written as int8: the weights of matrices and convolutions.
pub fn is_quantised(name: &str, tensor: &HostTensor) -> bool {
    let is_weight = name.ends_with(".weight") || name.ends_with(".weight_v");
    is_weight && tensor.shape.len() >= 2 && !tensor.values.is_empty()
}

/// The integers of a tensor, as the bytes of int8, and the scale of each row.
///
/// # Errors
/// [`WeightsError::Tensor`] when a value is not finite, or shape and values disagree.
pub fn quantise(name: &str, tensor: &HostTensor) -> Result<(Vec<u8>, Vec<f32>), WeightsError> {
    let fail = |reason: String| WeightsError::Tensor { name: name.to_owned(), reason };
    let rows = tensor.shape.first().copied().unwrap_or(0);
    if rows == 0 || num_elements(&tensor.shape) != Some(tensor.values.len()) {
        let (shape, count) = (&tensor.shape, tensor.values.len());
        return Err(fail(format!("its shape {shape:?} and its {count} values disagree")));
    }
    let mut levels = Vec::with_capacity(tensor.values.len());
    let mut scales = Vec::with_capacity(rows);
    for (index, row) in tensor.values.chunks_exact(tensor.values.len() / rows).enumerate() {
        if let Some(value) = row.iter().find(|v| !v.is_finite()) {
            return Err(fail(format!("expected finite values to round to int8, found {value} in row {index}")));
        }
        let scale = row.iter().fold(0.0_f32, |most, v| most.max(v.abs())) / LEVELS;
        // A row of zeros has the scale 0.
        let level = |v: &f32| if scale > 0.0 { (v / scale).round_ties_even().clamp(-LEVELS, LEVELS) } else { 0.0 };
        levels.extend(row.iter().map(|v| level(v) as i8 as u8));
        scales.push(scale);
    }
    Ok((levels, scales))
}

/// Gives the int8 tensors of a file their scales, and takes those off the list. A file that does not say [`KEY`] keeps its list.
///
/// # Errors
/// When the file says something else under [`KEY`], or scales are missing or impossible.
pub fn pair(
    bytes: &[u8],
    entries: Vec<Entry>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<Entry>, WeightsError> {
    match metadata.get(KEY).map(String::as_str) {
        None => return Ok(entries),
        Some(PER_ROW) => {}
        Some(other) => {
            let shown: String = other.chars().take(80).collect();
            return Err(WeightsError::Safetensors(format!(
                "its metadata say {KEY} = \"{shown}\", expected \"{PER_ROW}\"; export it as f32 or f16 with the program that wrote it"
            )));
        }
    }
    let int8: HashSet<String> = entries.iter().filter(|e| e.dtype == Dtype::I8).map(|e| e.name.clone()).collect();
    let mut scales: HashMap<String, Entry> = HashMap::new();
    let mut rest = Vec::with_capacity(entries.len());
    for entry in entries {
        let owner = entry.name.strip_suffix(SCALE).filter(|name| int8.contains(*name)).map(str::to_owned);
        match owner {
            Some(owner) => {
                scales.insert(owner, entry);
            }
            None => rest.push(entry),
        }
    }
    for entry in rest.iter_mut().filter(|e| e.dtype == Dtype::I8) {
        let range = checked(bytes, entry, scales.get(&entry.name))?;
        entry.scale = Some(range);
    }
    Ok(rest)
}

/// Where the scales of a tensor lie in the file.
///
/// # Errors
/// When there are none, or they do not fit the tensor.
fn checked(bytes: &[u8], entry: &Entry, scale: Option<&Entry>) -> Result<Range<usize>, WeightsError> {
    let fail = |reason: String| WeightsError::Tensor { name: entry.name.clone(), reason };
    let name = scale_name(&entry.name);
    let Some(scale) = scale else {
        return Err(fail(format!(
            "it is int8, and its scales, {name}, are not in the file; the file is damaged, export it again"
        )));
    };
    let rows = match entry.shape[..] {
        [rows, _, ..] => rows,
        _ => {
            return Err(fail(format!("expected int8 values of two axes or more, found shape {:?}", entry.shape)));
        }
    };
    if scale.dtype != Dtype::F32 || scale.shape != [rows] {
        return Err(fail(format!(
            "expected {name} as f32 of shape [{rows}], one scale per row; found {} of shape {:?}",
            scale.dtype, scale.shape
        )));
    }
    let values = bytes.get(scale.range.clone()).unwrap_or_default().as_chunks::<4>().0;
    for (row, value) in values.iter().enumerate() {
        let value = f32::from_le_bytes(*value);
        // Also finite when it is multiplied by the lowest integer.
        if value < 0.0 || !(value * 128.0).is_finite() {
            return Err(fail(format!(
                "expected finite scales that are not negative in {name}, found {value} in row {row}; the file is damaged, export it \
                 again"
            )));
        }
    }
    Ok(scale.range.clone())
}

/// f32 values of a tensor with scales, row-major, out of the whole file.
pub fn decode(file: &[u8], levels: Range<usize>, scales: Range<usize>) -> Option<Vec<f32>> {
    let (levels, scales) = (file.get(levels)?, file.get(scales)?.as_chunks::<4>().0);
    if levels.is_empty() {
        return Some(Vec::new());
    }
    let row = levels.len().checked_div(scales.len()).filter(|row| row * scales.len() == levels.len())?;
    let mut out = Vec::with_capacity(levels.len());
    for (levels, scale) in levels.chunks_exact(row).zip(scales) {
        let scale = f32::from_le_bytes(*scale);
        out.extend(levels.iter().map(|level| f32::from(*level as i8) * scale));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StateDict, Weights, read_safetensors, write_safetensors_as};

    fn tensor(shape: &[usize], values: &[f32]) -> HostTensor {
        HostTensor { shape: shape.to_vec(), values: values.to_vec() }
    }

    /// A matrix, a convolution with a row of zeros, and what stays f32.
    fn state() -> StateDict {
        let mut state = StateDict::default();
        let mut add = |name: &str, tensor: HostTensor| state.tensors.push((name.to_owned(), tensor));
        add("a.bias", tensor(&[2], &[0.001, -7.25]));
        add("a.weight", tensor(&[2, 3], &[0.25, -1.0, 0.1, 100.0, 3.0, -0.2]));
        add("conv.weight", tensor(&[2, 1, 1, 2], &[0.0, 0.0, -2.0, 1.0]));
        add("norm.weight", tensor(&[2], &[1.0, 0.3]));
        add("pos_embed", tensor(&[1, 2, 1], &[0.1, 0.2]));
        state.metadata.insert("arch".into(), "vit-s/16".into());
        state
    }

    #[test]
    fn values_come_back_within_half_a_level_of_their_row() {
        let before = state();
        let bytes = write_safetensors_as(&before, Dtype::I8).unwrap();
        let after = read_safetensors(&bytes).unwrap();
        assert_eq!(after.metadata, before.metadata, "values are f32 again, so nothing says that they are int8");
        assert_eq!(after.tensors.len(), before.tensors.len());
        for (name, old) in &before.tensors {
            let new = after.get(name).unwrap();
            assert_eq!(new.shape, old.shape, "{name}");
            if !is_quantised(name, old) {
                assert_eq!(new.values, old.values, "{name}");
                continue;
            }
            let row = old.values.len() / old.shape[0];
            for (old, new) in old.values.chunks(row).zip(new.values.chunks(row)) {
                let half = old.iter().fold(0.0_f32, |most, v| most.max(v.abs())) / 254.0;
                for (old, new) in old.iter().zip(new) {
                    assert!((old - new).abs() <= half * 1.0001, "{name}: {old} became {new}");
                }
            }
        }
        assert_eq!(after.get("conv.weight").unwrap().values[..2], [0.0, 0.0]);
        let weights = Weights::open(&bytes).unwrap();
        let entry = weights.get("a.weight").unwrap();
        assert!(entry.is_float() && entry.dtype == Dtype::I8 && weights.get("a.weight.scale").is_none());
    }

    #[test]
    fn any_reader_of_safetensors_finds_integers_and_scales() {
        let bytes = write_safetensors_as(&state(), Dtype::I8).unwrap();
        let file = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let (levels, scales) = (file.tensor("a.weight").unwrap(), file.tensor("a.weight.scale").unwrap());
        assert_eq!((levels.dtype(), levels.shape()), (::safetensors::Dtype::I8, &[2, 3][..]));
        assert_eq!((scales.dtype(), scales.shape()), (::safetensors::Dtype::F32, &[2][..]));
        let levels: Vec<i8> = levels.data().iter().map(|b| *b as i8).collect();
        assert_eq!(levels, [32, -127, 13, 127, 4, 0]);
        let (_, parsed) = ::safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(parsed.metadata().as_ref().unwrap()[KEY], PER_ROW);
    }

    /// A file of one int8 matrix with this header after the metadata.
    fn file(scale: &str, data: &[u8]) -> Vec<u8> {
        let header = format!(
            r#"{{"__metadata__":{{"{KEY}":"{PER_ROW}"}},"a.weight":{{"dtype":"I8","shape":[2,2],"data_offsets":[0,4]}}{scale}}}"#
        );
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.extend([1, 2, 3, 4]);
        bytes.extend(data);
        bytes
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn damaged_scales_are_refused_in_words() {
        let two = r#","a.weight.scale":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}"#;
        let good = file(two, &floats(&[0.5, 2.0]));
        assert_eq!(read_safetensors(&good).unwrap().tensors[0].1.values, [0.5, 1.0, 6.0, 8.0]);
        let one = r#","a.weight.scale":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}"#;
        let table = r#","a.weight.scale":{"dtype":"F32","shape":[2,1],"data_offsets":[4,12]}"#;
        let half = r#","a.weight.scale":{"dtype":"F16","shape":[2],"data_offsets":[4,8]}"#;
        for (bytes, words) in [
            (file("", &[]), "a.weight.scale, are not in the file"),
            (file(one, &floats(&[1.0])), "f32 of shape [2], one scale per row; found f32 of shape [1]"),
            (file(table, &floats(&[1.0, 1.0])), "found f32 of shape [2, 1]"),
            (file(half, &[0; 4]), "found f16"),
            (file(two, &floats(&[1.0, f32::NAN])), "found NaN in row 1"),
            (file(two, &floats(&[f32::INFINITY, 1.0])), "found inf in row 0"),
            (file(two, &floats(&[1.0, -1.0])), "found -1 in row 1"),
        ] {
            let error = Weights::open(&bytes).unwrap_err().to_string();
            assert!(error.contains("a.weight") && error.contains(words), "expected {words} in: {error}");
        }
        let mut other = good;
        let at = other.windows(PER_ROW.len()).position(|window| window == PER_ROW.as_bytes()).unwrap();
        other[at + "int".len()] = b'4';
        let error = Weights::open(&other).unwrap_err().to_string();
        assert!(error.contains("int4-per-row") && error.contains(PER_ROW), "{error}");
    }

    #[test]
    fn whatever_byte_is_wrong_nothing_panics() {
        let good = write_safetensors_as(&state(), Dtype::I8).unwrap();
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                let Ok(weights) = Weights::open(&bytes) else { continue };
                for entry in weights.entries() {
                    if let Ok(values) = weights.values(entry) {
                        assert_eq!(values.len(), entry.len(), "byte {at}, bit {bit}");
                    }
                }
            }
        }
    }

    #[test]
    fn values_that_are_not_finite_are_not_written() {
        let mut state = state();
        state.tensors[1].1.values[4] = f32::NAN;
        let error = write_safetensors_as(&state, Dtype::I8).unwrap_err().to_string();
        assert!(error.contains("a.weight") && error.contains("NaN in row 1"), "{error}");
    }
}
