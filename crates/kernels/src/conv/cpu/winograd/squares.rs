//! Squares of cells, and their transformed cells.

use std::ops::Range;

use super::super::maps::{Block, Maps};
use super::super::unfold::{halve, origin, surround, surround_every};
use super::{APART, PLACES};
use crate::conv::gather::Axis;
use crate::simd::transpose::transpose;
use crate::simd::{Lanes, WIDEST, simd_fn};

/// Squares at a time, at most, and twice as many where a row of all phases has more.
const SQUARES: usize = 208;
/// Fewest channels on either side, and squares in all, for which the products outweigh what is around them.
const CHANNELS: usize = 32;
const WORTH: usize = 48;
/// Fewest squares in a row of a phase, where there are several phases.
const SHORT: usize = 4;

/// Maps whose results are squares of 2×2, `phases` cells apart. Along each axis a cell of the grid has a square of every phase.
pub(in super::super) struct Squares<'a> {
    pub maps: Maps<'a>,
    /// Along each axis.
    pub phases: usize,
    /// Squares of each phase in a row.
    pub across: Vec<usize>,
    /// In all.
    count: usize,
    most: usize,
}

impl<'a> Squares<'a> {
    /// Where this way is the faster one.
    pub fn new(maps: &Maps<'a>, outer: usize) -> Option<Self> {
        let phases = maps.axes[0].gap;
        let fits = |a: &Axis| a.taps == 3 && a.step == 1 && a.gap == phases && a.out_step == 1;
        if !maps.axes.iter().all(fits) || maps.channels.min(outer) < CHANNELS {
            return None;
        }
        let step = 2 * phases;
        let square = |a: Axis| Axis { taps: 4, step, grid: a.grid.div_ceil(step), out_step: step, ..a };
        let axes = maps.axes.map(square);
        let [down, across] = axes
            .map(|a| (0..phases).map(|phase| a.output.saturating_sub(phase).div_ceil(step)).collect::<Vec<_>>());
        let count = maps.images * down.iter().sum::<usize>() * across.iter().sum::<usize>();
        // Squares that reach beyond the map take back what the products save: at least a third of them has to be left.
        let saves = PLACES * count <= 6 * maps.images * maps.output();
        // A piece of a row of squares would have pieces of rows for results, which lie apart.
        let row = phases * phases * axes[1].grid;
        let most = if row > SQUARES { 2 * SQUARES } else { SQUARES };
        let squares = Self { maps: Maps { axes, ..*maps }, phases, across, count, most };
        // Short rows of a phase would fill no vectors.
        let fills = phases == 1 || squares.across[0] >= SHORT;
        (row <= most && count >= WORTH && saves && fills).then_some(squares)
    }

    /// Whether the weight gradient's products outweigh its sums, which are sixteen for nine numbers.
    pub fn outweigh_sums(&self) -> bool {
        self.count >= 4 * WORTH
    }

    /// From one row of squares to the next: numbers are written in whole vectors.
    pub fn wide(&self) -> usize {
        self.most + WIDEST
    }

    /// From one place to the next, of so many rows of squares.
    pub fn place(&self, rows: usize) -> usize {
        rows * self.wide() + APART
    }

    /// All squares, in blocks of whole rows.
    pub fn blocks(&self) -> Vec<Block> {
        self.maps.blocks(self.most / (self.phases * self.phases))
    }

    /// Rows of squares in a block's images: for each, row by row and phase by phase, where its first row of results lies, from
    /// the block's first on.
    pub fn strips(&self, block: &Block) -> Vec<usize> {
        let y = self.maps.axes[0];
        let end = y.output - block.rows.start * y.step;
        (0..block.rows.len() * y.step).filter(|top| top % y.step < self.phases && *top < end).collect()
    }

    /// Squares of a block: image by image, strip by strip, phase by phase.
    pub fn count(&self, block: &Block) -> usize {
        block.images.len() * self.strips(block).len() * self.across.iter().sum::<usize>()
    }

    /// The rows of `each` channels at a time, place by place, of `[PLACES, channels·wide + APART]`.
    pub fn rows<'b>(
        &self,
        data: &'b mut [f32],
        channels: usize,
        each: usize,
    ) -> Vec<(Range<usize>, Vec<&'b mut [f32]>)> {
        let parts = (0..channels).step_by(each).map(|c| (c..(c + each).min(channels), Vec::with_capacity(PLACES)));
        let mut tasks: Vec<_> = parts.collect();
        for place in data.chunks_mut(self.place(channels)) {
            for ((_, rows), place) in tasks.iter_mut().zip(place.chunks_mut(each * self.wide())) {
                rows.push(place);
            }
        }
        tasks
    }
}

/// Splits rows: every `ways`-th cell, from the first on, from the second on, and so on.
pub(super) struct Splitter {
    ways: usize,
    /// Cells of each way.
    count: usize,
    /// From one way to the next, as far as whole vectors reach.
    pub wide: usize,
    /// From one row to the next.
    pub size: usize,
    /// The rows as they are, with what lies around them.
    room: Vec<f32>,
    split: Vec<f32>,
}

impl Splitter {
    /// For so many rows at a time, of `count` cells in each way.
    #[inline(always)]
    pub fn new<L: Lanes>(rows: usize, ways: usize, count: usize) -> Self {
        // Whole squares of numbers are faster, even if some belong to the cells that follow.
        let whole = if ways == 2 { 2 } else { ways.next_multiple_of(L::N) };
        let wide = count.next_multiple_of(L::N) + L::N;
        let (room, size) = (vec![0.0; rows * count * ways + wide * ways + whole], whole * wide);
        Self { ways, count, wide, size, room, split: vec![0.0; rows * size] }
    }

    /// Splits the rows of a plane `[height, width]` from `origin` on; what is not there is zero.
    #[inline(always)]
    pub fn split<L: Lanes>(&mut self, plane: &[f32], size: [usize; 2], origin: [isize; 2]) -> &[f32] {
        let Self { ways, count, wide, .. } = *self;
        let (cells, rows) = (ways * count, self.split.len() / self.size);
        surround::<L>(plane, size, origin, cells, &mut self.room[..rows * cells]);
        for (row, split) in self.split.chunks_exact_mut(self.size).enumerate() {
            let row = &self.room[row * cells..];
            if ways == 2 {
                let (even, odd) = split.split_at_mut(wide);
                halve(&row[..cells - 1], &mut even[..count]);
                halve(&row[1..cells], &mut odd[..count]);
            } else {
                transpose::<L>((row, ways), [wide - L::N, self.size / wide], (split, wide));
            }
        }
        &self.split
    }
}

/// Every second cell of every second row, for maps whose rows of squares are too short for vectors: squares of all rows lie next to
/// each other.
pub(super) struct Joined {
    across: usize,
    rows: usize,
    /// From one of the four to eight columns of cells to the next, as far as whole vectors reach.
    wide: usize,
    room: Vec<f32>,
    columns: Vec<f32>,
}

impl Joined {
    /// For so many rows of squares that see `COLUMNS` cells along each axis, where that takes a quarter fewer vectors.
    #[inline(always)]
    pub fn new<L: Lanes, const COLUMNS: usize>(squares: &Squares<'_>, strips: usize) -> Option<Self> {
        let across = squares.across[0];
        if squares.phases > 1 || 4 * (strips * across).div_ceil(L::N) > 3 * strips * across.div_ceil(L::N) {
            return None;
        }
        let rows = strips + COLUMNS / 2 - 1;
        let wide = (rows * across).next_multiple_of(L::N) + L::N;
        let (room, columns) = (vec![0.0; 2 * rows * across], vec![0.0; 2 * COLUMNS * wide]);
        Some(Self { across, rows, wide, room, columns })
    }

    /// Looks at a plane `[height, width]` from `origin` on.
    #[inline(always)]
    pub fn look<L: Lanes, const COLUMNS: usize>(&mut self, plane: &[f32], size: [usize; 2], origin: [isize; 2]) {
        // The usual maps: as wide as their squares, with one cell around them.
        let usual = size[1] == 2 * self.across && origin[1] == 1 - (COLUMNS / 2) as isize;
        match self.across {
            2 if usual => self.look_at_rows::<2, COLUMNS>(plane, origin[0]),
            4 if usual => self.look_at_rows::<4, COLUMNS>(plane, origin[0]),
            8 if usual => self.look_at_rows::<8, COLUMNS>(plane, origin[0]),
            _ => self.look_at_any::<L, COLUMNS>(plane, size, origin),
        }
    }

    /// Rows of `2·ACROSS` cells: each in one go.
    #[inline(always)]
    fn look_at_rows<const ACROSS: usize, const COLUMNS: usize>(&mut self, plane: &[f32], top: isize) {
        let (none, width) = ([[0.0; 2]; ACROSS], 2 * ACROSS as isize);
        for row in 0..2 * self.rows {
            let from = usize::try_from((top + row as isize) * width).ok();
            let cells = from.and_then(|from| plane.get(from..from + 2 * ACROSS)).unwrap_or(none.as_flattened());
            let mut columns = [[0.0; ACROSS]; 4];
            for (i, pair) in cells.chunks_exact(2).enumerate() {
                (columns[1][i], columns[2][i]) = (pair[0], pair[1]);
            }
            for i in 1..ACROSS {
                (columns[0][i], columns[3][i - 1]) = (columns[2][i - 1], columns[1][i]);
            }
            for (i, column) in columns[2 - COLUMNS / 2..2 + COLUMNS / 2].iter().enumerate() {
                let to = (row % 2 * COLUMNS + i) * self.wide + row / 2 * ACROSS;
                self.columns[to..to + ACROSS].copy_from_slice(column);
            }
        }
    }

    #[inline(always)]
    fn look_at_any<L: Lanes, const COLUMNS: usize>(
        &mut self,
        plane: &[f32],
        size: [usize; 2],
        origin: [isize; 2],
    ) {
        let Self { across, rows, wide, .. } = *self;
        let (count, mut columns) = (rows * across, self.columns.chunks_exact_mut(wide));
        for row in 0..2 {
            for right in (0..COLUMNS as isize).step_by(2) {
                let origin = [origin[0] + row, origin[1] + right];
                surround_every::<L, 2>(plane, size, origin, 2 * across, &mut self.room);
                if let (Some(even), Some(odd)) = (columns.next(), columns.next()) {
                    halve(&self.room[..2 * count - 1], &mut even[..count]);
                    halve(&self.room[1..], &mut odd[..count]);
                }
            }
        }
    }

    /// The cells in a row and a column of some squares, from one on.
    #[inline(always)]
    pub fn cells<L: Lanes, const COLUMNS: usize>(&self, row: usize, column: usize, square: usize) -> L {
        L::load(&self.columns[(row % 2 * COLUMNS + column) * self.wide + row / 2 * self.across + square..])
    }
}

/// `Bᵀ·d` or its like along the other axis.
#[inline(always)]
fn spread<L: Lanes>([a, b, c, d]: [L; 4]) -> [L; 4] {
    [a.sub(c), b.add(c), c.sub(b), b.sub(d)]
}

/// `Bᵀ` times squares whose rows are spread already. What is written beyond a row's end, the next row overwrites.
#[inline(always)]
fn spread_down<L: Lanes>([a, b, c, d]: [[L; 4]; 4], out: &mut [&mut [f32]; PLACES], at: usize) {
    for column in 0..4 {
        let values = spread([a[column], b[column], c[column], d[column]]);
        for (row, value) in values.iter().enumerate() {
            value.store(&mut out[row * 4 + column][at..]);
        }
    }
}

simd_fn! {
    /// The transformed cells of some channels: for each place `[channels, wide]`.
    pub(super) fn cells<L>(squares: &Squares<'_>, block: &Block, channels: Range<usize>, out: Vec<&mut [f32]>) {
        let Ok(mut out) = <[&mut [f32]; PLACES]>::try_from(out) else { return };
        let (phases, maps) = (squares.phases, &squares.maps);
        let [y, x] = maps.axes;
        let (strips, rows) = (squares.strips(block), (block.rows.len() + 1) * y.step);
        let mut splitter = Splitter::new::<L>(rows, 2 * phases, x.grid + 1);
        let (size, wide) = (splitter.size, splitter.wide);
        let origin = [origin(y, &block.rows), x.offset];
        let row = |row: isize| row.clamp(0, y.input as isize) as usize * x.input;
        let part = row(origin[0])..row(origin[0] + rows as isize);
        let mut joined = Joined::new::<L, 4>(squares, strips.len());
        for (i, channel) in channels.enumerate() {
            let mut at = i * squares.wide();
            for image in block.images.clone() {
                let plane = &maps.data[(image * maps.channels + channel) * maps.input()..];
                // The next channel's part, where the map goes on.
                if let Some(ahead) = plane.get(maps.input() + part.start..maps.input() + part.end) {
                    L::prefetch(ahead);
                }
                let plane = &plane[..maps.input()];
                if let Some(joined) = &mut joined {
                    joined.look::<L, 4>(plane, [y.input, x.input], origin);
                    let count = strips.len() * squares.across[0];
                    for first in (0..count).step_by(L::N) {
                        let mut square = [[L::splat(0.0); 4]; 4];
                        for (row, square) in square.iter_mut().enumerate() {
                            for (column, cells) in square.iter_mut().enumerate() {
                                *cells = joined.cells::<L, 4>(row, column, first);
                            }
                            *square = spread(*square);
                        }
                        spread_down(square, &mut out, at + first);
                    }
                    at += count;
                    continue;
                }
                let split = splitter.split::<L>(plane, [y.input, x.input], origin);
                for &top in &strips {
                    let rows = &split[top * size..];
                    for (right, &across) in squares.across.iter().enumerate() {
                        for col in (0..across).step_by(L::N) {
                            let mut square = [[L::splat(0.0); 4]; 4];
                            for (row, square) in square.iter_mut().enumerate() {
                                let even = &rows[row * phases * size + right * wide + col..];
                                let odd = &even[phases * wide..];
                                let [next_even, next_odd] = [L::load(&even[1..]), L::load(&odd[1..])];
                                *square = spread([L::load(even), L::load(odd), next_even, next_odd]);
                            }
                            spread_down(square, &mut out, at + col);
                        }
                        at += across;
                    }
                }
            }
        }
    }
}
