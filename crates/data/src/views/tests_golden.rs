//! The fixture `augment_more`: its description and its tensors.

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::{CropBox, FloatPlanes};
use crate::Image;

pub(super) struct Golden {
    pub json: Value,
    bytes: Vec<u8>,
}

impl Golden {
    pub fn open() -> Self {
        let folder = std::env::var("OCELLI_GOLDEN")
            .unwrap_or_else(|_| std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default() + "/../../tests/golden");
        let json = std::fs::read_to_string(format!("{folder}/augment_more.json")).unwrap();
        let bytes = std::fs::read(format!("{folder}/augment_more.safetensors")).unwrap();
        Self { json: serde_json::from_str(&json).unwrap(), bytes }
    }

    pub fn names(&self) -> Vec<String> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        tensors.names().into_iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    pub fn raw(&self, key: &str, dtype: Dtype) -> (Vec<usize>, Vec<u8>) {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = tensors.tensor(key).unwrap();
        assert_eq!(view.dtype(), dtype, "{key}");
        (view.shape().to_vec(), view.data().to_vec())
    }

    pub fn image(&self, key: &str) -> Image {
        let (shape, data) = self.raw(key, Dtype::U8);
        Image::new(shape[1] as u32, shape[0] as u32, data).unwrap()
    }

    pub fn floats(&self, key: &str) -> (Vec<usize>, Vec<f32>) {
        let (shape, data) = self.raw(key, Dtype::F32);
        (shape, data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
    }

    pub fn integers(&self, key: &str) -> Vec<i64> {
        let (_, data) = self.raw(key, Dtype::I64);
        data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
    }

    /// `[height, width, 3]` as planes.
    pub fn planes(&self, key: &str) -> FloatPlanes {
        let (shape, packed) = self.floats(key);
        let data = (0..3).flat_map(|c| packed.iter().skip(c).step_by(3).copied()).collect();
        FloatPlanes { width: shape[1], height: shape[0], data }
    }

    pub fn config(&self, key: &str) -> &Value {
        &self.json["config"][key]
    }

    /// The entry of a list that describes a tensor.
    #[track_caller]
    pub fn entry(&self, list: &str, key: &str) -> &Value {
        self.config(list).as_array().unwrap().iter().find(|e| e["key"] == key).expect(key)
    }

    #[track_caller]
    pub fn assert_close(&self, key: &str, ours: &[f32], expected: &[f32]) {
        let atol = self.json["tolerance"]["floats"]["atol"].as_f64().unwrap() as f32;
        assert_eq!(ours.len(), expected.len(), "{key}");
        for (i, (a, b)) in ours.iter().zip(expected).enumerate() {
            assert!((a - b).abs() <= atol, "{key}: {a}, expected {b} at {i}");
        }
    }
}

/// Within the levels that the fixture allows for this kind of operation. Ours rounds as the reference does: hardly any level
/// may differ at all.
#[track_caller]
pub(super) fn assert_same(golden: &Golden, (key, kind): (&str, &str), ours: &Image) {
    let expected = golden.image(key);
    let levels = golden.json["tolerance"]["uint8 levels"][kind].as_u64().expect(kind);
    assert_eq!((ours.width, ours.height), (expected.width, expected.height), "{key}");
    let apart = ours.data.iter().zip(&expected.data).map(|(a, b)| u64::from(a.abs_diff(*b)));
    let (worst, wrong) = (apart.clone().max().unwrap(), apart.filter(|&levels| levels > 0).count());
    assert!(worst <= levels && wrong * 1000 <= ours.data.len(), "{key}: {wrong} differ by up to {worst} levels");
}

pub(super) fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

pub(super) fn px(value: &Value) -> u32 {
    value.as_u64().unwrap() as u32
}

/// What fills a turned or shifted image.
pub(super) fn fill(golden: &Golden) -> [u8; 3] {
    numbers(golden.config("fill")).iter().map(|&x| x as u8).collect::<Vec<_>>().try_into().unwrap()
}

pub(super) fn cut_of(corners: &Value) -> CropBox {
    let at: Vec<u32> = corners.as_array().unwrap().iter().map(px).collect();
    CropBox { top: at[0], left: at[2], height: at[1] - at[0], width: at[3] - at[2] }
}
