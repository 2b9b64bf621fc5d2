//! One training step of any method: the same natively and in the browser, in one process and in several.

use std::ops::Range;
use std::sync::mpsc;
use std::thread;

use burn::tensor::{Tensor, TensorData, Transaction};
use ocelli_kernels::together;
use ocelli_models::{HeldStatistics, hold_statistics};
use ocelli_world::{Shared, Wire, World, buckets};

use crate::method::{Batch, Method, MethodError, StepClock, Update};
use crate::optim::{GradientSum, OptimConfig, Optimizer, StepRates};

/// Takes one optimizer step on the micro-batches of `batches`, and returns the figures of [`Method::figures`] (means over the
/// micro-batches), then the norm of all gradients together and the largest norm of one parameter's, both before clipping:
/// `[figures + 2]`, still on the device. `clock` is that of the first micro-batch.
pub fn train_step(
    method: &mut dyn Method,
    (optimizer, config): (&mut Optimizer, &OptimConfig),
    batches: &[Batch],
    clock: StepClock,
    rates: &StepRates,
) -> Tensor<1> {
    method.before_step(&clock);
    if batches.len() > 1 {
        method.before_parts(batches, &clock);
    }
    let mut sums = Sums::new(batches.len());
    for (micro_batch, batch) in batches.iter().enumerate() {
        sums.add(method, batch, &StepClock { micro_batch, ..clock });
    }
    sums.step(method, (optimizer, config), clock, rates)
}

/// The processes that take a step together.
#[derive(Debug, Clone, Copy)]
pub struct Ranks<'a> {
    /// Them, seen from this one.
    pub world: &'a Shared,
    /// Whether the i-th micro-batches of all ranks are one: [`Needs::coupled`](crate::Needs::coupled) of the method.
    pub coupled: bool,
}

/// [`train_step`] of several processes together: the step that one of them would take on the micro-batches of all, of which
/// `batches` are those with the numbers i·W + r, with W ranks in the world and r this one's. Every rank has as many, and gets the
/// same figures and takes the same step. With one micro-batch to a rank it has the very bits of that step in one process; with
/// more, sums are added in another order.
///
/// Where ranks are coupled it is the step of one process on micro-batches of W times the images, but for rounding.
///
/// # Errors
/// When values cannot be read from the device.
pub fn train_step_in(
    ranks: Ranks<'_>,
    method: &mut dyn Method,
    (optimizer, config): (&mut Optimizer, &OptimConfig),
    batches: &[Batch],
    clock: StepClock,
    rates: &StepRates,
) -> Result<Tensor<1>, MethodError> {
    let world = ranks.world.as_ref();
    let (rank, size) = (world.rank(), world.size());
    if size == 1 {
        return Ok(train_step(method, (optimizer, config), batches, clock, rates));
    }
    method.before_step(&clock);
    let mut sums = Sums::new(size * batches.len());
    let numbered = batches.iter().enumerate();
    let numbered = numbered.map(|(i, batch)| (batch, StepClock { micro_batch: i * size + rank, ..clock }));
    if ranks.coupled {
        together::within(ranks.world, || {
            if batches.len() > 1 {
                method.before_parts(batches, &clock);
            }
            // Statistics are those of all ranks: each moves its own, which are the same.
            numbered.for_each(|(batch, clock)| sums.add(method, batch, &clock));
        });
    } else {
        for (batch, clock) in numbered {
            let ((), held) = hold_statistics(|| sums.add(method, batch, &clock));
            add_statistics(world, &held)?;
        }
    }
    sums.exchange(world, config.gradients.wire())?;
    method.exchange(world)?;
    Ok(sums.step(method, (optimizer, config), clock, rates))
}

/// Gradients and figures of the micro-batches so far, each with the weight of a mean.
struct Sums {
    gradients: GradientSum,
    figures: Option<Tensor<1>>,
    weight: f64,
}

impl Sums {
    fn new(micro_batches: usize) -> Self {
        let weight = 1.0 / micro_batches.max(1) as f64;
        Self { gradients: GradientSum::default(), figures: None, weight }
    }

    fn add(&mut self, method: &mut dyn Method, batch: &Batch, clock: &StepClock) {
        let output = method.loss(batch, clock);
        let mut raw = output.loss.backward();
        self.gradients.add(method.network().take_gradients(&mut raw), self.weight);
        let row = Tensor::cat(output.scalars.into_iter().map(|(_, value)| value).collect(), 0) * self.weight;
        self.figures = Some(match self.figures.take() {
            None => row,
            Some(sum) => sum + row,
        });
    }

    /// Adds what all ranks have.
    fn exchange(&mut self, world: &dyn World, wire: Wire) -> Result<(), MethodError> {
        let (names, tensors): (Vec<String>, Vec<Tensor<1>>) =
            std::mem::take(&mut self.gradients).into_sorted().into_iter().unzip();
        let figures =
            self.figures.take().map(|figures| sum_of(world, &[figures], Wire::F32, "the figures")).transpose()?;
        self.figures = figures.and_then(|mut sum| sum.pop());
        let tensors = sum_of(world, &tensors, wire, "the gradients")?;
        self.gradients.add(names.into_iter().zip(tensors).collect(), 1.0);
        Ok(())
    }

    fn step(
        self,
        method: &mut dyn Method,
        (optimizer, config): (&mut Optimizer, &OptimConfig),
        clock: StepClock,
        rates: &StepRates,
    ) -> Tensor<1> {
        let Self { gradients, figures, .. } = self;
        let norms = gradients.norms();
        method.update(Update { optimizer, gradients, rates, config, clock: &clock });
        method.after_step(&clock);
        let norms = norms.into_iter().flat_map(|(all, largest)| [all, largest]);
        Tensor::cat(figures.into_iter().chain(norms).collect(), 0)
    }
}

/// The sums of tensors over all ranks, with the same bits on every rank. `what` they are, for a message.
///
/// In buckets, the last ones first. While one is sent, by a thread of its own, the next is read from the device and the one before
/// goes back to it. Nothing is read before the whole backward pass is on its way, so another order would be no faster.
///
/// # Errors
/// When a tensor cannot be read from its device.
pub fn sum_of(
    world: &dyn World,
    tensors: &[Tensor<1>],
    wire: Wire,
    what: &str,
) -> Result<Vec<Tensor<1>>, MethodError> {
    let lengths: Vec<usize> = tensors.iter().map(|tensor| tensor.dims()[0]).collect();
    let from_device = |bucket: &Range<usize>, mut values: Vec<f32>| {
        let all = tensors[bucket.clone()].iter().fold(Transaction::default(), |all, t| all.register(t.clone()));
        values.clear();
        values.reserve(lengths[bucket.clone()].iter().sum());
        for data in all.try_execute().map_err(|_| MethodError::Unreadable(what.into()))? {
            values.extend(data.as_slice::<f32>().map_err(|_| MethodError::Unreadable(what.into()))?);
        }
        Ok::<_, MethodError>(values)
    };
    let mut sums = Vec::with_capacity(tensors.len());
    let mut to_device = |bucket: Range<usize>, values: &[f32]| {
        let device = tensors[bucket.start].device();
        let mut end = values.len();
        for len in lengths[bucket].iter().rev() {
            let own = values[end - len..end].to_vec();
            sums.push(Tensor::from_data(TensorData::new(own, [*len]), &device));
            end -= len;
        }
    };
    let mut all = buckets(&lengths);
    if all.len() < 2 {
        if let Some(bucket) = all.pop() {
            let mut values = from_device(&bucket, Vec::new())?;
            world.sum_as(&mut values, wire);
            to_device(bucket, &values);
        }
    } else {
        thread::scope(|scope| {
            let (to_send, given) = mpsc::channel::<Vec<f32>>();
            let (summed, from_all) = mpsc::channel();
            scope.spawn(move || {
                given.into_iter().try_for_each(|mut values| {
                    world.sum_as(&mut values, wire);
                    summed.send(values)
                })
            });
            let (mut under_way, mut spare): (Option<Range<usize>>, Vec<f32>) = (None, Vec::new());
            // Neither channel closes before its other end is done with it, unless a rank is gone: the scope ends with that panic.
            let next = all.into_iter().rev().map(Some).chain([None]);
            for bucket in next {
                if let Some(bucket) = &bucket {
                    let _ = to_send.send(from_device(bucket, std::mem::take(&mut spare))?);
                }
                if let Some(before) = std::mem::replace(&mut under_way, bucket) {
                    let Ok(values) = from_all.recv() else { break };
                    to_device(before, &values);
                    spare = values;
                }
            }
            Ok::<_, MethodError>(())
        })?;
    }
    sums.reverse();
    Ok(sums)
}

/// Adds what every rank's micro-batch leaves in running statistics, in the order of ranks, which is that of the micro-batches.
fn add_statistics(world: &dyn World, held: &HeldStatistics) -> Result<(), MethodError> {
    let shares = held.shares();
    let Some(device) = shares.first().map(Tensor::device) else { return Ok(()) };
    let lengths: Vec<usize> = shares.iter().map(|share| share.dims()[0]).collect();
    let own = read(Tensor::cat(shares, 0), "the batch's statistics")?;
    for values in world.gather(&own) {
        let all = Tensor::<1>::from_floats(values.as_slice(), &device);
        held.add(all.split_with_sizes(lengths.clone(), 0));
    }
    Ok(())
}

/// A tensor's values on the host.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>, what: &str) -> Result<Vec<f32>, MethodError> {
    tensor.into_data().try_to_vec().map_err(|_| MethodError::Unreadable(what.into()))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use ocelli_models::weights::StateDict;
    use ocelli_models::{Arch, BackboneConfig, DinoHeadConfig, Init, ResNetArch, ResNetConfig, Stem};
    use ocelli_world::{BUCKET_BYTES, threads};

    use super::*;
    use crate::optim::{GradientsAs, OptimizerKind};
    use crate::{Byol, ByolConfig, Dino, DinoConfig, Moco, MocoConfig};

    const IMAGES: usize = 4;

    /// Two views of 16 px with another pattern for each image and part.
    fn batch(number: usize) -> Batch {
        let value = |i: usize| ((i * 37 + number * 101 + i / 29) % 211) as f32 / 100.0 - 1.0;
        let values: Vec<f32> = (0..2 * IMAGES * 3 * 16 * 16).map(value).collect();
        let views = Tensor::from_data(TensorData::new(values, [2 * IMAGES, 3, 16, 16]), &Device::flex());
        Batch::of_views(vec![views], IMAGES)
    }

    fn resnet() -> BackboneConfig {
        let arch: ResNetArch = "resnet-18c2".parse().unwrap();
        BackboneConfig::ResNet(ResNetConfig { stem: Stem::Cifar, ..arch.into() })
    }

    fn dino() -> Box<dyn Method> {
        let head = DinoHeadConfig { out_dim: 24, hidden_dim: 12, bottleneck_dim: 8, ..DinoHeadConfig::default() };
        let config = DinoConfig { head, freeze_last_layer_epochs: 0, ..DinoConfig::default() };
        let vit = "vit-16x2x2/8".parse::<Arch>().unwrap().config(16, 0.2);
        Box::new(Dino::new(&config, &vit, 1, &Device::flex()).unwrap())
    }

    fn moco() -> Box<dyn Method> {
        let config = MocoConfig { queue: 20, out_dim: 6, ..MocoConfig::default() };
        Box::new(Moco::new(&config, |init: &mut Init| resnet().init(init), 1, &Device::flex()).unwrap())
    }

    fn byol() -> Box<dyn Method> {
        let config = ByolConfig { hidden_dim: 8, out_dim: 6, ..ByolConfig::default() };
        Box::new(Byol::new(&config, |init: &mut Init| resnet().init(init), 1, &Device::flex()).unwrap())
    }

    /// Figures of all steps, and what is there after them.
    type Run = (Vec<Vec<u32>>, StateDict);

    fn sgd() -> OptimConfig {
        OptimConfig { optimizer: OptimizerKind::Sgd, ..OptimConfig::default() }
    }

    fn train(
        world: &Shared,
        method: fn() -> Box<dyn Method>,
        parts: usize,
        config: &OptimConfig,
        steps: usize,
    ) -> Run {
        let rates = StepRates { lr: 0.05, weight_decay: 1e-3, clip: 1.0 };
        let ranks = Ranks { world, coupled: false };
        let (mut method, mut optimizer) = (method(), Optimizer::new(config));
        let figures = (0..steps).map(|iteration| {
            let own = (world.rank()..parts).step_by(world.size());
            let batches: Vec<Batch> = own.map(|part| batch(iteration * parts + part)).collect();
            let clock = StepClock { epoch: 0, iteration, micro_batch: 0, momentum: 0.9, seed: 7 };
            let row = train_step_in(ranks, method.as_mut(), (&mut optimizer, config), &batches, clock, &rates);
            let row: Vec<f32> = row.unwrap().into_data().try_to_vec().unwrap();
            row.iter().map(|value| value.to_bits()).collect()
        });
        let figures = figures.collect();
        (figures, method.state().unwrap())
    }

    fn alone() -> Shared {
        std::sync::Arc::new(ocelli_world::Alone)
    }

    /// What each of so many ranks returns.
    fn each_of<T: Send>(ranks: usize, of: impl Fn(&Shared) -> T + Sync) -> Vec<T> {
        let worlds = threads(ranks);
        thread::scope(|scope| {
            let running: Vec<_> = worlds.iter().map(|world| scope.spawn(|| of(world))).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    fn together(ranks: usize, method: fn() -> Box<dyn Method>, parts: usize) -> Vec<Run> {
        each_of(ranks, |world| train(world, method, parts, &sgd(), 3))
    }

    /// Teacher and centre, queues and running statistics among it.
    #[test]
    fn ranks_with_a_part_each_have_the_bits_of_one_with_all() {
        for (name, method) in [("dino", dino as fn() -> _), ("moco", moco), ("byol", byol)] {
            for ranks in [2, 3] {
                let (figures, state) = train(&alone(), method, ranks, &sgd(), 3);
                for (rank, (its_figures, its_state)) in together(ranks, method, ranks).into_iter().enumerate() {
                    assert_eq!(its_figures, figures, "{name}, rank {rank} of {ranks}");
                    assert_eq!(its_state.tensors.len(), state.tensors.len());
                    for ((tensor, a), (_, b)) in state.tensors.iter().zip(&its_state.tensors) {
                        let same = a.values.iter().map(|v| v.to_bits()).eq(b.values.iter().map(|v| v.to_bits()));
                        assert!(same, "{name}, rank {rank} of {ranks}: {tensor}");
                    }
                }
            }
        }
    }

    /// Buckets that are read while others are sent have the sums of their tensors, in their order.
    #[test]
    fn tensors_in_several_buckets_are_summed() {
        let lengths = [5, BUCKET_BYTES / 4, 3, BUCKET_BYTES / 4 - 10, 20, 7];
        let value = |tensor: usize, i: usize| ((i * 13 + tensor * 7) % 101) as f32;
        let sums = each_of(2, |world| {
            let of = |(tensor, len): (usize, &usize)| {
                let values: Vec<f32> = (0..*len).map(|i| value(tensor + world.rank(), i)).collect();
                Tensor::<1>::from_floats(values.as_slice(), &Device::flex())
            };
            let own: Vec<Tensor<1>> = lengths.iter().enumerate().map(of).collect();
            let sums = sum_of(world.as_ref(), &own, Wire::F32, "test").unwrap();
            sums.into_iter().map(|sum| read(sum, "test").unwrap()).collect::<Vec<_>>()
        });
        assert!(sums[0] == sums[1] && sums[0].len() == lengths.len());
        for (tensor, (sum, len)) in sums[0].iter().zip(lengths).enumerate() {
            assert_eq!(sum.len(), len);
            let apart = sum.iter().enumerate().find(|(i, sum)| **sum != value(tensor, *i) + value(tensor + 1, *i));
            assert_eq!(apart, None, "tensor {tensor}");
        }
    }

    /// Every rank takes the same step with gradients that travel as halves, close to that of whole ones.
    #[test]
    fn halves_take_nearly_the_same_step() {
        let half = OptimConfig { gradients: GradientsAs::F16, ..sgd() };
        for (name, method) in [("dino", dino as fn() -> _), ("moco", moco)] {
            let [whole, halves] =
                [&sgd(), &half].map(|config| each_of(2, |world| train(world, method, 2, config, 1)));
            assert_eq!(halves[0], halves[1], "{name}");
            assert_ne!(halves[0].1, whole[0].1, "{name}: nothing was rounded");
            for ((tensor, a), (_, b)) in whole[0].1.tensors.iter().zip(&halves[0].1.tensors) {
                let apart = a.values.iter().zip(&b.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(apart < 1e-4, "{name}, {tensor}: {apart}");
            }
        }
    }

    /// Only the order of sums differs; every rank has the same.
    #[test]
    fn ranks_with_two_parts_each_are_close_to_one_with_all() {
        for (name, method) in [("dino", dino as fn() -> _), ("moco", moco)] {
            let (_, state) = train(&alone(), method, 4, &sgd(), 3);
            let ranks = together(2, method, 4);
            assert_eq!(ranks[0], ranks[1], "{name}");
            for ((tensor, a), (_, b)) in state.tensors.iter().zip(&ranks[0].1.tensors) {
                let apart = a.values.iter().zip(&b.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(apart < 1e-4, "{name}, {tensor}: {apart}");
            }
        }
    }
}
