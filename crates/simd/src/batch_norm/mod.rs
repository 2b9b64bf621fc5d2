//! Batch normalisation: statistics and gradients by channel, the maps themselves by image.

mod plane;

use crate::alloc::{self, Buffer};
use crate::tile::Tile;
use crate::{parallel, simd_fn};

pub use plane::Passed;
use plane::normal;

/// Numbers of one task, about.
const TASK: usize = 1 << 15;

/// Sizes of maps `[images, channels, cells]`, none of them zero.
#[derive(Debug, Clone, Copy)]
pub struct Maps {
    /// Images.
    pub images: usize,
    /// Channels of each.
    pub channels: usize,
    /// Cells of a channel.
    pub cells: usize,
}

impl Maps {
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

/// Means, then (biased) variances of every channel: `[2, channels]`.
pub fn statistics(maps: &Maps, x: &[f32]) -> Buffer {
    let mut stats = alloc::scratch(2 * maps.channels);
    let (means, variances) = stats.split_at_mut(maps.channels);
    let each = maps.channels_of_a_task();
    let tasks = means.chunks_mut(each).zip(variances.chunks_mut(each)).enumerate().collect();
    parallel::run(tasks, |(i, (means, variances)): (usize, (&mut [f32], &mut [f32]))| {
        channel_statistics(maps, x, i * each, means, variances);
    });
    stats
}

simd_fn! {
    /// One task of [`statistics`].
    fn channel_statistics<L>(maps: &Maps, x: &[f32], first: usize, means: &mut [f32], variances: &mut [f32]) {
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

/// `(x − mean)·gamma/√(variance + eps) + beta`, plus `other`, then ReLU if asked. `stats` are those of [`statistics`].
pub fn forward(
    maps: &Maps,
    x: &[f32],
    [gamma, beta, stats]: [&[f32]; 3],
    other: Option<&[f32]>,
    relu: bool,
    eps: f32,
) -> Buffer {
    let (means, variances) = stats.split_at(maps.channels);
    let scales: Vec<f32> = inverse(variances, eps).iter().zip(gamma).map(|(r, g)| r * g).collect();
    let mut y = alloc::scratch(maps.images * maps.image());
    let each = maps.images_of_a_task() * maps.image();
    let tasks = y.chunks_mut(each).zip(x.chunks(each)).enumerate().collect();
    parallel::run(tasks, |(i, (y, x)): (usize, (&mut [f32], &[f32]))| {
        let other = other.map(|other| &other[i * each..][..x.len()]);
        normalise(maps, [means, &scales, beta], x, other, relu, y);
    });
    y
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

/// The gradients of `x`, `gamma` and `beta`, and, in `dother`, of what was added.
pub fn backward(
    maps: &Maps,
    passed: Passed<'_>,
    x: &[f32],
    [gamma, stats]: [&[f32]; 2],
    eps: f32,
    dother: Option<&mut [f32]>,
) -> [Buffer; 3] {
    let (means, variances) = stats.split_at(maps.channels);
    let inverse = inverse(variances, eps);
    let mut dx = alloc::scratch(maps.images * maps.image());
    let [dgamma, dbeta] = gradients(maps, passed, x, [means, &*inverse, gamma], &mut dx, dother);
    [dx, dgamma, dbeta]
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
