//! From a picture of any size to a class for each of its pixels: the whole picture at once, or windows that slide over it.
//!
//! The device gives a few logits for every cell of the backbone's map. They are read back as they are, and the two resizes of
//! the published protocol, cells to the network's pixels and those to the picture's, are done here row by row: no tensor as
//! large as the picture times the classes is needed but where windows overlap.

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_data::annotated::LabelMap;
use ocelli_data::views::{SegmentationTest, TestView, fitted_size};
use ocelli_data::{Image, Scratch};
use ocelli_eval::EvalError;
use ocelli_models::Mode;
use ocelli_train::TrainError;
use rayon::prelude::*;

use super::network::SegmentationNet;
use super::resize::{Axis, Corners};

/// Windows that slide over a picture. Where they overlap, logits are averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sliding {
    /// Rows and columns of a window; a smaller picture is one window of its own size.
    pub size_px: [usize; 2],
    /// From one window to the next; the last one ends where the picture ends.
    pub stride_px: [usize; 2],
}

/// How pictures are segmented.
#[derive(Debug, Clone, PartialEq)]
pub struct Inference {
    /// What a picture becomes before it is segmented.
    pub test: SegmentationTest,
    /// Windows; none takes the picture whole.
    pub sliding: Option<Sliding>,
    /// How logits are resized.
    pub corners: Corners,
    /// Sides are padded with zeros, right and below, to multiples of this: a Vision Transformer's patch. 1 pads nothing.
    pub multiple_px: usize,
}

/// Numbers for every class and cell, `[classes, rows, cols]`.
struct Field {
    values: Vec<f32>,
    classes: usize,
    rows: usize,
    cols: usize,
}

/// Cells that a pixel of an axis lies between, and their weights.
type Taps = Vec<(usize, f64)>;

/// A part of a picture: first row, first column, rows, columns.
type Part = [usize; 4];

impl Inference {
    /// A class for each pixel of a picture, at its own size. `net` is on the plain device.
    ///
    /// # Errors
    /// When values cannot be read from the device, or are not finite.
    pub fn segment(
        &self,
        net: &SegmentationNet,
        image: &Image,
        device: &Device,
        scratch: &mut Scratch,
    ) -> Result<LabelMap, TrainError> {
        let view = self.test.view(image, scratch);
        let (height, width) = (image.height as usize, image.width as usize);
        let outer = [Axis::new(view.height, height, self.corners), Axis::new(view.width, width, self.corners)];
        let labels = match self.windows([view.height, view.width]) {
            None => {
                let (field, inner) = self.logits(net, &view, [0, 0, view.height, view.width], device)?;
                let through = |i: usize| -> Vec<Taps> {
                    (0..outer[i].len()).map(|o| inner[i].taps_through(&outer[i], o)).collect()
                };
                likeliest(&field, &through(0), &through(1))
            }
            Some(windows) => {
                let field = self.averaged(net, &view, &windows, device)?;
                let taps =
                    |i: usize| -> Vec<Taps> { (0..outer[i].len()).map(|o| outer[i].taps(o).to_vec()).collect() };
                likeliest(&field, &taps(0), &taps(1))
            }
        };
        Ok(LabelMap { width, height, labels })
    }

    /// The windows over a view, row by row; none where it is taken whole.
    fn windows(&self, size: [usize; 2]) -> Option<Vec<Part>> {
        let sliding = self.sliding?;
        let starts = |axis: usize| starts(size[axis], sliding.size_px[axis], sliding.stride_px[axis]);
        let side = |axis: usize| sliding.size_px[axis].clamp(1, size[axis].max(1));
        let columns = starts(1);
        let row = |top: usize| columns.iter().map(move |left| [top, *left, side(0), side(1)]);
        Some(starts(0).into_iter().flat_map(row).collect())
    }

    /// Logits of the cells of a part, and how they lie over its pixels.
    fn logits(
        &self,
        net: &SegmentationNet,
        view: &TestView,
        [top, left, height, width]: Part,
        device: &Device,
    ) -> Result<(Field, [Axis; 2]), TrainError> {
        let padded = [height, width].map(|side| side.next_multiple_of(self.multiple_px.max(1)));
        let mut pixels = vec![0.0; 3 * padded[0] * padded[1]];
        let planes = view.pixels.chunks_exact(view.height * view.width);
        for (plane, out) in planes.zip(pixels.chunks_exact_mut(padded[0] * padded[1])) {
            let lines = plane.chunks_exact(view.width).skip(top).take(height);
            for (line, out) in lines.zip(out.chunks_exact_mut(padded[1])) {
                out[..width].copy_from_slice(&line[left..left + width]);
            }
        }
        let images = Tensor::from_data(TensorData::new(pixels, [1, 3, padded[0], padded[1]]), device);
        let logits = net.forward(images, Mode::Eval).decode;
        let [_, classes, rows, cols] = logits.dims();
        let values = logits
            .into_data()
            .try_to_vec::<f32>()
            .map_err(|e| TrainError::Device(format!("cannot read the logits back: {e:?}")))?;
        if let Some(value) = values.iter().copied().find(|v| !v.is_finite()) {
            return Err(TrainError::NotFinite { what: "a logit", value, step: 0 });
        }
        let axes = [Axis::new(rows, padded[0], self.corners), Axis::new(cols, padded[1], self.corners)];
        Ok((Field { values, classes, rows, cols }, axes))
    }

    /// Logits of every pixel of a view: the mean over the windows that show it.
    fn averaged(
        &self,
        net: &SegmentationNet,
        view: &TestView,
        windows: &[Part],
        device: &Device,
    ) -> Result<Field, TrainError> {
        let area = view.height * view.width;
        let mut sum: Vec<f32> = Vec::new();
        let (mut counts, mut classes) = (vec![0.0f32; area], 0);
        for window in windows {
            let (field, axes) = self.logits(net, view, *window, device)?;
            let [top, left, height, width] = *window;
            classes = field.classes;
            sum.resize(classes * area, 0.0);
            let taps = |axis: &Axis, n: usize| (0..n).map(|o| axis.taps(o)).collect::<Vec<_>>();
            let (rows, cols) = (taps(&axes[0], height), taps(&axes[1], width));
            let cells = field.values.par_chunks_exact(field.rows * field.cols);
            cells.zip(sum.par_chunks_exact_mut(area)).for_each(|(cells, plane)| {
                let mut line = vec![0.0f32; field.cols];
                for (y, taps) in rows.iter().enumerate() {
                    mix_rows(cells, field.cols, taps, &mut line);
                    let out = &mut plane[(top + y) * view.width + left..][..width];
                    for (out, taps) in out.iter_mut().zip(&cols) {
                        *out += taps.iter().map(|(x, w)| line[*x] * *w as f32).sum::<f32>();
                    }
                }
            });
            for y in top..top + height {
                counts[y * view.width + left..][..width].iter_mut().for_each(|count| *count += 1.0);
            }
        }
        sum.par_chunks_exact_mut(area.max(1)).for_each(|plane| {
            plane.iter_mut().zip(&counts).for_each(|(value, count)| *value /= count.max(1.0));
        });
        Ok(Field { values: sum, classes, rows: view.height, cols: view.width })
    }

    /// Numbers of 4 bytes that a picture of `[height, width]` takes on the host beside the network's pass, at most.
    pub fn host_values(&self, size: [usize; 2], classes: usize) -> usize {
        let [height, width] = self.view_size(size);
        let pixels = 2 * 3 * height * width;
        let field = if self.sliding.is_some() { (classes + 1) * height * width } else { 0 };
        pixels + field + size[0] * size[1] / 4
    }

    /// Rows and columns that go through the network at once, for a picture of `[height, width]`.
    pub fn pass_size(&self, size: [usize; 2]) -> [usize; 2] {
        let view = self.view_size(size);
        match self.sliding {
            Some(sliding) => [0, 1].map(|axis| view[axis].min(sliding.size_px[axis])),
            None => view,
        }
    }

    fn view_size(&self, size: [usize; 2]) -> [usize; 2] {
        self.test.scale_px.map_or(size, |scale| fitted_size(size, scale))
    }
}

/// Where windows begin along an axis: the last one ends with it.
fn starts(side: usize, window: usize, stride: usize) -> Vec<usize> {
    let rest = side.saturating_sub(window.max(1));
    let count = rest.div_ceil(stride.max(1)) + 1;
    (0..count).map(|i| (i * stride.max(1)).min(rest)).collect()
}

/// A line of a map between its rows.
fn mix_rows(cells: &[f32], cols: usize, taps: &[(usize, f64)], line: &mut [f32]) {
    line.fill(0.0);
    for (row, weight) in taps {
        let weight = *weight as f32;
        for (out, value) in line.iter_mut().zip(&cells[row * cols..][..cols]) {
            *out += value * weight;
        }
    }
}

/// The class with the largest number for every pixel, of equal ones the first. `rows` and `cols` say of each pixel which cells
/// it lies between.
fn likeliest(field: &Field, rows: &[Taps], cols: &[Taps]) -> Vec<u8> {
    let mut labels = vec![0u8; rows.len() * cols.len()];
    let cols: Vec<Vec<(usize, f32)>> =
        cols.iter().map(|taps| taps.iter().map(|(x, w)| (*x, *w as f32)).collect()).collect();
    labels.par_chunks_exact_mut(cols.len().max(1)).zip(rows).for_each(|(out, taps)| {
        let mut line = vec![0.0f32; field.cols];
        let mut best = vec![f32::NEG_INFINITY; out.len()];
        for (class, cells) in field.values.chunks_exact(field.rows * field.cols).enumerate() {
            mix_rows(cells, field.cols, taps, &mut line);
            for ((label, best), taps) in out.iter_mut().zip(&mut best).zip(&cols) {
                let value = taps.iter().map(|(x, weight)| line[*x] * weight).sum::<f32>();
                if value > *best {
                    (*label, *best) = (class as u8, value);
                }
            }
        }
    });
    labels
}

/// Classes of cells whose logits `[classes, rows, cols]` are given, over a picture of `[height, width]` that was resized to
/// `network` for the network: the two resizes and the choice, without a network.
///
/// # Errors
/// When there are not as many logits.
pub fn classes_of_logits(
    logits: &[f32],
    [classes, rows, cols]: [usize; 3],
    network: [usize; 2],
    picture: [usize; 2],
    corners: Corners,
) -> Result<LabelMap, TrainError> {
    if logits.len() != classes * rows * cols || logits.is_empty() {
        let (expected, found) = (format!("{classes} × {rows} × {cols}"), logits.len().to_string());
        return Err(EvalError::Shape { what: "logits", expected, found }.into());
    }
    let field = Field { values: logits.to_vec(), classes, rows, cols };
    let cells = [rows, cols];
    let taps = |axis: usize| -> Vec<Taps> {
        let inner = Axis::new(cells[axis], network[axis], corners);
        let outer = Axis::new(network[axis], picture[axis], corners);
        (0..outer.len()).map(|o| inner.taps_through(&outer, o)).collect()
    };
    let labels = likeliest(&field, &taps(0), &taps(1));
    Ok(LabelMap { width: picture[1], height: picture[0], labels })
}

#[cfg(test)]
mod tests {
    use ocelli_models::{Arch, BackboneConfig, Init, ResNetArch, ResNetConfig};

    use super::super::head::{FcnHeadConfig, PatchHeadConfig};
    use super::super::network::{DecodeConfig, NetworkConfig};
    use super::*;

    fn resnet() -> SegmentationNet {
        let arch: ResNetArch = "resnet-18c2".parse().unwrap();
        let backbone = BackboneConfig::ResNet(ResNetConfig { output_stride: 8, ..arch.into() });
        let head =
            FcnHeadConfig { input: 16, channels: 8, convs: 1, concat_input: true, classes: 4, dropout: 0.1 };
        net(&NetworkConfig {
            backbone,
            blocks: 1,
            frozen: false,
            decode: DecodeConfig::Fcn(head),
            auxiliary: None,
        })
    }

    fn net(config: &NetworkConfig) -> SegmentationNet {
        let device = Device::flex();
        let encoder = config.backbone.init(&mut Init::new(2, &device)).unwrap();
        config.with_backbone(&encoder, 3, &device).unwrap()
    }

    fn image(width: u32, height: u32) -> Image {
        let data = (0..3 * width * height).map(|i| (i * 97 % 251) as u8).collect();
        Image::new(width, height, data).unwrap()
    }

    fn whole() -> Inference {
        Inference {
            test: SegmentationTest { scale_px: None, ..SegmentationTest::default() },
            sliding: None,
            corners: Corners::HalfPixel,
            multiple_px: 1,
        }
    }

    fn segment(how: &Inference, net: &SegmentationNet, image: &Image) -> LabelMap {
        how.segment(net, image, &Device::flex(), &mut Scratch::default()).unwrap()
    }

    #[test]
    fn windows_cover_and_end_with_the_picture() {
        for (side, window, stride, want) in [
            (10, 10, 3, vec![0]),
            (7, 10, 3, vec![0]),
            (11, 10, 3, vec![0, 1]),
            (1025, 769, 513, vec![0, 256]),
            (2049, 769, 513, vec![0, 513, 1026, 1280]),
            (20, 5, 5, vec![0, 5, 10, 15]),
        ] {
            assert_eq!(starts(side, window, stride), want, "{side} {window} {stride}");
        }
    }

    #[test]
    fn one_window_is_the_whole_picture() {
        let net = resnet();
        for (width, height) in [(40, 32), (33, 47), (7, 5)] {
            let image = image(width, height);
            let expected = segment(&whole(), &net, &image);
            for size_px in [[height as usize, width as usize], [100, 90]] {
                let sliding = Some(Sliding { size_px, stride_px: [16, 16] });
                let found = segment(&Inference { sliding, ..whole() }, &net, &image);
                assert_eq!(found, expected, "{width} × {height}, windows of {size_px:?}");
            }
            let classes: std::collections::BTreeSet<u8> = expected.labels.iter().copied().collect();
            assert!(classes.len() > 1 || width < 10, "one class everywhere shows nothing: {classes:?}");
        }
    }

    #[test]
    fn windows_that_overlap_are_averaged() {
        let (net, image) = (resnet(), image(48, 32));
        let sliding = Some(Sliding { size_px: [32, 32], stride_px: [32, 16] });
        let how = Inference { sliding, ..whole() };
        let view = how.test.view(&image, &mut Scratch::default());
        let device = Device::flex();
        let mean = how.averaged(&net, &view, &how.windows([32, 48]).unwrap(), &device).unwrap();
        let alone = |left: usize| how.averaged(&net, &view, &[[0, left, 32, 32]], &device).unwrap();
        let (first, second) = (alone(0), alone(16));
        let at = |field: &Field, x: usize| field.values[(3 * 32 + 20) * 48 + x];
        assert_eq!(at(&mean, 5), at(&first, 5));
        assert_eq!(at(&mean, 40), at(&second, 40));
        let both = (at(&first, 24) + at(&second, 24)) / 2.0;
        assert!((at(&mean, 24) - both).abs() < 1e-5);
        assert_eq!(segment(&how, &net, &image).labels.len(), 32 * 48);
    }

    #[test]
    fn a_vision_transformer_takes_any_size() {
        let backbone = BackboneConfig::Vit("vit-32x2x2/8".parse::<Arch>().unwrap().config(32, 0.0));
        let decode = DecodeConfig::Patch(PatchHeadConfig::Linear { input: 32, classes: 3 });
        let net = net(&NetworkConfig { backbone, blocks: 1, frozen: true, decode, auxiliary: None });
        let how = Inference { multiple_px: 8, ..whole() };
        for (width, height) in [(32, 24), (29, 17), (3, 5)] {
            let found = segment(&how, &net, &image(width, height));
            assert_eq!((found.width, found.height), (width as usize, height as usize));
            assert_eq!(found.labels.len(), (width * height) as usize);
            assert!(found.labels.iter().all(|label| *label < 3));
        }
        let resized = Inference { test: SegmentationTest { scale_px: Some([64, 40]), ..how.test }, ..how };
        assert_eq!(segment(&resized, &net, &image(31, 9)).labels.len(), 31 * 9);
    }

    #[test]
    fn logits_alone_and_too_few_of_them() {
        let logits: Vec<f32> = vec![0.0, 1.0, 1.0, 0.0];
        let map = classes_of_logits(&logits, [2, 1, 2], [1, 4], [2, 8], Corners::HalfPixel).unwrap();
        assert_eq!(map.labels, [[1, 1, 1, 1, 0, 0, 0, 0]; 2].concat());
        assert!(classes_of_logits(&logits, [3, 1, 2], [1, 4], [2, 8], Corners::HalfPixel).is_err());
    }
}
