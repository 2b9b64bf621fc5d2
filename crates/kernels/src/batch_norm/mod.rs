//! Batch normalisation of maps by their own statistics, with the residual and the ReLU that follow it in residual networks.

#[cfg(feature = "autodiff")]
mod backward;
mod cpu;
#[cfg(feature = "wgsl")]
mod gpu;
mod kernel;
mod reference;

use burn::tensor::Tensor;

pub use reference::batch_norm as batch_norm_reference;

/// Normalised maps, and what they were normalised by.
pub struct BatchNormed {
    /// As the input, `[batch, channels, height, width]`.
    pub output: Tensor<4>,
    /// `[channels]`, outside autodiff.
    pub mean: Tensor<1>,
    /// The biased variance, `[channels]`, outside autodiff.
    pub variance: Tensor<1>,
}

/// `(x − mean) / √(variance + eps) · gamma + beta`, plus the residual, then ReLU if asked: mean and (biased) variance of
/// every channel over batch and cells (Ioffe and Szegedy 2015).
///
/// Within [`together`](crate::together) mean and variance are over the maps of all ranks.
///
/// `x` and the residual are `[batch, channels, height, width]`, `gamma` and `beta` `[channels]`. By kernels of this crate, on a
/// GPU or the CPU; in other precisions by burn's.
pub fn batch_norm(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    residual: Option<Tensor<4>>,
    relu: bool,
    eps: f64,
) -> BatchNormed {
    let [_, channels, _, _] = x.dims();
    assert!(
        gamma.dims() == [channels] && beta.dims() == [channels],
        "batch_norm: {channels} channels, gamma {:?}, beta {:?}",
        gamma.dims(),
        beta.dims()
    );
    if let Some(residual) = &residual {
        assert!(residual.dims() == x.dims(), "batch_norm: maps {:?}, residual {:?}", x.dims(), residual.dims());
    }
    if crate::mode::fused(&x) && !x.dims().contains(&0) {
        return kernel::batch_norm(x, gamma, beta, residual, relu, eps as f32);
    }
    reference::batch_norm(x, gamma, beta, residual, relu, eps)
}

#[cfg(all(test, feature = "autodiff"))]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::together::tests::on_ranks;

    const SHAPE: [usize; 4] = [6, 3, 2, 5];

    fn drawn<const D: usize>(seed: usize, shape: [usize; D]) -> Tensor<D> {
        let value = |i: usize| ((i * 37 + seed * 101 + i * i / 7) % 97) as f32 / 20.0 - 1.5;
        let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex()).autodiff()
    }

    type Norm = fn(Tensor<4>, Tensor<1>, Tensor<1>, Option<Tensor<4>>, bool, f64) -> BatchNormed;

    /// Output, statistics, and the gradients of images, gamma, beta and residual of one rank's images, from a loss that weighs every
    /// value otherwise. Gradients of gamma and beta are those of this rank's share.
    fn of_rank((rank, ranks): (usize, usize), norm: Norm, residual: bool, relu: bool) -> Vec<Vec<f32>> {
        let images = SHAPE[0] / ranks;
        let own = |x: Tensor<4>| x.narrow(0, rank * images, images);
        let leaf = |x: Tensor<4>| own(x).inner().autodiff().require_grad();
        let (x, other) = (leaf(drawn(1, SHAPE)), leaf(drawn(2, SHAPE)));
        let (gamma, beta) = (drawn::<1>(3, [SHAPE[1]]).require_grad(), drawn::<1>(4, [SHAPE[1]]).require_grad());
        let added = residual.then(|| other.clone());
        let found = norm(x.clone(), gamma.clone(), beta.clone(), added, relu, 1e-5);
        let gradients = (found.output.clone() * own(drawn(5, SHAPE))).sum().backward();
        let mut all = vec![values(found.output), values(found.mean), values(found.variance)];
        all.extend([&x, &other].into_iter().filter_map(|leaf| leaf.grad(&gradients)).map(values));
        all.extend([&gamma, &beta].into_iter().filter_map(|leaf| leaf.grad(&gradients)).map(values));
        all
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    /// Parts of the ranks, put together, are the whole: images one after another, statistics the same everywhere, gradients of gamma
    /// and beta summed.
    #[test]
    fn ranks_together_normalise_as_one() {
        for (norm, residual, relu) in [
            (batch_norm as Norm, false, false),
            (batch_norm, false, true),
            (batch_norm, true, false),
            (batch_norm, true, true),
            (batch_norm_reference, false, false),
            (batch_norm_reference, true, true),
        ] {
            let whole = of_rank((0, 1), norm, residual, relu);
            for ranks in [2, 3] {
                let parts = on_ranks(ranks, |rank| of_rank((rank, ranks), norm, residual, relu));
                for (i, expected) in whole.iter().enumerate() {
                    let of_parts = parts.iter().map(|part| part[i].clone());
                    let summed = i + 2 >= whole.len();
                    let found = match expected.len() == SHAPE.iter().product::<usize>() {
                        true => of_parts.collect::<Vec<_>>().concat(),
                        false if summed => of_parts
                            .reduce(|a, b| a.iter().zip(b).map(|(a, b)| a + b).collect())
                            .unwrap_or_default(),
                        false => parts[ranks - 1][i].clone(),
                    };
                    assert_eq!(found.len(), expected.len());
                    for (found, expected) in found.iter().zip(expected) {
                        let apart = (found - expected).abs() / expected.abs().max(1.0);
                        assert!(apart < 2e-5, "value {i}, {ranks} ranks: {found}, expected {expected}");
                    }
                }
            }
        }
    }
}
