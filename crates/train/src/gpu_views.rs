//! The loader's views, rendered on a GPU: the same draws, the same operations, from packed pictures to the batch.

use std::sync::{Arc, LazyLock};

use burn::tensor::{Device, Int, Tensor, TensorData};
use ocelli_data::views::{ExtendedBox, Taps, hsv_table, hue_shift};
use ocelli_data::{DrawnView, Image, JitterStep, ViewBatch, ViewParams, ViewPlan, ViewSpec};
use ocelli_kernels::views::{Axis, Box, Picture, Step, View, ViewJob, views};
use rayon::prelude::*;

/// One view to render: of which picture, and what was drawn for it.
#[derive(Debug, Clone)]
pub struct ViewOf<'a> {
    /// Number of the picture.
    pub picture: usize,
    /// The distribution it was drawn from: filter and threshold.
    pub spec: &'a ViewSpec,
    /// What was drawn.
    pub params: &'a ViewParams,
}

/// Most pixels of the pictures rendered at once, and most of what their crops are after half of the resize: 64 MiB, half of
/// what every device can bind.
const MOST_PX: usize = 1 << 24;

/// Renders the views of a batch that the loader has only drawn: `[views·batch, 3, side, side]` for each of its groups, as
/// [`ViewBatch::groups`] has them on the CPU; levels differ by 2 of 255 at most. `plan` is the loader's.
///
/// # Panics
/// When `device` is no GPU.
pub fn render_batch(batch: &ViewBatch, plan: &ViewPlan, device: &Device) -> Vec<Tensor<4>> {
    let mut groups: Vec<Vec<Tensor<3>>> = batch.groups.iter().map(|_| Vec::new()).collect();
    for samples in portions(&batch.drawn, plan) {
        let (mut pictures, mut numbers): (Vec<&Arc<Image>>, Vec<Vec<usize>>) = (Vec::new(), Vec::new());
        for views in samples {
            let mut of_views = Vec::with_capacity(views.len());
            for view in views {
                // The views of a sample share their picture, as a rule.
                if !pictures.last().is_some_and(|last| Arc::ptr_eq(last, &view.picture)) {
                    pictures.push(&view.picture);
                }
                of_views.push(pictures.len() - 1);
            }
            numbers.push(of_views);
        }
        let packed = Packed::new(pictures.iter().map(|p| p.as_ref()), device);
        for ((size_px, range), group) in plan.groups().into_iter().zip(&mut groups) {
            let of = |v: usize| (0..samples.len()).map(move |i| (v, i));
            let drawn: Vec<ViewOf> = range
                .clone()
                .flat_map(of)
                .map(|(v, i)| ViewOf {
                    picture: numbers[i][v],
                    spec: &plan.views[v],
                    params: &samples[i][v].params,
                })
                .collect();
            let rendered = packed.render(&drawn, plan.mean, plan.std);
            group.push(rendered.reshape([range.len(), samples.len(), 3 * (size_px as usize).pow(2)]));
        }
    }
    let whole = |(group, portions): (&ocelli_data::ViewGroup, Vec<Tensor<3>>)| {
        let side = group.size_px as usize;
        Tensor::cat(portions, 1).reshape([group.views * group.batch, 3, side, side])
    };
    batch.groups.iter().zip(groups).map(whole).collect()
}

/// Runs of samples that are rendered at once.
fn portions<'a>(samples: &'a [Vec<DrawnView>], plan: &ViewPlan) -> Vec<&'a [Vec<DrawnView>]> {
    let weight = |views: &[DrawnView]| {
        let pixels: usize = views.first().map_or(0, |v| v.picture.pixels());
        let narrow =
            views.iter().zip(&plan.views).map(|(v, spec)| v.params.crop.height as usize * spec.size_px as usize);
        pixels.max(narrow.sum())
    };
    let (mut found, mut first, mut sum) = (Vec::new(), 0, 0);
    for (i, views) in samples.iter().enumerate() {
        let more = weight(views);
        if i > first && sum + more > MOST_PX {
            found.push(&samples[first..i]);
            (first, sum) = (i, 0);
        }
        sum += more;
    }
    found.push(&samples[first..]);
    found
}

/// Pictures on a GPU as packed RGBA8, one number a pixel, one after the other.
pub struct Packed {
    pixels: Tensor<1, Int>,
    places: Vec<Picture>,
}

impl Packed {
    /// Sends pictures to a GPU.
    pub fn new<'a>(images: impl Iterator<Item = &'a Image>, device: &Device) -> Self {
        let (mut pixels, mut places) = (Vec::new(), Vec::new());
        for image in images {
            let (width, height) = (image.width as usize, image.height as usize);
            places.push(Picture { offset: pixels.len(), width, height });
            pixels.extend(image.data.chunks_exact(3).map(|p| i32::from_le_bytes([p[0], p[1], p[2], 255])));
        }
        let count = pixels.len();
        Self { pixels: Tensor::from_data(TensorData::new(pixels, [count]), device), places }
    }

    /// Renders views of one size, `[views, 3, side, side]`, as [`ViewSpec::render_into`] does on the CPU.
    ///
    /// # Panics
    /// When the pictures lie on no GPU, or a view is of another size or of a picture that is not there.
    pub fn render(&self, drawn: &[ViewOf<'_>], mean: [f32; 3], std: [f32; 3]) -> Tensor<4> {
        static HSV: LazyLock<Vec<u8>> = LazyLock::new(hsv_table);
        let side = drawn.first().map_or(1, |v| v.spec.size_px.max(1) as usize);
        // Tables of weights for every view: the only work that is left to the processor, and the device waits for it.
        let described: Vec<View> = drawn.par_iter().map(|v| describe(v, &self.places, side)).collect();
        views(self.pixels.clone(), ViewJob::new(&described, side, mean, std, &HSV))
    }
}

/// A view in the kernels' words; `places` are the pictures'.
fn describe(drawn: &ViewOf<'_>, places: &[Picture], side: usize) -> View {
    let ViewOf { picture, spec, params } = drawn;
    assert!(spec.size_px as usize == side, "views of {} and of {side} pixels in one batch", spec.size_px);
    let Picture { width, height, .. } = places[*picture];
    let crop = params.crop.clipped(width as u32, height as u32);
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
