//! Views on a GPU against the loader's on the CPU.

use burn::tensor::Device;
use ocelli_data::{DinoViews, Image, Rng, Scratch, ViewPlan};
use ocelli_train::gpu_views::{DrawnView, render_on_gpu};

use crate::common::device;

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
    let device = device().inner();
    if device == Device::flex() {
        return;
    }
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
        let views: Vec<_> =
            drawn.iter().map(|(picture, spec, params)| DrawnView { picture: *picture, spec, params }).collect();
        let found: Vec<f32> =
            render_on_gpu(&images, &views, [0.0; 3], [1.0 / 255.0; 3], &device).into_data().try_to_vec().unwrap();
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
