//! How many images a second go through a backbone in inference: what the tables of the field call im/s.

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_kernels::release_memory;
use ocelli_models::{AnyBackbone, Backbone as _, BackboneArch, BackboneConfig, Init, Mode};

use crate::device::Chosen;
use crate::fence::{device_error, fenced};
use crate::memory::{self, Needs};
use crate::{RunConfig, TrainError};

/// How to measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bench {
    /// Side of the square images, pixels.
    pub size_px: usize,
    /// Images per pass; `None` takes the number with which most pass in a second.
    pub batch: Option<usize>,
    /// Seconds to measure for. Three passes are measured however long they take.
    pub seconds: f64,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throughput {
    /// Trained values of the backbone.
    pub parameters: usize,
    /// Images per pass.
    pub batch: usize,
    /// Images a second: the median over the passes.
    pub images_per_second: f64,
    /// Passes measured.
    pub passes: usize,
    /// Bytes the process (on a GPU: the device's allocator) held at most, where that can be told.
    pub memory_bytes: Option<u64>,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Phase {
    /// Building the network.
    Building,
    /// Trying a batch of so many images.
    Trying(usize),
    /// Measuring with a batch, so many images a second so far.
    Measuring(usize, f64),
}

/// Batches that are tried.
const BATCHES: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
/// A larger batch must bring this much to be worth its memory.
const WORTH: f64 = 1.03;
/// Passes that are measured at least.
const LEAST: usize = 3;

/// The backbone of a name for images of `size_px`.
pub fn backbone_of(arch: &BackboneArch, size_px: usize) -> BackboneConfig {
    let mut config = RunConfig { arch: arch.clone(), drop_path: 0.0, ..RunConfig::default() };
    config.views.global_size_px = size_px;
    config.backbone()
}

/// Measures inference in f32, warm, of a backbone with drawn weights on images that are on the device already.
/// `tell` hears what is being done and which share of it.
///
/// # Errors
/// [`TrainError::DoesNotFit`] before anything is built where it takes more memory than there is;
/// [`TrainError::OutOfMemory`] where the device says so.
pub fn throughput(
    backbone: &BackboneConfig,
    chosen: &Chosen,
    bench: &Bench,
    tell: &mut dyn FnMut(Phase, f64),
) -> Result<Throughput, TrainError> {
    let fits = |batch| chosen.memory.check(&Needs::inference(backbone, batch, bench.size_px));
    fits(bench.batch.unwrap_or(1))?;
    fenced(|| {
        // What was measured before leaves nothing behind that would count here.
        release_memory();
        chosen.device.memory_cleanup();
        let counts = memory::forget_peak();
        tell(Phase::Building, 0.0);
        let net = backbone.init(&mut Init::repeated(0, &chosen.device))?;
        let passing = Passing { net: &net, device: &chosen.device, size_px: bench.size_px };
        let (batch, images) = match bench.batch {
            Some(batch) => (batch, passing.warm(batch, tell)?),
            None => {
                let batch = passing.best_batch(bench.seconds, |batch| fits(batch).is_ok(), tell)?;
                (batch, passing.images(batch))
            }
        };
        let (started, mut times) = (Instant::now(), Vec::new());
        loop {
            times.push(passing.seconds(&images)?);
            let spent = started.elapsed().as_secs_f64();
            tell(
                Phase::Measuring(batch, batch as f64 / median(&mut times)),
                (spent / bench.seconds).max(times.len() as f64 / LEAST as f64 - 1.0).clamp(0.0, 1.0),
            );
            if times.len() >= LEAST && spent >= bench.seconds {
                break;
            }
        }
        Ok(Throughput {
            parameters: backbone.num_parameters(),
            batch,
            images_per_second: batch as f64 / median(&mut times),
            passes: times.len(),
            memory_bytes: match chosen.is_cpu {
                true => memory::peak_resident().filter(|_| counts),
                false => chosen.device.memory_pool_usage().map(|usage| usage.bytes_reserved),
            },
        })
    })
}

/// A network that images pass through.
struct Passing<'a> {
    net: &'a AnyBackbone,
    device: &'a Device,
    size_px: usize,
}

impl Passing<'_> {
    /// A batch, normalised as images are: values about 0, some above 1.
    fn images(&self, batch: usize) -> Tensor<4> {
        let count = 3 * self.size_px * self.size_px;
        let values: Vec<f32> = (0..batch * count).map(|i| (i * 7919 % 1009) as f32 / 252.0 - 2.0).collect();
        Tensor::from_data(TensorData::new(values, [batch, 3, self.size_px, self.size_px]), self.device)
    }

    /// A batch that has passed once, for what is done once, such as compiling and choosing kernels.
    fn warm(&self, batch: usize, tell: &mut dyn FnMut(Phase, f64)) -> Result<Tensor<4>, TrainError> {
        tell(Phase::Trying(batch), 0.0);
        let images = self.images(batch);
        self.seconds(&images)?;
        Ok(images)
    }

    /// How long a pass takes, until its features are on the host.
    fn seconds(&self, images: &Tensor<4>) -> Result<f64, TrainError> {
        let started = Instant::now();
        let features = self.net.features(images.clone(), Mode::Eval).try_into_data();
        features.map_err(|e| device_error(&e.to_string()))?;
        Ok(started.elapsed().as_secs_f64().max(1e-9))
    }

    /// The batch with which most images pass in a second, of those that fit, as far as that can be told within `seconds`.
    fn best_batch(
        &self,
        seconds: f64,
        fits: impl Fn(usize) -> bool,
        tell: &mut dyn FnMut(Phase, f64),
    ) -> Result<usize, TrainError> {
        let (started, mut best) = (Instant::now(), (1, 0.0));
        for (i, batch) in BATCHES.into_iter().enumerate() {
            if i > 0 && !fits(batch) {
                break;
            }
            let taken = fenced(|| self.seconds(&self.warm(batch, tell)?));
            let speed = match taken {
                Ok(seconds) => batch as f64 / seconds,
                // The device knows better than an estimate.
                Err(TrainError::OutOfMemory { .. }) if best.1 > 0.0 => break,
                Err(error) => return Err(error),
            };
            if speed > best.1 * WORTH {
                best = (batch, speed);
            } else if batch >= 4 * best.0 {
                break;
            }
            // The next takes twice as long.
            if 3.0 * started.elapsed().as_secs_f64() > 2.0 * seconds {
                break;
            }
        }
        Ok(best.0)
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DeviceChoice, open};
    use crate::memory::Memory;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn what_fits_is_measured_and_what_does_not_is_refused() {
        let mut chosen = open(DeviceChoice::Cpu).unwrap();
        let backbone = backbone_of(&"vit-32x2x2/8".parse().unwrap(), 32);
        let mut phases = Vec::new();
        let mut tell = |phase, share: f64| {
            assert!((0.0..=1.0).contains(&share));
            phases.push(phase);
        };
        let bench = Bench { size_px: 32, batch: None, seconds: 0.05 };
        let measured = throughput(&backbone, &chosen, &bench, &mut tell).unwrap();
        assert!(measured.images_per_second > 1.0 && measured.passes >= LEAST, "{measured:?}");
        assert_eq!(measured.parameters, backbone.num_parameters());
        assert!(phases.contains(&Phase::Building) && phases.contains(&Phase::Trying(1)));
        assert!(matches!(phases.last(), Some(Phase::Measuring(batch, _)) if *batch == measured.batch));

        let fixed = Bench { batch: Some(3), ..bench };
        assert_eq!(throughput(&backbone, &chosen, &fixed, &mut |_, _| ()).unwrap().batch, 3);
        chosen.memory = Memory::Own(Some(1000));
        let message = throughput(&backbone, &chosen, &bench, &mut |_, _| ()).unwrap_err().to_string();
        assert!(message.contains("1 image passing through") && message.contains("on the device"), "{message}");
    }
}
