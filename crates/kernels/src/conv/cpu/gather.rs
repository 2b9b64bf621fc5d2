//! The forward pass and the input gradient: the weight times what the taps see.
//!
//! A task owns a block of cells and some channels of the result. It multiplies the weight by what the taps see of a few hundred
//! cells while that is in the cache; a 1×1 kernel's product reads the maps where they are.

use std::ops::Range;

use super::maps::{Block, Maps, TASKS};
use super::unfold::copy;
use crate::alloc::{self, Buffer};
use crate::parallel;
use crate::simd::product::{self, Start, Strided};
use crate::simd::simd_fn;
use crate::simd::tile::Tile;
use crate::simd::transpose::transpose;

/// Cells unfolded at a time, at most: whole tiles.
const CELLS: usize = 240;
/// Channels times taps unfolded at a time, about.
const DEPTH: usize = 512;
/// Fewest channels of the result in one task, where there are so many.
const ROWS: usize = 32;
/// Numbers written down for several tasks, at most: 32 MiB.
const SHARED: usize = 1 << 23;
/// Numbers between two rows of the weight, where rows of whole pages or halves would lie in the same few lines of the cache.
const SPACE: usize = 16;
/// Rows of the turned weight in one task.
const TURNED: usize = 16;

/// Some channels of the results of a block.
struct Part<'a> {
    block: &'a Block,
    /// What the taps see, where another pass has written it down.
    seen: Option<&'a [f32]>,
    outer: Range<usize>,
    /// Where the results belong, one for each image: their columns begin where the block's results do.
    out: Vec<Tile<'a>>,
}

/// `out [images, outer, output] = weight [outer, channels·taps]·what the taps see`, at the cells of the axes' grids.
pub(super) fn gather(maps: &Maps<'_>, weight: &[f32], outer: usize, out: &mut [f32]) {
    if maps.grid() == 0 || outer == 0 || maps.images == 0 {
        return;
    }
    let (mut blocks, rest) = match maps.is_plain() {
        true => maps.plain_blocks(CELLS),
        false => (Vec::new(), maps.blocks(CELLS)),
    };
    let direct = blocks.len();
    blocks.extend(rest);
    let groups = TASKS.div_ceil(blocks.len()).min(outer.div_ceil(ROWS));
    let rows = outer.div_ceil(groups).next_multiple_of(8);
    let depth = maps.channels * maps.taps();
    let spaced = spaced(weight, depth);
    let weight = match &spaced {
        Some(spaced) => Strided(spaced, depth + SPACE, 1),
        None => Strided(weight, depth, 1),
    };
    // Where several tasks need the same of what the taps see, it is written down for all of them, unless it is too much.
    let all = depth * CELLS * blocks.len();
    let shared = if rows < outer && direct == 0 && all <= SHARED { depth * CELLS } else { 0 };
    let mut seen = alloc::scratch(shared * blocks.len());
    if shared > 0 {
        let each = maps.channels.div_ceil(TASKS.div_ceil(blocks.len()));
        let tasks = blocks
            .iter()
            .zip(seen.chunks_mut(shared))
            .flat_map(|(block, seen)| {
                seen.chunks_mut(each * maps.taps() * CELLS)
                    .enumerate()
                    .map(move |(i, seen)| (block, i * each..((i + 1) * each).min(maps.channels), seen))
            })
            .collect();
        parallel::run(tasks, |(block, channels, seen)| unfold(maps, block, channels, seen));
    }
    let seen = seen.chunks(shared.max(1)).map(Some).chain(std::iter::repeat(None));
    let mut parts = Vec::new();
    for ((block, out), seen) in blocks.iter().zip(shares(maps, &blocks, outer, out)).zip(seen) {
        let mut rest = out;
        for first in (0..outer).step_by(rows) {
            let (out, below) = rest.into_iter().map(|tile| tile.split_rows(rows)).unzip();
            rest = below;
            parts.push(Part { block, seen, outer: first..(first + rows).min(outer), out });
        }
    }
    parallel::run(parts, |part: Part<'_>| gather_part(maps, weight, part));
}

/// The weight with [`SPACE`] between its rows, where that is faster.
fn spaced(weight: &[f32], depth: usize) -> Option<Buffer> {
    if depth == 0 || !depth.is_multiple_of(512) {
        return None;
    }
    let mut out = alloc::scratch(weight.len() / depth * (depth + SPACE));
    let tasks = out.chunks_mut(TURNED * (depth + SPACE)).zip(weight.chunks(TURNED * depth)).collect();
    parallel::run(tasks, |(out, weight): (&mut [f32], &[f32])| {
        for (out, weight) in out.chunks_mut(depth + SPACE).zip(weight.chunks(depth)) {
            out[..depth].copy_from_slice(weight);
        }
    });
    Some(out)
}

/// The columns of the output that belong to each block, in all its images. A block's begin with its first result.
pub(super) fn shares<'a>(
    maps: &Maps<'_>,
    blocks: &[Block],
    outer: usize,
    out: &'a mut [f32],
) -> Vec<Vec<Tile<'a>>> {
    let ([y, x], area) = (maps.axes, maps.output());
    let mut images: Vec<_> = out.chunks_mut(outer * area).map(|image| Some(Tile::new(image, area))).collect();
    let mut shares: Vec<Vec<Tile<'a>>> = Vec::new();
    // From the end: what lies in front of a block's first result belongs to those before it.
    for block in blocks.iter().rev() {
        let row = block.rows.start * y.out_step + y.out_first;
        let first = row * x.output + block.cols.start * x.out_step + x.out_first;
        let share = images[block.images.clone()].iter_mut().filter_map(|image| {
            let (before, here) = image.take()?.split_cols(first);
            *image = Some(before);
            Some(here)
        });
        shares.push(share.collect());
    }
    shares.reverse();
    shares
}

simd_fn! {
    /// Writes down what the taps see of some channels.
    fn unfold<L>(maps: &Maps<'_>, block: &Block, channels: Range<usize>, seen: &mut [f32]) {
        maps.unfold::<L>(channels, block, &mut Vec::new(), (seen, CELLS));
    }
}

simd_fn! {
    /// One task of [`gather`].
    fn gather_part<L>(maps: &Maps<'_>, weight: Strided<'_>, part: Part<'_>) {
        let Strided(weight, row, _) = weight;
        let Part { block, seen, outer, mut out } = part;
        let (taps, cells, height) = (maps.taps(), block.cells(), outer.len());
        let depth = maps.channels * taps;
        let [y, x] = maps.axes;
        // Results of a block that lie next to each other are written where they belong.
        let joined = y.out_step == 1 && x.out_step == 1 && (block.rows.len() == 1 || block.cols.len() == x.output);
        let to_sums = block.images.len() > 1 || !joined;
        let mut sums = alloc::scratch(if to_sums { height * CELLS } else { 0 });
        // Numbers are read in whole vectors.
        let direct = maps.is_plain() && block.images.len() == 1 && cells % L::N == 0;
        // As many channels at a time in all passes, about.
        let passes = depth.div_ceil(DEPTH).max(1);
        let channels = maps.channels.div_ceil(passes).max(1);
        let own = seen.is_none() && !direct;
        let (mut unfolded, mut room) = (alloc::scratch(if own { channels * taps * CELLS } else { 0 }), Vec::new());
        if depth == 0 {
            // Sums over nothing, of cells that no tap has seen.
            sums.fill(0.0);
            for tile in &mut out {
                for row in 0..if to_sums { 0 } else { height } {
                    tile.row(row)[..cells].fill(0.0);
                }
            }
        }
        let mut start = Start::Zero;
        for c in (0..maps.channels).step_by(channels).take(depth) {
            let channels = c..(c + channels).min(maps.channels);
            let rows = channels.len() * taps;
            let seen = match seen {
                Some(seen) => (&seen[c * taps * CELLS..], CELLS),
                None if direct => {
                    let area = maps.input();
                    let from = (block.images.start * maps.channels + c) * area + block.cols.start;
                    (&maps.data[from..], area)
                }
                None => {
                    maps.unfold::<L>(channels, block, &mut room, (&mut unfolded, CELLS));
                    (&*unfolded, CELLS)
                }
            };
            let weight = Strided(&weight[outer.start * row + c * taps..], row, 1);
            let size = [height, cells, rows];
            match out.first_mut() {
                Some(tile) if !to_sums => product::gemm_tile::<L>(size, weight, seen, tile, start),
                _ => product::gemm::<L>(size, weight, seen, (&mut sums, CELLS), start),
            }
            start = Start::Add;
        }
        if !to_sums {
            return;
        }
        let (count, width) = (block.cols.len(), y.out_step * x.output);
        let each = block.rows.len() * count;
        for (row, sums) in sums.chunks_exact(CELLS).enumerate() {
            for (tile, sums) in out.iter_mut().zip(sums.chunks_exact(each)) {
                let out = tile.row(row);
                for (sums, r) in sums.chunks_exact(count).zip(0..) {
                    let to = &mut out[r * width..];
                    if x.out_step == 1 {
                        copy::<L>(sums, &mut to[..count]);
                    } else {
                        for (to, from) in to.iter_mut().step_by(x.out_step).zip(sums) {
                            *to = *from;
                        }
                    }
                }
            }
        }
    }
}

/// The weight as the input gradient multiplies by it: `[inner, outer·taps]`, with the taps `taps` of the kernel's `area`.
pub(super) fn turned(w: &[f32], [outer, inner, area]: [usize; 3], taps: &[usize]) -> Buffer {
    let each = outer * taps.len();
    let mut out = alloc::scratch(inner * each);
    let tasks = out.chunks_mut((TURNED * each).max(1)).enumerate().collect();
    parallel::run(tasks, |(i, out): (usize, &mut [f32])| {
        turned_part(w, [outer, inner, area], taps, i * TURNED, out);
    });
    out
}

simd_fn! {
    /// The rows of [`turned`] from `first` on.
    fn turned_part<L>(w: &[f32], sizes: [usize; 3], taps: &[usize], first: usize, out: &mut [f32]) {
        let [outer, inner, area] = sizes;
        let each = outer * taps.len();
        let count = out.len() / each;
        if area == 1 {
            return transpose::<L>((&w[first..], inner), [outer, count], (out, outer));
        }
        for o in 0..outer {
            let kernels = &w[(o * inner + first) * area..][..count * area];
            for (kernel, out) in kernels.chunks_exact(area).zip(out.chunks_exact_mut(each)) {
                for (to, tap) in out[o * taps.len()..].iter_mut().zip(taps) {
                    *to = kernel[*tap];
                }
            }
        }
    }
}
