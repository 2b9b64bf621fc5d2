//! The largest of every 3×3 cells, two cells apart, with a border of one cell that counts for nothing: the pooling of residual
//! networks. Of equal cells the first is the largest, row by row; a window that sees NaN gives NaN.

use crate::alloc::{self, Buffer};
use crate::{Lanes, parallel, simd_fn};

/// Cells in one task, about.
const CHUNK: usize = 1 << 15;

/// Results along an axis of `size` cells.
pub const fn output(size: usize) -> usize {
    size.div_ceil(2)
}

/// From maps `[.., height, width]`, none of which is empty: `[.., output(height), output(width)]`.
pub fn forward(x: &[f32], [height, width]: [usize; 2]) -> Buffer {
    let (area, cells) = (height * width, output(height) * output(width));
    let mut y = alloc::scratch(x.len() / area * cells);
    let maps = CHUNK.div_ceil(area);
    let tasks = x.chunks(maps * area).zip(y.chunks_mut(maps * cells)).collect();
    parallel::run(tasks, |(x, y): (&[f32], &mut [f32])| pool(x, [height, width], y));
    y
}

/// The gradient of the maps from the maps and the gradient of the results.
pub fn backward(dy: &[f32], x: &[f32], [height, width]: [usize; 2]) -> Buffer {
    let (area, cells) = (height * width, output(height) * output(width));
    let mut dx = alloc::scratch(x.len());
    let maps = CHUNK.div_ceil(area);
    let tasks = x.chunks(maps * area).zip(dy.chunks(maps * cells)).zip(dx.chunks_mut(maps * area)).collect();
    parallel::run(tasks, |((x, dy), dx): ((&[f32], &[f32]), &mut [f32])| unpool(x, [height, width], dy, dx));
    dx
}

/// The largest of three cells of a row, for each result, and which of them it is.
struct Row {
    /// The cells left of the middle, in the middle and right of it.
    cells: [Vec<f32>; 3],
    largest: Vec<f32>,
    place: Vec<f32>,
}

impl Row {
    fn new(results: usize) -> Self {
        let room = || vec![f32::NEG_INFINITY; results];
        Self { cells: [room(), room(), room()], largest: room(), place: room() }
    }

    /// Looks at a row of a map. A cell that is not there is smaller than any that is.
    #[inline(always)]
    fn look<L: Lanes>(&mut self, row: &[f32]) {
        let Self { cells: [left, middle, right], largest, place } = self;
        for ((pair, middle), right) in row.chunks_exact(2).zip(&mut *middle).zip(&mut *right) {
            (*middle, *right) = (pair[0], pair[1]);
        }
        if let ([last], Some(middle), Some(right)) =
            (row.chunks_exact(2).remainder(), middle.last_mut(), right.last_mut())
        {
            (*middle, *right) = (*last, f32::NEG_INFINITY);
        }
        let others = left.len() - 1;
        left[1..].copy_from_slice(&right[..others]);
        let (zero, one, two) = (L::splat(0.0), L::splat(1.0), L::splat(2.0));
        // No closures: they would be functions of their own, without vector instructions.
        for at in (0..left.len()).step_by(L::N) {
            let end = left.len().min(at + L::N);
            let (left, middle, right) =
                (part::<L>(&left[at..end]), part::<L>(&middle[at..end]), part::<L>(&right[at..end]));
            let first = middle.select_gt(left, middle, left);
            let which = middle.select_gt(left, one, zero);
            keep(right.select_gt(first, right, first), &mut largest[at..end]);
            keep(right.select_gt(first, two, which), &mut place[at..end]);
        }
    }
}

/// The rows that a row of results sees.
struct Rows {
    above: Row,
    own: Row,
    below: Row,
}

impl Rows {
    fn new(results: usize) -> Self {
        Self { above: Row::new(results), own: Row::new(results), below: Row::new(results) }
    }

    /// Looks at what a row of results sees; the rows before it have been looked at in order. A row that is not there is smaller
    /// than its own.
    #[inline(always)]
    fn look<L: Lanes>(&mut self, map: &[f32], width: usize, result: usize) {
        if result == 0 {
            self.above.largest.fill(f32::NEG_INFINITY);
        } else {
            std::mem::swap(&mut self.above, &mut self.below);
        }
        self.own.look::<L>(&map[2 * result * width..][..width]);
        match map.get((2 * result + 1) * width..(2 * result + 2) * width) {
            Some(below) => self.below.look::<L>(below),
            None => self.below.largest.fill(f32::NEG_INFINITY),
        }
    }

    /// The largest cells of the windows `at..end`, and which of its nine each is.
    #[inline(always)]
    fn largest<L: Lanes>(&self, at: usize, end: usize) -> (L, L) {
        let Self { above, own, below } = self;
        let (mut largest, mut place) = (part::<L>(&above.largest[at..end]), part::<L>(&above.place[at..end]));
        let mut before = 0.0;
        for row in [own, below] {
            before += 3.0;
            let (cells, places) = (part::<L>(&row.largest[at..end]), part::<L>(&row.place[at..end]));
            place = cells.select_gt(largest, places.add(L::splat(before)), place);
            largest = cells.select_gt(largest, cells, largest);
        }
        (largest, place)
    }
}

/// A vector, or what is left of one.
#[inline(always)]
fn part<L: Lanes>(from: &[f32]) -> L {
    if from.len() < L::N { L::load_part(from) } else { L::load(from) }
}

#[inline(always)]
fn keep<L: Lanes>(values: L, to: &mut [f32]) {
    if to.len() < L::N { values.store_part(to) } else { values.store(to) }
}

/// Whether there may be a number that is not finite: then the sum is not.
#[inline(always)]
fn suspicious<L: Lanes>(map: &[f32]) -> bool {
    let mut sum = L::splat(0.0);
    for cells in map.chunks(L::N) {
        sum = sum.add(part::<L>(cells));
    }
    !sum.sum().is_finite()
}

/// The largest cell of a window by its number in the map, cell by cell, as rules of NaN want it.
fn largest_of(map: &[f32], [height, width]: [usize; 2], [row, col]: [usize; 2]) -> usize {
    let around = |middle: usize, size: usize| middle.saturating_sub(1)..(middle + 2).min(size);
    let mut best = None;
    for r in around(2 * row, height) {
        for cell in around(2 * col, width).map(|c| r * width + c) {
            if best.is_none_or(|best: usize| map[cell] > map[best] || map[cell].is_nan()) {
                best = Some(cell);
            }
        }
    }
    best.unwrap_or_default()
}

simd_fn! {
    fn pool<L>(x: &[f32], size: [usize; 2], y: &mut [f32]) {
        let ([height, width], across) = (size, output(size[1]));
        let mut rows = Rows::new(across);
        let maps = x.chunks_exact(height * width).zip(y.chunks_exact_mut(output(height) * across));
        for (map, y) in maps {
            if suspicious::<L>(map) {
                for (i, y) in y.iter_mut().enumerate() {
                    *y = map[largest_of(map, size, [i / across, i % across])];
                }
                continue;
            }
            for (row, y) in y.chunks_exact_mut(across).enumerate() {
                rows.look::<L>(map, width, row);
                for at in (0..across).step_by(L::N) {
                    let end = across.min(at + L::N);
                    keep(rows.largest::<L>(at, end).0, &mut y[at..end]);
                }
            }
        }
    }
}

simd_fn! {
    fn unpool<L>(x: &[f32], size: [usize; 2], dy: &[f32], dx: &mut [f32]) {
        let ([height, width], across) = (size, output(size[1]));
        let (mut rows, mut places) = (Rows::new(across), vec![0.0; across]);
        dx.fill(0.0);
        let maps = x.chunks_exact(height * width).zip(dx.chunks_exact_mut(height * width));
        for ((map, dx), dy) in maps.zip(dy.chunks_exact(output(height) * across)) {
            if suspicious::<L>(map) {
                for (i, dy) in dy.iter().enumerate() {
                    dx[largest_of(map, size, [i / across, i % across])] += dy;
                }
                continue;
            }
            for (row, dy) in dy.chunks_exact(across).enumerate() {
                rows.look::<L>(map, width, row);
                for at in (0..across).step_by(L::N) {
                    let end = across.min(at + L::N);
                    keep(rows.largest::<L>(at, end).1, &mut places[at..end]);
                }
                // The nine cells of the first window begin above and left of its middle, which may be outside of the map. Those
                // outside are never the largest.
                for (col, (place, dy)) in places.iter().zip(dy).enumerate() {
                    let (down, right) = (*place as usize / 3, *place as usize % 3);
                    dx[(2 * row + down) * width + 2 * col + right - width - 1] += dy;
                }
            }
        }
    }
}
