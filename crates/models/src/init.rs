//! Seeded initialisation on the host: the same seed gives the same weights on every device and platform.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand_distr::{Distribution as _, StandardNormal};
use rand_pcg::Pcg64Mcg;

/// Draws initial values from one seeded stream.
pub struct Init {
    // None: every draw is 0.
    rng: Option<Pcg64Mcg>,
    device: Device,
}

impl Init {
    /// A stream for `seed`; parameters are created on `device`.
    pub fn new(seed: u64, device: &Device) -> Self {
        Self { rng: Some(Pcg64Mcg::seed_from_u64(seed)), device: device.clone() }
    }

    /// Zeros instead of draws: for a network whose values are loaded right after, where drawing millions of them takes
    /// longer than reading them.
    pub fn blank(device: &Device) -> Self {
        Self { rng: None, device: device.clone() }
    }

    /// The device parameters are created on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// N(0, std²) cut at ±2 (absolute, as the reference's `trunc_normal_`; at std .02 the cut is 100 σ away).
    pub fn trunc_normal<const D: usize>(&mut self, shape: [usize; D], std: f64) -> Param<Tensor<D>> {
        let draw = |rng: &mut Pcg64Mcg| {
            loop {
                let z: f64 = StandardNormal.sample(rng);
                if (z * std).abs() <= 2.0 {
                    return (z * std) as f32;
                }
            }
        };
        let count = shape.iter().product();
        let values = match &mut self.rng {
            Some(rng) => (0..count).map(|_| draw(rng)).collect(),
            None => vec![0.0; count],
        };
        self.param(values, shape)
    }

    /// U(−bound, bound). PyTorch's default for linear and convolution layers is bound = 1/√fan_in.
    pub fn uniform<const D: usize>(&mut self, shape: [usize; D], bound: f64) -> Param<Tensor<D>> {
        let draw = |rng: &mut Pcg64Mcg| ((rng.random::<f64>() * 2.0 - 1.0) * bound) as f32;
        let count = shape.iter().product();
        let values = match &mut self.rng {
            Some(rng) => (0..count).map(|_| draw(rng)).collect(),
            None => vec![0.0; count],
        };
        self.param(values, shape)
    }

    /// Every entry `value`.
    pub fn constant<const D: usize>(&mut self, shape: [usize; D], value: f32) -> Param<Tensor<D>> {
        self.param(vec![value; shape.iter().product()], shape)
    }

    fn param<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Param<Tensor<D>> {
        Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), &self.device))
    }
}
