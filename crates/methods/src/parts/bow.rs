//! Bags of visual words (Gidaris et al. 2021, <https://arxiv.org/abs/2012.11552>): which words of a vocabulary the cells of
//! an image look like, how far bags differ, and the loss against them.

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{Int, Tensor, TensorData};
use ocelli_kernels::together;

/// Distances that are in memory at once, at most: 64 MiB of them. A batch of ResNet-50 has 300 million.
const BLOCK: usize = 1 << 24;
/// Added within the logarithm of a perplexity, as the reference does.
const EPSILON: f64 = 1e-5;
/// A mean distance below this is taken as this, so that a map that is the same everywhere divides by no zero.
const SMALLEST: f64 = 1e-12;

/// The map without its outermost cells, which the padding reaches: `[images, dim, rows, cols]` to two rows and columns fewer.
pub fn inner(map: Tensor<4>) -> Tensor<4> {
    let [_, _, rows, cols] = map.dims();
    map.narrow(2, 1, rows.saturating_sub(2)).narrow(3, 1, cols.saturating_sub(2))
}

/// Squared distances of cells `[n, dim]` to words `[words, dim]`: `[n, words]`.
pub fn distances(cells: Tensor<2>, words: &Tensor<2>) -> Tensor<2> {
    let squares = |rows: &Tensor<2>| rows.clone().powi_scalar(2).sum_dim(1);
    let (of_cells, of_words) = (squares(&cells), squares(words).transpose());
    (cells.matmul(words.clone().transpose()) * -2.0 + of_cells + of_words).clamp_min(0.0)
}

/// Soft assignments: softmax over the words of −(inv_delta/μ)·d², of distances `[n, words]` and μ `[1]`.
pub fn codes(distances: Tensor<2>, mean: &Tensor<1>, inv_delta: f64) -> Tensor<2> {
    let sharpness = mean.clone().clamp_min(SMALLEST).recip() * -inv_delta;
    softmax(distances * sharpness.unsqueeze::<2>(), 1)
}

/// The bags of maps without border.
pub struct Bags {
    /// `[images, words]`, rows that sum to 1.
    pub bags: Tensor<2>,
    /// Mean over all cells of the squared distance to the nearest word, `[1]`.
    pub nearest: Tensor<1>,
}

/// The bag of each image: its cells' [`codes`], the largest of each word, divided by their sum. Maps
/// `[images, dim, rows, cols]` without border, `words` `[words, dim]`; `mean` makes μ of the mean distance to the nearest word.
///
/// Distances come in blocks of whole images. Of more than one block they are computed twice, as μ takes all of them to know.
pub fn bags_of_words(
    maps: Tensor<4>,
    words: &Tensor<2>,
    inv_delta: f64,
    mean: impl FnOnce(Tensor<1>) -> Tensor<1>,
) -> Bags {
    bags_in_blocks(maps, words, inv_delta, mean, BLOCK)
}

fn bags_in_blocks(
    maps: Tensor<4>,
    words: &Tensor<2>,
    inv_delta: f64,
    mean: impl FnOnce(Tensor<1>) -> Tensor<1>,
    block: usize,
) -> Bags {
    let [images, dim, rows, cols] = maps.dims();
    let (cells, len) = (rows * cols, words.dims()[0]);
    let of_cells = maps.flatten::<3>(2, 3).swap_dims(1, 2);
    let at_once = (block / (cells * len).max(1)).clamp(1, images.max(1));
    let blocks: Vec<(usize, usize)> =
        (0..images).step_by(at_once).map(|from| (from, at_once.min(images - from))).collect();
    let of_block = |&(from, n): &(usize, usize)| {
        distances(of_cells.clone().narrow(0, from, n).reshape([n * cells, dim]), words)
    };
    let mut kept = None;
    let sums = blocks.iter().map(|block| {
        let found = of_block(block);
        let sum = found.clone().min_dim(1).sum();
        kept = (blocks.len() == 1).then_some(found);
        sum
    });
    let nearest = Tensor::cat(sums.collect(), 0).sum() / (images * cells).max(1) as f64;
    let mean = mean(nearest.clone());
    let bags = blocks.iter().map(|block| {
        let found = kept.take().unwrap_or_else(|| of_block(block));
        let largest = codes(found, &mean, inv_delta).reshape([block.1, cells, len]).max_dim(1).squeeze_dim::<2>(1);
        largest.clone() / largest.sum_dim(1)
    });
    Bags { bags: Tensor::cat(bags.collect(), 0), nearest }
}

/// Cells one may draw a new word from, of a map of `[rows, cols]` without border: where a 3×3 neighbourhood fits.
pub fn places([rows, cols]: [usize; 2]) -> usize {
    rows.saturating_sub(2) * cols.saturating_sub(2)
}

/// One new word of each image: the mean over the 3×3 neighbourhood that `cells` says, one of [`places`] for each image,
/// counted row by row. Maps `[images, dim, rows, cols]` without border, to `[images, dim]`.
pub fn new_words(maps: Tensor<4>, cells: &[usize]) -> Tensor<2> {
    let [images, dim, ..] = maps.dims();
    let means = avg_pool2d(maps, AvgPoolOptions::new([3, 3]).with_stride([1, 1])).flatten::<3>(2, 3);
    let chosen: Vec<i32> = cells.iter().map(|c| *c as i32).collect();
    let chosen = TensorData::new(chosen, [images, 1, 1]);
    let chosen: Tensor<3, Int> = Tensor::from_data(chosen, &means.device());
    means.gather(2, chosen.repeat_dim(1, dim)).squeeze_dim(2)
}

/// KL divergence of predicted bags from bags `[images, words]`, the mean over rows: features `[views·images, dim]`, view by
/// view; a word's weight is its row of `weights` `[words, dim]`, its logit κ·feature·weight. `[1]`.
pub fn bag_loss(features: Tensor<2>, weights: Tensor<2>, bags: &Tensor<2>, kappa: f64) -> Tensor<1> {
    let ([rows, _], [images, words]) = (features.dims(), bags.dims());
    let log_predicted = log_softmax(features.matmul(weights.transpose()) * kappa, 1);
    let views = log_predicted.reshape([rows / images.max(1), images, words]);
    let target = bags.clone();
    let target = if views.is_autodiff() { target.autodiff() } else { target };
    let cross = (views * target.unsqueeze::<3>()).sum() / -(rows.max(1) as f64);
    let entropy = entropies(bags.clone()).mean();
    cross.clone() - if cross.is_autodiff() { entropy.autodiff() } else { entropy }
}

/// −Σ p·ln p of rows that sum to 1: `[rows, words]` to `[rows, 1]`.
pub fn entropies(rows: Tensor<2>) -> Tensor<2> {
    // p·ln p → 0 where p is 0.
    let logs = rows.clone().clamp_min(1e-37).log();
    (rows * logs).sum_dim(1).neg()
}

/// exp(−Σ p·ln(p + 1e-5)) of rows that sum to 1: how many words a bag has, `[rows, words]` to `[rows, 1]`.
pub fn perplexities(rows: Tensor<2>) -> Tensor<2> {
    let logs = (rows.clone() + EPSILON).log();
    (rows * logs).sum_dim(1).neg().exp()
}

/// What bags `[images, words]` look like as a whole, `[1]` each.
pub struct BagFigures {
    /// Perplexity of an image's bag, the mean over the images.
    pub of_image: Tensor<1>,
    /// Perplexity of all bags together.
    pub of_batch: Tensor<1>,
    /// Entropy of all bags together less the mean of theirs: what a bag tells of its image, 0 to ln(images). It is the loss
    /// of a prediction that does not look at the image.
    pub told: Tensor<1>,
}

impl BagFigures {
    /// Of the bags of a batch.
    pub fn of(bags: &Tensor<2>) -> Self {
        let all = together::mean(bags.clone().mean_dim(0));
        Self {
            of_image: perplexities(bags.clone()).mean(),
            of_batch: perplexities(all.clone()).mean(),
            told: entropies(all).mean() - entropies(bags.clone()).mean(),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Values from −1 to 1 and beyond on both sides, the same everywhere.
    fn drawn<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
        let mut draw = crate::matching::Draw(seed);
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| draw.below(1 << 20) as f32 / (1 << 18) as f32 - 2.0).collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    /// The bags in double precision, cell by cell; μ is what `mean` makes of the mean distance.
    fn reference(maps: &Tensor<4>, words: &Tensor<2>, inv_delta: f64, mean: fn(f64) -> f64) -> (Vec<f64>, f64) {
        let [images, dim, rows, cols] = maps.dims();
        let (cells, len) = (rows * cols, words.dims()[0]);
        let (m, w) = (values(maps.clone()), values(words.clone()));
        let distance = |image: usize, cell: usize, word: usize| {
            let of = |c: usize| f64::from(m[(image * dim + c) * cells + cell]) - f64::from(w[word * dim + c]);
            (0..dim).map(|c| of(c).powi(2)).sum::<f64>()
        };
        let nearest = |i: usize, c: usize| (0..len).map(|k| distance(i, c, k)).fold(f64::MAX, f64::min);
        let all: f64 = (0..images).flat_map(|i| (0..cells).map(move |c| (i, c))).map(|(i, c)| nearest(i, c)).sum();
        let found = all / (images * cells) as f64;
        let mu = mean(found);
        let mut bags = Vec::new();
        for image in 0..images {
            let mut largest = vec![0f64; len];
            for cell in 0..cells {
                let least = nearest(image, cell);
                let code: Vec<f64> =
                    (0..len).map(|k| (-(inv_delta / mu) * (distance(image, cell, k) - least)).exp()).collect();
                let sum: f64 = code.iter().sum();
                largest.iter_mut().zip(&code).for_each(|(l, c)| *l = l.max(c / sum));
            }
            let sum: f64 = largest.iter().sum();
            bags.extend(largest.into_iter().map(|l| l / sum));
        }
        (bags, found)
    }

    #[test]
    fn bags_are_those_of_double_precision_however_they_are_cut_into_blocks() {
        let (maps, words) = (drawn([5, 6, 4, 3], 1), drawn([9, 6], 2));
        let (expected, nearest) = reference(&maps, &words, 7.0, |found| 0.9 * 2.0 + 0.1 * found);
        let cells_by_words = 4 * 3 * 9;
        for block in [0, 1, cells_by_words, 2 * cells_by_words, 3 * cells_by_words + 5, BLOCK] {
            let found = bags_in_blocks(maps.clone(), &words, 7.0, |found| found * 0.1 + 1.8, block);
            let apart = f64::from(found.nearest.into_scalar::<f32>()) / nearest - 1.0;
            assert!(apart.abs() < 1e-5, "{block}: {apart}");
            let bags = values(found.bags);
            assert_eq!(bags.len(), expected.len());
            for (a, b) in bags.iter().zip(&expected) {
                assert!((f64::from(*a) - b).abs() < 1e-5, "{block}: {a} {b}");
            }
        }
    }

    #[test]
    fn the_border_is_left_out_and_words_are_means_of_nine_cells() {
        let map: Vec<f32> = (0..2 * 6 * 5).map(|i| i as f32).collect();
        let map: Tensor<4> = Tensor::from_data(TensorData::new(map, [2, 1, 6, 5]), &Device::flex());
        let inside = inner(map);
        assert_eq!(inside.dims(), [2, 1, 4, 3]);
        assert_eq!(values(inside.clone())[..4], [6.0, 7.0, 8.0, 11.0]);
        assert_eq!(places([4, 3]), 2);
        // The mean of a neighbourhood of rising numbers is its middle.
        assert_eq!(values(new_words(inside, &[0, 1])), [12.0, 30.0 + 17.0]);
    }

    /// A prediction that knows the bags has a loss of 0; one that knows only all of them together has what they tell.
    #[test]
    fn the_loss_is_what_is_not_predicted() {
        let bags = softmax(drawn::<2>([4, 6], 3) * 2.0, 1);
        let logits = bags.clone().log();
        // Features that pick a row: logits are κ·weight of that row.
        let weights = (logits / 2.0).transpose();
        let pick: Tensor<2> = Tensor::eye(4, &Device::flex());
        let both = Tensor::cat(vec![pick.clone(), pick], 0);
        let known = bag_loss(both.clone(), weights, &bags, 2.0).into_scalar::<f32>();
        assert!(known.abs() < 1e-5, "{known}");
        let together = (bags.clone().mean_dim(0).log() / 2.0).transpose().repeat_dim(1, 4);
        let blind = bag_loss(both, together, &bags, 2.0).into_scalar::<f32>();
        let told = BagFigures::of(&bags).told.into_scalar::<f32>();
        assert!((blind - told).abs() < 1e-5 && told > 0.1, "{blind} {told}");
    }

    #[test]
    fn figures_know_the_two_ends() {
        let device = Device::flex();
        let number = |t: Tensor<1>| t.into_scalar::<f32>();
        let even = BagFigures::of(&(Tensor::ones([3, 8], &device) / 8.0));
        assert!((number(even.of_image) - 8.0).abs() < 1e-2 && (number(even.of_batch) - 8.0).abs() < 1e-2);
        assert!(number(even.told).abs() < 1e-6);
        let own = BagFigures::of(&Tensor::eye(4, &device));
        assert!((number(own.of_image) - 1.0).abs() < 1e-3 && (number(own.of_batch) - 4.0).abs() < 1e-3);
        assert!((number(own.told) - 4f32.ln()).abs() < 1e-5);
    }
}
