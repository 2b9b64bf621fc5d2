//! What every command that opens weights has in common: the flags that say what the network wants done to its pictures, and
//! the lines that say what was understood.

use std::path::Path;

use burn::tensor::Device;
use clap::{Args, ValueEnum};
use ocelli::models::weights::preprocessing::{EvalSize, Preprocessing, Statistics, Told, numbers};
use ocelli::train::{Loaded, Loading};
use serde_json::{Value, json};

/// How pixels are normalised, where the weights do not say or are wrong.
#[derive(Args, Clone, Default)]
pub struct NormaliseArgs {
    /// How pixels are normalised (default: as the weights say, else ImageNet's mean and std)
    #[arg(long, value_enum, conflicts_with_all = ["mean", "std"])]
    normalise: Option<Normalise>,
    /// Mean per channel, subtracted from levels of 0 to 1, such as 0.485,0.456,0.406
    #[arg(long, value_name = "R,G,B", value_parser = three, allow_hyphen_values = true, requires = "std")]
    mean: Option<[f32; 3]>,
    /// Standard deviation per channel, by which the difference is divided
    #[arg(long, value_name = "R,G,B", value_parser = three, allow_hyphen_values = true, requires = "mean")]
    std: Option<[f32; 3]>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Normalise {
    /// ImageNet's mean and std: DINO, DeiT, torchvision
    Imagenet,
    /// Mean and std 0.5: Google's Vision Transformers, timm's AugReg weights
    Half,
    /// Levels from 0 to 1 as they are
    None,
}

impl NormaliseArgs {
    /// What the flags say, checked.
    pub fn given(&self) -> anyhow::Result<Preprocessing> {
        let statistics = match (self.normalise, self.mean.zip(self.std)) {
            (Some(Normalise::Imagenet), _) => Some(Told::new(Statistics::IMAGENET, "--normalise")),
            (Some(Normalise::Half), _) => Some(Told::new(Statistics::HALF, "--normalise")),
            (Some(Normalise::None), _) => Some(Told::new(Statistics::NONE, "--normalise")),
            (None, Some((mean, std))) => {
                let checked = Statistics::checked(mean, std).map_err(|e| anyhow::anyhow!("--{e}"))?;
                Some(Told::new(checked, "--mean and --std"))
            }
            (None, None) => None,
        };
        Ok(Preprocessing { statistics, size: None })
    }
}

/// How a backbone is opened whose pictures are resized by whoever trains it.
#[derive(Args, Clone, Default)]
pub struct BackboneArgs {
    #[command(flatten)]
    normalise: NormaliseArgs,
    /// Number of attention heads of a Vision Transformer, if the weights do not say
    #[arg(long)]
    pub heads: Option<usize>,
}

impl BackboneArgs {
    /// The flags that are given, in words.
    pub fn named(&self) -> Vec<&'static str> {
        let Self { normalise: NormaliseArgs { normalise, mean, std }, heads } = self;
        let flags = [
            ("--normalise", normalise.is_some()),
            ("--mean", mean.is_some()),
            ("--std", std.is_some()),
            ("--heads", heads.is_some()),
        ];
        flags.into_iter().filter(|(_, is_there)| *is_there).map(|(flag, _)| flag).collect()
    }

    /// The normalisation that the flags say.
    pub fn statistics(&self) -> anyhow::Result<Option<Statistics>> {
        Ok(self.normalise.given()?.statistics.map(|told| told.value))
    }

    /// Opens it, with the normalisation that the flags name, else the weights.
    pub fn open(&self, path: &Path, device: &Device) -> anyhow::Result<Loaded> {
        let given = self.normalise.given()?;
        Ok(Loading { heads: self.heads, given, ..Loading::default() }.open(path, device)?)
    }
}

/// The size images are evaluated at, where the weights do not say or another is wanted.
#[derive(Args, Clone, Default)]
pub struct SizeArgs {
    /// Side of the square input, 0 for images as they are: the same as --resize and --crop of that number
    #[arg(long, value_name = "PX", value_parser = px, conflicts_with_all = ["resize", "crop"])]
    size: Option<usize>,
    /// Short side after resizing, 0 for none (default: as the weights say)
    #[arg(long, value_name = "PX", value_parser = px)]
    resize: Option<usize>,
    /// Side of the centre crop, 0 for none (default: as the weights say)
    #[arg(long, value_name = "PX", value_parser = px)]
    crop: Option<usize>,
}

impl SizeArgs {
    /// The size, where the flags alone say all of it.
    pub fn given(&self) -> Option<Told<EvalSize>> {
        if let Some(px) = self.size {
            return Some(Told::new(EvalSize { resize_px: px, crop_px: px }, "--size"));
        }
        let (resize_px, crop_px) = self.resize.zip(self.crop)?;
        Some(Told::new(EvalSize { resize_px, crop_px }, "--resize and --crop"))
    }

    /// Changes the half of a size that a flag names.
    pub fn apply(&self, size: &mut Told<EvalSize>) {
        if self.given().is_some() {
            return;
        }
        for (flag, given, px) in
            [("--resize", self.resize, &mut size.value.resize_px), ("--crop", self.crop, &mut size.value.crop_px)]
        {
            if let Some(given) = given {
                *px = given;
                size.source = format!("{flag}; the other half: {}", size.source);
            }
        }
    }
}

fn three(text: &str) -> Result<[f32; 3], String> {
    numbers(text).ok_or_else(|| "expected three numbers with commas between, such as 0.5,0.5,0.5".into())
}

/// A side of an image in pixels.
fn px(text: &str) -> Result<usize, String> {
    let wrong = || "expected a number of pixels from 0 to 16384".to_owned();
    text.parse().ok().filter(|px| *px <= 1 << 14).ok_or_else(wrong)
}

/// What was understood, as lines for a person. `size` says what size pictures have; commands that show pictures choose it
/// themselves.
pub fn lines(net: &Loaded, device: &str, size: &str) -> String {
    format!("{} on {device}\nnormalisation: {}; size: {size}", net.description, net.statistics)
}

/// The same as fields.
pub fn fields(net: &Loaded, size: &Told<EvalSize>) -> Value {
    let mut all = json!({ "description": net.description });
    if let (Value::Object(all), Value::Object(more)) = (&mut all, fields_of(&net.statistics, size)) {
        all.extend(more);
    }
    all
}

/// Normalisation and size as fields.
pub fn fields_of(statistics: &Told<Statistics>, size: &Told<EvalSize>) -> Value {
    // As decimals people wrote: 0.485, not the double nearest to the single nearest to it.
    let decimals = |values: [f32; 3]| values.map(|v| v.to_string().parse::<f64>().unwrap_or_default());
    json!({
        "mean": decimals(statistics.value.mean),
        "std": decimals(statistics.value.std),
        "normalisation_source": statistics.source,
        "normalisation_is_a_guess": statistics.is_guess,
        "resize_px": size.value.resize_px,
        "crop_px": size.value.crop_px,
        "size_source": size.source,
        "size_is_a_guess": size.is_guess,
    })
}

/// The words for commands that scale pictures by their long side.
pub fn long_side(size: usize) -> String {
    match size {
        0 => "as they are, the long side at most 480 px".into(),
        size => format!("long side {size} px (--size)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_checked() {
        let of = |mean, std| NormaliseArgs { normalise: None, mean: Some(mean), std: Some(std) }.given();
        assert_eq!(of([0.5; 3], [0.5; 3]).unwrap().statistics.unwrap().value, Statistics::HALF);
        let message = |mean, std| of(mean, std).unwrap_err().to_string();
        assert!(message([120.0; 3], [1.0; 3]).starts_with("--mean: expected three numbers from 0 to 1"));
        assert!(message([0.5; 3], [0.5, 0.0, 0.5]).starts_with("--std: expected three numbers above 0"));
        for text in ["", "0.5", "0.5,0.5", "a,b,c", "0,0,inf", "0,0,é", "1,2,3,4"] {
            assert!(three(text).is_err(), "{text}");
        }
        assert_eq!(three("0.1, 0.2,0.3"), Ok([0.1, 0.2, 0.3]));
    }

    #[test]
    fn half_of_a_size_can_be_given() {
        let mut size = Told::new(EvalSize { resize_px: 256, crop_px: 224 }, "the run's");
        SizeArgs { size: None, resize: None, crop: Some(96) }.apply(&mut size);
        assert_eq!(size.value, EvalSize { resize_px: 256, crop_px: 96 });
        assert!(size.source.starts_with("--crop"));
        let all = SizeArgs { size: Some(0), resize: None, crop: None }.given().unwrap();
        assert_eq!(all.value, EvalSize { resize_px: 0, crop_px: 0 });
    }
}
