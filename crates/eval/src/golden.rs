//! Reading the numeric fixtures (tests only).

use std::collections::HashMap;
use std::path::PathBuf;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// One fixture: its description and its tensors.
pub struct Fixture {
    pub json: Value,
    tensors: HashMap<String, (Vec<usize>, Dtype, Vec<u8>)>,
}

impl Fixture {
    /// Loads `NAME.json` and `NAME.safetensors` from `OCELLI_GOLDEN`, by default the repository's `tests/golden`.
    pub fn load(name: &str) -> Self {
        let folder = std::env::var_os("OCELLI_GOLDEN").map_or_else(
            || {
                PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default())
                    .join("../../tests/golden")
            },
            PathBuf::from,
        );
        let json = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let bytes = std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = tensors
            .tensors()
            .into_iter()
            .map(|(name, view)| (name, (view.shape().to_vec(), view.dtype(), view.data().to_vec())))
            .collect();
        Self { json: serde_json::from_str(&json).unwrap(), tensors }
    }

    pub fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    pub fn shape(&self, name: &str) -> &[usize] {
        &self.tensors[name].0
    }

    fn bytes(&self, name: &str, dtype: Dtype) -> &[u8] {
        let (_, found, bytes) = &self.tensors[name];
        assert_eq!(*found, dtype, "{name}");
        bytes
    }

    pub fn f32s(&self, name: &str) -> Vec<f32> {
        self.bytes(name, Dtype::F32).as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    pub fn i64s(&self, name: &str) -> Vec<i64> {
        self.bytes(name, Dtype::I64).as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
    }

    pub fn u8s(&self, name: &str) -> Vec<u8> {
        self.bytes(name, Dtype::U8).to_vec()
    }
}
