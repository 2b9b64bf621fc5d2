//! 3×3 convolutions of stride 1 by Winograd's F(2×2, 3×3): four results from sixteen products where thirty-six would be
//! multiplied (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks").
//!
//! A square of 4×4 cells `d` and a kernel `g` give 2×2 results `Aᵀ[(G·g·Gᵀ) ∘ (Bᵀ·d·B)]A`. Summed over channels, each of the sixteen
//! places is a matrix product. The sums differ from direct ones by a few roundings more.
//!
//! A dilation of `d` makes of a map d² phases, every d-th row and column: results of one phase see cells of one phase, as
//! neighbours. The squares of all phases are worked on together, so results lie next to each other.

mod kernels;
mod results;
mod squares;
mod weight;

use self::kernels::Kernels;
pub(super) use self::kernels::Turn;
use self::results::results;
pub(super) use self::squares::Squares;
use self::squares::cells;
pub(super) use self::weight::weight_grad;
use super::gather::shares;
use super::maps::{Block, TASKS};
use crate::alloc;
use crate::parallel;
use crate::simd::product::{self, Start, Strided};
use crate::simd::simd_fn;
use crate::simd::tile::Tile;

/// Places of a square.
const PLACES: usize = 16;
/// Numbers between the matrices of two places, and between the rows of the weight's: what lies whole pages apart would share a few
/// lines of the cache.
const APART: usize = 16;

/// `out [images, outer, output]` from the squares of the maps and the weight.
pub(super) fn convolve(squares: &Squares<'_>, w: &[f32], turn: Turn, outer: usize, out: &mut [f32]) {
    let channels = squares.maps.channels;
    let (wide, place_in, place_out) = (squares.wide(), squares.place(channels), squares.place(outer));
    let kernels = Kernels::new(w, turn, [outer, channels]);
    let blocks = squares.blocks();
    let alone = blocks.len() >= TASKS;
    let parts = blocks.iter().zip(shares(&squares.maps, &blocks, outer, out)).collect();
    // Blocks at the same time, or, where there are few, what is done for each.
    let work = |(block, out): (&Block, Vec<Tile<'_>>)| {
        let mut seen = alloc::scratch(PLACES * place_in);
        let mut sums = alloc::scratch(PLACES * place_out);
        let each = if alone { channels } else { channels.div_ceil(TASKS) };
        let tasks = squares.rows(&mut seen, channels, each);
        run(alone, tasks, |(channels, seen)| cells(squares, block, channels, seen));
        let size = [outer, squares.count(block), channels];
        let tasks = sums.chunks_mut(place_out).enumerate().collect();
        run(alone, tasks, |(place, sums): (usize, &mut [f32])| {
            multiply(size, kernels.of(place), &seen[place * place_in..], sums, wide);
        });
        let each = if alone { outer } else { outer.div_ceil(TASKS) };
        let (mut tasks, mut rest) = (Vec::new(), out);
        for first in (0..outer).step_by(each) {
            let (here, below) = rest.into_iter().map(|tile| tile.split_rows(each)).unzip();
            rest = below;
            tasks.push((first, here));
        }
        run(alone, tasks, |(first, out)| results(squares, block, &sums, first, out));
    };
    run(!alone, parts, work);
}

/// Tasks in turn, where others run beside these, or at the same time.
fn run<T: Send>(in_turn: bool, tasks: Vec<T>, work: impl Fn(T) + Sync + Send) {
    match in_turn {
        true => tasks.into_iter().for_each(work),
        false => parallel::run(tasks, work),
    }
}

simd_fn! {
    /// One place's product.
    fn multiply<L>(size: [usize; 3], kernels: Strided<'_>, seen: &[f32], sums: &mut [f32], wide: usize) {
        product::gemm::<L>(size, kernels, (seen, wide), (sums, wide), Start::Zero);
    }
}
