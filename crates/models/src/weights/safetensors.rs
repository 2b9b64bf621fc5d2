//! The safetensors format, through the reference reader, which checks the header against the bytes.

use std::collections::HashMap;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::{HostTensor, StateDict, WeightsError};

/// Reads every floating-point tensor; integers (such as `num_batches_tracked`) are left out.
///
/// # Errors
/// [`WeightsError::Safetensors`] when header and bytes do not agree.
pub fn read_safetensors(bytes: &[u8]) -> Result<StateDict, WeightsError> {
    let fail = |e: safetensors::SafeTensorError| WeightsError::Safetensors(e.to_string());
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(fail)?;
    let file = SafeTensors::deserialize(bytes).map_err(fail)?;
    let mut tensors: Vec<(String, HostTensor)> = Vec::new();
    for name in file.names() {
        let view = file.tensor(name).map_err(fail)?;
        if let Some(values) = to_f32(&view) {
            tensors.push((name.to_string(), HostTensor { shape: view.shape().to_vec(), values }));
        }
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    Ok(StateDict { tensors, metadata })
}

fn to_f32(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let bytes = view.data();
    Some(match view.dtype() {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        _ => return None,
    })
}

/// Writes all tensors as f32.
///
/// # Errors
/// [`WeightsError::Safetensors`] when a shape and its values disagree.
pub fn write_safetensors(state: &StateDict) -> Result<Vec<u8>, WeightsError> {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = state
        .tensors
        .iter()
        .map(|(n, t)| (n.clone(), t.shape.clone(), t.values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let fail = |e: safetensors::SafeTensorError| WeightsError::Safetensors(e.to_string());
    let views: Vec<(&str, TensorView<'_>)> = bytes
        .iter()
        .map(|(n, s, b)| Ok((n.as_str(), TensorView::new(Dtype::F32, s.clone(), b).map_err(fail)?)))
        .collect::<Result<_, WeightsError>>()?;
    let metadata: HashMap<String, String> = state.metadata.clone().into_iter().collect();
    safetensors::serialize(views, Some(metadata)).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut state = StateDict::default();
        state.tensors.push(("a".into(), HostTensor { shape: vec![2, 3], values: vec![1., 2., 3., 4., 5., -6.5] }));
        state.metadata.insert("arch".into(), "vit-s/16".into());
        assert_eq!(read_safetensors(&write_safetensors(&state).unwrap()).unwrap(), state);
    }

    #[test]
    fn truncated_and_oversized_files_are_refused() {
        let mut state = StateDict::default();
        state.tensors.push(("a".into(), HostTensor { shape: vec![4], values: vec![0.0; 4] }));
        let good = write_safetensors(&state).unwrap();
        assert!(read_safetensors(&good[..good.len() - 1]).is_err());
        assert!(read_safetensors(&[0xff; 16]).is_err());
        assert!(read_safetensors(b"").is_err());
    }
}
