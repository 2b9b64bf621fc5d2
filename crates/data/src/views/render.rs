//! Applying a drawn view to pixels.

use super::blur::{BlurScratch, gaussian_blur};
use super::convolve::{convolution_blur, infomin_blur};
use super::planes::Planes;
use super::resize::{ResizeScratch, resized_crop_into, resized_window_into};
use super::{
    BlurKind, Colour, FloatBrightness, FloatPlanes, JitterStep, ViewParams, ViewSpec, ViewStep, colour, hue,
};
use crate::Image;

/// Buffers that rendering needs, kept between calls so that a worker allocates them once.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    pub(super) planes: Planes,
    pub(super) resize: ResizeScratch,
    blur: BlurScratch,
    pub(super) floats: FloatPlanes,
}

/// (x/255 − mean)/std for each of the 256 levels, in single precision as `to_tensor` and `normalize` compute it.
fn level_table(mean: f32, std: f32) -> [f32; 256] {
    std::array::from_fn(|level| (level as f32 / 255.0 - mean) / std)
}

/// Planes normalised to (x/255 − mean)/std: `[3, height, width]`.
pub(super) fn normalised(planes: &Planes, mean: [f32; 3], std: [f32; 3]) -> Vec<f32> {
    let mut out = Vec::with_capacity(planes.data.len());
    for (plane, (mean, std)) in planes.data.chunks_exact(planes.area().max(1)).zip(mean.into_iter().zip(std)) {
        let table = level_table(mean, std);
        out.extend(plane.iter().map(|&level| table[usize::from(level)]));
    }
    out
}

impl ViewSpec {
    /// Renders a view: `[size_px, size_px]` pixels, before normalisation and therefore before erasing.
    pub fn render(&self, image: &Image, params: &ViewParams) -> Image {
        let mut scratch = Scratch::default();
        self.render_planes(image, params, &mut scratch);
        if self.in_floats() {
            scratch.floats.levels_into(&mut scratch.planes);
        }
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
        if self.in_floats() {
            let planes = scratch.floats.data.chunks_exact(area).zip(out.chunks_mut(area));
            for ((plane, out), (mean, std)) in planes.zip(mean.into_iter().zip(std)) {
                for (out, &x) in out.iter_mut().zip(plane) {
                    *out = (x - mean) / std;
                }
            }
        } else {
            let planes = scratch.planes.data.chunks_exact(area).zip(out.chunks_mut(area));
            for ((plane, out), (mean, std)) in planes.zip(mean.into_iter().zip(std)) {
                let table = level_table(mean, std);
                for (out, &level) in out.iter_mut().zip(plane) {
                    *out = table[usize::from(level)];
                }
            }
        }
        if out.len() == 3 * area {
            params.erase.iter().for_each(|erased| erased.apply(out, scratch.planes.width));
        }
    }

    /// Whether the view ends as floats, in `scratch.floats`; otherwise it ends as levels.
    fn in_floats(&self) -> bool {
        self.colour != Colour::Levels
    }

    fn render_planes(&self, image: &Image, params: &ViewParams, scratch: &mut Scratch) {
        let Scratch { planes, resize, floats, .. } = scratch;
        let side = self.size_px.max(1) as usize;
        planes.set_size(side, side);
        let crop = params.crop.clipped(image.width, image.height);
        match params.window.map(|window| window.within(self.size_px)) {
            None => resized_crop_into(image, crop, self.filter, params.flip, resize, planes),
            Some(window) => {
                resized_window_into(image, crop, window, (self.filter, params.flip), resize, planes);
            }
        }
        match self.colour {
            Colour::Levels => self.order.iter().for_each(|&step| self.change_levels(step, params, scratch)),
            Colour::Floats { brightness } => {
                floats.fill_from(planes);
                self.order.iter().for_each(|&step| self.change_floats(step, params, brightness, floats));
            }
        }
    }

    fn change_levels(&self, step: ViewStep, params: &ViewParams, scratch: &mut Scratch) {
        let Scratch { planes, blur, floats, .. } = scratch;
        match step {
            ViewStep::Jitter => {
                for step in params.jitter.iter().flatten() {
                    match *step {
                        JitterStep::Brightness(factor) => colour::brightness(planes, factor),
                        JitterStep::Contrast(factor) => colour::contrast(planes, factor),
                        JitterStep::Saturation(factor) => colour::saturation(planes, factor),
                        JitterStep::Hue(turns) => hue::rotate_hue(planes, turns),
                    }
                }
            }
            ViewStep::Grayscale if params.grayscale => colour::greyscale(planes),
            ViewStep::Blur => match (params.blur, self.blur.map(|blur| blur.kind)) {
                (None, _) => {}
                (Some(sigma), Some(BlurKind::Reflect)) => infomin_blur(planes, sigma, floats),
                (Some(sigma), _) => gaussian_blur(planes, sigma, blur),
            },
            ViewStep::Solarize if params.solarize => colour::solarize(planes, self.solarize_threshold),
            ViewStep::Randaugment => {
                let fill = self.randaugment.unwrap_or_default().fill;
                params.randaugment.iter().for_each(|step| step.apply_to(planes, fill));
            }
            ViewStep::Grayscale | ViewStep::Solarize => {}
        }
    }

    fn change_floats(
        &self,
        step: ViewStep,
        params: &ViewParams,
        brightness: FloatBrightness,
        floats: &mut FloatPlanes,
    ) {
        match step {
            ViewStep::Jitter => params.jitter.iter().flatten().for_each(|&step| floats.jitter(step, brightness)),
            ViewStep::Grayscale if params.grayscale => floats.grayscale(),
            ViewStep::Blur => params.blur.into_iter().for_each(|sigma| convolution_blur(floats, sigma)),
            // The usual threshold, level 128, is a half.
            ViewStep::Solarize if params.solarize => floats.solarize(f32::from(self.solarize_threshold) / 256.0),
            ViewStep::Grayscale | ViewStep::Solarize | ViewStep::Randaugment => {}
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
