//! Views on a GPU against the loader's on the CPU.

use std::sync::Arc;

use burn::tensor::Device;
use ocelli_data::{
    DataError, DinoViews, Image, Loader, LoaderConfig, Rng, SceneConfig, SceneSource, Scratch, Source, ViewPlan,
};
use ocelli_train::config::resolve;
use ocelli_train::gpu_views::{Packed, ViewOf, render_batch};
use ocelli_train::{Event, Trainer};

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
    let packed = Packed::new(images.iter(), &device);
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
            drawn.iter().map(|(picture, spec, params)| ViewOf { picture: *picture, spec, params }).collect();
        let found: Vec<f32> = packed.render(&views, [0.0; 3], [1.0 / 255.0; 3]).into_data().try_to_vec().unwrap();
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

/// Pictures of several sizes, one of them too large to wait as it is.
struct Pictures(Vec<Image>);

impl Source for Pictures {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn load(&self, index: usize) -> Result<Image, DataError> {
        Ok(self.0[index].clone())
    }
    fn label(&self, _: usize) -> Option<u32> {
        None
    }
    fn name(&self, index: usize) -> String {
        index.to_string()
    }
    fn class_names(&self) -> &[String] {
        &[]
    }
}

#[test]
fn a_batch_rendered_on_a_gpu_is_the_loaders() {
    let device = device().inner();
    if device == Device::flex() {
        return;
    }
    let sizes = [(61, 47), (128, 96), (1300, 900), (33, 150), (200, 200)];
    let pictures = sizes.iter().zip(1..).map(|(&(w, h), seed)| picture(w, h, seed)).collect();
    let source: Arc<dyn Source> = Arc::new(Pictures(pictures));
    let plan = ViewPlan::dino(DinoViews {
        global_size_px: 64,
        local_size_px: 24,
        local_crops: 3,
        ..DinoViews::default()
    });
    let batch = |render| {
        let config = LoaderConfig { batch_size: 5, seed: 3, render, ..LoaderConfig::default() };
        Loader::new(source.clone(), plan.clone(), config).unwrap().epoch(0, 0).next().unwrap().unwrap()
    };
    let (whole, drawn) = (batch(true), batch(false));
    assert_eq!((&whole.indices, &whole.places), (&drawn.indices, &drawn.places));
    assert!(drawn.groups.iter().all(|g| g.data.is_empty()) && whole.drawn.is_empty());
    // A level is 1/255 apart, divided by the deviation.
    let level = 1.0 / 255.0 / plan.std.iter().copied().fold(f32::MAX, f32::min);
    for (group, found) in whole.groups.iter().zip(render_batch(&drawn, &plan, &device)) {
        let side = group.size_px as usize;
        assert_eq!(found.dims(), [group.views * group.batch, 3, side, side]);
        let found: Vec<f32> = found.into_data().try_to_vec().unwrap();
        for (i, (f, e)) in found.iter().zip(&group.data).enumerate() {
            assert!((f - e).abs() < 2.01 * level, "{side} px at {i}: {f}, on the CPU {e}");
        }
    }
}

/// The losses of a short run with its views rendered there.
fn losses(device: &Device, views: &str) -> Result<Vec<f64>, String> {
    let sets = [
        "arch=vit-32x2x2/8",
        "dino.head.out_dim=64",
        "batch_size=4",
        "epochs=1",
        "optim.warmup_epochs=0",
        "log.every_steps=1",
        "eval.every_epochs=0",
        &format!("loader.views={views}"),
    ];
    let config = resolve(Some("demo"), None, &sets.map(String::from)).map_err(|e| e.to_string())?;
    let scenes = SceneSource::new(SceneConfig { count: 12, size_px: 64, ..SceneConfig::default() }).unwrap();
    let source: Arc<dyn Source> = Arc::new(scenes);
    let mut trainer = Trainer::new(&config, device, &source, None).map_err(|e| e.to_string())?;
    let mut found = Vec::new();
    let mut listen = |event: &Event| {
        if let Event::Step(figures) = event {
            found.push(figures.figures["loss"]);
        }
        Ok(())
    };
    trainer.run(None, &mut listen).map_err(|e| e.to_string())?;
    Ok(found)
}

#[test]
fn a_run_with_its_views_on_a_gpu_is_the_same_run() {
    let device = device().inner();
    if device == Device::flex() {
        let refused = losses(&device, "gpu").unwrap_err();
        assert!(refused.contains("loader.views") && refused.contains("cpu"), "{refused}");
        return;
    }
    let (there, here) = (losses(&device, "gpu").unwrap(), losses(&device, "cpu").unwrap());
    assert_eq!((there.len(), here.len()), (3, 3));
    for (a, b) in there.iter().zip(&here) {
        assert!((a - b).abs() < 1e-3 * b.abs(), "{there:?}, on the CPU {here:?}");
    }
}
