//! Weights in and out, in PyTorch's names and layout.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};

use crate::params::{self, FlatParam};

mod safetensors;

pub use self::safetensors::{read_safetensors, write_safetensors};

/// What is wrong with weights.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file is not what its name says.
    #[error("not a readable safetensors file: {0}")]
    Safetensors(String),
    /// Weights of another network.
    #[error("{}", .0)]
    Mismatch(Mismatch),
    /// Reading values back from the device failed.
    #[error("cannot read parameter {name} from the device: {reason}")]
    Device {
        /// The parameter.
        name: String,
        /// What the device said.
        reason: String,
    },
}

/// How a file's tensors differ from the network's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// In the network, not in the file.
    pub missing: Vec<String>,
    /// In the file, not in the network.
    pub unexpected: Vec<String>,
    /// In both with different shapes: name, expected, found.
    pub shapes: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |names: &[String]| {
            let more = names.len().saturating_sub(5);
            let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            if more > 0 { format!("{shown} and {more} more") } else { shown }
        };
        write!(f, "the weights do not fit this network")?;
        if !self.missing.is_empty() {
            write!(f, "; missing: {}", list(&self.missing))?;
        }
        if !self.unexpected.is_empty() {
            write!(f, "; unexpected: {}", list(&self.unexpected))?;
        }
        for (name, expected, found) in self.shapes.iter().take(5) {
            write!(f, "; {name}: expected shape {expected:?}, found {found:?}")?;
        }
        Ok(())
    }
}

/// A tensor in host memory, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// Values, f32 whatever the file held.
    pub values: Vec<f32>,
}

/// Named tensors and a few words about them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateDict {
    /// In the order they were added.
    pub tensors: Vec<(String, HostTensor)>,
    /// What the file says of itself.
    pub metadata: BTreeMap<String, String>,
}

impl StateDict {
    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&HostTensor> {
        self.tensors.iter().find(|(n, _)| n == name).map(|(_, t)| t)
    }

    /// Adds a module's parameters under `prefix`, linear weights transposed to PyTorch's `[out, in]`.
    ///
    /// # Errors
    /// When values cannot be read from the device.
    pub fn add_module<M: Module>(&mut self, prefix: &str, module: &M) -> Result<(), WeightsError> {
        for param in params::collect(module) {
            let name = format!("{prefix}{}", param.name);
            self.tensors.push((name, to_host(&param)?));
        }
        Ok(())
    }

    /// The tensors whose names start with `prefix`, without it.
    pub fn under(&self, prefix: &str) -> Self {
        let tensors = self
            .tensors
            .iter()
            .filter_map(|(n, t)| n.strip_prefix(prefix).map(|n| (n.to_owned(), t.clone())))
            .collect();
        Self { tensors, metadata: self.metadata.clone() }
    }

    /// Loads every parameter of `module` from here.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] when a name is missing or left over, or a shape differs; the module is not
    /// changed then.
    pub fn load_into<M: Module>(&self, module: M) -> Result<M, WeightsError> {
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
    let shape = param.shape.to_vec();
    let values = if is_linear_weight(param) { transpose(&values, shape[0], shape[1]) } else { values };
    Ok(HostTensor { shape: file_shape(param), values })
}

/// Row-major `[rows, cols]` to `[cols, rows]`.
fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for c in 0..cols {
        out.extend((0..rows).map(|r| values[r * cols + c]));
    }
    out
}
