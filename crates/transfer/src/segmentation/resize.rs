//! Bilinear resizing of logits by two small matrix products, rows first, then columns: exact by definition, with its
//! transpose for gradients, on any device.

use burn::tensor::{Device, Tensor, TensorData};

/// Where the outputs of an axis lie between its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corners {
    /// Pixels are areas: output i lies at max((i + ½)·in/out − ½, 0). What PyTorch calls `align_corners=False`.
    HalfPixel,
    /// Pixels are points, the first and last of both axes coincide: output i lies at i·(in − 1)/(out − 1).
    /// mmsegmentation's networks for pictures of 8·n + 1 pixels use it.
    Aligned,
}

/// For each output of an axis: the two inputs around it, and the second one's weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    input: usize,
    taps: Vec<(usize, usize, f64)>,
}

impl Axis {
    /// From `input` to `output` cells, both at least 1.
    pub fn new(input: usize, output: usize, corners: Corners) -> Self {
        let (input, output) = (input.max(1), output.max(1));
        let place = |i: usize| match corners {
            Corners::HalfPixel => ((i as f64 + 0.5) * input as f64 / output as f64 - 0.5).max(0.0),
            Corners::Aligned if output == 1 => 0.0,
            Corners::Aligned => i as f64 * (input - 1) as f64 / (output - 1) as f64,
        };
        let tap = |i: usize| {
            let place = place(i);
            let first = (place as usize).min(input - 1);
            (first, (first + 1).min(input - 1), place - first as f64)
        };
        Self { input, taps: (0..output).map(tap).collect() }
    }

    /// Cells that come out.
    pub fn len(&self) -> usize {
        self.taps.len()
    }

    /// Never: an axis has one cell at least.
    pub fn is_empty(&self) -> bool {
        self.taps.is_empty()
    }

    /// The inputs of an output and their weights; an input may be there twice.
    pub fn taps(&self, output: usize) -> [(usize, f64); 2] {
        let (first, second, weight) = self.taps[output];
        [(first, 1.0 - weight), (second, weight)]
    }

    /// The inputs of an output and their weights when `self` is followed by `after`: four at most.
    pub fn taps_through(&self, after: &Self, output: usize) -> Vec<(usize, f64)> {
        let mut all: Vec<(usize, f64)> = Vec::with_capacity(4);
        for (middle, outer) in after.taps(output) {
            for (input, inner) in self.taps(middle) {
                match all.iter_mut().find(|(i, _)| *i == input) {
                    Some((_, weight)) => *weight += outer * inner,
                    None => all.push((input, outer * inner)),
                }
            }
        }
        all.retain(|(_, weight)| *weight != 0.0);
        all
    }

    /// `[input, output]`, row-major.
    fn matrix(&self) -> Vec<f32> {
        let mut matrix = vec![0.0; self.input * self.len()];
        for output in 0..self.len() {
            for (input, weight) in self.taps(output) {
                matrix[input * self.len() + output] += weight as f32;
            }
        }
        matrix
    }

    fn tensor(&self, device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(self.matrix(), [self.input, self.len()]), device)
    }
}

/// A resize of maps of one size to another.
#[derive(Debug, Clone)]
pub struct Resize {
    /// `[rows before, rows after]`.
    rows: Tensor<2>,
    /// `[columns before, columns after]`.
    cols: Tensor<2>,
}

impl Resize {
    /// From `[rows, columns]` to `[rows, columns]`, on a plain device.
    pub fn new(from: [usize; 2], to: [usize; 2], corners: Corners, device: &Device) -> Self {
        let axis = |i: usize| Axis::new(from[i], to[i], corners).tensor(device);
        Self { rows: axis(0), cols: axis(1) }
    }

    /// `[batch, channels, rows before, columns before]` to `[batch, channels, rows after, columns after]`.
    pub fn forward(&self, maps: Tensor<4>) -> Tensor<4> {
        apply(maps, &self.rows, &self.cols)
    }

    /// The gradient of the input, given the output's.
    pub fn backward(&self, gradient: Tensor<4>) -> Tensor<4> {
        // The long axis first: it is the one that shrinks what the other has to do.
        let (rows, cols) = (self.rows.clone().transpose(), self.cols.clone().transpose());
        let [batch, channels, height, width] = gradient.dims();
        let inner = cols.dims()[1];
        let narrow = gradient.reshape([batch * channels * height, width]).matmul(cols);
        apply_rows(narrow.reshape([batch, channels, height, inner]), &rows)
    }
}

fn apply(maps: Tensor<4>, rows: &Tensor<2>, cols: &Tensor<2>) -> Tensor<4> {
    let tall = apply_rows(maps, rows);
    let [batch, channels, height, width] = tall.dims();
    let wide = tall.reshape([batch * channels * height, width]).matmul(cols.clone());
    wide.reshape([batch, channels, height, cols.dims()[1]])
}

fn apply_rows(maps: Tensor<4>, rows: &Tensor<2>) -> Tensor<4> {
    let [batch, channels, height, width] = maps.dims();
    let columns = maps.swap_dims(2, 3).reshape([batch * channels * width, height]);
    columns.matmul(rows.clone()).reshape([batch, channels, width, rows.dims()[1]]).swap_dims(2, 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(maps: Tensor<4>) -> Vec<f32> {
        maps.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn known_resizes() {
        let device = Device::flex();
        let row = || Tensor::<4>::from_data(TensorData::new(vec![0.0f32, 4.0], [1, 1, 1, 2]), &device);
        let to = |n: usize, corners| values(Resize::new([1, 2], [1, n], corners, &device).forward(row()));
        assert_eq!(to(4, Corners::HalfPixel), [0.0, 1.0, 3.0, 4.0]);
        assert_eq!(to(5, Corners::Aligned), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(to(2, Corners::HalfPixel), [0.0, 4.0]);
        assert_eq!(to(1, Corners::HalfPixel), [2.0]);
        assert_eq!(to(1, Corners::Aligned), [0.0]);
    }

    #[test]
    fn weights_sum_to_one_and_resizes_compose() {
        for corners in [Corners::HalfPixel, Corners::Aligned] {
            for (a, b, c) in [(9, 65, 97), (11, 81, 40), (1, 7, 3), (64, 512, 375), (5, 1, 9)] {
                let (first, second) = (Axis::new(a, b, corners), Axis::new(b, c, corners));
                for output in 0..c {
                    let taps = first.taps_through(&second, output);
                    assert!((taps.iter().map(|t| t.1).sum::<f64>() - 1.0).abs() < 1e-12);
                    assert!(taps.iter().all(|t| t.0 < a) && taps.len() <= 4);
                    // The same by hand, on the squares of the inputs.
                    let signal = |i: usize| (i * i) as f64;
                    let middle = |m: usize| first.taps(m).iter().map(|(i, w)| w * signal(*i)).sum::<f64>();
                    let both: f64 = second.taps(output).iter().map(|(m, w)| w * middle(*m)).sum();
                    let once: f64 = taps.iter().map(|(i, w)| w * signal(*i)).sum();
                    assert!((both - once).abs() < 1e-9, "{a} {b} {c} {output}: {both} {once}");
                }
            }
        }
    }

    /// ⟨resize(x), g⟩ = ⟨x, backward(g)⟩, which says that it is the transpose.
    #[test]
    fn backward_is_the_transpose() {
        let device = Device::flex();
        let filled = |shape: [usize; 4], salt: usize| {
            let n: usize = shape.iter().product();
            let values: Vec<f32> = (0..n).map(|i| ((i * 37 + salt) % 101) as f32 / 50.0 - 1.0).collect();
            Tensor::<4>::from_data(TensorData::new(values, shape), &device)
        };
        for corners in [Corners::HalfPixel, Corners::Aligned] {
            let resize = Resize::new([3, 5], [10, 7], corners, &device);
            let (x, g) = (filled([2, 3, 3, 5], 1), filled([2, 3, 10, 7], 7));
            let dot = |a: Tensor<4>, b: Tensor<4>| {
                let pairs: Vec<(f32, f32)> = values(a).into_iter().zip(values(b)).collect();
                pairs.iter().map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
            };
            let (left, right) = (dot(resize.forward(x.clone()), g.clone()), dot(x, resize.backward(g)));
            assert!((left - right).abs() < 1e-3, "{left} {right}");
        }
    }
}
