//! Convolution in WGSL.

use burn::backend::wgpu::{CubeBackend, CubeTensor};

use super::ConvShape;
use super::gather::Axis;
use super::kernel::{ConvKernel, ConvOps};
use super::product::Sizes;
use crate::gpu::{Launch, contiguous, empty, reshaped, size, software, sum_rows};

/// Cells of the input that one axis of a tile or segment of `cells` looks at.
fn reach(cells: usize, taps: usize, step: usize, gap: usize) -> usize {
    if taps == 1 { cells } else { (cells - 1) * step + (taps - 1) * gap + 1 }
}

/// What an invocation costs that loads and multiplies so often, in cycles of lavapipe (docs/kernels.md): there a load is
/// about 25 multiplications.
fn cost(loads: usize, products: usize) -> usize {
    25 * loads + products
}

/// Channels of a tile.
fn tile_channels(channels: usize) -> usize {
    if channels > 4 { 8 } else { 4 }
}

/// Rows and columns of a tile: what covers the grid with the least work. Sides of 7, 14, 28, 56 and 112 cells are the
/// usual ones.
fn tile_cells(y: &Axis, x: &Axis, channels: usize) -> (usize, usize) {
    let work = |&(py, px): &(usize, usize)| {
        let tiles = y.grid.div_ceil(py) * x.grid.div_ceil(px);
        let loads = channels * x.taps + py * reach(px, x.taps, x.step, x.gap);
        tiles * cost(loads, channels * x.taps * py * px)
    };
    let choices = [(1, 16), (1, 14), (2, 8), (2, 7), (4, 4), (1, 8), (1, 4)];
    // More products in one loop take many seconds to compile.
    let short = |&(py, px): &(usize, usize)| channels * x.taps * py * px <= 512;
    choices.into_iter().filter(short).min_by_key(work).unwrap_or((1, 4))
}

/// Gathers from `x` through the weight's `[outer, inner]` channel distances into `out`.
fn gather(x: &CubeTensor, w: &CubeTensor, out: &CubeTensor, axes: [Axis; 2], backward: bool) {
    let [mut y, mut across] = axes;
    if y.grid * across.grid == 0 {
        return;
    }
    let (kernel_h, kernel_w) = (size(w, 2), size(w, 3));
    // No tap: the sum is over nothing, and the result is zero.
    if y.taps * across.taps == 0 {
        y.taps = 0;
        across.taps = 1;
    }
    if y.is_plain() && across.is_plain() {
        let area = y.input * across.input;
        (y, across) = (Axis::single(), Axis { input: area, grid: area, output: area, ..across });
    }
    let (images, inner, outer) = (size(x, 0), size(x, 1), size(out, 1));
    let area = kernel_h * kernel_w;
    let (between_outer, between_inner) =
        if backward { (area, inner_distance(w)) } else { (inner_distance(w), area) };
    let first = y.first * kernel_w + across.first;
    let sizes = [
        images,
        inner,
        outer,
        y.input,
        across.input,
        y.grid,
        across.grid,
        y.output,
        across.output,
        y.taps,
        first,
        (y.between * kernel_w as isize) as usize,
        across.between as usize,
        between_outer,
        between_inner,
        y.step,
        y.offset as usize,
        y.gap,
        across.offset as usize,
        0,
        across.out_step,
        y.out_first,
        across.out_first,
        0,
    ]
    // Negative distances wrap round, in the shader as here.
    .map(|n| n as u32);
    let along = [("taps", across.taps.into()), ("step", across.step.into()), ("gap", across.gap.into())];
    let buffers = [x, w, out];
    if !software() {
        let tiles = outer.div_ceil(64) * (images * y.grid * across.grid).div_ceil(64);
        let launch = Launch {
            shader: "conv_shared",
            settings: &along,
            group: 64,
            groups: (tiles, 1),
            buffers: &buffers,
            sizes: &sizes,
        };
        return launch.run();
    }
    let rows = tile_channels(outer);
    let (py, px) = tile_cells(&y, &across, rows);
    let tiles = images * outer.div_ceil(rows) * y.grid.div_ceil(py) * across.grid.div_ceil(px);
    let unroll = if across.taps == 1 && inner.is_multiple_of(4) { 4 } else { 1 };
    let mut settings = vec![
        ("rows", rows.into()),
        ("py", py.into()),
        ("px", px.into()),
        ("unroll", unroll.into()),
        ("padded", (y.is_padded() || across.is_padded()).into()),
        ("group", 8.into()),
    ];
    settings.extend(along);
    Launch {
        shader: "conv_register",
        settings: &settings,
        group: 8,
        groups: (tiles.div_ceil(8), 1),
        buffers: &buffers,
        sizes: &sizes,
    }
    .run();
}

/// From one output channel of a weight `[out, in, height, width]` to the next.
fn inner_distance(w: &CubeTensor) -> usize {
    size(w, 1) * size(w, 2) * size(w, 3)
}

/// The part of the weight gradient that one invocation of the register family owns, and how far it goes at a time.
struct Stripe {
    rows: usize,
    columns: usize,
    segment: usize,
}

impl Stripe {
    fn of(outer: usize, inner: usize, taps: usize, out_w: usize) -> Self {
        let rows = if taps <= 3 && outer > 4 { 8 } else { 4 };
        // About a hundred sums, in steps of 4.
        let columns = (128 / (rows * taps) / 4 * 4).clamp(1, 16).min(inner);
        let segment = [7, 8, 4].into_iter().find(|s| out_w.is_multiple_of(*s)).unwrap_or(4).min(out_w);
        Self { rows, columns, segment }
    }
}

/// The sizes of a convolution with a weight.
fn sizes(images: usize, input: [usize; 2], w: &CubeTensor, shape: ConvShape) -> Sizes {
    Sizes::new(images, [size(w, 0), size(w, 1)], [size(w, 2), size(w, 3)], input, shape)
}

impl ConvOps for CubeBackend {
    fn fused_conv(x: CubeTensor, w: CubeTensor, shape: ConvShape) -> CubeTensor {
        Self::conv_forward(x, w, shape)
    }
}

impl ConvKernel for CubeBackend {
    fn conv_forward(x: CubeTensor, w: CubeTensor, shape: ConvShape) -> CubeTensor {
        let (x, w) = (contiguous(x), contiguous(w));
        let sizes = sizes(size(&x, 0), [2, 3].map(|d| size(&x, d)), &w, shape);
        if sizes.unfolds() {
            return sizes.forward(&x, &w);
        }
        let axes = [2, 3].map(|d| Axis::forward(shape, size(&x, d), size(&w, d)));
        let y = empty(&x, [size(&x, 0), size(&w, 0), axes[0].output, axes[1].output]);
        gather(&x, &w, &y, axes, false);
        y
    }

    fn conv_input_grad(dy: CubeTensor, w: CubeTensor, input: [usize; 2], shape: ConvShape) -> CubeTensor {
        let (dy, w) = (contiguous(dy), contiguous(w));
        let sizes = sizes(size(&dy, 0), input, &w, shape);
        if sizes.unfolds() {
            return sizes.input_grad(&dy, &w);
        }
        let dx = empty(&dy, [size(&dy, 0), size(&w, 1), input[0], input[1]]);
        for down in 0..shape.stride {
            for right in 0..shape.stride {
                let y = Axis::backward(shape, down, input[0], size(&w, 2));
                let x = Axis::backward(shape, right, input[1], size(&w, 3));
                gather(&dy, &w, &dx, [y, x], true);
            }
        }
        dx
    }

    fn conv_weight_grad(x: CubeTensor, dy: CubeTensor, kernel: [usize; 2], shape: ConvShape) -> CubeTensor {
        let (x, dy) = (contiguous(x), contiguous(dy));
        let (inner, outer, input) = (size(&x, 1), size(&dy, 1), [2, 3].map(|d| size(&x, d)));
        let sizes = Sizes::new(size(&x, 0), [outer, inner], kernel, input, shape);
        if sizes.unfolds() {
            return sizes.weight_grad(&x, &dy);
        }
        weight_grad(&x, &dy, kernel, shape)
    }
}

/// See [`ConvKernel::conv_weight_grad`].
fn weight_grad(x: &CubeTensor, dy: &CubeTensor, [height, width]: [usize; 2], shape: ConvShape) -> CubeTensor {
    let (images, inner, outer) = (size(x, 0), size(x, 1), size(dy, 1));
    let (mut input, mut output) = ([size(x, 2), size(x, 3)], [size(dy, 2), size(dy, 3)]);
    let ConvShape { stride, padding, dilation } = shape;
    if height * width == 1 && stride == 1 && padding == 0 {
        // Cells as they come: one long row.
        (input, output) = ([1, input[0] * input[1]], [1, output[0] * output[1]]);
    }
    let values = outer * inner * height * width;
    let stripe = Stripe::of(outer, inner, width, output[1]);
    let (tiles, steps) = if software() {
        let tiles = outer.div_ceil(stripe.rows) * inner.div_ceil(stripe.columns) * height;
        (tiles, images * output[0] * output[1].div_ceil(stripe.segment))
    } else {
        (outer.div_ceil(64) * (inner * height * width).div_ceil(64), images * output[0] * output[1])
    };
    // Enough to occupy the device; what each split leaves has to be added up.
    let (enough, least) = if software() { (128, 16) } else { (256, 256) };
    let span = steps.div_ceil((enough / tiles).clamp(1, steps.div_ceil(least)));
    let splits = steps.div_ceil(span);
    let dw = empty(x, [splits, values]);
    let sizes =
        [images, inner, outer, input[0], input[1], output[0], output[1], height, stride, padding, dilation, span]
            .map(|n| n as u32);
    let register = [
        ("taps", width.into()),
        ("rows", stripe.rows.into()),
        ("columns", stripe.columns.into()),
        ("step", stride.into()),
        ("gap", dilation.into()),
        ("segment", stripe.segment.into()),
        ("guarded", (padding > 0 || !output[1].is_multiple_of(stripe.segment)).into()),
        ("group", 8.into()),
    ];
    let (shader, settings, group, groups) = match software() {
        true => ("conv_weight_register", &register[..], 8, tiles.div_ceil(8)),
        false => ("conv_weight_shared", &register[..1], 64, tiles),
    };
    Launch { shader, settings, group, groups: (groups, splits), buffers: &[x, dy, &dw], sizes: &sizes }.run();
    let dw = if splits == 1 { dw } else { sum_rows(&dw, splits, values) };
    reshaped(dw, [outer, inner, height, width])
}
