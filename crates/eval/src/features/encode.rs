//! Feature tables to bytes. The bytes depend on the table alone, so a run can be compared with another byte by byte.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{FeatureTable, Pooling};
use crate::EvalError;

/// A file format for feature tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableFormat {
    /// One float32 tensor `features`; the metadata holds `names` (a JSON list) and `pooling`.
    Safetensors,
    /// NumPy 1.0, little-endian float32, C order. It has no place for names: see [`names_txt`].
    Npy,
    /// A header `name,f0,f1,…` and a row per image; with [`Pooling::Patches`] `name,patch,f0,…` and a row per patch.
    Csv,
}

impl TableFormat {
    /// The format that a file extension (without dot, any case) stands for.
    pub fn from_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "safetensors" => Some(Self::Safetensors),
            "npy" => Some(Self::Npy),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }
}

/// The table as the bytes of a file.
///
/// # Errors
/// [`EvalError::Empty`] for a table without images.
pub fn encode(format: TableFormat, table: &FeatureTable) -> Result<Vec<u8>, EvalError> {
    if table.names().is_empty() {
        return Err(EvalError::Empty { what: "the feature table" });
    }
    match format {
        TableFormat::Safetensors => safetensors(table),
        TableFormat::Npy => Ok(npy(table)),
        TableFormat::Csv => Ok(csv(table)),
    }
}

/// The names, one per line: what goes beside a `.npy` file. A line break inside a name becomes a space, so that line
/// numbers stay row numbers.
pub fn names_txt(table: &FeatureTable) -> String {
    let mut text = String::new();
    for name in table.names() {
        text.extend(name.chars().map(|c| if c == '\n' || c == '\r' { ' ' } else { c }));
        text.push('\n');
    }
    text
}

fn little_endian(table: &FeatureTable) -> impl Iterator<Item = u8> {
    table.values().iter().flat_map(|value| value.to_le_bytes())
}

/// Eight bytes of header length, the JSON header padded to a multiple of eight with spaces, the data. Written by hand
/// because the usual writer keeps metadata in a hash map, whose order changes from run to run.
fn safetensors(table: &FeatureTable) -> Result<Vec<u8>, EvalError> {
    #[derive(Serialize)]
    struct Metadata<'a> {
        names: &'a str,
        pooling: &'a str,
    }
    #[derive(Serialize)]
    struct Entry {
        dtype: &'static str,
        shape: Vec<usize>,
        data_offsets: [usize; 2],
    }
    #[derive(Serialize)]
    struct Header<'a> {
        #[serde(rename = "__metadata__")]
        metadata: Metadata<'a>,
        features: Entry,
    }
    let names = serde_json::to_string(table.names())?;
    let data_bytes = table.values().len() * 4;
    let mut header = serde_json::to_vec(&Header {
        metadata: Metadata { names: &names, pooling: table.pooling().name() },
        features: Entry { dtype: "F32", shape: table.shape(), data_offsets: [0, data_bytes] },
    })?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = Vec::with_capacity(8 + header.len() + data_bytes);
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header);
    bytes.extend(little_endian(table));
    Ok(bytes)
}

/// Magic, version 1.0, two bytes of header length, the header, padded so that the data start at a multiple of 64.
fn npy(table: &FeatureTable) -> Vec<u8> {
    const PREFIX: usize = 10;
    let shape: Vec<String> = table.shape().iter().map(usize::to_string).collect();
    let shape = shape.join(", ");
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
    let padded = (PREFIX + header.len() + 1).next_multiple_of(64) - PREFIX;
    header.extend(std::iter::repeat_n(' ', padded - 1 - header.len()));
    header.push('\n');
    let mut bytes = Vec::with_capacity(PREFIX + header.len() + table.values().len() * 4);
    bytes.extend(b"\x93NUMPY\x01\x00");
    // At most three numbers: the header never comes near 65,535 bytes.
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.into_bytes());
    bytes.extend(little_endian(table));
    bytes
}

/// RFC 4180, with plain line feeds. Numbers are the shortest that read back to the same float32.
fn csv(table: &FeatureTable) -> Vec<u8> {
    let with_patch = table.pooling() == Pooling::Patches;
    let mut text = String::from(if with_patch { "name,patch" } else { "name" });
    for column in 0..table.dim() {
        // Writing to a string cannot fail.
        let _ = write!(text, ",f{column}");
    }
    text.push('\n');
    for (row, values) in table.values().chunks_exact(table.dim()).enumerate() {
        let (image, patch) = (row / table.rows_per_image(), row % table.rows_per_image());
        push_field(&mut text, &table.names()[image]);
        if with_patch {
            let _ = write!(text, ",{patch}");
        }
        for value in values {
            let _ = write!(text, ",{value}");
        }
        text.push('\n');
    }
    text.into_bytes()
}

/// Quotes a field that needs it, doubling the quotes inside.
fn push_field(text: &mut String, field: &str) {
    let special = |c| matches!(c, ',' | '"' | '\n' | '\r');
    if field.contains(special) || field.starts_with(' ') || field.ends_with(' ') {
        text.push('"');
        text.push_str(&field.replace('"', "\"\""));
        text.push('"');
    } else {
        text.push_str(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["cat.jpg", "a \"b\", c.png", "Füße\n2.png"];

    fn table(pooling: Pooling) -> FeatureTable {
        let mut table = FeatureTable::new(pooling, 2, 4).unwrap();
        let per_image = table.rows_per_image() * 4;
        let values: Vec<f32> = (0..3 * per_image).map(|v| (v as f32 - 5.0) / 3.0).collect();
        table.extend(&NAMES.map(String::from), &values).unwrap();
        table
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    #[test]
    fn safetensors_reads_back() {
        for pooling in [Pooling::Cls, Pooling::Patches] {
            let table = table(pooling);
            let bytes = encode(TableFormat::Safetensors, &table).unwrap();
            let (_, metadata) = ::safetensors::SafeTensors::read_metadata(&bytes).unwrap();
            let metadata = metadata.metadata().as_ref().unwrap();
            assert_eq!(metadata["pooling"], pooling.name());
            assert_eq!(serde_json::from_str::<Vec<String>>(&metadata["names"]).unwrap(), NAMES);
            let tensors = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let features = tensors.tensor("features").unwrap();
            assert_eq!(features.shape(), table.shape());
            assert_eq!(features.dtype(), ::safetensors::Dtype::F32);
            assert_eq!(floats(features.data()), table.values());
            assert_eq!(bytes, encode(TableFormat::Safetensors, &table).unwrap());
        }
    }

    #[test]
    fn npy_reads_back() {
        for (pooling, shape) in [(Pooling::MeanPatch, "(3, 4)"), (Pooling::Patches, "(3, 2, 4)")] {
            let table = table(pooling);
            let bytes = encode(TableFormat::Npy, &table).unwrap();
            assert_eq!(bytes[..8], *b"\x93NUMPY\x01\x00");
            let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
            assert_eq!((10 + length) % 64, 0);
            let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
            let expected = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
            assert_eq!(header.trim_end(), expected);
            assert!(header.ends_with('\n'));
            assert_eq!(floats(&bytes[10 + length..]), table.values());
        }
        assert_eq!(names_txt(&table(Pooling::Cls)), "cat.jpg\na \"b\", c.png\nFüße 2.png\n");
    }

    /// A small reader of its own, so that writer and reader do not share a mistake.
    fn parse_csv(text: &str) -> Vec<Vec<String>> {
        let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match (c, quoted) {
                ('"', true) if chars.peek() == Some(&'"') => field.extend(chars.next()),
                ('"', _) => quoted = !quoted,
                (',', false) => row.push(std::mem::take(&mut field)),
                ('\n', false) => {
                    row.push(std::mem::take(&mut field));
                    rows.push(std::mem::take(&mut row));
                }
                _ => field.push(c),
            }
        }
        assert!(row.is_empty() && field.is_empty() && !quoted);
        rows
    }

    #[test]
    fn csv_reads_back() {
        for (pooling, lead) in [(Pooling::Cls, 1), (Pooling::Patches, 2)] {
            let table = table(pooling);
            let text = String::from_utf8(encode(TableFormat::Csv, &table).unwrap()).unwrap();
            let rows = parse_csv(&text);
            assert_eq!(rows.len(), 1 + 3 * table.rows_per_image());
            assert_eq!(rows[0].last().unwrap(), "f3");
            assert_eq!(rows[0].len(), lead + 4);
            let values: Vec<f32> = rows[1..].iter().flat_map(|r| &r[lead..]).map(|v| v.parse().unwrap()).collect();
            assert_eq!(values, table.values());
            for (index, row) in rows[1..].iter().enumerate() {
                assert_eq!(row[0], NAMES[index / table.rows_per_image()]);
                if lead == 2 {
                    assert_eq!(row[1], (index % 2).to_string());
                }
            }
        }
    }

    #[test]
    fn formats_go_by_extension() {
        assert_eq!(TableFormat::from_extension("NPY"), Some(TableFormat::Npy));
        assert_eq!(TableFormat::from_extension("safetensors"), Some(TableFormat::Safetensors));
        assert_eq!(TableFormat::from_extension("txt"), None);
        let empty = FeatureTable::new(Pooling::Cls, 1, 4).unwrap();
        assert!(encode(TableFormat::Csv, &empty).is_err());
    }
}
