//! A convolution and its input gradient as one kind of product: cells of a grid of results gather cells of an input.

use super::ConvShape;

/// How results along one axis look at the input: result `r` at `r·step + offset + i·gap` for taps `i`, which are the
/// kernel's taps `first + i·between`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    pub taps: usize,
    pub first: usize,
    pub between: isize,
    pub step: usize,
    pub offset: isize,
    pub gap: usize,
    /// Cells of the input.
    pub input: usize,
    /// Results.
    pub grid: usize,
    /// Cells of the output.
    pub output: usize,
    /// Cells of the output from one result to the next, and where the first lies.
    pub out_step: usize,
    pub out_first: usize,
}

impl Axis {
    /// The forward pass.
    pub fn forward(shape: ConvShape, input: usize, taps: usize) -> Self {
        let output = shape.output(input, taps);
        Self {
            taps,
            first: 0,
            between: 1,
            step: shape.stride,
            offset: -(shape.padding as isize),
            gap: shape.dilation,
            input,
            grid: output,
            output,
            out_step: 1,
            out_first: 0,
        }
    }

    /// The input gradient, which gathers from the output's, at the cells `phase`, `phase + stride`, …: those that the same
    /// taps have seen.
    pub fn backward(shape: ConvShape, phase: usize, input: usize, taps: usize) -> Self {
        // Tap k of the result at r had seen the cell r·stride − padding + k·dilation.
        let seen = |k: usize| (phase + shape.padding) as isize - (k * shape.dilation) as isize;
        let stride = shape.stride as isize;
        // Downwards, so that the results they come from go upwards.
        let matching: Vec<usize> = (0..taps).rev().filter(|k| seen(*k).rem_euclid(stride) == 0).collect();
        let first = matching.first().copied().unwrap_or(0);
        let apart = matching.get(1).map_or(1, |second| first - second);
        Self {
            taps: matching.len(),
            first,
            between: -(apart as isize),
            step: 1,
            offset: seen(first).div_euclid(stride),
            gap: (apart * shape.dilation / shape.stride).max(1),
            input: shape.output(input, taps),
            grid: input.saturating_sub(phase).div_ceil(shape.stride),
            output: input,
            out_step: shape.stride,
            out_first: phase,
        }
    }

    /// The kernel's tap that is tap `i` here.
    pub fn tap(&self, i: usize) -> usize {
        (self.first as isize + i as isize * self.between) as usize
    }

    /// A single cell in front of which another axis is laid flat.
    pub fn single() -> Self {
        Self::forward(ConvShape { stride: 1, padding: 0, dilation: 1 }, 1, 1)
    }

    /// A 1×1 kernel of stride 1 takes the cells as they come: both axes are one.
    pub fn is_plain(&self) -> bool {
        self.taps == 1 && self.step == 1 && self.offset == 0 && self.out_step == 1 && self.grid == self.input
    }

    /// Whether some result looks outside the input.
    pub fn is_padded(&self) -> bool {
        let last = ((self.grid.max(1) - 1) * self.step + (self.taps.max(1) - 1) * self.gap) as isize + self.offset;
        self.offset < 0 || last >= self.input as isize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which (cell of the input, tap, output) belong together must be the same seen from both sides.
    #[test]
    fn both_directions_know_the_same_pairs() {
        for (stride, padding, dilation) in [
            (1, 0, 1),
            (1, 1, 1),
            (2, 1, 1),
            (2, 0, 1),
            (3, 2, 1),
            (2, 2, 2),
            (3, 1, 2),
            (4, 0, 2),
            (2, 3, 3),
            (6, 1, 4),
        ] {
            let shape = ConvShape { stride, padding, dilation };
            for (input, taps) in [(1, 1), (7, 3), (8, 3), (9, 2), (12, 5), (11, 1)] {
                let list = |axis: Axis, forward: bool| {
                    let mut pairs = Vec::new();
                    for r in 0..axis.grid {
                        for i in 0..axis.taps {
                            let from = (r * axis.step + i * axis.gap) as isize + axis.offset;
                            let tap = axis.first as isize + i as isize * axis.between;
                            let to = (r * axis.out_step + axis.out_first) as isize;
                            if from >= 0 && from < axis.input as isize {
                                pairs.push(if forward { (from, tap, to) } else { (to, tap, from) });
                            }
                        }
                    }
                    pairs
                };
                if shape.output(input, taps) == 0 {
                    continue;
                }
                let mut forward = list(Axis::forward(shape, input, taps), true);
                let mut backward: Vec<_> =
                    (0..stride).flat_map(|phase| list(Axis::backward(shape, phase, input, taps), false)).collect();
                forward.sort_unstable();
                backward.sort_unstable();
                assert_eq!(forward, backward, "{shape:?} {input} {taps}");
            }
        }
    }
}
