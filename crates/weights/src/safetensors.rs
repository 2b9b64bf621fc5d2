//! The safetensors format, through the reference reader, which checks the header against the bytes.

use std::collections::{BTreeMap, HashMap};

use half::f16;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype as FileDtype, SafeTensors, TensorView};

use crate::dtype::Dtype;
use crate::entry::Entry;
use crate::{StateDict, Weights, WeightsError, q8};

/// Bytes of a header at most: it is parsed into about eight times as many.
const MAX_HEADER: u64 = 8 << 20;

/// The tensors by name, and the metadata.
pub fn list(bytes: &[u8]) -> Result<(Vec<Entry>, BTreeMap<String, String>), WeightsError> {
    let fail = |reason: String| WeightsError::Safetensors(reason);
    let header = bytes.first_chunk::<8>().ok_or_else(|| fail("it ends within its first eight bytes".into()))?;
    let header = u64::from_le_bytes(*header);
    let after = (bytes.len() - 8) as u64;
    if header > after {
        return Err(fail(format!(
            "its header should have {header} bytes, and {after} follow; the download may be incomplete"
        )));
    }
    if header > MAX_HEADER {
        return Err(fail(format!("its header has {header} bytes; at most {MAX_HEADER} are read")));
    }
    let (_, parsed) = SafeTensors::read_metadata(bytes).map_err(|e| fail(words(&e, after - header)))?;
    let data = 8 + header as usize;
    let mut entries = Vec::new();
    for (name, info) in parsed.tensors() {
        let (start, end) = info.data_offsets;
        // The reader's sums may wrap; ours may not.
        let range =
            start.checked_add(data).zip(end.checked_add(data)).filter(|(s, e)| s <= e && *e <= bytes.len());
        let Some((start, end)) = range else {
            return Err(fail(format!("tensor {name} lies outside the file")));
        };
        let Some(dtype) = dtype_of(info.dtype) else { continue };
        let shape = info.shape.clone();
        entries.push(Entry {
            name,
            dtype,
            shape,
            stride: None,
            first: 0,
            file: 0,
            range: start..end,
            scale: None,
        });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let metadata = parsed.metadata().clone().unwrap_or_default().into_iter().collect();
    Ok((entries, metadata))
}

/// What the reference reader found, said in full.
fn words(error: &SafeTensorError, data: u64) -> String {
    match error {
        SafeTensorError::InvalidOffset(name) => {
            format!("the bytes of tensor {name} overlap another's, or leave a gap before it")
        }
        SafeTensorError::TensorInvalidInfo => {
            "a tensor's offsets span another number of bytes than its shape and element type need".into()
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            format!("its tensors' offsets do not end where the file does, {data} bytes after the header")
        }
        SafeTensorError::ValidationOverflow => "a tensor's shape has more elements than can be counted".into(),
        other => other.to_string(),
    }
}

fn dtype_of(dtype: FileDtype) -> Option<Dtype> {
    Some(match dtype {
        FileDtype::F64 => Dtype::F64,
        FileDtype::F32 => Dtype::F32,
        FileDtype::F16 => Dtype::F16,
        FileDtype::BF16 => Dtype::BF16,
        FileDtype::I64 => Dtype::I64,
        FileDtype::I32 => Dtype::I32,
        FileDtype::I16 => Dtype::I16,
        FileDtype::I8 => Dtype::I8,
        FileDtype::U64 => Dtype::U64,
        FileDtype::U32 => Dtype::U32,
        FileDtype::U16 => Dtype::U16,
        FileDtype::U8 => Dtype::U8,
        FileDtype::BOOL => Dtype::Bool,
        FileDtype::C64 => Dtype::C64,
        FileDtype::F8_E4M3 | FileDtype::F8_E5M2 | FileDtype::F8_E8M0 => Dtype::F8,
        // Elements of less than a byte have no use here.
        _ => return None,
    })
}

/// Reads every floating-point tensor; integers (such as `num_batches_tracked`) are left out.
///
/// # Errors
/// [`WeightsError::Safetensors`] when header and bytes do not agree.
pub fn read_safetensors(bytes: &[u8]) -> Result<StateDict, WeightsError> {
    Weights::of_safetensors(bytes)?.state_dict(|entry| Some(entry.name.clone()))
}

/// Writes all tensors as f32.
///
/// # Errors
/// [`WeightsError::Safetensors`] when a shape and its values disagree.
pub fn write_safetensors(state: &StateDict) -> Result<Vec<u8>, WeightsError> {
    write_safetensors_as(state, Dtype::F32)
}

/// Writes all tensors as f32 or f16. With [`Dtype::I8`] the weights of matrices and convolutions (`NAME`) become int8 with one f32
/// scale per output row (`NAME.scale`), all others f32, and the metadata say `ocelli.quantization`; reading multiplies them out.
///
/// # Errors
/// [`WeightsError::Safetensors`] when a shape and its values disagree, [`WeightsError::Layout`] for another element type, and
/// [`WeightsError::Tensor`] when a value that is to become int8 is not finite.
pub fn write_safetensors_as(state: &StateDict, dtype: Dtype) -> Result<Vec<u8>, WeightsError> {
    let mut stored: Vec<Stored> = Vec::with_capacity(state.tensors.len());
    let mut metadata: HashMap<String, String> = state.metadata.clone().into_iter().collect();
    for (name, tensor) in &state.tensors {
        let (name, shape) = (name.clone(), tensor.shape.clone());
        if dtype == Dtype::I8 && q8::is_quantised(&name, tensor) {
            let (levels, scales) = q8::quantise(&name, tensor)?;
            let bytes = encode(&scales, Dtype::F32)?;
            stored.push((q8::scale_name(&name), FileDtype::F32, vec![scales.len()], bytes));
            stored.push((name, FileDtype::I8, shape, levels));
            continue;
        }
        let (file_dtype, dtype) = match dtype {
            Dtype::F16 => (FileDtype::F16, dtype),
            Dtype::I8 => (FileDtype::F32, Dtype::F32),
            _ => (FileDtype::F32, dtype),
        };
        stored.push((name, file_dtype, shape, encode(&tensor.values, dtype)?));
    }
    if dtype == Dtype::I8 {
        metadata.insert(q8::KEY.into(), q8::PER_ROW.into());
    }
    let fail = |e: SafeTensorError| WeightsError::Safetensors(e.to_string());
    let views: Vec<(&str, TensorView<'_>)> = stored
        .iter()
        .map(|(n, t, s, b)| Ok((n.as_str(), TensorView::new(*t, s.clone(), b).map_err(fail)?)))
        .collect::<Result<_, WeightsError>>()?;
    safetensors::serialize(views, Some(metadata)).map_err(fail)
}

/// A tensor as a file holds it: name, element type, shape, bytes.
type Stored = (String, FileDtype, Vec<usize>, Vec<u8>);

/// Values as little-endian f32 or f16.
pub fn encode(values: &[f32], dtype: Dtype) -> Result<Vec<u8>, WeightsError> {
    match dtype {
        Dtype::F32 => Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Dtype::F16 => Ok(values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()),
        other => Err(WeightsError::Layout(format!("expected f32 or f16 to write, found {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostTensor;

    #[test]
    fn what_is_written_reads_back() {
        let mut state = StateDict::default();
        state.tensors.push(("a".into(), HostTensor { shape: vec![2, 3], values: vec![1., 2., 3., 4., 5., -6.5] }));
        state.metadata.insert("arch".into(), "vit-s/16".into());
        assert_eq!(read_safetensors(&write_safetensors(&state).unwrap()).unwrap(), state);
        assert_eq!(read_safetensors(&write_safetensors_as(&state, Dtype::F16).unwrap()).unwrap(), state);
    }

    #[test]
    fn truncated_and_oversized_files_are_refused() {
        let mut state = StateDict::default();
        state.tensors.push(("a".into(), HostTensor { shape: vec![4], values: vec![0.0; 4] }));
        let good = write_safetensors(&state).unwrap();
        for end in 0..good.len() {
            assert!(read_safetensors(&good[..end]).is_err(), "{end} bytes");
        }
        assert!(read_safetensors(&[0xff; 16]).is_err());
    }
}
