//! InfoNCE by tensor operations on tiles of the queue: the kernel of the CPU, and of every other device without one.

use burn::tensor::Tensor;

use super::{InfoNce, row_weights};

/// Logits of a tile at most: 4 Mi values, 16 MiB.
const TILE_VALUES: usize = 4 << 20;

/// See [`info_nce`](super::info_nce()).
pub fn info_nce(
    query: Tensor<2>,
    key: Tensor<2>,
    queue: &Tensor<2>,
    temperature: f64,
    weights: Option<Tensor<2>>,
) -> InfoNce {
    let rows = query.dims()[0];
    let tile = (TILE_VALUES / rows.max(1)).max(1);
    tiled(query, key, queue, temperature, weights, tile)
}

/// The negatives' running maximum, running sum of exponentials, and running sum of the queue's columns weighted by them, from
/// which loss *and* gradient follow. The positive stays apart, so that both are exact by their own size where it wins by far and
/// they are nearly nothing.
fn tiled(
    query: Tensor<2>,
    key: Tensor<2>,
    queue: &Tensor<2>,
    temperature: f64,
    weights: Option<Tensor<2>>,
    tile: usize,
) -> InfoNce {
    let len = queue.dims()[1];
    let q = query.clone().inner();
    let weights = row_weights(weights, &query);
    let positive = (q.clone() * key.clone()).sum_dim(1) / temperature;
    let mut negatives: Option<[Tensor<2>; 3]> = None;
    for start in (0..len).step_by(tile) {
        let columns = queue.clone().narrow(1, start, tile.min(len - start));
        let logits = q.clone().matmul(columns.clone()) / temperature;
        let top = logits.clone().max_dim(1);
        let next = negatives.as_ref().map_or(top.clone(), |[max, ..]| max.clone().max_pair(top));
        let weight = (logits - next.clone()).exp();
        let (sum, mean) = (weight.clone().sum_dim(1), weight.matmul(columns.transpose()));
        negatives = Some(match negatives {
            None => [next, sum, mean],
            Some([max, sum_before, mean_before]) => {
                let keep = (max - next.clone()).exp();
                [next, sum + sum_before * keep.clone(), mean + mean_before * keep]
            }
        });
    }
    let (losses, slope, won) = match negatives {
        None => (positive.zeros_like(), key.zeros_like(), positive.ones_like()),
        Some([max, sum, mean]) => {
            // How far all negatives together are above the positive; the loss is softplus of it.
            let margin = max.clone() + sum.clone().log() - positive.clone();
            let small = margin.clone().abs().neg().exp();
            let losses = margin.clone().clamp_min(0.0) + small.clone().log1p();
            // Their share of the softmax.
            let share = margin.clamp_max(0.0).exp() / (small + 1.0);
            (losses, (mean / sum - key) * share, positive.greater(max).float())
        }
    };
    let value = (losses * weights.clone()).sum();
    // d loss / d q = weight · (Σ p·candidate − k) / τ. The loss is linear in q with this slope, moved to its value.
    let slope = slope * weights.clone() / temperature;
    let slope = if query.is_autodiff() { slope.autodiff() } else { slope };
    let line = (query * slope).sum();
    let value = if line.is_autodiff() { value.autodiff() } else { value };
    InfoNce { loss: line.clone() - line.detach() + value, top1: (won * weights).sum() }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::super::info_nce_reference;
    use super::*;

    /// Rows of unit length.
    fn rows(seed: u64, shape: [usize; 2], device: &Device) -> Tensor<2> {
        let angle = |i: usize| ((i as u64 + 1) * (seed * 7919 + 12_289) % 1009) as f32 / 1009.0 - 0.5;
        let x =
            Tensor::<2>::from_data(TensorData::new((0..shape[0] * shape[1]).map(angle).collect(), shape), device);
        let norm = x.clone().powi_scalar(2).sum_dim(1).sqrt();
        x / norm
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        let largest = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() <= 5e-6 * largest, "{a} {b}");
        }
    }

    #[test]
    fn tiles_of_any_size_give_the_loss_and_gradient_of_all_logits() {
        let plain = Device::flex();
        let raw = rows(1, [6, 5], &plain).autodiff();
        let (key, queue) = (rows(2, [6, 5], &plain), rows(3, [17, 5], &plain).transpose());
        let gradient = |loss: Tensor<1>, q: &Tensor<2>| values(q.grad(&loss.backward()).unwrap());
        let q = raw.clone().require_grad();
        let loss = info_nce_reference(q.clone(), key.clone().autodiff(), queue.clone().autodiff(), 0.2, None);
        let (expected, slope) = (values(loss.clone()), gradient(loss, &q));
        for tile in [1, 4, 17, 100] {
            let q = raw.clone().require_grad();
            let found = tiled(q.clone(), key.clone(), &queue, 0.2, None, tile);
            close(&values(found.loss.clone()), &expected);
            close(&gradient(found.loss * 3.0, &q), &slope.iter().map(|g| 3.0 * g).collect::<Vec<_>>());
        }
        // Weights pick rows.
        let one = Tensor::<2>::from_data(TensorData::new(vec![0.0f32, 1.0, 0.0, 0.0, 0.0, 0.0], [6, 1]), &plain);
        let q = raw.clone().require_grad();
        let found = tiled(q.clone(), key.clone(), &queue, 0.2, Some(one), 4);
        let row = |t: Tensor<2>| t.narrow(0, 1, 1);
        let alone = info_nce_reference(row(raw.inner()), row(key), queue, 0.2, None);
        close(&values(found.loss.clone()), &values(alone));
        let picked = gradient(found.loss, &q);
        assert!(picked[..5].iter().all(|g| *g == 0.0) && picked[5..10].iter().any(|g| *g != 0.0));
    }

    #[test]
    fn a_temperature_that_overflows_exponentials_does_not_overflow_the_loss() {
        let device = Device::flex();
        let (q, k) = (rows(1, [3, 4], &device), rows(2, [3, 4], &device));
        let queue = rows(3, [9, 4], &device).transpose();
        let found = info_nce(q.clone().autodiff(), k, &queue, 1e-3, None);
        assert!(values(found.loss)[0].is_finite());
        // A positive that is the query itself beats everything.
        let won = info_nce(q.clone().autodiff(), q, &queue, 0.2, None);
        assert_eq!(values(won.top1)[0], 1.0);
    }
}
