//! InfoNCE against a queue (van den Oord et al. 2018, He et al. 2020) without ever holding its logits.

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;

/// Logits of a tile at most: 4 Mi values, 16 MiB.
const TILE_VALUES: usize = 4 << 20;

/// A loss over rows and how often the positive won.
pub struct InfoNce {
    /// Σ rows of weight · −log softmax at the positive, `[1]`; differentiable in the queries.
    pub loss: Tensor<1>,
    /// Weighted share of the rows whose positive is above every negative, `[1]`, outside autodiff.
    pub top1: Tensor<1>,
}

/// Rows divided by max(‖row‖, 1e-12), `[rows, dim]`.
pub fn unit(rows: Tensor<2>) -> Tensor<2> {
    let norm = rows.clone().powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-12);
    rows / norm
}

/// Cross-entropy of `[q·k, q·queue]/τ` with the positive as the class, summed over rows by `weights` (`[rows, 1]`;
/// absent: the mean). `query` and `key` are `[rows, dim]`, `queue` is `[dim, len]`; only the query gets a gradient.
///
/// The queue goes by in tiles: a running maximum, a running sum of exponentials, and the running sum of the queue's
/// columns weighted by them, from which loss *and* gradient follow. Nothing of size rows × len is kept, in forward or
/// backward.
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

fn tiled(
    query: Tensor<2>,
    key: Tensor<2>,
    queue: &Tensor<2>,
    temperature: f64,
    weights: Option<Tensor<2>>,
    tile: usize,
) -> InfoNce {
    let ([rows, _], [_, len]) = (query.dims(), queue.dims());
    let q = query.clone().inner();
    let weights = weights.unwrap_or_else(|| Tensor::ones([rows, 1], &q.device()) / rows as f64);
    let positive = (q.clone() * key.clone()).sum_dim(1) / temperature;
    // The positive is the first "tile".
    let (mut max, mut sum, mut mean) = (positive.clone(), positive.ones_like(), key.clone());
    let mut hardest: Option<Tensor<2>> = None;
    for start in (0..len).step_by(tile) {
        let columns = queue.clone().narrow(1, start, tile.min(len - start));
        let logits = q.clone().matmul(columns.clone()) / temperature;
        let top = logits.clone().max_dim(1);
        hardest = Some(match hardest {
            None => top.clone(),
            Some(before) => before.max_pair(top.clone()),
        });
        let next = max.clone().max_pair(top);
        let (keep, weight) = ((max - next.clone()).exp(), (logits - next.clone()).exp());
        sum = sum * keep.clone() + weight.clone().sum_dim(1);
        mean = mean * keep + weight.matmul(columns.transpose());
        max = next;
    }
    let losses = max + sum.clone().log() - positive.clone();
    let value = (losses * weights.clone()).sum();
    let won = match hardest {
        None => positive.ones_like(),
        Some(hardest) => positive.greater(hardest).float(),
    };
    // d loss / d q = weight · (Σ p·candidate − k) / τ. The loss is linear in q with this slope, moved to its value.
    let slope = (mean / sum - key) * weights.clone() / temperature;
    let slope = if query.is_autodiff() { slope.autodiff() } else { slope };
    let line = (query * slope).sum();
    let value = if line.is_autodiff() { value.autodiff() } else { value };
    InfoNce { loss: line.clone() - line.detach() + value, top1: (won * weights).sum() }
}

/// The same by plain tensor operations, with all logits: what the other is tested against.
pub fn info_nce_reference(query: Tensor<2>, key: Tensor<2>, queue: Tensor<2>, temperature: f64) -> Tensor<1> {
    let positive = (query.clone() * key).sum_dim(1);
    let logits = Tensor::cat(vec![positive, query.matmul(queue)], 1) / temperature;
    softmax(logits, 1).narrow(1, 0, 1).log().mean().neg()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    fn random<const D: usize>(seed: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
        ocelli_models::Init::new(seed, device).uniform(shape, 1.0).val().detach()
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() <= 1e-6 + 1e-4 * b.abs(), "{a} {b}");
        }
    }

    #[test]
    fn tiles_of_any_size_give_the_loss_and_gradient_of_all_logits() {
        let plain = Device::flex();
        let raw = random(1, [6, 5], &plain).autodiff();
        let (key, queue) = (unit(random(2, [6, 5], &plain)), unit(random(3, [17, 5], &plain)).transpose());
        let gradient = |loss: Tensor<1>, q: &Tensor<2>| values(q.grad(&loss.backward()).unwrap());
        let q = raw.clone().require_grad();
        let loss = info_nce_reference(unit(q.clone()), key.clone().autodiff(), queue.clone().autodiff(), 0.2);
        let (expected, slope) = (values(loss.clone()), gradient(loss, &q));
        for tile in [1, 4, 17, 100] {
            let q = raw.clone().require_grad();
            let found = tiled(unit(q.clone()), key.clone(), &queue, 0.2, None, tile);
            close(&values(found.loss.clone()), &expected);
            close(&gradient(found.loss * 3.0, &q), &slope.iter().map(|g| 3.0 * g).collect::<Vec<_>>());
        }
        // Weights pick rows.
        let one = Tensor::<2>::from_data(TensorData::new(vec![0.0f32, 1.0, 0.0, 0.0, 0.0, 0.0], [6, 1]), &plain);
        let q = raw.clone().require_grad();
        let found = tiled(unit(q.clone()), key.clone(), &queue, 0.2, Some(one), 4);
        let row = |t: Tensor<2>| t.narrow(0, 1, 1);
        let alone = info_nce_reference(row(unit(raw.inner())), row(key), queue, 0.2);
        close(&values(found.loss.clone()), &values(alone));
        let picked = gradient(found.loss, &q);
        assert!(picked[..5].iter().all(|g| *g == 0.0) && picked[5..10].iter().any(|g| *g != 0.0));
    }

    #[test]
    fn a_temperature_that_overflows_exponentials_does_not_overflow_the_loss() {
        let device = Device::flex();
        let (q, k) = (unit(random(1, [3, 4], &device)), unit(random(2, [3, 4], &device)));
        let queue = unit(random(3, [9, 4], &device)).transpose();
        let found = info_nce(q.clone().autodiff(), k, &queue, 1e-3, None);
        assert!(values(found.loss)[0].is_finite());
        // A positive that is the query itself beats everything.
        let won = info_nce(q.clone().autodiff(), q, &queue, 0.2, None);
        assert_eq!(values(won.top1)[0], 1.0);
    }
}
