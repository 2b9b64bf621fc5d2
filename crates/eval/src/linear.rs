//! Linear classifiers on frozen features, many side by side.
//!
//! The accuracy of a linear classifier depends on its learning rate more than on anything else, so papers report the best of
//! several. [`LinearProbe`] trains one head for each rate on the same batches: their weights are columns of one matrix, and a
//! step of all of them is one product forward and one backward. What each head computes is what it would compute alone.
//!
//! The published protocols ([`Published`]) differ in optimizer, schedule and in what happens to the features first.

mod protocol;
mod score;

use burn::tensor::{Device, Int, Tensor, TensorData, activation};

use crate::EvalError;
pub use protocol::{ProbeConfig, ProbeInput, ProbeOptimizer, ProbeSchedule, Published};
pub use score::{HeadScore, Scorer};

/// Momentum of SGD and LARS in every published protocol.
const MOMENTUM: f64 = 0.9;
/// LARS: length of a step as a share of the weights' length.
const TRUST: f64 = 0.001;
/// Batch normalisation: the share of a new batch in the running statistics.
const RUNNING: f64 = 0.1;
/// Standardisation: what is added to the variance.
const STANDARD_EPSILON: f64 = 1e-5;

/// Heads in training: `heads` linear classifiers of `dim` numbers into `classes` each.
pub struct LinearProbe {
    config: ProbeConfig,
    classes: usize,
    /// `[dim, heads·classes]`.
    weight: Tensor<2>,
    /// `[1, heads·classes]`.
    bias: Tensor<2>,
    weight_momentum: Tensor<2>,
    bias_momentum: Tensor<2>,
    /// The peak rate of each column, `[1, heads·classes]`.
    rates: Tensor<2>,
    /// What is taken off each number before the heads, `[1, dim]`, and the variance that it is divided by.
    statistics: Option<[Tensor<2>; 2]>,
}

/// What a step found.
pub struct ProbeStep {
    /// Mean cross-entropy of each head, `[heads]`.
    pub losses: Tensor<1>,
    /// Norm of each head's gradient, `[heads]`.
    pub gradient_norms: Tensor<1>,
}

/// One head by itself, as it is kept: what comes before it is folded in, except dividing by the length.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearHead {
    /// `[classes, dim]`.
    pub weight: Vec<f32>,
    /// `[classes]`.
    pub bias: Vec<f32>,
    /// Whether features are divided by their length first.
    pub unit_length: bool,
}

impl LinearProbe {
    /// Heads that start alike: `weight` is `[classes, dim]` (N(0, 0.01²) in the published protocols), the bias 0.
    ///
    /// # Errors
    /// For settings out of range, and a weight that is not of that shape.
    pub fn new(
        config: &ProbeConfig,
        classes: usize,
        dim: usize,
        weight: &[f32],
        device: &Device,
    ) -> Result<Self, EvalError> {
        config.validate()?;
        if weight.len() != classes * dim || classes == 0 || dim == 0 {
            return Err(EvalError::shape("first weights", format!("{classes} x {dim} values"), weight.len()));
        }
        let heads = config.rates.len();
        let columns = heads * classes;
        let one = Tensor::<2>::from_data(TensorData::new(weight.to_vec(), [classes, dim]), device);
        let weight = one.transpose().repeat_dim(1, heads);
        let rates: Vec<f32> =
            config.rates.iter().flat_map(|rate| std::iter::repeat_n(*rate as f32, classes)).collect();
        let statistics = (config.input == ProbeInput::BatchNorm)
            .then(|| [Tensor::zeros([1, dim], device), Tensor::ones([1, dim], device)]);
        Ok(Self {
            config: config.clone(),
            classes,
            bias: Tensor::zeros([1, columns], device),
            weight_momentum: Tensor::zeros([dim, columns], device),
            bias_momentum: Tensor::zeros([1, columns], device),
            rates: Tensor::from_data(TensorData::new(rates, [1, columns]), device),
            weight,
            statistics,
        })
    }

    /// Number of heads, one for each rate.
    pub fn heads(&self) -> usize {
        self.config.rates.len()
    }

    /// Numbers of an image.
    pub fn dim(&self) -> usize {
        self.weight.dims()[0]
    }

    /// Sets the first bias, `[classes]`, which the heads share.
    ///
    /// # Errors
    /// For another length.
    pub fn set_bias(&mut self, bias: &[f32]) -> Result<(), EvalError> {
        if bias.len() != self.classes {
            return Err(EvalError::shape("first bias", self.classes, bias.len()));
        }
        let row = Tensor::<2>::from_data(TensorData::new(bias.to_vec(), [1, self.classes]), &self.bias.device());
        self.bias = row.repeat_dim(1, self.heads());
        Ok(())
    }

    /// Takes mean and variance of the training features `[images, dim]`, where the protocol standardises by them
    /// ([`ProbeInput::Standardised`]: of the features divided by their lengths; the variance is the unbiased one).
    pub fn see_all(&mut self, features: Tensor<2>) {
        if self.config.input != ProbeInput::Standardised {
            return;
        }
        let (variance, mean) = unit_length(features).var_mean(0);
        self.statistics = Some([mean, variance]);
    }

    /// One step of every head on a batch `[batch, dim]` with its labels. `factor` is what the schedule leaves of the peak
    /// rates ([`ProbeConfig::factor`]).
    pub fn step(&mut self, features: Tensor<2>, labels: &[u32], factor: f64) -> ProbeStep {
        let x = match self.config.input {
            ProbeInput::BatchNorm => self.normalise_batch(features),
            _ => self.prepared(features),
        };
        let [batch, _] = x.dims();
        let (heads, classes) = (self.heads(), self.classes);
        let logits = (x.clone().matmul(self.weight.clone()) + self.bias.clone()).reshape([batch, heads, classes]);
        let log_p = activation::log_softmax(logits, 2);
        let target = self.targets(labels, batch);
        let losses = -(log_p.clone() * target.clone()).sum_dim(2).mean_dim(0).reshape([heads]);
        let gradient = ((log_p.exp() - target) / batch as f64).reshape([batch, heads * classes]);
        let of_weight = x.transpose().matmul(gradient.clone());
        let of_bias = gradient.sum_dim(0);
        let squares = self.per_head(of_weight.clone()) + self.head_sum(of_bias.clone().square());
        let gradient_norms = squares.sqrt().reshape([heads]);
        self.update(of_weight, of_bias, factor);
        ProbeStep { losses, gradient_norms }
    }

    /// Logits `[images, heads·classes]` of features `[images, dim]`, as in evaluation.
    pub fn logits(&self, features: Tensor<2>) -> Tensor<2> {
        self.prepared(features).matmul(self.weight.clone()) + self.bias.clone()
    }

    /// A head by itself.
    ///
    /// # Errors
    /// When there is no such head, or values cannot be read.
    pub fn head(&self, head: usize) -> Result<LinearHead, EvalError> {
        if head >= self.heads() {
            return Err(EvalError::setting("head", "one of those trained", head));
        }
        let (classes, first) = (self.classes, head * self.classes);
        let mut weight = self.weight.clone().narrow(1, first, classes);
        let mut bias = self.bias.clone().narrow(1, first, classes);
        if let Some([mean, _]) = &self.statistics {
            // w·(x − mean)/std + b = (w/std)·x + (b − (w/std)·mean).
            weight = weight / self.deviation().transpose();
            bias = bias - mean.clone().matmul(weight.clone());
        }
        Ok(LinearHead {
            weight: read(weight.transpose(), "the weights of a head")?,
            bias: read(bias, "the bias of a head")?,
            unit_length: self.config.input == ProbeInput::Standardised,
        })
    }

    /// Everything that is held between steps, by name.
    pub fn state(&self) -> Vec<(&'static str, Tensor<2>)> {
        let mut all = vec![
            ("weight", self.weight.clone()),
            ("bias", self.bias.clone()),
            ("weight_momentum", self.weight_momentum.clone()),
            ("bias_momentum", self.bias_momentum.clone()),
        ];
        if let Some([mean, variance]) = &self.statistics {
            all.extend([("mean", mean.clone()), ("variance", variance.clone())]);
        }
        all
    }

    /// Restores [`LinearProbe::state`].
    ///
    /// # Errors
    /// When something is missing or of another shape; nothing is changed then.
    pub fn load(&mut self, of: impl Fn(&'static str) -> Option<Tensor<2>>) -> Result<(), EvalError> {
        let take = |name: &'static str, shape: [usize; 2]| match of(name) {
            Some(found) if found.dims() == shape => Ok(found),
            Some(found) => Err(EvalError::shape(name, format!("{shape:?}"), format!("{:?}", found.dims()))),
            None => Err(EvalError::shape(name, format!("{shape:?}"), "nothing")),
        };
        let [dim, columns] = self.weight.dims();
        let weights = [take("weight", [dim, columns])?, take("weight_momentum", [dim, columns])?];
        let biases = [take("bias", [1, columns])?, take("bias_momentum", [1, columns])?];
        let statistics = match self.config.input {
            ProbeInput::Raw => None,
            _ => Some([take("mean", [1, dim])?, take("variance", [1, dim])?]),
        };
        [self.weight, self.weight_momentum] = weights;
        [self.bias, self.bias_momentum] = biases;
        self.statistics = statistics;
        Ok(())
    }

    /// Features as the heads see them outside training.
    fn prepared(&self, features: Tensor<2>) -> Tensor<2> {
        let features = match self.config.input {
            ProbeInput::Standardised => unit_length(features),
            _ => features,
        };
        match &self.statistics {
            Some([mean, _]) => (features - mean.clone()) / self.deviation(),
            None => features,
        }
    }

    /// What features are divided by, `[1, dim]`.
    fn deviation(&self) -> Tensor<2> {
        let epsilon = match self.config.input {
            ProbeInput::BatchNorm => self.config.batch_norm_epsilon,
            _ => STANDARD_EPSILON,
        };
        match &self.statistics {
            Some([_, variance]) => (variance.clone() + epsilon).sqrt(),
            None => Tensor::ones([1, self.dim()], &self.weight.device()),
        }
    }

    /// Batch normalisation without scale and shift: by the batch's mean and biased variance; the running statistics take the
    /// unbiased one.
    fn normalise_batch(&mut self, features: Tensor<2>) -> Tensor<2> {
        let batch = features.dims()[0] as f64;
        let mean = features.clone().mean_dim(0);
        let centred = features - mean.clone();
        let variance = centred.clone().square().mean_dim(0);
        if let Some([running_mean, running_variance]) = &mut self.statistics {
            let unbiased = variance.clone() * (batch / (batch - 1.0).max(1.0));
            *running_mean = running_mean.clone() * (1.0 - RUNNING) + mean * RUNNING;
            *running_variance = running_variance.clone() * (1.0 - RUNNING) + unbiased * RUNNING;
        }
        centred / (variance + self.config.batch_norm_epsilon).sqrt()
    }

    /// `[batch, 1, classes]`, 1 where the label is.
    fn targets(&self, labels: &[u32], batch: usize) -> Tensor<3> {
        let mut rows = vec![0.0f32; batch * self.classes];
        for (row, label) in rows.chunks_exact_mut(self.classes).zip(labels) {
            if let Some(cell) = row.get_mut(*label as usize) {
                *cell = 1.0;
            }
        }
        Tensor::from_data(TensorData::new(rows, [batch, 1, self.classes]), &self.weight.device())
    }

    /// Sum of squares of each head's columns, `[heads, 1]`.
    fn per_head(&self, columns: Tensor<2>) -> Tensor<2> {
        self.head_sum(columns.square().sum_dim(0))
    }

    /// `[1, heads·classes]` summed over the classes, `[heads, 1]`.
    fn head_sum(&self, row: Tensor<2>) -> Tensor<2> {
        row.reshape([self.heads(), self.classes]).sum_dim(1)
    }

    fn update(&mut self, mut of_weight: Tensor<2>, mut of_bias: Tensor<2>, factor: f64) {
        let decay = self.config.weight_decay;
        if decay != 0.0 {
            of_weight = of_weight + self.weight.clone() * decay;
            // LARS leaves what has one axis alone.
            if self.config.optimizer == ProbeOptimizer::Sgd {
                of_bias = of_bias + self.bias.clone() * decay;
            }
        }
        if self.config.optimizer == ProbeOptimizer::Lars {
            let length = self.per_head(self.weight.clone()).sqrt();
            let gradient = self.per_head(of_weight.clone()).sqrt();
            let no_ratio = length.clone().equal_elem(0.0).bool_or(gradient.clone().equal_elem(0.0));
            let trust = (length / gradient * TRUST).mask_fill(no_ratio, 1.0);
            let columns = trust.repeat_dim(1, self.classes).reshape([1, self.heads() * self.classes]);
            of_weight = of_weight * columns;
        }
        let rates = self.rates.clone() * factor;
        self.weight_momentum = self.weight_momentum.clone() * MOMENTUM + of_weight;
        self.bias_momentum = self.bias_momentum.clone() * MOMENTUM + of_bias;
        self.weight = self.weight.clone() - self.weight_momentum.clone() * rates.clone();
        self.bias = self.bias.clone() - self.bias_momentum.clone() * rates;
    }
}

impl ProbeStep {
    /// Loss and gradient norm of the head whose loss is lowest, `[1]` each: rates that are far too high make losses that are
    /// no numbers, and those say nothing of the others.
    pub fn lowest(self) -> [Tensor<1>; 2] {
        let broken = self.losses.clone().is_finite().bool_not();
        let losses = self.losses.mask_fill(broken, f32::MAX);
        let at: Tensor<1, Int> = losses.clone().argmin(0);
        [losses.select(0, at.clone()), self.gradient_norms.select(0, at)]
    }
}

impl LinearHead {
    /// Logits `[images, classes]` of features `[images, dim]`.
    pub fn logits(&self, features: Tensor<2>) -> Tensor<2> {
        let (classes, device) = (self.bias.len(), features.device());
        let dim = self.weight.len() / classes.max(1);
        let weight = Tensor::<2>::from_data(TensorData::new(self.weight.clone(), [classes, dim]), &device);
        let bias = Tensor::<2>::from_data(TensorData::new(self.bias.clone(), [1, classes]), &device);
        let features = if self.unit_length { unit_length(features) } else { features };
        features.matmul(weight.transpose()) + bias
    }
}

/// Rows divided by their lengths.
fn unit_length(features: Tensor<2>) -> Tensor<2> {
    let length = features.clone().square().sum_dim(1).sqrt();
    features / length.clamp_min(1e-12)
}

fn read(tensor: Tensor<2>, what: &'static str) -> Result<Vec<f32>, EvalError> {
    tensor.into_data().try_to_vec().map_err(|e| EvalError::Device { during: what, reason: format!("{e:?}") })
}

#[cfg(test)]
mod tests;
