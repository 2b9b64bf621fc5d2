//! Several processes that compute the parts of one batch, each its own, as if one had computed the whole.
//!
//! Within [`within`] batch normalisation takes its statistics over the parts of all ranks, and [`gather`] gives every rank the rows of
//! all. Both are differentiable: a value's gradient is that of the losses of all ranks together. All ranks must run the same
//! operations in the same order, on parts of one shape.

use std::cell::RefCell;

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
#[cfg(feature = "autodiff")]
use burn::backend::{Dispatch, backend_extension};
use burn::tensor::{Tensor, TensorData};
use ocelli_world::Shared;

thread_local! {
    static RANKS: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

/// Puts back who was there before, however a computation ends.
struct Restore(Option<Shared>);

impl Drop for Restore {
    fn drop(&mut self) {
        RANKS.set(self.0.take());
    }
}

/// Runs a computation of this thread together with the other ranks of `world`. A world of one rank changes nothing.
pub fn within<R>(world: &Shared, compute: impl FnOnce() -> R) -> R {
    let ranks = (world.size() > 1).then(|| world.clone());
    let _restore = Restore(RANKS.replace(ranks));
    compute()
}

/// Runs a computation that every rank does by itself, also within [`within`].
pub fn apart<R>(compute: impl FnOnce() -> R) -> R {
    let _restore = Restore(RANKS.replace(None));
    compute()
}

/// The ranks that compute together here, where there are several.
pub fn ranks() -> Option<Shared> {
    RANKS.with_borrow(Clone::clone)
}

/// This rank's number and how many there are: 0 and 1 outside [`within`].
pub fn place() -> (usize, usize) {
    ranks().map_or((0, 1), |world| (world.rank(), world.size()))
}

/// The rows `[rows, dim]` of all ranks, rank by rank: `[ranks·rows, dim]`. Every rank gives as many.
pub fn gather(x: Tensor<2>) -> Tensor<2> {
    let Some(world) = ranks() else { return x };
    let [rows, dim] = x.dims();
    let all = world.gather(&values(x.clone().inner())).concat();
    let all =
        Tensor::<2>::from_data(TensorData::new(all, [world.size() * rows, dim]), &x.clone().inner().device());
    #[cfg(feature = "autodiff")]
    if x.is_autodiff() {
        let gathered = <Dispatch as GatherOps>::gathered(x.into_dispatch(), all.into_dispatch(), world);
        return Tensor::from_dispatch(gathered);
    }
    all
}

/// Rows that are `blocks` of as many, such as the views of a batch: those of the first block of all ranks, then those of the
/// second, and so on. `[blocks·rows, dim]` to `[blocks·ranks·rows, dim]`.
pub fn gather_blocks(x: Tensor<2>, blocks: usize) -> Tensor<2> {
    if blocks < 2 || ranks().is_none() {
        return gather(x);
    }
    Tensor::cat(x.chunk(blocks, 0).into_iter().map(gather).collect(), 0)
}

/// The sum over all ranks, outside autodiff, with the same bits on every rank.
pub fn sum<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let Some(world) = ranks() else { return x };
    let (shape, device) = (x.dims(), x.device());
    let mut sums = values(x);
    world.sum(&mut sums);
    Tensor::from_data(TensorData::new(sums, shape), &device)
}

/// The mean over all ranks, outside autodiff, with the same bits on every rank.
pub fn mean<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match place() {
        (_, 1) => x,
        (_, size) => sum(x) / size as f64,
    }
}

/// The largest of all ranks, element by element, outside autodiff.
pub fn largest<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let Some(world) = ranks() else { return x };
    let (shape, device) = (x.dims(), x.device());
    let all = world.gather(&values(x));
    let most = |mut most: Vec<f32>, of: Vec<f32>| {
        most.iter_mut().zip(of).for_each(|(most, of)| *most = most.max(of));
        most
    };
    let largest = all.into_iter().reduce(most).unwrap_or_default();
    Tensor::from_data(TensorData::new(largest, shape), &device)
}

/// Mean and biased variance over all ranks' parts, of as many values each, from those of this one's: `[1, dim]` each.
pub fn pooled(mean: Tensor<2>, variance: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    if ranks().is_none() {
        return (mean, variance);
    }
    let dim = mean.dims()[1];
    let all = gather(Tensor::cat(vec![mean, variance], 1));
    let (means, variances) = (all.clone().narrow(1, 0, dim), all.narrow(1, dim, dim));
    let mean = means.clone().mean_dim(0);
    let between = (means - mean.clone()).powi_scalar(2).mean_dim(0);
    (mean, variances.mean_dim(0) + between)
}

/// A tensor's values on the host.
///
/// # Panics
/// When the device does not give them back: the other ranks wait for them, and a rank that panics ends all.
#[allow(clippy::expect_used)]
fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().convert::<f32>().try_to_vec().expect(UNREADABLE)
}

const UNREADABLE: &str = "values that the other ranks wait for cannot be read from the device";

/// As [`values`], of a backend's own tensor.
#[allow(clippy::expect_used)]
pub(crate) fn values_of<B: Backend>(x: FloatTensor<B>) -> Vec<f32> {
    let data = burn::backend::read_sync(B::float_into_data(x)).expect(UNREADABLE);
    data.convert::<f32>().try_to_vec().expect(UNREADABLE)
}

/// The gathered rows in the graph.
#[cfg(feature = "autodiff")]
#[backend_extension(Autodiff, Flex, Cube: cfg(feature = "wgsl"), Fusion: cfg(feature = "fusion"))]
trait GatherOps: Backend {
    /// `all`, as made of `x` by all ranks of `world`.
    #[fusion(dtype = all, shape = all)]
    fn gathered(x: FloatTensor<Self>, all: FloatTensor<Self>, world: Shared) -> FloatTensor<Self>;
}

#[cfg(feature = "autodiff")]
mod backward {
    use burn::backend::autodiff::{
        Autodiff,
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    };
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Backend, TensorMetadata as _};
    use burn::tensor::TensorData;
    use ocelli_world::Shared;

    use super::{GatherOps, values_of};

    impl GatherOps for burn::backend::Flex {
        fn gathered(_: FloatTensor<Self>, all: FloatTensor<Self>, _: Shared) -> FloatTensor<Self> {
            all
        }
    }

    #[cfg(feature = "wgsl")]
    impl GatherOps for burn::backend::wgpu::CubeBackend {
        fn gathered(_: FloatTensor<Self>, all: FloatTensor<Self>, _: Shared) -> FloatTensor<Self> {
            all
        }
    }

    #[derive(Debug)]
    struct GatherBackward;

    /// Each rank's rows get the sum of what all ranks' losses say of them.
    impl<B: Backend> Backward<B, 1> for GatherBackward {
        type State = Shared;

        fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
            let dy = grads.consume::<B>(&ops.node);
            let (world, device, shape) = (ops.state, dy.device(), dy.shape());
            let [Some(node)] = ops.parents else { return };
            let (rows, dim) = (shape[0] / world.size(), shape[1]);
            let all = values_of::<B>(dy);
            let to: Vec<&[u8]> = all.chunks((rows * dim).max(1)).map(bytemuck::cast_slice).collect();
            let mut sums = vec![0f32; rows * dim];
            for part in world.exchange(&to) {
                let part: Vec<f32> = bytemuck::pod_collect_to_vec(&part);
                sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
            grads.register::<B>(node.id, B::float_from_data(TensorData::new(sums, [rows, dim]), &device));
        }
    }

    impl<B: GatherOps, C: CheckpointStrategy> GatherOps for Autodiff<B, C> {
        fn gathered(x: FloatTensor<Self>, all: FloatTensor<Self>, world: Shared) -> FloatTensor<Self> {
            let (x, node) = x.into_parts();
            let all = B::gathered(x, all.into_parts().0, world.clone());
            match Backward::<B, 1>::prepare::<C>(GatherBackward, [node]).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish(world, all),
                OpsKind::UnTracked(prep) => prep.finish(all),
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use burn::tensor::Device;

    use super::*;

    /// What every rank makes of its number, together with the others.
    pub fn on_ranks<T: Send>(ranks: usize, each: impl Fn(usize) -> T + Sync) -> Vec<T> {
        let worlds = ocelli_world::threads(ranks);
        let each = &each;
        std::thread::scope(|scope| {
            let run = |world: &Shared| {
                let world = world.clone();
                scope.spawn(move || within(&world, || each(world.rank())))
            };
            let running: Vec<_> = worlds.iter().map(run).collect();
            running.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    fn tensor<const D: usize>(values: &[f32], shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    }

    #[test]
    fn blocks_of_rows_come_in_the_order_of_one_process() {
        let found = on_ranks(3, |rank| {
            let own: Vec<f32> = [0.0, 10.0].iter().flat_map(|view| [view + rank as f32, -view]).collect();
            values(gather_blocks(tensor(&own, [2, 2]), 2))
        });
        let expected = vec![0.0, 0.0, 1.0, 0.0, 2.0, 0.0, 10.0, -10.0, 11.0, -10.0, 12.0, -10.0];
        assert_eq!(found, vec![expected; 3]);
        assert_eq!(values(gather_blocks(tensor(&[1.0, 2.0], [2, 1]), 2)), [1.0, 2.0], "alone nothing changes");
    }

    /// Every rank's loss has another weight for each row; a row's gradient is the sum of them.
    #[cfg(feature = "autodiff")]
    #[test]
    fn gradients_come_from_the_losses_of_all_ranks() {
        let found = on_ranks(3, |rank| {
            let own = tensor(&[rank as f32, 1.0], [1, 2]).autodiff().require_grad();
            let all = gather(own.clone() * 2.0);
            let weights: Vec<f32> = (0..6).map(|i| ((rank + 1) * (i + 1)) as f32).collect();
            let loss = (all.powi_scalar(2) * tensor(&weights, [3, 2]).autodiff()).sum();
            values(own.grad(&loss.backward()).unwrap())
        });
        for (rank, found) in found.into_iter().enumerate() {
            // (1 + 2 + 3)·(i + 1) · d(2x)²/dx
            let of = |i: usize, x: f32| 6.0 * (2 * rank + i + 1) as f32 * 8.0 * x;
            assert_eq!(found, [of(0, rank as f32), of(1, 1.0)]);
        }
    }

    #[test]
    fn statistics_of_parts_are_those_of_the_whole() {
        let part = |rank: usize| [1.0 + rank as f32, -3.0, 5.0 * rank as f32, 100.0];
        let found = on_ranks(2, |rank| {
            let own = tensor(&part(rank), [4, 1]);
            let mean = own.clone().mean_dim(0);
            let variance = (own - mean.clone()).powi_scalar(2).mean_dim(0);
            let (mean, variance) = pooled(mean, variance);
            (values(mean)[0], values(variance)[0])
        });
        let whole: Vec<f64> = [part(0), part(1)].concat().into_iter().map(f64::from).collect();
        let mean = whole.iter().sum::<f64>() / 8.0;
        let variance = whole.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 8.0;
        assert_eq!(found[0], found[1]);
        assert!(
            (f64::from(found[0].0) - mean).abs() < 1e-4 && (f64::from(found[0].1) / variance - 1.0).abs() < 1e-6
        );
    }

    #[test]
    fn sums_means_and_the_largest_are_of_all_ranks() {
        let found = on_ranks(4, |rank| {
            let own = || tensor(&[rank as f32, -(rank as f32)], [2]);
            assert_eq!(place(), (rank, 4));
            [values(sum(own())), values(mean(own())), values(largest(own()))]
        });
        assert_eq!(found, vec![[vec![6.0, -6.0], vec![1.5, -1.5], vec![3.0, 0.0]]; 4]);
        assert_eq!(place(), (0, 1));
    }
}
