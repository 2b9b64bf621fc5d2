//! Views on a GPU against the loader's, which are computed on the CPU.

use burn::tensor::Device;
use ocelli_data::{DinoViews, Image, Rng, Scratch, ViewParams, ViewPlan};
use ocelli_kernels::selftest::{Case, Parts, Side};

use crate::gpu_views::{Packed, ViewOf};

/// Two of 255 levels: each of several steps rounds to whole levels, and a GPU may round one to the other side.
const LEVELS: f64 = 0.009;

/// Means and deviations that leave levels as they are.
const AS_THEY_ARE: ([f32; 3], [f32; 3]) = ([0.0; 3], [1.0 / 255.0; 3]);

/// The cases, with that of views where a device renders them.
pub(super) fn with(mut cases: Vec<Case>, device: &Device) -> Vec<Case> {
    if *device != Device::flex() {
        cases.extend([(224, 0), (96, 1)].map(|(size_px, group)| views(size_px, group)));
    }
    cases
}

/// Waves of other lengths in every colour.
fn picture(width: u32, height: u32) -> Image {
    let mut image = Image::filled(width, height, [0; 3]);
    for (i, pixel) in image.data.chunks_exact_mut(3).enumerate() {
        let (x, y) = ((i as u32 % width) as f32, (i as u32 / width) as f32);
        for (c, level) in pixel.iter_mut().enumerate() {
            let wave = (x * (0.05 + 0.04 * c as f32)).sin() * (y * (0.09 - 0.02 * c as f32)).cos();
            *level = (128.0 + 120.0 * wave) as u8;
        }
    }
    image
}

/// What was drawn for views of one size: the picture, which of the plan's views, and the draw.
type Drawn = Vec<(usize, usize, ViewParams)>;

fn drawn(plan: &ViewPlan, group: usize, pictures: &[Image]) -> Drawn {
    let mut rng = Rng::from_words(&[7]);
    let mut drawn = Drawn::new();
    let views = plan.groups().into_iter().nth(group).map_or(0..0, |(_, views)| views);
    for view in views {
        let picture = drawn.len() % pictures.len();
        let Image { width, height, .. } = pictures[picture];
        let mut params = plan.views[view].sample(width, height, &mut rng);
        // Once everything at once.
        if drawn.is_empty() {
            (params.blur, params.solarize) = (Some(1.2), true);
        }
        drawn.push((picture, view, params));
    }
    drawn
}

/// DINO's views of one of its sizes.
fn views(size_px: u32, group: usize) -> Case {
    let shape = format!("{size_px} px, of 200×150 and 61×47");
    Case::new("views", shape, move |place| {
        let plan = ViewPlan::dino(DinoViews::default());
        let pictures = [picture(200, 150), picture(61, 47)];
        let drawn = drawn(&plan, group, &pictures);
        let packed = (!place.is_exact()).then(|| Packed::new(pictures.iter(), &place.device().clone().inner()));
        let place = place.clone();
        Box::new(move |side| {
            let levels = match (side, &packed) {
                (Side::Kernel, Some(packed)) => {
                    let views: Vec<ViewOf> = drawn
                        .iter()
                        .map(|(picture, view, params)| ViewOf {
                            picture: *picture,
                            spec: &plan.views[*view],
                            params,
                        })
                        .collect();
                    packed.render(&views, AS_THEY_ARE.0, AS_THEY_ARE.1)
                }
                _ => {
                    let side = size_px as usize;
                    let one = 3 * side * side;
                    let (mut scratch, mut levels) = (Scratch::default(), vec![0.0; drawn.len() * one]);
                    for ((picture, view, params), levels) in drawn.iter().zip(levels.chunks_exact_mut(one)) {
                        let (mean, std) = AS_THEY_ARE;
                        plan.views[*view].render_into(
                            &pictures[*picture],
                            params,
                            mean,
                            std,
                            &mut scratch,
                            levels,
                        );
                    }
                    place.tensor(levels, [drawn.len(), 3, side, side]).inner()
                }
            };
            Parts::within(LEVELS).with("levels", &levels)
        })
    })
}
