//! Weights by name, each taken once, so that none is left out without a word.

use std::collections::BTreeMap;

use ocelli_weights::{HostTensor, StateDict};

use crate::OnnxError;

/// What is left of a network's weights.
pub struct Tensors(BTreeMap<String, HostTensor>);

impl Tensors {
    pub fn new(state: StateDict) -> Self {
        Self(state.tensors.into_iter().collect())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The shape of a tensor that is still there.
    pub fn shape(&self, name: &str) -> Result<&[usize], OnnxError> {
        self.0.get(name).map(|t| t.shape.as_slice()).ok_or_else(|| missing(name))
    }

    /// A tensor of `N` axes: its sizes and its values.
    pub fn take<const N: usize>(&mut self, name: &str) -> Result<([usize; N], Vec<f32>), OnnxError> {
        let HostTensor { shape, values } = self.0.remove(name).ok_or_else(|| missing(name))?;
        let found = <[usize; N]>::try_from(shape)
            .map_err(|shape| OnnxError::Weights(format!("{name}: expected {N} axes, found shape {shape:?}")))?;
        match found.iter().product::<usize>() == values.len() {
            true => Ok((found, values)),
            false => Err(OnnxError::Weights(format!(
                "{name}: expected {} values for shape {found:?}, found {}",
                found.iter().product::<usize>(),
                values.len()
            ))),
        }
    }

    /// The values of a tensor of this shape.
    pub fn take_of<const N: usize>(&mut self, name: &str, shape: [usize; N]) -> Result<Vec<f32>, OnnxError> {
        let (found, values) = self.take::<N>(name)?;
        match found == shape {
            true => Ok(values),
            false => Err(OnnxError::Weights(format!("{name}: expected shape {shape:?}, found {found:?}"))),
        }
    }

    /// Every tensor must have gone into the graph.
    pub fn finish(self) -> Result<(), OnnxError> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(first) => Err(OnnxError::Unsupported(format!(
                "an ONNX graph of this network would leave out {} of its tensors ({first} …); nothing was written",
                self.0.len()
            ))),
        }
    }
}

fn missing(name: &str) -> OnnxError {
    OnnxError::Weights(format!("expected a network with {name}; there is no such tensor"))
}
