//! Precise batch normalisation (Wu & Johnson 2021, <https://arxiv.org/abs/2105.07576>): the statistics that a network is evaluated
//! and kept with are those of some batches under its final weights, in place of running averages over weights that moved.

use std::collections::{BTreeMap, HashMap};

use burn::module::{Module, ParamId, list_param_ids};
use burn::tensor::{Tensor, TensorData};
use ocelli_models::{NormBatch, params, watch_norms};
use ocelli_train::TrainError;
use serde::{Deserialize, Serialize};

/// How the statistics of several batches become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormStatistics {
    /// Mean and variance of all values of all batches, large batches counting for more: fvcore today.
    #[default]
    Population,
    /// The mean over batches of their means and of their unbiased variances: fvcore before.
    BatchMean,
}

/// Adds up what the norms of a network see in training mode, with weights that stay. Sums are in double precision on the host.
#[derive(Debug, Clone)]
pub struct PreciseBn {
    flavour: NormStatistics,
    sums: HashMap<ParamId, Sums>,
}

/// Of a norm: weights of the batches, and sums by channel of what becomes mean and variance.
#[derive(Debug, Clone)]
struct Sums {
    weight: f64,
    mean: Vec<f64>,
    second: Vec<f64>,
}

impl PreciseBn {
    /// Nothing seen yet.
    pub fn new(flavour: NormStatistics) -> Self {
        Self { flavour, sums: HashMap::new() }
    }

    /// Runs the forward pass of a batch, in training mode and on this thread, and adds what the norms found in it. A norm that a
    /// pass uses several times has seen as many batches.
    ///
    /// # Errors
    /// When values cannot be read from the device.
    pub fn see<R>(&mut self, pass: impl FnOnce() -> R) -> Result<R, TrainError> {
        let (result, seen) = watch_norms(pass);
        self.add(seen)?;
        Ok(result)
    }

    fn add(&mut self, seen: Vec<NormBatch>) -> Result<(), TrainError> {
        if seen.is_empty() {
            return Ok(());
        }
        let shapes: Vec<(ParamId, usize, usize)> =
            seen.iter().map(|s| (s.norm, s.values, s.mean.dims()[0])).collect();
        // All in one reading.
        let all = seen.into_iter().flat_map(|s| [s.mean, s.variance]).collect();
        let all = Tensor::cat(all, 0).into_data().try_to_vec::<f32>();
        let all = all.map_err(|e| TrainError::Device(format!("cannot read the norms' statistics back: {e:?}")))?;
        let mut rest = all.as_slice();
        for (norm, values, dim) in shapes {
            let (mean, after) = rest.split_at(dim);
            let (variance, after) = after.split_at(dim);
            rest = after;
            self.add_batch(norm, values, mean, variance);
        }
        Ok(())
    }

    fn add_batch(&mut self, norm: ParamId, values: usize, mean: &[f32], variance: &[f32]) {
        let n = values as f64;
        let empty = || Sums { weight: 0.0, mean: vec![0.0; mean.len()], second: vec![0.0; mean.len()] };
        let sums = self.sums.entry(norm).or_insert_with(empty);
        let weight = if self.flavour == NormStatistics::Population { n } else { 1.0 };
        sums.weight += weight;
        for (channel, (mean, variance)) in mean.iter().zip(variance).enumerate() {
            let (mean, variance) = (f64::from(*mean), f64::from(*variance));
            sums.mean[channel] += weight * mean;
            sums.second[channel] += match self.flavour {
                NormStatistics::Population => weight * (variance + mean * mean),
                // A single value has no unbiased variance; its own is 0.
                NormStatistics::BatchMean => variance * n / (n - 1.0).max(1.0),
            };
        }
    }

    /// The network with these statistics in place of its running ones, which change wherever the network is shared. Norms that no
    /// batch went through keep theirs.
    pub fn apply<M: Module>(&self, net: M) -> M {
        let ids = list_param_ids(&net);
        let named = params::collect(&net);
        let ids: BTreeMap<&str, &ParamId> = named.iter().map(|p| p.name.as_str()).zip(&ids).collect();
        let found = |name: &str| {
            let (norm, what) = name.rsplit_once('.')?;
            let sums = self.sums.get(*ids.get(format!("{norm}.weight").as_str())?)?;
            match what {
                "running_mean" => Some(sums.means(|mean, _| mean)),
                "running_var" => Some(sums.means(|mean, second| match self.flavour {
                    NormStatistics::Population => (second - mean * mean).max(0.0),
                    NormStatistics::BatchMean => second,
                })),
                _ => None,
            }
        };
        params::replace(net, |param| {
            let values = found(&param.name)?;
            let len = values.len();
            Some(Tensor::from_data(TensorData::new(values, [len]), &param.values.device()))
        })
    }
}

impl Sums {
    fn means(&self, of: impl Fn(f64, f64) -> f64) -> Vec<f32> {
        let each = self.mean.iter().zip(&self.second);
        each.map(|(mean, second)| of(mean / self.weight, second / self.weight) as f32).collect()
    }
}
