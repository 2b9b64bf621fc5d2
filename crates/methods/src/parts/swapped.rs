//! Predicting the codes of another crop (Caron et al. 2020, <https://arxiv.org/abs/2006.09882>).

use burn::tensor::{Int, Tensor, activation};
use ocelli_kernels::together;

use super::kmeans::sizes;

/// Crops whose codes the others predict: the global ones.
pub(crate) const ASSIGNED: usize = 2;

/// Codes `[images, K]` of both global crops.
pub type Codes = [Tensor<2>; ASSIGNED];

/// Mean over both global crops i, over all other views v and over the images of −Σ codes_i · log softmax(scores_v / τ), `[1]`.
/// `scores` are `[views·images, K]`, the global crops' first.
pub fn swav_loss(scores: Tensor<2>, codes: Codes, temperature: f64) -> Tensor<1> {
    let [images, prototypes] = codes[0].dims();
    let views = scores.dims()[0] / images.max(1);
    let log_p = activation::log_softmax(scores / temperature, 1).reshape([views, images, prototypes]);
    let [first, second] = codes;
    let agreement = |log_p: Tensor<3>, codes: Tensor<3>| (log_p * codes.autodiff()).sum_dim(2).sum();
    let swapped = Tensor::stack::<3>(vec![second.clone(), first.clone()], 0);
    let mut sum = agreement(log_p.clone().narrow(0, 0, ASSIGNED), swapped);
    if views > ASSIGNED {
        sum = sum + agreement(log_p.narrow(0, ASSIGNED, views - ASSIGNED), (first + second).unsqueeze_dim(0));
    }
    sum.neg() / (ASSIGNED * (views - 1) * images) as f64
}

/// Mean over the rows of −Σ q·ln q, `[1]`: rows `[rows, K]` that sum to 1.
pub(crate) fn entropy(rows: Tensor<2>) -> Tensor<1> {
    (rows.clone() * rows.clamp_min(1e-30).log()).sum_dim(1).mean().neg()
}

/// How often a view's first prototype is that of another global crop's code, and how many different prototypes come first, as a
/// share of how many could: `[1]` each.
pub(crate) fn first_prototypes(scores: Tensor<2>, codes: &Codes, images: usize) -> (Tensor<1>, Tensor<1>) {
    let [rows, prototypes] = scores.dims();
    let views = rows / images.max(1);
    let first: Tensor<1, Int> = scores.argmax(1).squeeze_dim(1);
    let agreed = codes.iter().enumerate().map(|(crop, codes)| {
        let code = codes.clone().argmax(1).reshape([1, images]).expand([views, images]);
        let same = first.clone().reshape([views, images]).equal(code).float();
        same.clone().sum() - same.narrow(0, crop, 1).sum()
    });
    let agreed = Tensor::cat(agreed.collect(), 0).sum() / (ASSIGNED * (views - 1) * images) as f64;
    let used = together::sum(sizes(&first, prototypes)).clamp_max(1.0).sum();
    let used = used / (rows * together::place().1).min(prototypes) as f64;
    (agreed, used)
}
