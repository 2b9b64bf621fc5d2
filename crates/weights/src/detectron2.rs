//! Names of ResNets in detectron2, and the file its checkpointer reads.
//!
//! ```
//! use ocelli_weights::detectron2::name;
//!
//! assert_eq!(name("layer2.0.bn1.weight", false), "res3.0.conv1.norm.weight");
//! assert_eq!(name("conv1.weight", true), "stem.conv1.weight");
//! ```

use crate::dtype::Dtype;
use crate::safetensors::encode;
use crate::{StateDict, WeightsError};

/// detectron2's name of a ResNet's tensor in torchvision's: `layer2.0.bn1.weight` is `res3.0.conv1.norm.weight`, `conv1.weight` is
/// `stem.conv1.weight`. `is_conv` tells the two layers of a shortcut apart.
pub fn name(own: &str, is_conv: bool) -> String {
    let Some((stage, rest)) = own.strip_prefix("layer").and_then(|rest| rest.split_once('.')) else {
        return match own.strip_prefix("bn1.") {
            Some(rest) => format!("stem.conv1.norm.{rest}"),
            // A deep stem, which the published program has not, keeps its names.
            None if own.starts_with("stem.") => own.to_owned(),
            None => format!("stem.{own}"),
        };
    };
    let (block, layer) = rest.split_once('.').unwrap_or((rest, ""));
    let layer = if let Some(what) = layer.strip_prefix("bn") {
        let (number, what) = what.split_once('.').unwrap_or((what, ""));
        format!("conv{number}.norm.{what}")
    } else if let Some(what) = layer.strip_prefix("downsample.") {
        let what = what.split_once('.').map_or(what, |(_, what)| what);
        if is_conv { format!("shortcut.{what}") } else { format!("shortcut.norm.{what}") }
    } else {
        layer.to_owned()
    };
    match stage.parse::<usize>() {
        Ok(stage) if stage < 1000 => format!("res{}.{block}.{layer}", stage + 1),
        _ => own.to_owned(),
    }
}

/// A ResNet in torchvision's names as a `.pkl` of numpy arrays under detectron2's names, as its own script makes them of
/// torchvision's files: `{"model": {…}, "__author__": …, "matching_heuristics": True}`. Its checkpointer finds by the last key that
/// `res2.…` belongs to `backbone.bottom_up.res2.…`.
///
/// # Errors
/// When a shape and its values disagree, or a tensor has more than 4 GiB.
pub fn write_pkl(state: &StateDict, author: &str) -> Result<Vec<u8>, WeightsError> {
    let mut out = b"\x80\x03}(".to_vec();
    text(&mut out, "model");
    out.extend(b"}(");
    for (own, tensor) in &state.tensors {
        let count: usize = tensor.shape.iter().product();
        let bytes = encode(&tensor.values, Dtype::F32)?;
        let len = u32::try_from(bytes.len()).ok().filter(|_| count == tensor.values.len());
        let (Some(len), true) = (len, tensor.shape.iter().all(|n| i32::try_from(*n).is_ok())) else {
            return Err(WeightsError::Tensor {
                name: own.clone(),
                reason: format!("shape {:?} and {} values cannot be written", tensor.shape, tensor.values.len()),
            });
        };
        text(&mut out, &name(own, tensor.shape.len() == 4));
        // An empty array, and then its state: version, shape, dtype, C order, bytes.
        out.extend(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01(");
        for size in &tensor.shape {
            out.push(b'J');
            out.extend((*size as i32).to_le_bytes());
        }
        out.extend(b"tcnumpy\ndtype\nX\x02\x00\x00\x00f4\x89\x88\x87R(K\x03X\x01\x00\x00\x00<NNNJ");
        out.extend((-1i32).to_le_bytes());
        out.push(b'J');
        out.extend((-1i32).to_le_bytes());
        out.extend(b"K\x00tb\x89B");
        out.extend(len.to_le_bytes());
        out.extend(bytes);
        out.extend(b"tb");
    }
    out.push(b'u');
    text(&mut out, "__author__");
    text(&mut out, author);
    text(&mut out, "matching_heuristics");
    out.extend(b"\x88u.");
    Ok(out)
}

/// A text of less than 4 GiB, as every name is.
fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostTensor, read_data_pickle};

    #[test]
    fn names_are_those_of_its_own_script() {
        for (own, is_conv, there) in [
            ("conv1.weight", true, "stem.conv1.weight"),
            ("bn1.running_mean", false, "stem.conv1.norm.running_mean"),
            ("layer1.0.conv1.weight", true, "res2.0.conv1.weight"),
            ("layer4.2.bn3.bias", false, "res5.2.conv3.norm.bias"),
            ("layer2.0.downsample.0.weight", true, "res3.0.shortcut.weight"),
            ("layer2.0.downsample.1.weight", false, "res3.0.shortcut.norm.weight"),
        ] {
            assert_eq!(name(own, is_conv), there);
        }
    }

    #[test]
    fn what_is_written_is_a_pickle_of_arrays() {
        let tensor = |shape: &[usize]| {
            let count: usize = shape.iter().product();
            HostTensor { shape: shape.to_vec(), values: (0..count).map(|i| i as f32 / 4.0).collect() }
        };
        let tensors =
            vec![("conv1.weight".to_owned(), tensor(&[2, 3, 1, 1])), ("bn1.bias".to_owned(), tensor(&[2]))];
        let bytes = write_pkl(&StateDict { tensors, ..StateDict::default() }, "somebody").unwrap();
        let read = read_data_pickle(&bytes).unwrap();
        assert_eq!(read["__author__"], "somebody");
        assert_eq!(read["matching_heuristics"], true);
        assert_eq!(read["model"]["stem.conv1.norm.bias"], serde_json::json!([0.0, 0.25]));
        assert_eq!(read["model"]["stem.conv1.weight"][1][2], serde_json::json!([[1.25]]));
    }
}
