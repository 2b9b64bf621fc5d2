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

#[cfg(test)]
mod tests {
    use ocelli_data::{DinoViews, Rng, Scratch, ViewPlan};

    use super::*;

    /// Bright and dark areas, fine texture, grey and colourful parts.
    fn picture(width: u32, height: u32, seed: u64) -> Image {
        let mut rng = Rng::from_words(&[seed]);
        let tint: Vec<f64> = (0..6).map(|_| rng.uniform(0.0, 1.0)).collect();
        let mut image = Image::filled(width, height, [0; 3]);
        for (i, pixel) in image.data.chunks_exact_mut(3).enumerate() {
            let (x, y) = ((i as u32 % width) as f64 / width as f64, (i as u32 / width) as f64 / height as f64);
            let noise = rng.uniform(-20.0, 20.0);
            for (c, level) in pixel.iter_mut().enumerate() {
                let wave = (x * (3.0 + 9.0 * tint[c]) + y * (2.0 + 7.0 * tint[3 + c])).sin();
                *level = (128.0 + 120.0 * wave * (1.2 - y) + noise).clamp(0.0, 255.0) as u8;
            }
        }
        image
    }

    #[test]
    fn views_on_a_gpu_are_those_of_the_cpu() {
        let Some(device) = crate::device::test_gpu() else { return };
        let images: Vec<Image> = [(61, 47), (128, 96), (33, 150), (200, 200)]
            .iter()
            .zip(1..)
            .map(|(&(w, h), seed)| picture(w, h, seed))
            .collect();
        let plan = ViewPlan::dino(DinoViews { global_size_px: 64, local_size_px: 24, ..DinoViews::default() });
        let mut rng = Rng::from_words(&[7]);
        let (mut compared, mut largest) = (0usize, 0);
        for (side, range) in plan.groups() {
            // Every view many times; some with everything at once.
            let mut drawn = Vec::new();
            for round in 0..12 {
                for spec in &plan.views[range.clone()] {
                    let picture = drawn.len() % images.len();
                    let mut params = spec.sample(images[picture].width, images[picture].height, &mut rng);
                    if round == 0 {
                        params.blur = Some(rng.uniform(0.1, 2.0));
                        params.solarize = true;
                    }
                    drawn.push((picture, spec, params));
                }
            }
            let views: Vec<_> = drawn
                .iter()
                .map(|(picture, spec, params)| DrawnView { picture: *picture, spec, params })
                .collect();
            let found: Vec<f32> = render_on_gpu(&images, &views, [0.0; 3], [1.0 / 255.0; 3], &device)
                .into_data()
                .try_to_vec()
                .unwrap();
            let mut scratch = Scratch::default();
            let mut expected = vec![0.0; 3 * (side * side) as usize];
            for (view, found) in views.iter().zip(found.chunks_exact(expected.len())) {
                let image = &images[view.picture];
                view.spec.render_into(image, view.params, [0.0; 3], [1.0 / 255.0; 3], &mut scratch, &mut expected);
                for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
                    let apart = (f - e).abs();
                    assert!(apart < 2.01, "{:?} at {i}: {f}, on the CPU {e}", view.params);
                    compared += usize::from(apart > 0.01);
                    largest = largest.max((apart * 100.0) as usize);
                }
            }
            println!("{} views of {side} px: {compared} levels differ, by {largest}/100 at most", views.len());
        }
    }
}
