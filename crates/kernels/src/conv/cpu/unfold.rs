//! What all taps see of some cells, written down next to each other.

use std::ops::Range;

use super::maps::{Block, Maps};
use crate::conv::gather::Axis;
use crate::simd::Lanes;

impl Maps<'_> {
    /// Writes what all taps see in some channels for the cells of a block: `[channels·taps, wide]`. `room` is for a plane with
    /// what lies around it.
    #[inline(always)]
    pub fn unfold<L: Lanes>(
        &self,
        channels: Range<usize>,
        block: &Block,
        room: &mut Vec<f32>,
        (out, wide): (&mut [f32], usize),
    ) {
        let [y, x] = self.axes;
        let rows = channels.zip(out.chunks_exact_mut((self.taps() * wide).max(1)));
        for (channel, out) in rows {
            let seen = self.seen::<L>(channel, block, room);
            for (tap, out) in out.chunks_exact_mut(wide).enumerate() {
                let (down, right) = (tap / x.taps * y.gap, tap % x.taps * x.gap);
                let seen = Seen { data: &seen.data[down * seen.row + right..], ..seen };
                seen.cells::<L>([y.step, x.step], block, out);
            }
        }
    }
}

impl<'a> Maps<'a> {
    /// A channel as far as the results of a block look at it, with zeros where nothing is.
    #[inline(always)]
    pub fn seen<'b, L: Lanes>(&self, channel: usize, block: &Block, room: &'b mut Vec<f32>) -> Seen<'b>
    where
        'a: 'b,
    {
        let [y, x] = self.axes;
        let area = self.input();
        let (height, width) = (reach(y, &block.rows), reach(x, &block.cols));
        let (top, left) = (origin(y, &block.rows), origin(x, &block.cols));
        if top >= 0 && left >= 0 && top as usize + height <= y.input && left as usize + width <= x.input {
            let first = (block.images.start * self.channels + channel) * area;
            let from = first + top as usize * x.input + left as usize;
            return Seen { data: &self.data[from..], image: self.channels * area, row: x.input };
        }
        room.resize(block.images.len() * height * width, 0.0);
        for (image, room) in block.images.clone().zip(room.chunks_exact_mut(height * width)) {
            let plane = &self.data[(image * self.channels + channel) * area..][..area];
            surround::<L>(plane, [y.input, x.input], [top, left], width, room);
        }
        Seen { data: room, image: height * width, row: width }
    }
}

/// Cells of the input from the first that some results look at to the last, whether they are there or not.
fn reach(axis: Axis, results: &Range<usize>) -> usize {
    (results.len() - 1) * axis.step + (axis.taps.max(1) - 1) * axis.gap + 1
}

/// The first cell that some results look at.
pub(super) fn origin(axis: Axis, results: &Range<usize>) -> isize {
    (results.start * axis.step) as isize + axis.offset
}

/// The part of a plane `[height, width]` from `origin` on, with zeros where there is none, in rows of `across` cells.
#[inline(always)]
pub(super) fn surround<L: Lanes>(
    plane: &[f32],
    size: [usize; 2],
    origin: [isize; 2],
    across: usize,
    out: &mut [f32],
) {
    surround_every::<L, 1>(plane, size, origin, across, out);
}

/// The same of every `STEP`-th row.
#[inline(always)]
pub(super) fn surround_every<L: Lanes, const STEP: usize>(
    plane: &[f32],
    [height, width]: [usize; 2],
    origin: [isize; 2],
    across: usize,
    out: &mut [f32],
) {
    let [top, left] = origin;
    // The cells of a row that are there.
    let first = ((-left).max(0) as usize).min(across);
    let end = (width as isize - left).clamp(first as isize, across as isize) as usize;
    for (i, out) in out.chunks_exact_mut(across).enumerate() {
        let row = top + (STEP * i) as isize;
        if row < 0 || row as usize >= height || first == end {
            out.fill(0.0);
            continue;
        }
        let from = row as usize * width + (first as isize + left) as usize;
        for side in &mut out[..first] {
            *side = 0.0;
        }
        copy::<L>(&plane[from..from + end - first], &mut out[first..end]);
        for side in &mut out[end..] {
            *side = 0.0;
        }
    }
}

/// What results see: cells with the distances between images and rows.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub data: &'a [f32],
    pub image: usize,
    pub row: usize,
}

impl Seen<'_> {
    /// The cells of a block, `step` apart, one after the other.
    #[inline(always)]
    fn cells<L: Lanes>(self, [down, across]: [usize; 2], block: &Block, out: &mut [f32]) {
        let cols = block.cols.len();
        let last = (cols - 1) * across + 1;
        let mut out = out.chunks_exact_mut(cols);
        for image in 0..block.images.len() {
            for row in 0..block.rows.len() {
                let Some(to) = out.next() else { return };
                let from = &self.data[image * self.image + row * down * self.row..][..last];
                match across {
                    1 => copy::<L>(from, to),
                    2 => halve(from, to),
                    _ => {
                        for (to, from) in to.iter_mut().zip(from.iter().step_by(across)) {
                            *to = *from;
                        }
                    }
                }
            }
        }
    }
}

/// Every second number, from the first on.
#[inline(always)]
pub(super) fn halve(from: &[f32], to: &mut [f32]) {
    let (Some((last, to)), Some((end, from))) = (to.split_last_mut(), from.split_last()) else { return };
    *last = *end;
    for (to, pair) in to.iter_mut().zip(from.chunks_exact(2)) {
        *to = pair[0];
    }
}

/// Copies a few numbers; a call for each row of a small map would cost more than the row.
#[inline(always)]
pub(super) fn copy<L: Lanes>(from: &[f32], to: &mut [f32]) {
    let count = to.len();
    let from = &from[..count];
    if count < L::N {
        return match count {
            2 => whole::<2>(from, to),
            4 => whole::<4>(from, to),
            8 => whole::<8>(from, to),
            _ => L::load_part(from).store_part(to),
        };
    }
    let mut at = 0;
    while at + L::N <= count {
        L::load(&from[at..]).store(&mut to[at..]);
        at += L::N;
    }
    // The end, together with what is there already.
    L::load(&from[count - L::N..]).store(&mut to[count - L::N..]);
}

#[inline(always)]
fn whole<const N: usize>(from: &[f32], to: &mut [f32]) {
    if let (Ok(to), Ok(from)) = (<&mut [f32; N]>::try_from(to), <&[f32; N]>::try_from(from)) {
        *to = *from;
    }
}
