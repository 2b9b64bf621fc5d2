//! Weights in and out of modules, in PyTorch's names and layout. The files themselves are [`ocelli_weights`]'s.
//!
//! ```
//! use burn::tensor::Device;
//! use ocelli_models::weights::{ModuleState, StateDict, read_safetensors, write_safetensors};
//! use ocelli_models::{Arch, Init};
//!
//! let device = Device::flex();
//! let config = "vit-32x1x2/8".parse::<Arch>()?.config(16, 0.0);
//! let mut state = StateDict::default();
//! state.add_module("", &config.init(&mut Init::new(0, &device))?)?;
//! // PyTorch's layout: as many rows as outputs.
//! assert_eq!(state.get("blocks.0.attn.qkv.weight").map(|t| t.shape.clone()), Some(vec![96, 32]));
//!
//! let stored = read_safetensors(&write_safetensors(&state)?)?;
//! let other = stored.load_into(config.init(&mut Init::new(1, &device))?)?;
//! let mut again = StateDict::default();
//! again.add_module("", &other)?;
//! assert_eq!(again.tensors, state.tensors);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
pub use ocelli_weights::{
    DataPickleError, Dtype, Entry, Family, HostTensor, Layout, Mismatch, Network, Part, ShardIndex, StateDict,
    Weights, WeightsError, detectron2, preprocessing, read_data_pickle, read_model_config, read_safetensors,
    write_pth, write_pth_under, write_safetensors, write_safetensors_as,
};

use crate::params::{self, FlatParam};

/// Between a [`StateDict`] and the modules whose parameters it names.
pub trait ModuleState: Sized {
    /// Adds a module's parameters under `prefix`, linear weights transposed to PyTorch's `[out, in]`.
    ///
    /// # Errors
    /// When values cannot be read from the device.
    fn add_module<M: Module>(&mut self, prefix: &str, module: &M) -> Result<(), WeightsError>;

    /// Loads every parameter of `module` from here.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] when a name is missing or left over, or a shape differs; the module is not
    /// changed then.
    fn load_into<M: Module>(&self, module: M) -> Result<M, WeightsError>;
}

impl ModuleState for StateDict {
    fn add_module<M: Module>(&mut self, prefix: &str, module: &M) -> Result<(), WeightsError> {
        for param in params::collect(module) {
            let name = format!("{prefix}{}", param.name);
            self.tensors.push((name, to_host(&param)?));
        }
        Ok(())
    }

    fn load_into<M: Module>(&self, module: M) -> Result<M, WeightsError> {
        let by_name: BTreeMap<&str, &HostTensor> = self.tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let wanted = params::collect(&module);
        let mut mismatch = Mismatch::default();
        for param in &wanted {
            match by_name.get(param.name.as_str()) {
                None => mismatch.missing.push(param.name.clone()),
                Some(found) => {
                    let expected = file_shape(param);
                    if expected != found.shape {
                        mismatch.shapes.push((param.name.clone(), expected, found.shape.clone()));
                    }
                }
            }
        }
        mismatch.unexpected =
            by_name.keys().filter(|n| !wanted.iter().any(|p| p.name == **n)).map(|n| (*n).to_owned()).collect();
        if mismatch != Mismatch::default() {
            return Err(WeightsError::Mismatch(mismatch));
        }
        Ok(params::replace(module, |param| {
            let found = by_name.get(param.name.as_str())?;
            let values = if is_linear_weight(param) {
                transpose(&found.values, found.shape[0], found.shape[1])
            } else {
                found.values.clone()
            };
            let len = values.len();
            Some(Tensor::from_data(TensorData::new(values, [len]), &param.values.device()))
        }))
    }
}

/// Linear weights are the only two-dimensional tensors called `weight`: convolutions have four axes, and the
/// weight-normalised layer's are `weight_v` and `weight_g`.
fn is_linear_weight(param: &FlatParam) -> bool {
    param.shape.num_dims() == 2 && param.name.ends_with(".weight")
}

fn file_shape(param: &FlatParam) -> Vec<usize> {
    let mut shape = param.shape.to_vec();
    if is_linear_weight(param) {
        shape.reverse();
    }
    shape
}

fn to_host(param: &FlatParam) -> Result<HostTensor, WeightsError> {
    let values = param
        .values
        .clone()
        .into_data()
        .try_to_vec::<f32>()
        .map_err(|e| WeightsError::Device { name: param.name.clone(), reason: format!("{e:?}") })?;
    Ok(in_file_layout(param, values))
}

/// A parameter as files have it, its `values` (row-major, in the module's shape) read back by the caller: a browser can
/// only wait for them.
pub fn in_file_layout(param: &FlatParam, values: Vec<f32>) -> HostTensor {
    let shape = param.shape.to_vec();
    let values = if is_linear_weight(param) { transpose(&values, shape[0], shape[1]) } else { values };
    HostTensor { shape: file_shape(param), values }
}

/// Row-major `[rows, cols]` to `[cols, rows]`.
fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for c in 0..cols {
        out.extend((0..rows).map(|r| values[r * cols + c]));
    }
    out
}
