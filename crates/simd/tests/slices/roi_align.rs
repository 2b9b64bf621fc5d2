use ocelli_simd::roi_align::{Roi, RoiAlignShape, RoiPlan, backward, forward};

use crate::common::*;

/// The four cells around a point of a map, each with its weight; none where it lies outside by more than a cell.
fn around(y: f64, x: f64, height: usize, width: usize) -> Vec<(usize, f64)> {
    if y < -1.0 || y > height as f64 || x < -1.0 || x > width as f64 {
        return Vec::new();
    }
    let axis = |at: f64, size: usize| {
        let at = at.max(0.0);
        let low = (at as usize).min(size - 1);
        let beyond = if low + 1 < size { at - low as f64 } else { 0.0 };
        [(low, 1.0 - beyond), ((low + 1).min(size - 1), beyond)]
    };
    let mut cells = Vec::new();
    for (row, down) in axis(y, height) {
        for (col, across) in axis(x, width) {
            cells.push((row * width + col, down * across));
        }
    }
    cells
}

/// Calls `each` with a box, an output, a cell of the box's image and the weight of that cell in the output.
fn samples(
    rois: &[Roi],
    shape: RoiAlignShape,
    [height, width]: [usize; 2],
    mut each: impl FnMut(usize, usize, usize, f64),
) {
    for (r, roi) in rois.iter().enumerate() {
        let [x1, y1, x2, y2] = roi.xyxy.map(|v| f64::from(v) * f64::from(shape.scale) - 0.5);
        let bins = [(y2 - y1) / shape.rows as f64, (x2 - x1) / shape.cols as f64];
        let count = |bin: f64| if shape.sampling_ratio > 0 { shape.sampling_ratio } else { bin.ceil() as usize };
        let [down, across] = bins.map(count);
        for output in 0..shape.rows * shape.cols {
            let (row, col) = (output / shape.cols, output % shape.cols);
            for sample in 0..down * across {
                let (i, j) = (sample / across, sample % across);
                let y = y1 + (row as f64 + (i as f64 + 0.5) / down as f64) * bins[0];
                let x = x1 + (col as f64 + (j as f64 + 0.5) / across as f64) * bins[1];
                for (cell, weight) in around(y, x, height, width) {
                    each(r, output, cell, weight / (down * across) as f64);
                }
            }
        }
    }
}

#[test]
fn values_and_gradients() {
    let rois = [
        Roi { image: 1, xyxy: [3.0, 5.0, 40.0, 30.0] },
        Roi { image: 0, xyxy: [-20.0, -3.0, 33.0, 90.0] },
        Roi { image: 1, xyxy: [10.0, 10.0, 12.0, 11.0] },
        Roi { image: 1, xyxy: [500.0, 500.0, 600.0, 600.0] },
    ];
    for ([channels, height, width], [rows, cols], sampling_ratio) in
        [([1, 6, 7], [2, 2], 0), ([5, 12, 9], [3, 7], 2), ([17, 13, 21], [7, 7], 0), ([130, 8, 8], [1, 3], 1)]
    {
        let what = format!("roi_align of {channels}×{height}×{width} to {rows}×{cols}");
        let shape = RoiAlignShape { rows, cols, scale: 0.25, sampling_ratio };
        let plan = RoiPlan::new(&rois, shape, [2, height, width]);
        let (area, cells) = (height * width, rows * cols);
        let x = numbers(1, 2 * channels * area, 1.0);
        let dy = numbers(2, rois.len() * channels * cells, 1.0);
        let (y, dx) = (forward(&plan, &x, channels), backward(&plan, &dy, channels));
        let (mut want, mut want_dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
        samples(&rois, shape, [height, width], |roi, output, cell, weight| {
            for c in 0..channels {
                let from = (rois[roi].image * channels + c) * area + cell;
                let to = (roi * channels + c) * cells + output;
                want[to] += f64::from(x[from]) * weight;
                want_dx[from] += f64::from(dy[to]) * weight;
            }
        });
        close(&what, &y, &want, 1e-5);
        close(&format!("{what}: gradient"), &dx, &want_dx, 1e-5);
    }
}
