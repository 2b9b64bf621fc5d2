//! The loader's views, rendered on a GPU: the same draws, the same operations, from packed pictures to the batch.

use std::sync::LazyLock;

use burn::tensor::{Device, Int, Tensor, TensorData};
use ocelli_data::views::{ExtendedBox, Taps, hsv_table, hue_shift};
use ocelli_data::{Image, JitterStep, ViewParams, ViewSpec};
use ocelli_kernels::views::{Axis, Box, Picture, Step, View, ViewJob, views};

/// One view to render: of which picture, and what was drawn for it.
#[derive(Debug, Clone)]
pub struct DrawnView<'a> {
    /// Number of the picture.
    pub picture: usize,
    /// The distribution it was drawn from: filter and threshold.
    pub spec: &'a ViewSpec,
    /// What was drawn.
    pub params: &'a ViewParams,
}

/// Renders views of one size on a GPU, `[views, 3, side, side]`, as [`ViewSpec::render_into`] does on the CPU; levels differ by
/// 2 of 255 at most.
///
/// # Panics
/// When `device` is no GPU, a view is of another size or of a picture that is not there.
pub fn render_on_gpu(
    images: &[Image],
    drawn: &[DrawnView<'_>],
    mean: [f32; 3],
    std: [f32; 3],
    device: &Device,
) -> Tensor<4> {
    static HSV: LazyLock<Vec<u8>> = LazyLock::new(hsv_table);
    let side = drawn.first().map_or(1, |v| v.spec.size_px.max(1) as usize);
    let (pixels, places) = pack(images);
    let described: Vec<View> = drawn.iter().map(|v| describe(v, images, &places, side)).collect();
    let pixels: Tensor<1, Int> = Tensor::from_data(pixels, device);
    views(pixels, ViewJob::new(&described, side, mean, std, &HSV))
}

/// All pictures as packed RGBA8, one number a pixel, and where each lies.
fn pack(images: &[Image]) -> (TensorData, Vec<Picture>) {
    let mut pixels = Vec::with_capacity(images.iter().map(Image::pixels).sum());
    let mut places = Vec::with_capacity(images.len());
    for image in images {
        let (width, height) = (image.width as usize, image.height as usize);
        places.push(Picture { offset: pixels.len(), width, height });
        pixels.extend(image.data.chunks_exact(3).map(|p| i32::from_le_bytes([p[0], p[1], p[2], 255])));
    }
    let count = pixels.len();
    (TensorData::new(pixels, [count]), places)
}

fn describe(drawn: &DrawnView<'_>, images: &[Image], places: &[Picture], side: usize) -> View {
    let DrawnView { picture, spec, params } = drawn;
    assert!(spec.size_px as usize == side, "views of {} and of {side} pixels in one batch", spec.size_px);
    let image = &images[*picture];
    let crop = params.crop.clipped(image.width, image.height);
    let [top, left, height, width] = [crop.top, crop.left, crop.height, crop.width].map(|n| n as usize);
    let axis = |input| {
        let Taps { starts, ends, weights } = Taps::new(input, side, spec.filter);
        Axis { starts, ends, weights }
    };
    let step = |step: &JitterStep| match *step {
        JitterStep::Brightness(factor) => Step::Brightness(factor as f32),
        JitterStep::Contrast(factor) => Step::Contrast(factor as f32),
        JitterStep::Saturation(factor) => Step::Saturation(factor as f32),
        JitterStep::Hue(turns) => Step::Hue(hue_shift(turns)),
    };
    let blur = params.blur.and_then(ExtendedBox::of_blur);
    View {
        picture: places[*picture],
        crop: [top, left, height, width],
        columns: axis(width),
        rows: axis(height),
        flip: params.flip,
        jitter: params.jitter.iter().flatten().map(step).collect(),
        greyscale: params.grayscale,
        blur: blur.map(|b| Box { reach: b.reach, whole: b.whole, end: b.end }),
        solarise: params.solarize.then_some(spec.solarize_threshold),
    }
}
