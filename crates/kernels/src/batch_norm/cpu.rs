//! Batch normalisation on the CPU: statistics by channel, everything else by image.

use burn::backend::{Flex, flex::FlexTensor};

use super::kernel::{BatchNormKernel, BatchNormOps};
use crate::alloc;
use crate::buffer::{contiguous, numbers, size, tensor};
use crate::parallel;
use crate::simd::{Lanes, simd_fn};

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

macro_rules! first {
    ($first:ident $(, $rest:ident)*) => {
        $first
    };
}

/// Sum over the numbers of slices of one length of a term: of vectors, and of single numbers where they end.
macro_rules! sum_over {
    ($L:ident, |$($name:ident = $slice:ident),+| $term:expr, $single:expr) => {{
        let count = first!($($slice),+).len();
        let (mut sum, mut rest, mut i) = ($L::splat(0.0), 0.0f32, 0);
        while i + $L::N <= count {
            sum = { $(let $name = $L::load(&$slice[i..]);)+ sum.add($term) };
            i += $L::N;
        }
        while i < count {
            rest += { $(let $name = $slice[i];)+ $single };
            i += 1;
        }
        f64::from(sum.sum()) + f64::from(rest)
    }};
}

simd_fn! {
    fn statistics<L>(maps: &Maps, x: &[f32], first: usize, means: &mut [f32], variances: &mut [f32]) {
        // Sums of a plane in f32, of planes in f64.
        let share = 1.0 / (maps.images * maps.cells) as f64;
        for (c, (mean, variance)) in means.iter_mut().zip(variances).enumerate() {
            let (mut sum, mut squares) = (0.0, 0.0);
            for plane in maps.planes(x, first + c) {
                sum += sum_over!(L, |x = plane| x, x);
            }
            *mean = (sum * share) as f32;
            let (single, centre) = (*mean, L::splat(*mean));
            // What the mean's rounding adds to the squares, taken off below.
            let rounding = sum * share - f64::from(single);
            for plane in maps.planes(x, first + c) {
                squares += sum_over!(
                    L,
                    |x = plane| {
                        let d = x.sub(centre);
                        d.mul(d)
                    },
                    (x - single) * (x - single)
                );
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

/// `(x − mean)·scale + beta`, plus others, then ReLU.
#[inline(always)]
fn normal<L: Lanes>(x: L, other: Option<L>, [mean, scale, beta]: [L; 3], relu: bool) -> L {
    let y = x.sub(mean).mul_add(scale, beta);
    let y = other.map_or(y, |other| y.add(other));
    // This order keeps what is not a number.
    if relu { L::splat(0.0).max(y) } else { y }
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
    let (channels, count) = (maps.channels, maps.images * maps.image());
    let (means, variances) = numbers(&stats).split_at(channels);
    let inverse = inverse(variances, eps);
    let passed = Passed { dy: numbers(&dy), y: y.as_ref().map(numbers) };

    let (mut dgamma, mut dbeta) = (alloc::scratch(channels), alloc::scratch(channels));
    let each = maps.channels_of_a_task();
    let tasks = dgamma.chunks_mut(each).zip(dbeta.chunks_mut(each)).enumerate().collect();
    parallel::run(tasks, |(i, (dgamma, dbeta)): (usize, (&mut [f32], &mut [f32]))| {
        sums(&maps, passed, numbers(&x), i * each, [means, &inverse], dgamma, dbeta);
    });

    // dx = gamma·r·(dy − mean(dy) − x̂·mean(dy·x̂)) = a·dy + b·(x − mean) + c.
    let share = 1.0 / (maps.images * maps.cells) as f32;
    let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
    for (i, r) in inverse.iter().enumerate() {
        let scale = numbers(&gamma)[i] * r;
        a.push(scale);
        b.push(-scale * r * dgamma[i] * share);
        c.push(-scale * dbeta[i] * share);
    }
    let mut dx = alloc::scratch(count);
    let each = maps.images_of_a_task() * maps.image();
    let mut others = dother.map(|d| d.chunks_mut(each));
    let tasks = dx.chunks_mut(each).map(|dx| (dx, others.as_mut().and_then(Iterator::next))).enumerate().collect();
    parallel::run(tasks, |(i, (dx, dother)): (usize, (&mut [f32], Option<&mut [f32]>))| {
        let x = &numbers(&x)[i * each..][..dx.len()];
        input_grad(&maps, passed.of(i * each, dx.len()), x, [means, &a, &b, &c], dx, dother);
    });
    let shape = [0, 1, 2, 3].map(|d| size(&x, d));
    (tensor(dx, shape), tensor(dgamma, [channels]), tensor(dbeta, [channels]))
}

/// The gradient of the result, which ReLU passes on where its result `y` is positive.
#[derive(Clone, Copy)]
struct Passed<'a> {
    dy: &'a [f32],
    y: Option<&'a [f32]>,
}

impl<'a> Passed<'a> {
    #[inline(always)]
    fn of(self, from: usize, len: usize) -> Self {
        Self { dy: &self.dy[from..][..len], y: self.y.map(|y| &y[from..][..len]) }
    }
}

/// `dy` where `y` is positive.
#[inline(always)]
fn open<L: Lanes>(dy: L, y: L) -> L {
    y.select_gt(L::splat(0.0), dy, L::splat(0.0))
}

simd_fn! {
    /// The sums of `dy·x̂` and of `dy` for some channels.
    fn sums<L>(
        maps: &Maps, passed: Passed<'_>, x: &[f32], first: usize, by: [&[f32]; 2], dgamma: &mut [f32],
        dbeta: &mut [f32],
    ) {
        let [means, inverse] = by;
        for (i, (dgamma, dbeta)) in dgamma.iter_mut().zip(dbeta).enumerate() {
            let c = first + i;
            let (single, centre) = (means[c], L::splat(means[c]));
            let (mut products, mut plain) = (0.0, 0.0);
            for (image, x) in maps.planes(x, c).enumerate() {
                let Passed { dy, y } = passed.of(image * maps.image() + c * maps.cells, maps.cells);
                if let Some(y) = y {
                    products += sum_over!(
                        L,
                        |x = x, dy = dy, y = y| open(dy, y).mul(x.sub(centre)),
                        if y > 0.0 { dy * (x - single) } else { 0.0 }
                    );
                    plain += sum_over!(L, |dy = dy, y = y| open(dy, y), if y > 0.0 { dy } else { 0.0 });
                } else {
                    products += sum_over!(L, |x = x, dy = dy| dy.mul(x.sub(centre)), dy * (x - single));
                    plain += sum_over!(L, |dy = dy| dy, dy);
                }
            }
            *dgamma = (products * f64::from(inverse[c])) as f32;
            *dbeta = plain as f32;
        }
    }
}

simd_fn! {
    /// The gradient of images, and of what was added to them.
    fn input_grad<L>(
        maps: &Maps, passed: Passed<'_>, x: &[f32], by: [&[f32]; 4], dx: &mut [f32],
        dother: Option<&mut [f32]>,
    ) {
        let (cells, [means, a, b, c]) = (maps.cells, by);
        let mut dother = dother;
        for (p, (x, dx)) in x.chunks_exact(cells).zip(dx.chunks_exact_mut(cells)).enumerate() {
            let channel = p % maps.channels;
            let Passed { dy, y } = passed.of(p * cells, cells);
            let mut dother = dother.as_mut().map(|d| &mut d[p * cells..][..cells]);
            let mean = L::splat(means[channel]);
            let [a, b, c] = [a, b, c].map(|v| L::splat(v[channel]));
            let mut i = 0;
            while i + L::N <= cells {
                let dy = L::load(&dy[i..]);
                let dy = y.map_or(dy, |y| open(dy, L::load(&y[i..])));
                if let Some(d) = &mut dother {
                    dy.store(&mut d[i..]);
                }
                a.mul_add(dy, b.mul_add(L::load(&x[i..]).sub(mean), c)).store(&mut dx[i..]);
                i += L::N;
            }
            if i < cells {
                let dy = L::load_part(&dy[i..]);
                let dy = y.map_or(dy, |y| open(dy, L::load_part(&y[i..])));
                if let Some(d) = &mut dother {
                    dy.store_part(&mut d[i..]);
                }
                a.mul_add(dy, b.mul_add(L::load_part(&x[i..]).sub(mean), c)).store_part(&mut dx[i..]);
            }
        }
    }
}
