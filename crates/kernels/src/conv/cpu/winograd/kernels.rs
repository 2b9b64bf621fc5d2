//! The transformed weight.

use super::{APART, PLACES};
use crate::alloc::{self, Buffer};
use crate::parallel;
use crate::simd::product::Strided;
use crate::simd::tile::Tile;
use crate::simd::transpose::transpose;
use crate::simd::{Lanes, simd_fn};

/// Kernels transformed in one task.
const KERNELS: usize = 8;

/// How the weight is multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Turn {
    /// `[outer, channels, 3, 3]`, as it is.
    No,
    /// `[channels, outer, 3, 3]`, with the taps from the last to the first, for the gradient of the input.
    Yes,
}

/// The transformed weight: for each place of a square a matrix `[outer, channels]`, with [`APART`] between its rows.
pub(super) struct Kernels {
    data: Buffer,
    turn: Turn,
    outer: usize,
    channels: usize,
}

impl Kernels {
    /// Transforms the weight.
    pub fn new(w: &[f32], turn: Turn, [outer, channels]: [usize; 2]) -> Self {
        let place = outer * (channels + APART) + APART;
        let mut data = alloc::scratch(PLACES * place);
        let (mut tasks, mut rest) = (Vec::new(), Tile::new(&mut data, place));
        for first in (0..outer).step_by(KERNELS) {
            let (here, after) = rest.split_cols((first + KERNELS).min(outer) * (channels + APART));
            rest = after;
            tasks.push((first, here));
        }
        let apart = match turn {
            Turn::No => [9 * channels, 9],
            Turn::Yes => [9, 9 * outer],
        };
        parallel::run(tasks, |(first, out)| transform(&w[first * apart[0]..], apart, channels, out));
        Self { data, turn, outer, channels }
    }

    /// The matrix of a place.
    pub fn of(&self, place: usize) -> Strided<'_> {
        let place = match self.turn {
            Turn::No => place,
            // Taps from last to first exchange the first place and the last, along both axes.
            Turn::Yes => 4 * turned(place / 4) + turned(place % 4),
        };
        let row = self.channels + APART;
        Strided(&self.data[place * (self.outer * row + APART)..], row, 1)
    }
}

/// `G·g`.
#[inline(always)]
fn kernel<L: Lanes>([a, b, c]: [L; 3]) -> [L; 4] {
    let half = L::splat(0.5);
    let (ends, middle) = (a.add(c).mul(half), b.mul(half));
    [a, ends.add(middle), ends.sub(middle), c]
}

/// Where `G·g` has the value of a place when the taps come from last to first.
fn turned(place: usize) -> usize {
    [3, 1, 2, 0][place]
}

simd_fn! {
    /// Some rows of the matrices, from kernels that lie so far apart along `outer` and along `channels`.
    fn transform<L>(w: &[f32], apart: [usize; 2], channels: usize, out: Tile<'_>) {
        let (mut out, [outer, across]) = (out, apart);
        let wide = channels.next_multiple_of(L::N);
        // Whole squares of numbers are faster, even if they are of the next kernels.
        let whole = 9usize.next_multiple_of(L::N);
        let mut taps = vec![0.0; whole * wide];
        let row = channels + APART;
        for o in 0..out.cols() / row {
            let w = &w[o * outer..];
            let cols = if w.len() < (channels - 1) * across + whole { 9 } else { whole };
            transpose::<L>((w, across), [channels, cols], (&mut taps, wide));
            for c in (0..channels).step_by(L::N) {
                let mut columns = [[L::splat(0.0); 4]; 3];
                for (col, column) in columns.iter_mut().enumerate() {
                    let taps = &taps[col * wide + c..];
                    let (middle, last) = (&taps[3 * wide..], &taps[6 * wide..]);
                    *column = kernel([L::load(taps), L::load(middle), L::load(last)]);
                }
                let [left, middle, right] = columns;
                for down in 0..4 {
                    let values = kernel([left[down], middle[down], right[down]]);
                    for (col, value) in values.iter().enumerate() {
                        let to = &mut out.row(down * 4 + col)[o * row + c..o * row + channels];
                        if to.len() >= L::N {
                            value.store(to);
                        } else {
                            value.store_part(to);
                        }
                    }
                }
            }
        }
    }
}
