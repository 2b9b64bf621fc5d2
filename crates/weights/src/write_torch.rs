//! Writing PyTorch's zip form: what `torch.load(weights_only=True)` takes.

use crate::dtype::Dtype;
use crate::safetensors::encode;
use crate::{StateDict, WeightsError, zip};

/// Writes the tensors as an `OrderedDict` in PyTorch's zip form, f32 or f16. The metadata has no place there.
///
/// # Errors
/// For more than 4 GiB, or another element type.
pub fn write_pth(state: &StateDict, dtype: Dtype) -> Result<Vec<u8>, WeightsError> {
    write_pth_under(None, state, dtype)
}

/// The same, as the one entry of a dict where a key is given: `{"state_dict": {…}}` is what DINO's linear evaluation loads.
///
/// # Errors
/// As [`write_pth`].
pub fn write_pth_under(key: Option<&str>, state: &StateDict, dtype: Dtype) -> Result<Vec<u8>, WeightsError> {
    let storage = if dtype == Dtype::F16 { "HalfStorage" } else { "FloatStorage" };
    let mut pickle = b"\x80\x02".to_vec();
    if let Some(key) = key {
        pickle.push(b'}');
        text(&mut pickle, key)?;
    }
    // Protocol 2: OrderedDict() and then its entries.
    pickle.extend(b"ccollections\nOrderedDict\n)R(");
    for (index, (name, tensor)) in state.tensors.iter().enumerate() {
        let count: usize = tensor.shape.iter().product();
        if count != tensor.values.len() {
            return Err(WeightsError::Tensor {
                name: name.clone(),
                reason: format!(
                    "shape {:?} needs {count} values, there are {}",
                    tensor.shape,
                    tensor.values.len()
                ),
            });
        }
        text(&mut pickle, name)?;
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage")?;
        pickle.extend(format!("ctorch\n{storage}\n").bytes());
        text(&mut pickle, &index.to_string())?;
        text(&mut pickle, "cpu")?;
        int(&mut pickle, count)?;
        pickle.extend(b"tQ");
        int(&mut pickle, 0)?;
        let strides = (0..tensor.shape.len()).map(|axis| tensor.shape[axis + 1..].iter().product());
        let strides: Vec<usize> = strides.collect();
        for axes in [&tensor.shape, &strides] {
            pickle.push(b'(');
            for size in axes {
                int(&mut pickle, *size)?;
            }
            pickle.push(b't');
        }
        // No gradient, no hooks.
        pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    pickle.push(b'u');
    if key.is_some() {
        pickle.push(b's');
    }
    pickle.push(b'.');
    let mut files =
        vec![("archive/data.pkl".to_owned(), pickle), ("archive/byteorder".into(), b"little".to_vec())];
    for (index, (_, tensor)) in state.tensors.iter().enumerate() {
        files.push((format!("archive/data/{index}"), encode(&tensor.values, dtype)?));
    }
    files.push(("archive/version".into(), b"3\n".to_vec()));
    zip::write(&files)
}

fn text(pickle: &mut Vec<u8>, text: &str) -> Result<(), WeightsError> {
    let len = u32::try_from(text.len()).map_err(|_| WeightsError::Torch("a name of more than 4 GiB".into()))?;
    pickle.push(b'X');
    pickle.extend(len.to_le_bytes());
    pickle.extend(text.as_bytes());
    Ok(())
}

fn int(pickle: &mut Vec<u8>, value: usize) -> Result<(), WeightsError> {
    let value = i32::try_from(value)
        .map_err(|_| WeightsError::Torch("a tensor of more than 2³¹ elements is not written".into()))?;
    pickle.push(b'J');
    pickle.extend(value.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostTensor, Weights};

    #[test]
    fn what_is_written_reads_back() {
        let tensors = vec![
            ("a.weight".to_owned(), HostTensor { shape: vec![2, 3], values: vec![1., 2., 3., 4., 5., -6.5] }),
            ("scalar".to_owned(), HostTensor { shape: vec![], values: vec![0.25] }),
        ];
        let state = StateDict { tensors, ..StateDict::default() };
        for dtype in [Dtype::F32, Dtype::F16] {
            let bytes = write_pth(&state, dtype).unwrap();
            let weights = Weights::open(&bytes).unwrap();
            assert_eq!(weights.entries()[0].dtype, dtype);
            assert_eq!(weights.state_dict(|e| Some(e.name.clone())).unwrap(), state);
        }
    }
}
