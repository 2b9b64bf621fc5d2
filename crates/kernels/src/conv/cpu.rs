//! Convolution on the CPU: what the taps see is multiplied by the weight while it is in the cache.
//!
//! Tasks own parts of the result, or share out long sums whose parts are added in order; they are cut by the sizes alone.

mod gather;
mod maps;
mod unfold;
mod weight;
mod winograd;

use burn::backend::{Flex, flex::FlexTensor};

use self::maps::Maps;
use self::winograd::{Squares, Turn};
use super::ConvShape;
use super::gather::Axis;
use super::kernel::{ConvKernel, ConvOps};
use crate::alloc::{self, Buffer};
use crate::buffer::{contiguous, numbers, size, tensor};

impl ConvOps for Flex {
    fn fused_conv(x: FlexTensor, w: FlexTensor, shape: ConvShape) -> FlexTensor {
        Self::conv_forward(x, w, shape)
    }
}

impl ConvKernel for Flex {
    fn conv_forward(x: FlexTensor, w: FlexTensor, shape: ConvShape) -> FlexTensor {
        let (x, w) = (contiguous(x), contiguous(w));
        let axes = [2, 3].map(|d| Axis::forward(shape, size(&x, d), size(&w, d)));
        let [height, width] = axes.map(|a| a.output);
        let (images, outer) = (size(&x, 0), size(&w, 0));
        let maps = Maps::new(numbers(&x), [images, size(&x, 1)], axes);
        tensor(forward(&maps, numbers(&w), outer), [images, outer, height, width])
    }

    fn conv_input_grad(dy: FlexTensor, w: FlexTensor, input: [usize; 2], shape: ConvShape) -> FlexTensor {
        let (dy, w) = (contiguous(dy), contiguous(w));
        let images = size(&dy, 0);
        let weight = (numbers(&w), [0, 1, 2, 3].map(|d| size(&w, d)));
        let dx = input_grad(numbers(&dy), images, weight, input, shape);
        tensor(dx, [images, size(&w, 1), input[0], input[1]])
    }

    fn conv_weight_grad(x: FlexTensor, dy: FlexTensor, kernel: [usize; 2], shape: ConvShape) -> FlexTensor {
        let (x, dy) = (contiguous(x), contiguous(dy));
        let (images, outer, inner) = (size(&x, 0), size(&dy, 1), size(&x, 1));
        let axes = [0, 1].map(|d| Axis::forward(shape, size(&x, d + 2), kernel[d]));
        let maps = Maps::new(numbers(&x), [images, inner], axes);
        let dw = match Squares::new(&maps, outer).filter(Squares::outweigh_sums) {
            Some(squares) => winograd::weight_grad(&squares, numbers(&dy), outer),
            None => weight::weight_grad(&maps, numbers(&dy), outer),
        };
        tensor(dw, [outer, inner, kernel[0], kernel[1]])
    }
}

/// The convolution: `[images, outer, output]`.
fn forward(maps: &Maps<'_>, w: &[f32], outer: usize) -> Buffer {
    let mut y = alloc::scratch(maps.images * outer * maps.output());
    match Squares::new(maps, outer) {
        Some(squares) => winograd::convolve(&squares, w, Turn::No, outer, &mut y),
        None => gather::gather(maps, w, outer, &mut y),
    }
    y
}

/// The gradient of the input, by phases of the stride: `[images, inner, input]`.
fn input_grad(
    dy: &[f32],
    images: usize,
    (w, [outer, inner, height, width]): (&[f32], [usize; 4]),
    input: [usize; 2],
    shape: ConvShape,
) -> Buffer {
    let mut dx = alloc::scratch(images * inner * input[0] * input[1]);
    for down in 0..shape.stride {
        for right in 0..shape.stride {
            let y = Axis::backward(shape, down, input[0], height);
            let x = Axis::backward(shape, right, input[1], width);
            let maps = Maps::new(dy, [images, outer], [y, x]);
            if let Some(squares) = Squares::new(&maps, inner) {
                winograd::convolve(&squares, w, Turn::Yes, inner, &mut dx);
                continue;
            }
            let tap = |i: usize| y.tap(i / x.taps) * width + x.tap(i % x.taps);
            let taps: Vec<usize> = (0..y.taps * x.taps).map(tap).collect();
            let weight = gather::turned(w, [outer, inner, height * width], &taps);
            gather::gather(&maps, &weight, inner, &mut dx);
        }
    }
    dx
}
