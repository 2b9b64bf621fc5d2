//! The figures of a step: read from the device together now and then, and averaged.

use burn::tensor::Tensor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::TrainError;
use crate::fence::device_error;

/// Figures still on the device.
#[derive(Default)]
pub(crate) struct Unread {
    rows: Vec<Tensor<1>>,
}

impl Unread {
    /// Takes one step's figures, as many in every step.
    pub fn push(&mut self, row: Tensor<1>) {
        self.rows.push(row);
    }

    /// Waits for the device and returns everything since the last time, one row per step.
    ///
    /// # Errors
    /// When the device failed in any of the steps.
    pub fn read(&mut self) -> Result<Vec<Vec<f32>>, TrainError> {
        let Some(figures) = self.rows.first().map(|row| row.dims()[0]) else { return Ok(Vec::new()) };
        let data = Tensor::cat(std::mem::take(&mut self.rows), 0).try_into_data();
        let values = data.map_err(|e| device_error(&e.to_string()))?.try_to_vec::<f32>();
        let values = values.map_err(|e| device_error(&e.to_string()))?;
        Ok(values.chunks_exact(figures.max(1)).map(<[f32]>::to_vec).collect())
    }
}

/// Sums and maxima of figures over some steps.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Averages {
    #[serde(serialize_with = "to_bits", deserialize_with = "from_bits")]
    sum: Vec<f64>,
    #[serde(serialize_with = "to_bits", deserialize_with = "from_bits")]
    max: Vec<f64>,
    n: usize,
}

impl Averages {
    /// Adds one step.
    pub fn add(&mut self, row: &[f32]) {
        self.sum.resize(row.len(), 0.0);
        self.max.resize(row.len(), 0.0);
        for (i, v) in row.iter().enumerate() {
            self.sum[i] += f64::from(*v);
            self.max[i] = self.max[i].max(f64::from(*v));
        }
        self.n += 1;
    }

    /// Mean of a figure; 0 of nothing.
    pub fn mean(&self, i: usize) -> f64 {
        self.sum.get(i).copied().unwrap_or_default() / self.n.max(1) as f64
    }

    /// Largest value of a figure; 0 of nothing.
    pub fn max(&self, i: usize) -> f64 {
        self.max.get(i).copied().unwrap_or_default()
    }

    /// Steps added.
    pub fn len(&self) -> usize {
        self.n
    }
}

/// As bits: a continued run must add to exactly the sums it stopped with, and decimal text may round.
fn to_bits<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
    values.iter().map(|v| v.to_bits()).collect::<Vec<u64>>().serialize(to)
}

fn from_bits<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    Vec::<u64>::deserialize(from).map(|bits| bits.into_iter().map(f64::from_bits).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_survive_text_bit_for_bit() {
        let mut means = Averages::default();
        for i in 0..100 {
            means.add(&[0.1 * i as f32, 1.0 / 3.0, f32::MIN_POSITIVE, 1e30, 0.7, 0.0]);
        }
        let text = serde_json::to_string(&means).unwrap();
        assert_eq!(serde_json::from_str::<Averages>(&text).unwrap(), means);
    }
}
