//! The layers of a ResNet, and what a detector takes from its maps.

use burn::tensor::Tensor;

use super::{Case, FUNCTIONS, PRODUCTS, Parts, Side, backward, leaf, numbers};
use crate::batch_norm::batch_norm_reference;
use crate::conv::conv2d_reference;
use crate::roi_align::roi_align_reference;
use crate::{ConvShape, Roi, RoiAlignShape, batch_norm, conv2d, roi_align};

/// A convolution: batch, channels in and out, height, width; height and width of the kernel; stride, padding, dilation.
struct Conv {
    maps: [usize; 5],
    kernel: [usize; 2],
    how: [usize; 3],
    bias: bool,
}

const fn conv(maps: [usize; 5], kernel: [usize; 2], how: [usize; 3], bias: bool) -> Conv {
    Conv { maps, kernel, how, bias }
}

/// ResNet-50's layers on small maps, then what divides by nothing.
const CONVOLUTIONS: [Conv; 12] = [
    conv([2, 3, 64, 64, 64], [7, 7], [2, 3, 1], false),
    conv([2, 64, 64, 28, 28], [1, 1], [1, 0, 1], false),
    conv([2, 64, 256, 14, 14], [1, 1], [1, 0, 1], false),
    conv([2, 64, 64, 28, 28], [3, 3], [1, 1, 1], false),
    conv([2, 128, 128, 14, 14], [3, 3], [2, 1, 1], false),
    conv([2, 64, 128, 14, 14], [1, 1], [2, 0, 1], false),
    conv([2, 128, 128, 7, 7], [3, 3], [1, 1, 1], false),
    conv([2, 32, 32, 14, 14], [3, 3], [1, 2, 2], false),
    conv([2, 5, 3, 7, 5], [3, 3], [2, 1, 1], true),
    conv([1, 3, 4, 9, 6], [1, 5], [1, 1, 1], true),
    conv([3, 5, 5, 7, 7], [1, 1], [2, 1, 1], true),
    conv([1, 5, 17, 6, 9], [2, 2], [2, 0, 1], true),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = CONVOLUTIONS.iter().map(convolution).collect();
    for (shape, residual, relu) in [
        ([2, 64, 28, 28], false, true),
        ([2, 256, 14, 14], true, true),
        ([2, 128, 7, 7], false, false),
        ([2, 70, 1, 3], true, false),
        ([1, 9, 33, 29], true, true),
    ] {
        cases.push(normalisation(shape, residual, relu));
    }
    cases.push(parts_of([1, 64, 25, 25], 16, [14, 14], 1.0 / 16.0, 0));
    cases.push(parts_of([2, 3, 14, 18], 20, [7, 7], 1.0 / 16.0, 2));
    cases
}

fn convolution(conv: &Conv) -> Case {
    let Conv { maps: [batch, from, to, height, width], kernel: [down, across], how, bias } = *conv;
    let [stride, padding, dilation] = how;
    let shape = ConvShape { stride, padding, dilation };
    let gap = if dilation > 1 { format!(", dilation {dilation}") } else { String::new() };
    let words =
        format!("{down}×{across} of stride {stride}{gap}, {from} to {to} channels, {batch}×{height}×{width}");
    Case::new("conv2d", words, move |place| {
        let x = place.random(1, [batch, from, height, width], 1.0);
        let w = place.random(2, [to, from, down, across], 1.0 / ((from * down * across) as f32).sqrt());
        let b = bias.then(|| place.random(3, [to], 1.0));
        let dy = place.random(9, [batch, to, shape.output(height, down), shape.output(width, across)], 1.0);
        Box::new(move |side| {
            let (x, w, b) = (leaf(&x, true), leaf(&w, true), b.as_ref().map(|b| leaf(b, true)));
            let f = match side {
                Side::Kernel => conv2d,
                Side::Reference => conv2d_reference,
            };
            let y = f(x.clone(), w.clone(), b.clone(), shape);
            let g = backward(&y, &dy);
            let parts = Parts::within(PRODUCTS).with("y", &y).gradient("dx", &x, &g).gradient("dw", &w, &g);
            match &b {
                Some(b) => parts.gradient("db", b, &g),
                None => parts,
            }
        })
    })
}

fn normalisation(shape: [usize; 4], residual: bool, relu: bool) -> Case {
    let [batch, channels, height, width] = shape;
    let ends = [(residual, ", residual"), (relu, ", ReLU")].map(|(on, words)| if on { words } else { "" });
    let words = format!("{batch}×{channels}×{height}×{width}{}", ends.concat());
    Case::new("batch_norm", words, move |place| {
        let x = place.random(1, shape, 2.0) + 0.7;
        let (gamma, beta) = (place.random(2, [channels], 1.0), place.random(3, [channels], 1.0));
        let (other, dy) = (residual.then(|| place.random(4, shape, 1.0)), place.random(9, shape, 1.0));
        Box::new(move |side| {
            let (x, gamma, beta) = (leaf(&x, true), leaf(&gamma, true), leaf(&beta, true));
            let other: Option<Tensor<4>> = other.as_ref().map(|t| leaf(t, true));
            let f = match side {
                Side::Kernel => batch_norm,
                Side::Reference => batch_norm_reference,
            };
            let normed = f(x.clone(), gamma.clone(), beta.clone(), other.clone(), relu, 1e-5);
            let g = backward(&normed.output, &dy);
            let parts = Parts::within(FUNCTIONS).with("y", &normed.output).with("mean", &normed.mean);
            let parts = parts.with("variance", &normed.variance).gradient("dx", &x, &g);
            let parts = parts.gradient("dgamma", &gamma, &g).gradient("dbeta", &beta, &g);
            match &other {
                Some(other) => parts.gradient("residual", other, &g),
                None => parts,
            }
        })
    })
}

/// Boxes of all sizes, some of them beyond the edges of their map.
fn boxes(count: usize, [images, height, width]: [usize; 3], scale: f32) -> Vec<Roi> {
    let (wide, high) = (width as f32 / scale, height as f32 / scale);
    numbers(7, 4 * count, 0.2)
        .chunks_exact(4)
        .enumerate()
        .map(|(i, drawn)| {
            let [x, y] = [(drawn[0] + 0.5) * wide, (drawn[1] + 0.5) * high];
            let [w, h] = [drawn[2].abs() * wide, drawn[3].abs() * high];
            Roi { image: i % images, xyxy: [x - w, y - h, x + w, y + h] }
        })
        .collect()
}

fn parts_of(maps: [usize; 4], count: usize, [rows, cols]: [usize; 2], scale: f32, sampling_ratio: usize) -> Case {
    let [images, channels, height, width] = maps;
    let words = format!("{count} boxes on {images}×{channels}×{height}×{width}, {rows}×{cols}");
    Case::new("roi_align", words, move |place| {
        let (rois, shape) =
            (boxes(count, [images, height, width], scale), RoiAlignShape { rows, cols, scale, sampling_ratio });
        let (x, dy) = (place.random(1, maps, 1.0), place.random(9, [count, channels, rows, cols], 1.0));
        Box::new(move |side| {
            let x = leaf(&x, true);
            let y = match side {
                Side::Kernel => roi_align(x.clone(), &rois, shape),
                Side::Reference => roi_align_reference(&x, &rois, shape),
            };
            let g = backward(&y, &dy);
            Parts::within(PRODUCTS).with("y", &y).gradient("dx", &x, &g)
        })
    })
}
