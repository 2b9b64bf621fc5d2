//! Tensors in host memory.

use std::collections::BTreeMap;

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

    /// The tensors whose names start with `prefix`, without it.
    pub fn under(&self, prefix: &str) -> Self {
        let tensors = self
            .tensors
            .iter()
            .filter_map(|(n, t)| n.strip_prefix(prefix).map(|n| (n.to_owned(), t.clone())))
            .collect();
        Self { tensors, metadata: self.metadata.clone() }
    }

    /// Number of values in all tensors.
    pub fn num_values(&self) -> usize {
        self.tensors.iter().map(|(_, t)| t.values.len()).sum()
    }
}
