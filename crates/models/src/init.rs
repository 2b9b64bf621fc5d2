//! Seeded initialisation on the host: the same seed gives the same weights on every device and platform.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand_distr::{Distribution as _, StandardNormal};
use rand_pcg::Pcg64Mcg;

/// Draws initial values from one seeded stream.
pub struct Init {
    source: Source,
    device: Device,
}

enum Source {
    Drawn(Pcg64Mcg),
    /// Every draw is 0.
    Blank,
    /// The same draws of N(0, 1) over and over.
    Repeated(Vec<f32>),
}

/// Draws that are repeated: a prime, so that rows of a matrix differ.
const REPEATED: usize = 65_537;

impl Init {
    /// A stream for `seed`; parameters are created on `device`.
    pub fn new(seed: u64, device: &Device) -> Self {
        Self { source: Source::Drawn(Pcg64Mcg::seed_from_u64(seed)), device: device.clone() }
    }

    /// Zeros instead of draws: for a network whose values are loaded right after, where drawing millions of them takes
    /// longer than reading them.
    pub fn blank(device: &Device) -> Self {
        Self { source: Source::Blank, device: device.clone() }
    }

    /// Values of the right size that repeat themselves: for a network that is timed or tried out and not used, where drawing
    /// hundreds of millions of them takes longer than what is timed.
    pub fn repeated(seed: u64, device: &Device) -> Self {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let draws = (0..REPEATED).map(|_| StandardNormal.sample(&mut rng)).collect();
        Self { source: Source::Repeated(draws), device: device.clone() }
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
        let values = self.source.values(count, std, draw);
        self.param(values, shape)
    }

    /// U(−bound, bound). PyTorch's default for linear and convolution layers is bound = 1/√fan_in.
    pub fn uniform<const D: usize>(&mut self, shape: [usize; D], bound: f64) -> Param<Tensor<D>> {
        let draw = |rng: &mut Pcg64Mcg| ((rng.random::<f64>() * 2.0 - 1.0) * bound) as f32;
        let count = shape.iter().product();
        let values = self.source.values(count, bound / 3f64.sqrt(), draw);
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

impl Source {
    /// So many values: as `draw` draws them, or of this standard deviation.
    fn values(&mut self, count: usize, std: f64, draw: impl Fn(&mut Pcg64Mcg) -> f32) -> Vec<f32> {
        match self {
            Self::Drawn(rng) => (0..count).map(|_| draw(rng)).collect(),
            Self::Blank => vec![0.0; count],
            Self::Repeated(draws) => {
                let scaled: Vec<f32> = draws.iter().map(|z| z * std as f32).collect();
                let mut values = Vec::with_capacity(count);
                while values.len() < count {
                    values.extend_from_slice(&scaled[..scaled.len().min(count - values.len())]);
                }
                values
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_values_have_the_size_of_drawn_ones() {
        let device = Device::flex();
        let deviation = |init: &mut Init| {
            let of = |t: Param<Tensor<2>>| {
                let values = t.val().into_data().try_to_vec::<f32>().unwrap();
                let squares: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
                (squares / values.len() as f64).sqrt()
            };
            [of(init.trunc_normal([300, 301], 0.02)), of(init.uniform([300, 301], 0.1))]
        };
        let drawn = deviation(&mut Init::new(1, &device));
        let repeated = deviation(&mut Init::repeated(1, &device));
        for (drawn, repeated) in drawn.iter().zip(repeated) {
            assert!((drawn / repeated - 1.0).abs() < 0.02, "{drawn} {repeated}");
        }
        assert_eq!(deviation(&mut Init::blank(&device)), [0.0, 0.0]);
    }
}
