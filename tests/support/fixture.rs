//! Fixtures and comparisons, wherever the fixtures' bytes come from.

use burn::tensor::{Device, Tensor, TensorData};
use ocelli::models::weights::{HostTensor, StateDict, read_safetensors};
use serde_json::Value;

/// A fixture: its description and its tensors.
pub struct Fixture {
    pub name: String,
    pub json: Value,
    pub tensors: StateDict,
}

impl Fixture {
    pub fn load(name: &str) -> Self {
        let json: Value = serde_json::from_slice(&super::read(&format!("{name}.json"))).unwrap();
        let tensors = read_safetensors(&super::read(&format!("{name}.safetensors"))).unwrap();
        Self { name: name.into(), json, tensors }
    }

    pub fn config(&self) -> &Value {
        &self.json["config"]
    }

    pub fn usize(&self, key: &str) -> usize {
        as_usize(&self.config()[key], key)
    }

    pub fn f64(&self, key: &str) -> f64 {
        self.config()[key].as_f64().unwrap_or_else(|| panic!("{key} of {}", self.name))
    }

    pub fn get(&self, name: &str) -> &HostTensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{} has no tensor {name}", self.name))
    }

    /// Integer tensors, which the weight reader leaves out.
    pub fn integers(&self, name: &str) -> Vec<usize> {
        let bytes = super::read(&format!("{}.safetensors", self.name));
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        view.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as usize).collect()
    }

    pub fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        tensor(self.get(name), device)
    }
}

/// The number that follows `words` in a sentence of a fixture.
pub fn number_after(text: &str, words: &str) -> f64 {
    let (_, rest) = text.split_once(words).unwrap_or_else(|| panic!("no \"{words}\" in \"{text}\""));
    let end = rest.find(|c: char| !(c.is_ascii_digit() || ".e-+".contains(c))).unwrap_or(rest.len());
    rest[..end]
        .trim_end_matches('.')
        .parse()
        .unwrap_or_else(|_| panic!("no number after \"{words}\" in \"{text}\""))
}

pub fn as_usize(value: &Value, what: &str) -> usize {
    value.as_u64().unwrap_or_else(|| panic!("{what} is no integer: {value}")) as usize
}

pub fn tensor<const D: usize>(host: &HostTensor, device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(host.values.clone(), host.shape.clone()), device)
}

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// |a − b| ≤ atol + rtol·|b|.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    pub atol: f64,
    pub rtol: f64,
}

impl Tolerance {
    /// Reads `atol` (or `atol_times_tensor_max_abs`, of `expected`) and `rtol`; one of them may be missing.
    pub fn of(json: &Value, expected: &[f32]) -> Self {
        let largest = expected.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
        let relative = json["atol_times_tensor_max_abs"].as_f64().map(|f| f * largest);
        let (atol, rtol) = (json["atol"].as_f64().or(relative), json["rtol"].as_f64());
        assert!(atol.is_some() || rtol.is_some(), "no tolerance in {json}");
        Self { atol: atol.unwrap_or(0.0), rtol: rtol.unwrap_or(0.0) }
    }

    pub fn excess(&self, a: f32, b: f32) -> f64 {
        (f64::from(a) - f64::from(b)).abs() - (self.atol + self.rtol * f64::from(b.abs()))
    }
}

/// Every value within the tolerance, or a message with the worst one.
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: Tolerance) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    let worst = found
        .iter()
        .zip(expected)
        .enumerate()
        .map(|(i, (a, b))| (if a.is_nan() { f64::INFINITY } else { tolerance.excess(*a, *b) }, i))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((excess, i)) = worst {
        assert!(
            excess <= 0.0,
            "{what}[{i}]: expected {}, found {} ({tolerance:?}, {excess:.3e} too far)",
            expected[i],
            found[i]
        );
    }
}

/// The hash of the formula weights: value u in [−1, 1] of entry `i` of tensor `name`.
pub fn formula(salt: &str, name: &str, i: usize) -> f64 {
    let mut h: u32 = 0x811c_9dc5;
    for byte in salt.bytes().chain(name.bytes()) {
        h = (h ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    let mut x = h ^ (i as u32).wrapping_mul(0x9E37_79B1);
    x ^= x >> 16;
    x = x.wrapping_mul(0x85EB_CA6B);
    x ^= x >> 13;
    x = x.wrapping_mul(0xC2B2_AE35);
    x ^= x >> 16;
    f64::from(x) / 4_294_967_296.0 * 2.0 - 1.0
}

/// A state dict entry filled with the formula, by the rules of the fixtures' README.
pub fn formula_tensor(salt: &str, name: &str, shape: &[usize]) -> HostTensor {
    let fan_in: usize = shape.iter().skip(1).product();
    let value = |u: f64| -> f64 {
        if name.ends_with("running_mean") {
            0.1 * u
        } else if name.ends_with("running_var") {
            1.0 + 0.5 * u.abs()
        } else if name.ends_with("pos_embed") || name.ends_with("cls_token") {
            0.02 * u
        } else if shape.len() >= 2 {
            1.0 / (fan_in as f64).sqrt() * u
        } else if name.ends_with(".weight") {
            1.0 + 0.1 * u
        } else {
            0.1 * u
        }
    };
    let n = shape.iter().product();
    HostTensor { shape: shape.to_vec(), values: (0..n).map(|i| value(formula(salt, name, i)) as f32).collect() }
}
