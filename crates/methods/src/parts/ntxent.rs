//! NT-Xent: contrast among all views of a batch (Sohn 2016, Chen et al. 2020), without ever holding its logits.

use burn::tensor::{Int, Tensor};

/// Logits that are there at once, at most: 4 Mi values, 16 MiB.
const TILE_VALUES: usize = 4 << 20;
/// In place of the logits of an image with itself; far below any other, and finite.
const NEVER: f64 = -1e30;
/// The least squared norm a row is divided by the root of, so that a row of zeros has a gradient of zeros.
const LEAST: f64 = 1e-12;
/// Cosines that differ by less are equal but for rounding.
const ROUNDING: f64 = 1e-5;

/// The loss and what it tells of the embeddings; all `[1]`, all but the loss outside autodiff.
pub struct NtXent {
    /// The mean over the first views plus the mean over the second ones; differentiable in the embeddings.
    pub loss: Tensor<1>,
    /// Share of the views that are nearer to their image's other view than to every view of another image.
    pub top1: Tensor<1>,
    /// Mean cosine of an image's two views.
    pub positives: Tensor<1>,
    /// Mean cosine of views of different images.
    pub negatives: Tensor<1>,
}

/// NT-Xent of embeddings `[2·images, dim]`, the first views and then the second ones: with z the rows at length 1, s = z·zᵀ/τ and
/// p(i) the other view of i's image,
///
/// Σᵢ (ln Σ_{j≠i} exp sᵢⱼ − sᵢₚ₍ᵢ₎) / images,
///
/// a sum of two means, twice the mean over all views. Nothing of size (2·images)² is kept, in forward or backward: rows of
/// logits go by in tiles, twice.
pub fn nt_xent(embeddings: Tensor<2>, temperature: f64) -> NtXent {
    let rows = embeddings.dims()[0];
    tiled(embeddings, temperature, (TILE_VALUES / rows.max(1)).max(1))
}

fn tiled(embeddings: Tensor<2>, temperature: f64, tile: usize) -> NtXent {
    let [rows, _] = embeddings.dims();
    let images = rows / 2;
    assert!(rows == 2 * images && images > 0, "nt_xent: two views of every image, not {rows} rows");
    let norm = embeddings.clone().powi_scalar(2).sum_dim(1).clamp_min(LEAST).sqrt();
    let unit = embeddings / norm;
    let z = unit.clone().inner();
    let swap = |x: Tensor<2>| Tensor::cat(vec![x.clone().narrow(0, images, images), x.narrow(0, 0, images)], 0);
    let other = swap(z.clone());
    let cosine = (z.clone() * other.clone()).sum_dim(1);
    let positive = cosine.clone() / temperature;
    let image = Tensor::<1, Int>::arange(0..images as i64, &z.device());
    let image = Tensor::cat(vec![image.clone(), image], 0);
    let tiles = || (0..rows).step_by(tile).map(|start| (start, tile.min(rows - start)));
    let turned = z.clone().transpose();
    // Those of views of the same image, itself and its positive, are left out; the positive stays apart, so that loss and slope
    // are exact by their own size where it wins by far.
    let logits = |start: usize, len: usize| {
        let of_rows = image.clone().narrow(0, start, len).reshape([len, 1]).expand([len, rows]);
        let same = of_rows.equal(image.clone().reshape([1, rows]).expand([len, rows]));
        (z.clone().narrow(0, start, len).matmul(turned.clone()) / temperature).mask_fill(same, NEVER)
    };
    let (mut most, mut sums) = (Vec::new(), Vec::new());
    for (start, len) in tiles() {
        let logits = logits(start, len);
        let top = logits.clone().max_dim(1);
        sums.push((logits - top.clone()).exp().sum_dim(1));
        most.push(top);
    }
    let (most, sums) = (Tensor::cat(most, 0), Tensor::cat(sums, 0));
    // How far all negatives together are above the positive; the loss is softplus of it, and their share of the softmax its slope.
    let margin = most.clone() + sums.log() - positive.clone();
    let small = margin.clone().abs().neg().exp();
    let losses = margin.clone().clamp_min(0.0) + small.clone().log1p();
    let share = margin.clamp_max(0.0).exp() / (small + 1.0);
    let all = positive.clone() + losses.clone();
    // s is symmetric: a row's slope has its own softmax and, from every other row's, the entry at this row.
    let across = all.clone().transpose();
    let pull: Vec<Tensor<2>> = tiles()
        .map(|(start, len)| {
            let logits = logits(start, len);
            let own = (logits.clone() - all.clone().narrow(0, start, len)).exp();
            (own + (logits - across.clone()).exp()).matmul(z.clone())
        })
        .collect();
    let weight = 1.0 / images as f64;
    let slope = (Tensor::cat(pull, 0) - other * (share.clone() + swap(share))) * (weight / temperature);
    // The loss is linear in z with this slope, moved to its value.
    let value = losses.sum() * weight;
    let (slope, value) = match unit.is_autodiff() {
        true => (slope.autodiff(), value.autodiff()),
        false => (slope, value),
    };
    let line = (unit * slope).sum();
    let pairs = (rows * (rows - 2)).max(1) as f64;
    let lengths = z.clone().powi_scalar(2).sum();
    let together = z.sum_dim(0).powi_scalar(2).sum() - lengths - cosine.clone().sum();
    NtXent {
        loss: line.clone() - line.detach() + value,
        top1: positive.greater(most + ROUNDING / temperature).float().mean(),
        positives: cosine.mean(),
        negatives: together / pairs,
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::matching::Draw;

    fn embeddings(seed: u64, rows: usize, dim: usize) -> Vec<f64> {
        let mut draw = Draw(seed);
        (0..rows * dim).map(|_| draw.below(1 << 20) as f64 / (1 << 19) as f64 - 1.0).collect()
    }

    fn tensor(values: &[f64], rows: usize, device: &Device) -> Tensor<2> {
        let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        let dim = values.len() / rows;
        Tensor::from_data(TensorData::new(values, [rows, dim]), device)
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    /// Loss, share of positives that come first, mean cosines of positives and of negatives, in double precision.
    fn reference(x: &[f64], rows: usize, temperature: f64) -> [f64; 4] {
        let (dim, images) = (x.len() / rows, rows / 2);
        let unit: Vec<Vec<f64>> = x
            .chunks(dim)
            .map(|row| {
                let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
                row.iter().map(|v| v / norm).collect()
            })
            .collect();
        let cosine = |i: usize, j: usize| unit[i].iter().zip(&unit[j]).map(|(a, b)| a * b).sum::<f64>();
        let (mut found, mut negatives) = ([0.0; 4], 0usize);
        for i in 0..rows {
            let mine = (i + images) % rows;
            let others = || (0..rows).filter(move |j| *j != i);
            let sum: f64 = others().map(|j| (cosine(i, j) / temperature).exp()).sum();
            found[0] += (sum.ln() - cosine(i, mine) / temperature) / images as f64;
            let first = others().all(|j| j == mine || cosine(i, j) < cosine(i, mine));
            found[1] += f64::from(u8::from(first)) / rows as f64;
            found[2] += cosine(i, mine) / rows as f64;
            for j in others().filter(|j| *j != mine) {
                found[3] += cosine(i, j);
                negatives += 1;
            }
        }
        found[3] /= negatives.max(1) as f64;
        found
    }

    #[test]
    fn tiles_of_any_size_give_the_loss_of_double_precision_and_its_gradient() {
        let device = Device::flex();
        for (seed, images, dim, temperature, tile) in
            [(1, 5, 7, 0.5, 3), (2, 5, 7, 0.1, 100), (3, 2, 3, 0.2, 1), (4, 9, 4, 1.0, 6), (5, 1, 4, 0.5, 1)]
        {
            let rows = 2 * images;
            let x = embeddings(seed, rows, dim);
            let raw = tensor(&x, rows, &device).autodiff().require_grad();
            let found = tiled(raw.clone(), temperature, tile);
            let told = [&found.loss, &found.top1, &found.positives, &found.negatives];
            for (told, expected) in told.into_iter().zip(reference(&x, rows, temperature)) {
                let told = f64::from(told.clone().into_scalar::<f32>());
                assert!((told - expected).abs() <= 1e-5 * expected.abs() + 1e-5, "{seed}: {told} {expected}");
            }
            let gradient = values(raw.grad(&(found.loss * 3.0).backward()).unwrap());
            let largest = gradient.iter().fold(1e-3f32, |most, g| most.max(g.abs()));
            for (i, found) in gradient.iter().enumerate() {
                let moved = |by: f64| {
                    let mut x = x.clone();
                    x[i] += by;
                    3.0 * reference(&x, rows, temperature)[0]
                };
                let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let apart = (f64::from(*found) - expected).abs();
                assert!(apart <= 1e-3 * f64::from(largest), "{seed}, gradient {i}: {found} {expected}");
            }
        }
    }

    #[test]
    fn extremes_have_a_finite_loss_and_gradient() {
        let device = Device::flex();
        let x = embeddings(1, 6, 4);
        // All embeddings zero, all the same, and a temperature that overflows exponentials.
        for (x, temperature) in [(vec![0.0; 24], 0.1), ([0.3, -0.2, 0.1, 0.9].repeat(6), 0.1), (x, 1e-3)] {
            let raw = tensor(&x, 6, &device).autodiff().require_grad();
            let found = nt_xent(raw.clone(), temperature);
            let gradient = values(raw.grad(&found.loss.clone().backward()).unwrap());
            let loss = values(found.loss)[0];
            assert!(loss.is_finite() && gradient.iter().all(|g| g.is_finite()), "{loss} {gradient:?}");
            if temperature > 0.01 {
                assert!((f64::from(loss) - 2.0 * 5f64.ln()).abs() < 1e-4, "indifferent: {loss}");
                assert_eq!(values(found.top1)[0], 0.0);
            }
        }
    }
}
