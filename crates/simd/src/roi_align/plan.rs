//! What every box samples, worked out once and shared by all channels.
//!
//! A sample's weight is the product of one along each axis, and so is the mean over a grid of samples. So the weights of a box
//! are two narrow matrices, one an axis: an output is the sum over a few neighbouring rows of sums over a few neighbouring
//! cells.

use std::ops::Range;

use super::{Roi, RoiAlignShape};

/// Neighbouring numbers with a weight each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// The first of them.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Where their weights begin.
    pub weights: u32,
}

impl Span {
    /// Which they are.
    pub fn range(&self) -> Range<usize> {
        self.first as usize..(self.first + self.count) as usize
    }
}

/// One axis of all boxes.
#[derive(Debug, Clone)]
pub struct Axis {
    /// Cells of the map.
    pub cells: usize,
    /// Outputs of a box.
    pub outputs: usize,
    /// The cells that each output is a sum of: `[boxes, outputs]`.
    pub spans: Vec<Span>,
    /// Their weights, in any order.
    pub weights: Vec<f32>,
}

impl Axis {
    fn new(cells: usize, outputs: usize) -> Self {
        Self { cells, outputs, spans: Vec::new(), weights: Vec::new() }
    }

    /// The spans of a box.
    pub fn of(&self, roi: usize) -> &[Span] {
        &self.spans[roi * self.outputs..][..self.outputs]
    }

    /// The weights of a span.
    pub fn weights(&self, span: &Span) -> &[f32] {
        &self.weights[span.weights as usize..][..span.count as usize]
    }

    /// All cells between the first and the last that a box looks at; nothing where no sample is on the map.
    pub fn reach(&self, roi: usize) -> Range<usize> {
        let seen = self.of(roi).iter().filter(|s| s.count > 0).map(Span::range);
        seen.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
    }

    /// Adds a box from `start`, `size` long, both in cells, as a grid of `ratio` samples an output (0: as many as cells).
    /// `room` is a zero for every cell, and is so again afterwards.
    fn add(&mut self, start: f64, size: f64, ratio: usize, room: &mut [f64]) {
        let bin = size / self.outputs as f64;
        let samples = if ratio > 0 { ratio as f64 } else { bin.ceil() };
        let there = start.is_finite() && size.is_finite() && samples >= 1.0;
        let (step, cells) = (bin / samples, self.cells as f64);
        for output in 0..self.outputs {
            let (mut from, mut to) = (self.cells, 0);
            let begin = start + output as f64 * bin;
            // Only samples on the map or nearly so are looked at, whatever the box.
            let place = |position: f64| (position - begin) / step - 0.5;
            let (first, last) = match step > 0.0 {
                true => (place(-1.0).floor().max(0.0), place(cells).ceil().min(samples - 1.0)),
                false => (0.0, samples - 1.0),
            };
            let count = if there && last >= first { (last - first) as usize + 1 } else { 0 };
            for i in 0..count {
                let position = begin + (first + i as f64 + 0.5) * step;
                if position < -1.0 || position > cells {
                    continue;
                }
                let position = position.max(0.0);
                let low = (position as usize).min(self.cells - 1);
                let beyond = if low + 1 < self.cells { position - low as f64 } else { 0.0 };
                room[low] += 1.0 - beyond;
                let mut end = low + 1;
                if beyond > 0.0 {
                    room[end] += beyond;
                    end += 1;
                }
                (from, to) = (from.min(low), to.max(end));
            }
            let span = Span {
                first: if from < to { from as u32 } else { 0 },
                count: to.saturating_sub(from) as u32,
                weights: self.weights.len() as u32,
            };
            for sum in room.get_mut(span.range()).into_iter().flatten() {
                self.weights.push((*sum / samples) as f32);
                *sum = 0.0;
            }
            self.spans.push(span);
        }
    }

    /// The weights of a box as a matrix over the cells of its [`reach`](Self::reach), in numbers that are all written: cells are
    /// `by_cell` apart, outputs `by_output`.
    pub fn matrix(&self, roi: usize, [by_cell, by_output]: [usize; 2], out: &mut [f32]) {
        out.fill(0.0);
        let from = self.reach(roi).start;
        for (output, span) in self.of(roi).iter().enumerate() {
            for (cell, weight) in span.range().zip(self.weights(span)) {
                out[(cell - from) * by_cell + output * by_output] = *weight;
            }
        }
    }

    /// The other way round: the outputs that each cell of a box's [`reach`](Self::reach) goes to. Their weights, zero for an output
    /// that leaves the cell out, are added to `weights`.
    pub fn turned(&self, roi: usize, weights: &mut Vec<f32>) -> Vec<Span> {
        let spans = self.of(roi);
        let span_of = |cell: usize| {
            let goes = |span: &Span| span.range().contains(&cell);
            let Some(first) = spans.iter().position(goes) else { return Span::default() };
            let last = spans.iter().rposition(goes).unwrap_or(first);
            let begin = weights.len() as u32;
            weights.extend(spans[first..=last].iter().map(|span| match goes(span) {
                true => self.weights(span)[cell - span.first as usize],
                false => 0.0,
            }));
            Span { first: first as u32, count: (last - first + 1) as u32, weights: begin }
        };
        self.reach(roi).map(span_of).collect()
    }
}

/// The samples of all boxes on maps of one size.
#[derive(Debug, Clone)]
pub struct RoiPlan {
    /// Images there are maps of.
    pub images: usize,
    /// The image of each box.
    pub image_of: Vec<usize>,
    /// Down.
    pub y: Axis,
    /// Across.
    pub x: Axis,
}

impl RoiPlan {
    /// For maps `[images, _, height, width]`, none of them without cells; every box lies on one of the images.
    pub fn new(rois: &[Roi], shape: RoiAlignShape, [images, height, width]: [usize; 3]) -> Self {
        let (mut y, mut x) = (Axis::new(height, shape.rows), Axis::new(width, shape.cols));
        let mut room = vec![0.0; height.max(width)];
        let scale = f64::from(shape.scale);
        for Roi { xyxy, .. } in rois {
            let [x1, y1, x2, y2] = xyxy.map(f64::from);
            // The centre of the first cell lies half a cell from the edge.
            y.add(y1 * scale - 0.5, (y2 - y1) * scale, shape.sampling_ratio, &mut room);
            x.add(x1 * scale - 0.5, (x2 - x1) * scale, shape.sampling_ratio, &mut room);
        }
        Self { images, image_of: rois.iter().map(|roi| roi.image).collect(), y, x }
    }

    /// Number of boxes.
    pub fn boxes(&self) -> usize {
        self.image_of.len()
    }

    /// The boxes of each image, in order.
    pub fn by_image(&self) -> Vec<Vec<usize>> {
        let mut boxes = vec![Vec::new(); self.images];
        for (roi, image) in self.image_of.iter().enumerate() {
            boxes[*image].push(roi);
        }
        boxes
    }

    /// The shape of the result for so many channels.
    pub fn output(&self, channels: usize) -> [usize; 4] {
        [self.boxes(), channels, self.y.outputs, self.x.outputs]
    }

    /// The shape of the maps.
    pub fn input(&self, channels: usize) -> [usize; 4] {
        [self.images, channels, self.y.cells, self.x.cells]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(start: f64, size: f64, ratio: usize) -> Axis {
        let mut axis = Axis::new(6, 2);
        axis.add(start, size, ratio, &mut [0.0; 6]);
        axis
    }

    fn sums(axis: &Axis) -> Vec<(Range<usize>, Vec<f32>)> {
        axis.of(0).iter().map(|s| (s.range(), axis.weights(s).to_vec())).collect()
    }

    #[test]
    fn weights_of_one_axis() {
        // Two bins of two cells each, two samples in each.
        assert_eq!(sums(&axis(0.5, 4.0, 0)), [(1..3, vec![0.5, 0.5]), (3..5, vec![0.5, 0.5])]);
        // One sample a bin, a quarter of the way between two cells.
        assert_eq!(sums(&axis(0.75, 1.0, 1)), [(1..2, vec![1.0]), (1..3, vec![0.5, 0.5])]);
        // Below the first cell as far as one cell, at the last cell and beyond as far as its end.
        assert_eq!(sums(&axis(-1.0, 2.0, 1)), [(0..1, vec![1.0]), (0..2, vec![0.5, 0.5])]);
        assert_eq!(sums(&axis(5.0, 2.0, 1)), [(5..6, vec![1.0]), (0..0, vec![])]);
        // No samples along an empty axis, unless their number is given.
        assert_eq!(sums(&axis(2.0, 0.0, 0)), [(0..0, vec![]), (0..0, vec![])]);
        assert_eq!(sums(&axis(2.0, 0.0, 2)), [(2..3, vec![1.0]), (2..3, vec![1.0])]);
    }

    #[test]
    fn boxes_of_any_size_take_little_time_and_room() {
        for (start, size) in [
            (-1e30, 2e30),
            (f64::from(f32::MIN), 2.0 * f64::from(f32::MAX)),
            (f64::NAN, 1.0),
            (0.0, f64::NAN),
            (f64::NEG_INFINITY, f64::INFINITY),
            (0.0, f64::INFINITY),
            (3.0, -1e30),
            (1e30, 1.0),
        ] {
            let axis = axis(start, size, 0);
            assert!(axis.weights.len() <= 12 && axis.weights.iter().all(|w| w.is_finite()), "{start} {size}");
        }
        // A million samples a bin, of which few are on the map, count as a million.
        let wide = axis(-2e6, 4e6, 0);
        assert!(wide.weights.iter().all(|w| *w <= 1e-5), "{:?}", wide.weights);
    }

    #[test]
    fn turned_round_twice() {
        for (start, size, ratio) in [(-0.7, 7.3, 0), (0.3, 1.9, 2), (1.0, 20.0, 2), (5.0, -3.0, 2)] {
            let axis = axis(start, size, ratio);
            let mut weights = Vec::new();
            let turned = axis.turned(0, &mut weights);
            let reach = axis.reach(0);
            assert_eq!(turned.len(), reach.len());
            let mut matrix = vec![1.0; reach.len() * 2];
            axis.matrix(0, [2, 1], &mut matrix);
            let mut other = vec![0.0; matrix.len()];
            for (cell, span) in turned.iter().enumerate() {
                for (output, w) in span.range().zip(&weights[span.weights as usize..]) {
                    other[cell * 2 + output] = *w;
                }
            }
            assert_eq!(matrix, other, "{start} {size} {ratio}");
        }
    }
}
