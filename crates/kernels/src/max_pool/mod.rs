//! The pooling after the first convolution of a residual network: the largest of 3×3 cells, every second cell.

#[cfg(feature = "autodiff")]
mod backward;
mod cpu;
mod reference;

use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
use burn::tensor::Tensor;

pub use reference::max_pool as max_pool_reference;

/// What the CPU implements; on a GPU burn's own is taken.
#[backend_extension(Flex)]
pub trait MaxPoolKernel: Backend {
    /// The pooled maps.
    fn max_pool_forward(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// From the gradient of the result and the maps: the gradient of the maps.
    fn max_pool_backward(dy: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The differentiable operation.
#[backend_extension(Autodiff: cfg(feature = "autodiff"), Flex)]
pub trait MaxPoolOps: Backend {
    /// See [`max_pool`].
    fn fused_max_pool(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The largest of every 3×3 cells, two cells apart, with a border of one cell that counts for nothing, of maps `[batch, channels,
/// height, width]`: half the height and width, rounded up. Of equal cells the first gets the gradient, as in PyTorch.
pub fn max_pool(x: Tensor<4>) -> Tensor<4> {
    if !crate::mode::fused(&x) || crate::mode::on_gpu(&x) || x.dims().contains(&0) {
        return reference::max_pool(x);
    }
    Tensor::from_dispatch(<Dispatch as MaxPoolOps>::fused_max_pool(x.into_dispatch()))
}

#[cfg(all(test, feature = "autodiff"))]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// Few different numbers, so that many are equal.
    fn maps(shape: [usize; 4]) -> Vec<f32> {
        (0..shape.iter().product()).map(|i: usize| ((i * 37 + i * i / 7) % 5) as f32 - 2.0).collect()
    }

    /// Result, and the gradient of the maps from a loss that weighs every result otherwise.
    fn of(pool: fn(Tensor<4>) -> Tensor<4>, values: &[f32], shape: [usize; 4]) -> [Vec<f32>; 2] {
        let x = Tensor::<4>::from_data(TensorData::new(values.to_vec(), shape), &Device::flex());
        let x = x.autodiff().require_grad();
        let y = pool(x.clone());
        let weights: Vec<f32> = (0..y.dims().iter().product()).map(|i: usize| (i % 11) as f32 + 0.5).collect();
        let weights = Tensor::<4>::from_data(TensorData::new(weights, y.dims()), &Device::flex()).autodiff();
        let gradients = (y.clone() * weights).sum().backward();
        [y.inner(), x.grad(&gradients).unwrap()].map(|t| t.into_data().try_to_vec().unwrap())
    }

    #[test]
    fn agrees_with_the_reference_where_cells_are_equal_too() {
        for height in [1, 2, 3, 4, 7, 16] {
            for width in [1, 2, 3, 5, 8, 31, 32, 33, 70] {
                let shape = [2, 3, height, width];
                let values = maps(shape);
                let [[y, dx], [expected_y, expected_dx]] =
                    [max_pool, max_pool_reference].map(|pool| of(pool, &values, shape));
                assert_eq!(y, expected_y, "{shape:?}");
                assert_eq!(dx, expected_dx, "{shape:?}");
            }
        }
    }

    #[test]
    fn numbers_that_are_not_finite_stay_in_their_windows() {
        let shape = [1, 2, 6, 6];
        for (bad, cell) in [(f32::NAN, 14), (f32::INFINITY, 35), (f32::NEG_INFINITY, 0)] {
            let mut values = maps(shape);
            values[cell] = bad;
            let [y, dx] = of(max_pool, &values, shape);
            let [expected, _] = of(max_pool_reference, &values, shape);
            for (i, (y, expected)) in y.iter().zip(&expected).enumerate() {
                assert!(y == expected || y.is_nan() && expected.is_nan(), "{bad}: {i}: {y} {expected}");
            }
            assert!(dx.iter().all(|d| d.is_finite()), "{bad}: {dx:?}");
        }
        let [y, _] = of(max_pool, &[f32::NEG_INFINITY; 25], [1, 1, 5, 5]);
        assert_eq!(y, [f32::NEG_INFINITY; 9]);
    }

    #[test]
    fn nothing_gives_nothing() {
        let empty = Tensor::<4>::zeros([0, 3, 8, 8], &Device::flex());
        assert_eq!(max_pool(empty).dims(), [0, 3, 4, 4]);
    }
}
