//! The weight gradient: the results' gradient times what the taps see, cell by cell.
//!
//! A task owns some columns of the weight `[outer, channels·taps]` and some blocks of cells. It turns what the taps see so that
//! cells come first, a panel of a tile's columns after the other; the gradient is read where it is.

use std::ops::Range;

use super::maps::{Block, Maps, TASKS};
use crate::alloc::{self, Buffer};
use crate::gemm::add;
use crate::parallel;
use crate::simd::product::{self, Start, Strided};
use crate::simd::simd_fn;
use crate::simd::tile::Tile;
use crate::simd::transpose::transpose;

/// Cells at a time, at most: a panel of them stays in the first-level cache.
const CELLS: usize = 200;
/// Columns of one task, unless one channel has more taps: whole tiles.
const COLUMNS: usize = 144;
/// Cells of one task, about, at most.
const MOST: usize = 8192;
/// Numbers added by one task.
const SPAN: usize = 1 << 14;

/// Some columns of the gradient, by some blocks.
struct Part<'a> {
    blocks: &'a [Block],
    channels: Range<usize>,
    out: Tile<'a>,
}

/// `dw [outer, channels·taps]` from `dy [images, outer, grid]`.
pub(super) fn weight_grad(maps: &Maps<'_>, dy: &[f32], outer: usize) -> Buffer {
    let columns = maps.channels * maps.taps();
    let blocks = maps.blocks(CELLS);
    let channels = (COLUMNS / maps.taps()).clamp(1, maps.channels.max(1));
    // Few columns: the blocks are shared out, and what each share gives is added in order.
    let shares = TASKS.div_ceil(maps.channels.div_ceil(channels));
    // Long sums are shared out as well: what is added first would be rounded once for each that follows.
    let shares = shares.max(maps.images * maps.grid() / MOST);
    let each = blocks.len().div_ceil(shares).max(1);
    let joined = join(maps, dy, outer, &blocks);
    let dy = Results { data: joined.as_deref().unwrap_or(dy), outer, joined: joined.is_some() };
    let size = (outer * columns).max(1);
    let mut partial = alloc::scratch((blocks.len().div_ceil(each).max(1) - 1) * size);
    let mut dw = alloc::scratch(outer * columns);
    let mut parts = Vec::new();
    let outputs = std::iter::once(&mut *dw).chain(partial.chunks_mut(size));
    for (blocks, out) in blocks.chunks(each).zip(outputs) {
        let mut rest = Tile::new(out, columns);
        for first in (0..maps.channels).step_by(channels) {
            let channels = first..(first + channels).min(maps.channels);
            let (out, after) = rest.split_cols(channels.end * maps.taps());
            rest = after;
            parts.push(Part { blocks, channels, out });
        }
    }
    parallel::run(parts, |part: Part<'_>| weight_part(maps, dy, part));
    if blocks.len() > each {
        let tasks = dw.chunks_mut(SPAN).enumerate().collect();
        parallel::run(tasks, |(i, dw): (usize, &mut [f32])| {
            for partial in partial.chunks_exact(size) {
                add(dw, &partial[i * SPAN..][..dw.len()]);
            }
        });
    }
    dw
}

/// The gradient of the results: `[images, outer, grid]`, or, joined, `[outer, images·grid]`.
#[derive(Clone, Copy)]
struct Results<'a> {
    data: &'a [f32],
    outer: usize,
    joined: bool,
}

/// The images' cells next to each other in every channel, where a block has several images: `[outer, images·grid]`.
fn join(maps: &Maps<'_>, dy: &[f32], outer: usize, blocks: &[Block]) -> Option<Buffer> {
    let (images, grid) = (maps.images, maps.grid());
    if blocks.first()?.images.len() < 2 {
        return None;
    }
    let mut joined = alloc::scratch(outer * images * grid);
    let rows = (SPAN / (images * grid)).max(1);
    let tasks = joined.chunks_mut(rows * images * grid).enumerate().collect();
    parallel::run(tasks, |(i, to): (usize, &mut [f32])| {
        for (o, to) in (i * rows..).zip(to.chunks_exact_mut(images * grid)) {
            for (image, to) in to.chunks_exact_mut(grid).enumerate() {
                to.copy_from_slice(&dy[(image * outer + o) * grid..][..grid]);
            }
        }
    });
    Some(joined)
}

simd_fn! {
    /// One task of [`weight_grad`].
    fn weight_part<L>(maps: &Maps<'_>, dy: Results<'_>, part: Part<'_>) {
        let Part { blocks, channels, mut out } = part;
        let (grid, width, tile) = (maps.grid(), out.cols(), L::COLS * L::N);
        let plain = maps.is_plain();
        let mut unfolded = alloc::scratch(if plain { 0 } else { width * CELLS });
        let (mut room, mut panel) = (Vec::new(), alloc::zeros(CELLS * tile));
        let mut start = Start::Zero;
        for block in blocks {
            let cells = block.cells();
            let inside = block.rows.start * maps.axes[1].grid + block.cols.start;
            // The cells of a block lie next to each other.
            let (first, row) = match dy.joined {
                true => (block.images.start * grid + inside, maps.images * grid),
                false => (block.images.start * dy.outer * grid + inside, grid),
            };
            let results = Strided(&dy.data[first..], row, 1);
            if !plain {
                maps.unfold::<L>(channels.clone(), block, &mut room, (&mut unfolded, CELLS));
            }
            for (j, columns) in (0..width).step_by(tile).zip(pieces_of(width, tile)) {
                if plain {
                    for (i, image) in block.images.clone().enumerate() {
                        let count = block.cols.len();
                        let from = (image * maps.channels + channels.start + j) * grid + block.cols.start;
                        let to = &mut panel[i * count * tile..];
                        transpose::<L>((&maps.data[from..], grid), [columns, count], (to, tile));
                    }
                } else {
                    transpose::<L>((&unfolded[j * CELLS..], CELLS), [columns, cells], (&mut panel, tile));
                }
                let (size, out) = ([dy.outer, columns, cells], &mut out.columns_from(j));
                product::gemm_tile::<L>(size, results, (&panel, tile), out, start);
            }
            start = Start::Add;
        }
    }
}

/// The widths of tiles next to each other.
#[inline(always)]
fn pieces_of(width: usize, tile: usize) -> impl Iterator<Item = usize> {
    (0..width).step_by(tile).map(move |from| tile.min(width - from))
}
