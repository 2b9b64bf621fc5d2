//! Applying a drawn view to pixels.

use super::blur::{BlurScratch, gaussian_blur};
use super::planes::Planes;
use super::resize::{ResizeScratch, resized_crop_into};
use super::{JitterStep, ViewParams, ViewSpec, colour, hue};
use crate::Image;

/// Buffers that rendering needs, kept between calls so that a worker allocates them once.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    planes: Planes,
    resize: ResizeScratch,
    blur: BlurScratch,
}

/// (x/255 − mean)/std for each of the 256 levels, in single precision as `to_tensor` and `normalize` compute it.
fn level_table(mean: f32, std: f32) -> [f32; 256] {
    std::array::from_fn(|level| (level as f32 / 255.0 - mean) / std)
}

impl ViewSpec {
    /// Renders a view: `[size_px, size_px]` pixels.
    pub fn render(&self, image: &Image, params: &ViewParams) -> Image {
        let mut scratch = Scratch::default();
        self.render_planes(image, params, &mut scratch);
        scratch.planes.to_image()
    }

    /// Renders a view and normalises it into `out`, `[3, size_px, size_px]` (channel, row, column).
    /// `out` longer or shorter than that is filled as far as it goes.
    pub fn render_into(
        &self,
        image: &Image,
        params: &ViewParams,
        mean: [f32; 3],
        std: [f32; 3],
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        self.render_planes(image, params, scratch);
        let area = scratch.planes.area();
        let planes = scratch.planes.data.chunks_exact(area).zip(out.chunks_mut(area));
        for ((plane, out), (mean, std)) in planes.zip(mean.into_iter().zip(std)) {
            let table = level_table(mean, std);
            for (out, &level) in out.iter_mut().zip(plane) {
                *out = table[usize::from(level)];
            }
        }
    }

    fn render_planes(&self, image: &Image, params: &ViewParams, scratch: &mut Scratch) {
        let Scratch { planes, resize, blur } = scratch;
        let side = self.size_px.max(1) as usize;
        planes.set_size(side, side);
        let crop = params.crop.clipped(image.width, image.height);
        resized_crop_into(image, crop, self.filter, params.flip, resize, planes);
        for step in params.jitter.iter().flatten() {
            match *step {
                JitterStep::Brightness(factor) => colour::brightness(planes, factor),
                JitterStep::Contrast(factor) => colour::contrast(planes, factor),
                JitterStep::Saturation(factor) => colour::saturation(planes, factor),
                JitterStep::Hue(turns) => hue::rotate_hue(planes, turns),
            }
        }
        if params.grayscale {
            colour::greyscale(planes);
        }
        if let Some(sigma) = params.blur {
            gaussian_blur(planes, sigma, blur);
        }
        if params.solarize {
            colour::solarize(planes, self.solarize_threshold);
        }
    }
}

/// Normalises a packed image to (x/255 − mean)/std, `[3, height, width]`.
/// `out` longer or shorter than that is filled as far as it goes.
pub fn normalise_into(image: &Image, mean: [f32; 3], std: [f32; 3], out: &mut [f32]) {
    let area = image.pixels().max(1);
    for (channel, out) in out.chunks_mut(area).take(3).enumerate() {
        let table = level_table(mean[channel], std[channel]);
        for (out, pixel) in out.iter_mut().zip(image.data.chunks_exact(3)) {
            *out = table[usize::from(pixel[channel])];
        }
    }
}
