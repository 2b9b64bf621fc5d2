//! Batch normalisation on the CPU: statistics and gradients by channel, the maps themselves by image.

mod plane;

use burn::backend::{Flex, flex::FlexTensor};

use self::plane::{Passed, normal};
use super::kernel::{BatchNormKernel, BatchNormOps};
use crate::alloc::{self, Buffer};
use crate::buffer::{contiguous, numbers, size, tensor};
use crate::parallel;
use crate::simd::simd_fn;
use crate::simd::tile::Tile;

/// Numbers of one task, about.
const TASK: usize = 1 << 15;

impl BatchNormOps for Flex {
    fn fused_batch_norm(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        stats: FlexTensor,
        relu: bool,
        eps: f32,
    ) -> FlexTensor {
        Self::batch_norm_plain(x, gamma, beta, stats, relu, eps)
    }

    fn fused_batch_norm_add(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        stats: FlexTensor,
        other: FlexTensor,
        relu: bool,
        eps: f32,
    ) -> FlexTensor {
        Self::batch_norm_add(x, gamma, beta, stats, other, relu, eps)
    }
}

impl BatchNormKernel for Flex {
    fn batch_norm_stats(x: FlexTensor) -> FlexTensor {
        let x = contiguous(x);
        let maps = Maps::of(&x);
        let mut stats = alloc::scratch(2 * maps.channels);
        let (means, variances) = stats.split_at_mut(maps.channels);
        let each = maps.channels_of_a_task();
        let tasks = means.chunks_mut(each).zip(variances.chunks_mut(each)).enumerate().collect();
        parallel::run(tasks, |(i, (means, variances)): (usize, (&mut [f32], &mut [f32]))| {
            statistics(&maps, numbers(&x), i * each, means, variances);
        });
        tensor(stats, [2, maps.channels])
    }

    fn batch_norm_plain(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        stats: FlexTensor,
        relu: bool,
        eps: f32,
    ) -> FlexTensor {
        forward(x, gamma, beta, stats, None, relu, eps)
    }

    fn batch_norm_add(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        stats: FlexTensor,
        other: FlexTensor,
        relu: bool,
        eps: f32,
    ) -> FlexTensor {
        forward(x, gamma, beta, stats, Some(other), relu, eps)
    }

    fn batch_norm_backward(
        dy: FlexTensor,
        x: FlexTensor,
        gamma: FlexTensor,
        stats: FlexTensor,
        eps: f32,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        backward(dy, x, gamma, stats, None, eps, None)
    }

    fn batch_norm_relu_backward(
        dy: FlexTensor,
        x: FlexTensor,
        gamma: FlexTensor,
        stats: FlexTensor,
        y: FlexTensor,
        eps: f32,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        backward(dy, x, gamma, stats, Some(y), eps, None)
    }

    fn batch_norm_add_relu_backward(
        dy: FlexTensor,
        x: FlexTensor,
        gamma: FlexTensor,
        stats: FlexTensor,
        y: FlexTensor,
        eps: f32,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let shape = [0, 1, 2, 3].map(|d| size(&x, d));
        let mut dother = alloc::scratch(shape.iter().product());
        let (dx, dgamma, dbeta) = backward(dy, x, gamma, stats, Some(y), eps, Some(&mut dother));
        (dx, dgamma, dbeta, tensor(dother, shape))
    }
}

/// Sizes of maps `[images, channels, cells]`.
struct Maps {
    images: usize,
    channels: usize,
    cells: usize,
}

impl Maps {
    fn of(x: &FlexTensor) -> Self {
        Self { images: size(x, 0), channels: size(x, 1), cells: size(x, 2) * size(x, 3) }
    }

    fn image(&self) -> usize {
        self.channels * self.cells
    }

    fn images_of_a_task(&self) -> usize {
        TASK.div_ceil(self.image())
    }

    fn channels_of_a_task(&self) -> usize {
        TASK.div_ceil(self.images * self.cells)
    }

    /// One channel of every image.
    fn planes<'a>(&self, data: &'a [f32], channel: usize) -> impl Iterator<Item = &'a [f32]> {
        let cells = self.cells;
        data.chunks_exact(self.image()).map(move |image| &image[channel * cells..][..cells])
    }
}

simd_fn! {
    fn statistics<L>(maps: &Maps, x: &[f32], first: usize, means: &mut [f32], variances: &mut [f32]) {
        // Sums of a plane in f32, of planes in f64.
        let share = 1.0 / (maps.images * maps.cells) as f64;
        for (c, (mean, variance)) in means.iter_mut().zip(variances).enumerate() {
            let (mut sum, mut squares) = (0.0, 0.0);
            for plane in maps.planes(x, first + c) {
                sum += plane::total::<L>(plane);
            }
            *mean = (sum * share) as f32;
            // What the mean's rounding adds to the squares, taken off below.
            let rounding = sum * share - f64::from(*mean);
            for plane in maps.planes(x, first + c) {
                squares += plane::squares::<L>(plane, *mean);
            }
            *variance = (squares * share - rounding * rounding).max(0.0) as f32;
            if squares.is_nan() {
                *variance = f32::NAN;
            }
        }
    }
}

/// Inverse standard deviation of every channel.
fn inverse(variances: &[f32], eps: f32) -> Vec<f32> {
    variances.iter().map(|v| 1.0 / (v + eps).sqrt()).collect()
}

fn forward(
    x: FlexTensor,
    gamma: FlexTensor,
    beta: FlexTensor,
    stats: FlexTensor,
    other: Option<FlexTensor>,
    relu: bool,
    eps: f32,
) -> FlexTensor {
    let (x, gamma, beta, stats) = (contiguous(x), contiguous(gamma), contiguous(beta), contiguous(stats));
    let other = other.map(contiguous);
    let maps = Maps::of(&x);
    let (means, variances) = numbers(&stats).split_at(maps.channels);
    let scales: Vec<f32> = inverse(variances, eps).iter().zip(numbers(&gamma)).map(|(r, g)| r * g).collect();
    let mut y = alloc::scratch(maps.images * maps.image());
    let each = maps.images_of_a_task() * maps.image();
    let other = other.as_ref().map(numbers);
    let tasks = y.chunks_mut(each).zip(numbers(&x).chunks(each)).enumerate().collect();
    parallel::run(tasks, |(i, (y, x)): (usize, (&mut [f32], &[f32]))| {
        let other = other.map(|other| &other[i * each..][..x.len()]);
        normalise(&maps, [means, &scales, numbers(&beta)], x, other, relu, y);
    });
    let shape = [0, 1, 2, 3].map(|d| size(&x, d));
    tensor(y, shape)
}

simd_fn! {
    /// [`normal`] for images.
    fn normalise<L>(
        maps: &Maps, by: [&[f32]; 3], x: &[f32], other: Option<&[f32]>, relu: bool, y: &mut [f32],
    ) {
        let (cells, [means, scales, betas]) = (maps.cells, by);
        let planes = x.chunks_exact(cells).zip(y.chunks_exact_mut(cells)).enumerate();
        for (p, (x, y)) in planes {
            let c = p % maps.channels;
            let other = other.map(|other| &other[p * cells..][..cells]);
            let by = [means[c], scales[c], betas[c]].map(L::splat);
            let mut i = 0;
            while i + L::N <= cells {
                normal(L::load(&x[i..]), other.map(|o| L::load(&o[i..])), by, relu).store(&mut y[i..]);
                i += L::N;
            }
            if i < cells {
                normal(L::load_part(&x[i..]), other.map(|o| L::load_part(&o[i..])), by, relu).store_part(&mut y[i..]);
            }
        }
    }
}

/// The gradients of `x`, `gamma`, `beta`, and, in `dother`, of what was added. `y` is what ReLU gave.
fn backward(
    dy: FlexTensor,
    x: FlexTensor,
    gamma: FlexTensor,
    stats: FlexTensor,
    y: Option<FlexTensor>,
    eps: f32,
    dother: Option<&mut [f32]>,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let (dy, x, gamma, stats) = (contiguous(dy), contiguous(x), contiguous(gamma), contiguous(stats));
    let y = y.map(contiguous);
    let maps = Maps::of(&x);
    let passed = Passed { dy: numbers(&dy), y: y.as_ref().map(numbers) };
    let (means, variances) = numbers(&stats).split_at(maps.channels);
    let inverse = inverse(variances, eps);
    let by = [means, &*inverse, numbers(&gamma)];
    let mut dx = alloc::scratch(maps.images * maps.image());
    let [dgamma, dbeta] = gradients(&maps, passed, numbers(&x), by, &mut dx, dother);
    let shape = [0, 1, 2, 3].map(|d| size(&x, d));
    (tensor(dx, shape), tensor(dgamma, [maps.channels]), tensor(dbeta, [maps.channels]))
}

/// Some channels of every gradient; `dx` and `dother` by image.
struct Part<'a> {
    first: usize,
    dgamma: &'a mut [f32],
    dbeta: &'a mut [f32],
    dx: Tile<'a>,
    dother: Option<Tile<'a>>,
}

/// The gradients of `gamma` and `beta`, with those of the maps in `dx` and `dother`. `by` is mean, inverse standard deviation and
/// gamma of every channel.
fn gradients(
    maps: &Maps,
    passed: Passed<'_>,
    x: &[f32],
    by: [&[f32]; 3],
    dx: &mut [f32],
    dother: Option<&mut [f32]>,
) -> [Buffer; 2] {
    let (mut dgamma, mut dbeta) = (alloc::scratch(maps.channels), alloc::scratch(maps.channels));
    // A channel's sums first, then its gradient, while it is in the cache.
    let each = maps.channels_of_a_task();
    let mut dx = Tile::new(dx, maps.image());
    let mut dother = dother.map(|d| Tile::new(d, maps.image()));
    let mut parts = Vec::new();
    for (i, (dgamma, dbeta)) in dgamma.chunks_mut(each).zip(dbeta.chunks_mut(each)).enumerate() {
        let first = i * each;
        let end = (first + dgamma.len()) * maps.cells;
        let (here, rest) = dx.split_cols(end);
        dx = rest;
        let (other, rest) = dother.map(|d| d.split_cols(end)).unzip();
        dother = rest;
        parts.push(Part { first, dgamma, dbeta, dx: here, dother: other });
    }
    parallel::run(parts, |part: Part<'_>| channel_gradients(maps, passed, x, by, part));
    [dgamma, dbeta]
}

simd_fn! {
    /// One task of [`gradients`].
    fn channel_gradients<L>(maps: &Maps, passed: Passed<'_>, x: &[f32], by: [&[f32]; 3], part: Part<'_>) {
        let Part { first, dgamma, dbeta, mut dx, mut dother } = part;
        let share = 1.0 / (maps.images * maps.cells) as f32;
        for (i, (dgamma, dbeta)) in dgamma.iter_mut().zip(dbeta).enumerate() {
            let channel = first + i;
            let [mean, inverse, gamma] = by.map(|by| by[channel]);
            let (mut products, mut plain) = (0.0, 0.0);
            for (image, x) in maps.planes(x, channel).enumerate() {
                let passed = passed.of(image * maps.image() + channel * maps.cells, maps.cells);
                let [product, sum] = plane::sums::<L>(passed, x, mean);
                products += product;
                plain += sum;
            }
            *dgamma = (products * f64::from(inverse)) as f32;
            *dbeta = plain as f32;
            // dx = gamma·r·(dy − mean(dy) − x̂·mean(dy·x̂)) = a·dy + b·(x − mean) + c.
            let scale = gamma * inverse;
            let by = [mean, scale, -scale * inverse * *dgamma * share, -scale * *dbeta * share];
            let cells = i * maps.cells..(i + 1) * maps.cells;
            for (image, x) in maps.planes(x, channel).enumerate() {
                let passed = passed.of(image * maps.image() + channel * maps.cells, maps.cells);
                let dother = dother.as_mut().map(|d| &mut d.row(image)[cells.clone()]);
                plane::input_grad::<L>(passed, x, by, &mut dx.row(image)[cells.clone()], dother);
            }
        }
    }
}
