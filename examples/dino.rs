//! Trains a tiny Vision Transformer with DINO on built-in scenes and prints its attention.
//!
//!     cargo run --release --example dino
//!
//! prints one line per epoch and ends with the class token's attention over the 8×8 patches of a scene, as digits.
#![allow(clippy::print_stderr)]

use std::error::Error;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use ocelli::data::{SceneConfig, SceneSource, Source, normalise_into};
use ocelli::train::{Event, RunConfig, Trainer, config};

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    let scenes: Arc<dyn Source> =
        Arc::new(SceneSource::new(SceneConfig { count: 256, ..SceneConfig::default() })?);
    let sets = ["epochs=3".to_owned(), "batch_size=32".to_owned(), "optim.warmup_epochs=1".to_owned()];
    let config: RunConfig = config::resolve(Some("laptop"), None, &sets)?;

    let mut trainer = Trainer::new(&config, &device, &scenes, None)?;
    trainer.run(None, &mut |event| {
        if let Event::Epoch(figures) = event {
            let loss = figures.figures.get("loss").copied().unwrap_or(f64::NAN);
            println!("epoch {}: loss {loss:.3}", figures.epoch + 1);
        }
        Ok(())
    })?;

    let image = scenes.load(0)?;
    let (w, h) = (image.width as usize, image.height as usize);
    let mut pixels = vec![0.0; 3 * w * h];
    normalise_into(&image, config.views.mean, config.views.std, &mut pixels);
    let input = Tensor::<4>::from_data(TensorData::new(pixels, [1, 3, h, w]), &device);
    let encoder = trainer.encoder()?;
    let backbone = encoder.as_vit().ok_or("expected a Vision Transformer")?;
    let attention = backbone.cls_attention(input).mean_dim(1).into_data().try_to_vec::<f32>()?;
    let largest = attention.iter().copied().fold(f32::MIN, f32::max);
    for row in attention.chunks(backbone.grid(h, w).cols) {
        println!("{}", row.iter().map(|a| format!("{:2.0}", 9.0 * a / largest)).collect::<String>());
    }
    Ok(())
}
