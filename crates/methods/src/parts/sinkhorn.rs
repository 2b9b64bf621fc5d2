//! Balanced soft assignments by Sinkhorn's iterations (Cuturi 2013; Caron et al. 2020, <https://arxiv.org/abs/2006.09882>).

use burn::tensor::Tensor;
use ocelli_kernels::together;

/// Sums below this count as this: what has underflowed stays 0 instead of turning into 0/0.
const LEAST: f64 = 1e-30;

/// Codes of samples over K prototypes: exp(scores/epsilon), scaled `iterations` times so that first every prototype has the
/// same total, then every sample. `[rows, K]` to the same shape; rows sum to 1.
///
/// The scaled matrix is only made at the end: between, a factor per row and one per column are enough. The largest score of
/// each row is subtracted before the exponential and given back by the row's first factor, so nothing overflows.
///
/// Where several ranks compute [`together`], these are rows of one matrix of all, of which each may have another number: they
/// exchange the prototypes' totals alone.
pub fn sinkhorn(scores: Tensor<2>, epsilon: f64, iterations: usize) -> Tensor<2> {
    let prototypes = scores.dims()[1];
    let rows = all_rows(&scores);
    let largest = scores.clone().max_dim(1);
    let top = together::largest(largest.clone().max()).reshape([1, 1]);
    let mass = ((scores - largest.clone()) / epsilon).exp();
    let mut of_row = ((largest - top) / epsilon).exp();
    let mut of_column = Tensor::ones([1, prototypes], &mass.device());
    for _ in 0..iterations {
        let totals = together::sum(of_row.transpose().matmul(mass.clone()));
        of_column = (totals * prototypes as f64).clamp_min(LEAST).recip();
        let totals = mass.clone().matmul(of_column.clone().transpose());
        of_row = (totals * rows as f64).clamp_min(LEAST).recip();
    }
    mass * of_column * (of_row * rows as f64)
}

/// Rows of all ranks that compute together. (Whole in single precision up to 16 million.)
fn all_rows(scores: &Tensor<2>) -> usize {
    let own = scores.dims()[0];
    match together::ranks() {
        None => own,
        Some(world) => {
            let mut rows = [own as f32];
            world.sum(&mut rows);
            rows[0] as usize
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    fn of(rows: &[Vec<f64>]) -> Tensor<2> {
        let values: Vec<f32> = rows.iter().flatten().map(|v| *v as f32).collect();
        Tensor::from_data(TensorData::new(values, [rows.len(), rows[0].len()]), &Device::flex())
    }

    fn scores(seed: u64, rows: usize, columns: usize) -> Vec<Vec<f64>> {
        let mut draw = crate::matching::Draw(seed);
        let mut number = || draw.below(1 << 20) as f64 / f64::from(1 << 19) - 1.0;
        (0..rows).map(|_| (0..columns).map(|_| number()).collect()).collect()
    }

    /// The definition, in double precision, on the whole matrix.
    fn reference(scores: &[Vec<f64>], epsilon: f64, iterations: usize) -> Vec<f64> {
        let (rows, columns) = (scores.len(), scores[0].len());
        let mut q: Vec<Vec<f64>> =
            scores.iter().map(|row| row.iter().map(|s| (s / epsilon).exp()).collect()).collect();
        for _ in 0..iterations {
            for c in 0..columns {
                let total: f64 = q.iter().map(|row| row[c]).sum();
                q.iter_mut().for_each(|row| row[c] /= total * columns as f64);
            }
            for row in &mut q {
                let total: f64 = row.iter().sum();
                row.iter_mut().for_each(|v| *v /= total * rows as f64);
            }
        }
        q.into_iter().flatten().map(|v| v * rows as f64).collect()
    }

    #[test]
    fn it_is_the_definition_in_double_precision() {
        for (seed, rows, columns, epsilon, iterations) in
            [(1, 16, 30, 0.05, 3), (2, 30, 7, 0.05, 3), (3, 5, 4, 0.5, 1), (4, 1, 9, 0.1, 4)]
        {
            let scores = scores(seed, rows, columns);
            let found: Vec<f32> = sinkhorn(of(&scores), epsilon, iterations).into_data().try_to_vec().unwrap();
            for (found, expected) in found.iter().zip(reference(&scores, epsilon, iterations)) {
                let apart = (f64::from(*found) - expected).abs();
                assert!(apart <= 1e-6 + 1e-4 * expected, "{found} {expected}");
            }
        }
    }

    /// exp(1/0.002) is far beyond single precision, and exp(−2/0.002) below it.
    #[test]
    fn a_tiny_epsilon_gives_hard_codes_and_no_nonsense() {
        let scores = scores(5, 12, 6);
        let found: Vec<f32> = sinkhorn(of(&scores), 0.002, 3).into_data().try_to_vec().unwrap();
        assert!(found.iter().all(|v| v.is_finite() && *v >= 0.0), "{found:?}");
        for row in found.chunks(6) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-4, "{row:?}");
        }
    }

    #[test]
    fn samples_that_are_all_alike_get_uniform_codes() {
        let one = &scores(6, 1, 8)[0];
        let found: Vec<f32> = sinkhorn(of(&vec![one.clone(); 5]), 0.05, 3).into_data().try_to_vec().unwrap();
        assert!(found.iter().all(|v| (v - 0.125).abs() < 1e-5), "{found:?}");
    }
}
