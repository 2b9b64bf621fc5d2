//! What a network wants done to its pictures: the normalisation of the pixels and the size it is evaluated at.
//!
//! Tensors tell neither. Metadata, a `config.json` of timm, a `preprocessor_config.json` of Hugging Face or a published name
//! may. A network that is fed with other numbers gives other features, and nothing fails: so everything here carries the
//! words that say where it comes from.
//!
//! ```
//! use ocelli_weights::preprocessing::{EvalSize, Statistics};
//!
//! assert_eq!(Statistics::IMAGENET.name(), Some("imagenet"));
//! assert_eq!(EvalSize::for_side(224), EvalSize { resize_px: 256, crop_px: 224 });
//! // Means of levels to 255 are a usual mistake; the message says what to do.
//! let message = Statistics::checked([124.0, 116.0, 104.0], [58.0, 57.0, 57.0]).err();
//! assert!(message.is_some_and(|text| text.contains("divide")));
//! ```

use std::collections::BTreeMap;
use std::fmt;

mod json;
mod names;

pub use json::read_json;
pub use names::by_name;

/// Mean and standard deviation per channel, of levels from 0 to 1: taken off, and divided by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// Red, green, blue.
    pub mean: [f32; 3],
    /// Red, green, blue.
    pub std: [f32; 3],
}

impl Statistics {
    /// ImageNet's, which DINO, DeiT and torchvision take.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    /// Levels from -1 to 1, which Google's Vision Transformers take (timm's AugReg weights).
    pub const HALF: Self = Self { mean: [0.5; 3], std: [0.5; 3] };
    /// Levels as they are, from 0 to 1.
    pub const NONE: Self = Self { mean: [0.0; 3], std: [1.0; 3] };

    /// These numbers, where pixels can be normalised by them.
    ///
    /// # Errors
    /// Which is wrong and what was expected.
    pub fn checked(mean: [f32; 3], std: [f32; 3]) -> Result<Self, String> {
        if !mean.iter().all(|m| (0.0..=1.0).contains(m)) {
            let hint = if mean.iter().any(|m| *m > 1.0) { "; divide means of levels to 255 by 255" } else { "" };
            return Err(format!("mean: expected three numbers from 0 to 1, found {}{hint}", list(mean)));
        }
        // Below the normal numbers a division overflows.
        if !std.iter().all(|s| s.is_normal() && *s > 0.0) {
            return Err(format!("std: expected three numbers above 0, found {}", list(std)));
        }
        Ok(Self { mean, std })
    }

    /// The name the command line has for it.
    pub fn name(&self) -> Option<&'static str> {
        match *self {
            Self::IMAGENET => Some("imagenet"),
            Self::HALF => Some("half"),
            Self::NONE => Some("none"),
            _ => None,
        }
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::IMAGENET => f.write_str("ImageNet's mean and std"),
            Self::HALF => f.write_str("half (mean and std 0.5)"),
            Self::NONE => f.write_str("none (levels from 0 to 1)"),
            Self { mean, std } => write!(f, "mean {}, std {}", list(mean), list(std)),
        }
    }
}

/// `0.485,0.456,0.406`, as the command line takes it: the shortest numbers that read back the same.
fn list(values: [f32; 3]) -> String {
    values.map(|v| v.to_string()).join(",")
}

/// The size a network is evaluated at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvalSize {
    /// Short side after resizing, pixels; 0 leaves images as they are.
    pub resize_px: usize,
    /// Side of the centre crop, pixels; 0 takes the whole image.
    pub crop_px: usize,
}

impl EvalSize {
    /// DINO's protocol for a network trained on views of `side_px`: a crop of that side, out of images 8/7 as large (256 for
    /// 224).
    pub fn for_side(side_px: usize) -> Self {
        Self { resize_px: (side_px as f64 * 256.0 / 224.0).round() as usize, crop_px: side_px }
    }
}

impl fmt::Display for EvalSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.resize_px, self.crop_px) {
            (0, 0) => f.write_str("images as they are"),
            (resize, 0) => write!(f, "short side {resize} px"),
            (0, crop) => write!(f, "centre crop of {crop} px"),
            (resize, crop) => write!(f, "short side {resize} px, centre crop of {crop} px"),
        }
    }
}

/// A value, and who says so.
#[derive(Debug, Clone, PartialEq)]
pub struct Told<T> {
    /// The value.
    pub value: T,
    /// In words, such as "the file's metadata".
    pub source: String,
    /// Whether nothing says so.
    pub is_guess: bool,
}

impl<T> Told<T> {
    /// A value somebody gave.
    pub fn new(value: T, source: impl Into<String>) -> Self {
        Self { value, source: source.into(), is_guess: false }
    }

    /// A value nobody gave.
    pub fn guess(value: T, source: impl Into<String>) -> Self {
        Self { value, source: source.into(), is_guess: true }
    }
}

impl<T: fmt::Display> fmt::Display for Told<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}{})", self.value, if self.is_guess { "a guess: " } else { "" }, self.source)
    }
}

/// What one place says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Preprocessing {
    /// The normalisation.
    pub statistics: Option<Told<Statistics>>,
    /// The size.
    pub size: Option<Told<EvalSize>>,
}

impl Preprocessing {
    /// What this says, and where it says nothing, what `other` does.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { statistics: self.statistics.or(other.statistics), size: self.size.or(other.size) }
    }

    /// What a file's metadata say: Ocelli's keys ([`Self::write`] writes them), timm's `pretrained_cfg`, the arguments of timm's
    /// training script, or the name of a published network.
    ///
    /// # Errors
    /// When numbers are there and are none that pixels can be normalised by.
    pub fn of_metadata(metadata: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut found = Self::default();
        for (mean, std, source) in
            [(MEAN, STD, "the file's metadata"), ("args.mean", "args.std", "the arguments it was trained with")]
        {
            let three = |key: &str| {
                let text = metadata.get(key).filter(|t| !matches!(t.as_str(), "None" | "null" | ""))?;
                Some(numbers(text).ok_or_else(|| format!("{key}: expected three numbers, found {text:?}")))
            };
            if let (None, Some(mean), Some(std)) = (&found.statistics, three(mean), three(std)) {
                let value = Statistics::checked(mean?, std?)?;
                let guessed = metadata.get(GUESSED).is_some_and(|g| g == "true");
                let told = match guessed {
                    true => Told::guess(value, "it was one when the file was written"),
                    false => Told::new(value, source),
                };
                found.statistics = Some(told);
            }
        }
        let px = |key: &str| metadata.get(key).and_then(|v| v.parse::<usize>().ok()).filter(|v| *v <= 1 << 14);
        if let (Some(resize_px), Some(crop_px)) = (px(RESIZE), px(CROP)) {
            found.size = Some(Told::new(EvalSize { resize_px, crop_px }, "the file's metadata"));
        }
        if let Some(timm) = metadata.get("pretrained_cfg") {
            found = found.or(read_json("the file's metadata", timm)?.unwrap_or_default());
        }
        let name = NAMES.iter().find_map(|key| by_name(metadata.get(*key)?, "which the file names"));
        Ok(found.or(name.unwrap_or_default()))
    }

    /// Writes both into a file's metadata.
    pub fn write(&self, metadata: &mut BTreeMap<String, String>) {
        let mut set = |key: &str, value: String| metadata.insert(key.to_owned(), value);
        if let Some(told) = &self.statistics {
            set(MEAN, format!("[{}]", list(told.value.mean)));
            set(STD, format!("[{}]", list(told.value.std)));
            if told.is_guess {
                set(GUESSED, "true".into());
            }
        }
        if let Some(told) = &self.size {
            set(RESIZE, told.value.resize_px.to_string());
            set(CROP, told.value.crop_px.to_string());
        }
    }

    /// The flags that say the same to a command.
    pub fn flags(&self) -> String {
        let statistics = self.statistics.as_ref().map(|told| match told.value.name() {
            Some(name) => format!("--normalise {name}"),
            None => format!("--mean {} --std {}", list(told.value.mean), list(told.value.std)),
        });
        let size =
            self.size.as_ref().map(|t| format!("--resize {} --crop {}", t.value.resize_px, t.value.crop_px));
        statistics.into_iter().chain(size).collect::<Vec<_>>().join(" ")
    }
}

const MEAN: &str = "mean";
const STD: &str = "std";
const GUESSED: &str = "normalisation_is_a_guess";
const RESIZE: &str = "resize_px";
const CROP: &str = "crop_px";

/// Where a file may have the name of a published network.
const NAMES: [&str; 6] = ["architecture", "arch", "model_name", "timm_model", "args.model", "args.arch"];

/// `[0.5, 0.5, 0.5]`, `0.5,0.5,0.5` or `0.5 0.5 0.5`.
pub fn numbers(text: &str) -> Option<[f32; 3]> {
    let inside = text.trim().trim_start_matches(['[', '(']).trim_end_matches([']', ')']);
    let parts: Option<Vec<f32>> = inside
        .split([',', ' '])
        .filter(|part| !part.is_empty())
        .map(|part| part.parse::<f32>().ok().filter(|v| v.is_finite()))
        .collect();
    parts?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn what_is_written_reads_back() {
        let own = Statistics { mean: [0.1, 0.2, 0.3], std: [0.3, 1.0 / 3.0, 0.5] };
        let size = EvalSize { resize_px: 0, crop_px: 96 };
        for guessed in [false, true] {
            let statistics = Some(Told { value: own, source: "--mean".into(), is_guess: guessed });
            let written = Preprocessing { statistics, size: Some(Told::new(size, "--crop")) };
            let mut metadata = BTreeMap::new();
            written.write(&mut metadata);
            let read = Preprocessing::of_metadata(&metadata).unwrap();
            assert_eq!(read.statistics.as_ref().map(|t| (t.value, t.is_guess)), Some((own, guessed)));
            assert_eq!(read.size.unwrap().value, size);
        }
    }

    #[test]
    fn training_arguments_and_names_are_recognised() {
        let told = |pairs: &[(&str, &str)]| Preprocessing::of_metadata(&metadata(pairs)).unwrap().statistics;
        let args = told(&[("args.mean", "[0.5, 0.4, 0.3]"), ("args.std", "[0.2, 0.2, 0.2]")]).unwrap();
        assert_eq!(args.value, Statistics { mean: [0.5, 0.4, 0.3], std: [0.2; 3] });
        assert!(args.to_string().starts_with("mean 0.5,0.4,0.3, std 0.2,0.2,0.2 (the arguments"), "{args}");
        let name = told(&[("args.mean", "None"), ("arch", "vit_tiny_patch16_224")]).unwrap();
        assert_eq!(name.value, Statistics::HALF);
        assert_eq!(told(&[("arch", "vit-s/16"), ("format", "pt")]), None);
        let cfg = r#"{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}"#;
        assert_eq!(told(&[("pretrained_cfg", cfg)]).unwrap().value, Statistics::HALF);
    }

    #[test]
    fn numbers_no_pixel_can_be_normalised_by_are_refused() {
        let bad = |mean, std| Preprocessing::of_metadata(&metadata(&[("mean", mean), ("std", std)])).unwrap_err();
        assert!(bad("[0.5,0.5]", "[1,1,1]").contains("mean: expected three numbers, found \"[0.5,0.5]\""));
        assert!(bad("nan,0,0", "1,1,1").contains("expected three numbers"));
        assert!(bad("123.7,116.3,103.5", "1,1,1").contains("by 255"));
        for std in ["0,1,1", "1,-1,1", "1e-40,1,1"] {
            assert!(bad("0,0,0", std).contains("std: expected three numbers above 0"), "{std}");
        }
    }

    #[test]
    fn flags_say_the_same() {
        let of = |value| Preprocessing {
            statistics: Some(Told::new(value, "")),
            size: Some(Told::new(EvalSize::for_side(64), "")),
        };
        assert_eq!(of(Statistics::HALF).flags(), "--normalise half --resize 73 --crop 64");
        let own = Statistics { mean: [0.1, 0.2, 0.3], std: [0.25; 3] };
        assert_eq!(of(own).flags(), "--mean 0.1,0.2,0.3 --std 0.25,0.25,0.25 --resize 73 --crop 64");
    }
}
