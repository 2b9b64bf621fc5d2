//! Matrix products: which template, which tile, and how far along k to split.

use burn::backend::wgpu::CubeTensor;

use super::caps::{Family, caps, software, wide};
use super::launch::{Launch, empty, reshaped, sum_rows};
use super::template::Setting;

/// How the factors lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `a [m, k]`, `b [k, n]`.
    Nn,
    /// `a [m, k]`, `b [n, k]`.
    Nt,
    /// `a [k, m]`, `b [k, n]`.
    Tn,
}

/// What happens to the product before it is written.
#[derive(Clone, Copy)]
pub(crate) enum Ending<'a> {
    /// Nothing.
    Plain,
    /// Plus a bias `[n]`.
    Bias(&'a CubeTensor),
    /// Plus a bias, plus what goes past the product, `[m, n]`.
    BiasResidual(&'a CubeTensor, &'a CubeTensor),
    /// Plus a bias, then GELU.
    BiasGelu(&'a CubeTensor),
    /// The same; what goes into GELU is kept in the second tensor, `[m, n]`.
    BiasGeluKeep(&'a CubeTensor, &'a CubeTensor),
    /// Times the slope of GELU at these numbers, `[m, n]`.
    Slope(&'a CubeTensor),
}

/// A product `[m, n]` of contiguous factors.
pub(crate) struct Gemm<'a> {
    pub layout: Layout,
    pub a: &'a CubeTensor,
    pub b: &'a CubeTensor,
    /// m, n, k.
    pub sizes: [usize; 3],
    pub ending: Ending<'a>,
}

/// Several products at once, their factors at even distances; the results follow one another.
#[derive(Clone, Copy)]
pub(crate) struct Batch {
    pub count: usize,
    /// Numbers from one `a` to the next, 0 where all share one.
    pub a: usize,
    /// The same of `b`.
    pub b: usize,
    /// Numbers from one row of a `b [k, n]` to the next: at least n, and where that is no multiple of 4 but this is, there are
    /// numbers up to the next multiple.
    pub b_row: usize,
}

/// A tile of the result and who computes it.
struct Tile {
    shader: &'static str,
    rows: usize,
    /// In vec4.
    columns: usize,
    /// Invocations that share a tile.
    lanes: usize,
    group: usize,
    /// Tiles of a workgroup.
    tiles: usize,
}

impl Tile {
    fn of(m: usize, n: usize) -> Self {
        let caps = caps();
        if caps.family == Family::Hardware {
            return Self { shader: "gemm_shared", rows: 64, columns: 16, lanes: 64, group: 64, tiles: 1 };
        }
        // Measured on lavapipe (docs/kernels.md): larger tiles are little faster and take seconds more to compile.
        let lanes = caps.lanes;
        if matches!(lanes, 4 | 8) {
            // A few rows take as long as 32, but not another second for a tile of their own to be compiled.
            let columns = n.div_ceil(4 * lanes).clamp(1, 2) * lanes;
            return Self { shader: "gemm_subgroup", rows: 32, columns, lanes, group: lanes, tiles: 1 };
        }
        let rows = if m > 4 { 8 } else { 4 };
        let columns = n.div_ceil(4).clamp(1, 4);
        Self { shader: "gemm_register", rows, columns, lanes: 1, group: 8, tiles: 8 }
    }

    fn count(&self, m: usize, n: usize) -> usize {
        m.div_ceil(self.rows) * n.div_ceil(self.columns * 4)
    }
}

/// What happens to sums, in the bits of `shaders/gemm_parts.wgsl`.
const BIAS: usize = 1;
const KEEP: usize = 2;
const GELU: usize = 4;
const RESIDUAL: usize = 8;
const SLOPE: usize = 16;

/// Tiles that occupy a device; with fewer, a long product is split along k.
fn enough_tiles() -> usize {
    if software() { 64 } else { 256 }
}

/// Computes the product: `[m, n]`.
pub(crate) fn gemm(g: &Gemm<'_>) -> CubeTensor {
    let [m, n, k] = g.sizes;
    let tile = Tile::of(m, n);
    let splits = match g.ending {
        Ending::Plain => (enough_tiles() / tile.count(m, n).max(1)).clamp(1, k.div_ceil(256).max(1)),
        _ => 1,
    };
    let c = empty(g.a, [splits * m, n]);
    launch(g, &tile, &c, splits, &Batch { count: 1, a: 0, b: 0, b_row: n });
    if splits == 1 {
        return c;
    }
    reshaped(sum_rows(&c, splits, m * n), [m, n])
}

/// Computes the products of a batch: `[batch, m, n]`.
pub(crate) fn gemm_batch(g: &Gemm<'_>, batch: &Batch) -> CubeTensor {
    let [m, n, _] = g.sizes;
    if batch.count == 1 && batch.b_row == n {
        return gemm(g);
    }
    let c = empty(g.a, [batch.count * m, n]);
    launch(g, &Tile::of(m, n), &c, 1, batch);
    c
}

fn launch(g: &Gemm<'_>, tile: &Tile, c: &CubeTensor, splits: usize, batch: &Batch) {
    let [m, n, k] = g.sizes;
    // Splits begin at multiples of 4, where vec4 begin.
    let span = k.div_ceil(splits).next_multiple_of(4).max(4);
    let whole = |row: usize, between: usize| Setting::Flag(row.is_multiple_of(4) && between.is_multiple_of(4));
    let (layout, a_row, b_row) = match g.layout {
        Layout::Nn => ("nn", k, batch.b_row),
        Layout::Nt => ("nt", k, k),
        Layout::Tn => ("tn", m, batch.b_row),
    };
    let (ends, bias, past) = match g.ending {
        Ending::Plain => (0, None, None),
        Ending::Bias(b) => (BIAS, Some(b), None),
        Ending::BiasResidual(b, past) => (BIAS | RESIDUAL, Some(b), Some(past)),
        Ending::BiasGelu(b) => (BIAS | GELU, Some(b), None),
        Ending::BiasGeluKeep(b, kept) => (BIAS | KEEP | GELU, Some(b), Some(kept)),
        Ending::Slope(before) => (SLOPE, None, Some(before)),
    };
    // Weight gradients are never anything but plain; one text serves all others.
    let any = ends != 0 || g.layout != Layout::Tn;
    let mut settings = vec![
        ("layout", layout.into()),
        ("a_vec", whole(a_row, batch.a)),
        ("b_vec", whole(b_row, batch.b)),
        ("c_vec", whole(n, 0)),
        ("ending", if any { "any" } else { "plain" }.into()),
        ("wide", wide().into()),
    ];
    match tile.shader {
        "gemm_register" => settings.extend([
            ("rows", tile.rows.into()),
            ("columns", tile.columns.into()),
            ("group", tile.group.into()),
        ]),
        "gemm_subgroup" => settings.extend([
            ("rows", tile.rows.into()),
            ("columns", (tile.columns / tile.lanes).into()),
            ("lanes", tile.lanes.into()),
        ]),
        _ => {}
    }
    // Bound where there is nothing to bind; buffers must be different ones.
    let nothing = any.then(|| [0, 1].map(|_| empty(g.a, [4])));
    let mut buffers = vec![g.a, g.b, c];
    if let Some([no_bias, no_past]) = &nothing {
        buffers.extend([bias.unwrap_or(no_bias), past.unwrap_or(no_past)]);
    }
    let sizes = [m, n, k, span, splits, batch.a, batch.b, batch.b_row, ends].map(|x| x as u32);
    Launch {
        shader: tile.shader,
        settings: &settings,
        group: tile.group,
        groups: (tile.count(m, n).div_ceil(tile.tiles), splits * batch.count),
        buffers: &buffers,
        sizes: &sizes,
    }
    .run();
}
