//! What a method declares: everything that shows, checks, saves or documents a run reads it here and knows no method by
//! name.

use burn::tensor::Device;
use ocelli_data::ViewPlan;
use ocelli_models::{BackboneConfig, BackboneKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::figure::{Figure, Sign};
use crate::{Method, MethodError, ViewSettings};

/// A method as it introduces itself. One constant in the method's file, one line in [`crate::METHODS`].
pub struct Recipe {
    /// The name in a configuration.
    pub name: &'static str,
    /// The name in words.
    pub title: &'static str,
    /// Authors, year, address.
    pub paper: &'static str,
    /// TOML over the common defaults: the published recipe.
    pub defaults: &'static str,
    /// The method's own sections with their defaults.
    pub sections: fn() -> Result<Sections, MethodError>,
    /// Every key of those sections.
    pub keys: &'static [Key],
    /// Recipes by name, the published ones first.
    pub presets: &'static [Preset],
    /// What a step tells, in the order of [`crate::LossOutput::scalars`].
    pub figures: &'static [Figure],
    /// How one sees that it has stopped to learn.
    pub signs: &'static [Sign],
    /// Kinds of backbones it can have.
    pub backbones: &'static [BackboneKind],
    /// Backbones it is published for.
    pub published_for: &'static str,
    /// What it needs of a batch beside the views.
    pub needs: Needs,
    /// What is kept between steps beside the trained network, in words.
    pub holds: &'static str,
    /// The views of a sample.
    pub views: fn(&ViewSettings) -> ViewPlan,
    /// What the views are for, in a sentence.
    pub views_about: &'static str,
    /// What cannot be checked key by key.
    pub check: fn(&Facts<'_>) -> Result<(), MethodError>,
    /// What a person should know before the first step, or before deciding.
    pub notes: fn(&Facts<'_>) -> Vec<String>,
    /// Draws the networks.
    pub build: Build,
}

/// How a method is built: what is known of the run, a seed, a device.
pub type Build = fn(&Facts<'_>, u64, &Device) -> Result<Box<dyn Method>, MethodError>;

/// A recipe by name: what it sets beyond the method's defaults.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// The name on the command line.
    pub name: &'static str,
    /// One line for people choosing.
    pub about: &'static str,
    /// TOML over the defaults.
    pub toml: &'static str,
}

/// The presets whose TOML lies in `presets/`, by name and one line each.
macro_rules! presets {
    ($($name:literal: $about:literal),* $(,)?) => {
        &[$($crate::Preset {
            name: $name,
            about: $about,
            toml: include_str!(concat!("../presets/", $name, ".toml")),
        }),*]
    };
}
pub(crate) use presets;

/// A key of a method's section.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted, as in `dino.student_temp`.
    pub name: &'static str,
    /// What it is, in a few words.
    pub meaning: &'static str,
    /// Where its default comes from.
    pub source: &'static str,
    /// What it may be.
    pub range: Range,
}

/// One list of keys after another; `N` is the number of all.
pub(crate) const fn joined<const N: usize>(first: &[Key], second: &[Key]) -> [Key; N] {
    assert!(N == first.len() + second.len(), "the number of keys of both lists");
    let mut all = [first[0]; N];
    let mut i = 0;
    while i < N {
        all[i] = if i < first.len() { first[i] } else { second[i - first.len()] };
        i += 1;
    }
    all
}

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Range {
    /// Anything of its kind.
    Any,
    /// A whole number from one to another.
    Count(u64, u64),
    /// A finite number above 0.
    Positive,
    /// A finite number of at least 0.
    AtLeastZero,
    /// A number from 0 to 1.
    Share,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// As many as nobody needs, and few enough that no product of them overflows or fills the memory before a step is done.
pub const MANY: u64 = 100_000_000;

impl Range {
    /// Why `value` is not in it: what was expected.
    pub fn refuses(&self, value: &Value) -> Option<String> {
        let number = value.as_f64();
        match *self {
            Self::Any => None,
            Self::Count(low, high) => {
                let fits = value.as_u64().is_some_and(|n| (low..=high).contains(&n));
                (!fits).then(|| if high == MANY { format!("at least {low}") } else { format!("{low} to {high}") })
            }
            Self::Positive => {
                let fits = number.is_some_and(|n| n > 0.0 && n.is_finite());
                (!fits).then(|| "a number above 0".into())
            }
            Self::AtLeastZero => {
                let fits = number.is_some_and(|n| n >= 0.0 && n.is_finite());
                (!fits).then(|| "a number of at least 0".into())
            }
            Self::Share => {
                let fits = number.is_some_and(|n| (0.0..=1.0).contains(&n));
                (!fits).then(|| "a number from 0 to 1".into())
            }
            Self::OneOf(words) => {
                let fits = value.as_str().is_some_and(|word| words.contains(&word));
                (!fits).then(|| format!("\"{}\"", words.join("\" or \"")))
            }
        }
    }
}

/// What a method needs of a batch beside its views.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// The classes of the images.
    pub labels: bool,
    /// The numbers of the images in the data set.
    pub indices: bool,
    /// What each view shows of its image.
    pub places: bool,
    /// The loss is no mean over images: what is computed in parts differs from what is computed at once.
    pub whole_batch: bool,
    /// It compares, balances or counts over all images that are computed at once: several processes compute every part of a batch
    /// together, and batch normalisation sees the images of all.
    pub coupled: bool,
}

/// A method's own part of a configuration: its sections by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sections(pub Map<String, Value>);

impl Sections {
    /// With one section more.
    ///
    /// # Errors
    /// When the section cannot be written as a table.
    pub fn with<T: Serialize>(mut self, name: &str, section: &T) -> Result<Self, MethodError> {
        let value = serde_json::to_value(section).map_err(|e| MethodError::Section(name.into(), e.to_string()))?;
        self.0.insert(name.to_owned(), value);
        Ok(self)
    }

    /// A section; what is left out has its default.
    ///
    /// # Errors
    /// When a value is of another kind, or a key unknown.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<T, MethodError> {
        let section = self.0.get(name).cloned().unwrap_or_else(|| Value::Object(Map::new()));
        serde_json::from_value(section).map_err(|e| MethodError::Section(name.into(), e.to_string()))
    }

    /// The value of a dotted key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        let (section, rest) = key.split_once('.')?;
        rest.split('.').try_fold(self.0.get(section)?, |value, part| value.get(part))
    }

    /// The number of a dotted key, 0 where it is none.
    pub fn count(&self, key: &str) -> usize {
        self.value(key).and_then(Value::as_u64).map_or(0, |n| n as usize)
    }

    /// The number of a dotted key, 0 where it is none.
    pub fn number(&self, key: &str) -> f64 {
        self.value(key).and_then(Value::as_f64).unwrap_or_default()
    }
}

/// What a method may ask of the run it is part of.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Its own sections.
    pub own: &'a Sections,
    /// Crops and colours.
    pub views: &'a ViewSettings,
    /// The backbone.
    pub backbone: &'a BackboneConfig,
    /// Images per optimizer step.
    pub batch_size: usize,
    /// Parts a batch is computed in.
    pub accumulate: usize,
    /// Training images, once they are known.
    pub images: Option<usize>,
    /// Classes of the training images, once they are known; 0 where they have no labels.
    pub classes: Option<usize>,
}

impl Recipe {
    /// Checks a configuration: kinds of backbone, every key's range, and what the method itself checks.
    ///
    /// # Errors
    /// The first value that cannot be, with its key and what is expected.
    pub fn check(&self, facts: &Facts<'_>) -> Result<(), MethodError> {
        if !self.backbones.contains(&facts.backbone.kind()) {
            let kinds: Vec<String> = self.backbones.iter().map(BackboneKind::to_string).collect();
            return Err(MethodError::Value {
                key: "arch",
                expected: format!("{} for {}", kinds.join(", or "), self.name),
                found: facts.backbone.kind().to_string(),
            });
        }
        check_keys(self.keys, facts.own)?;
        if let (true, Some(classes @ 0..=1)) = (self.needs.labels, facts.classes) {
            return Err(MethodError::Labels { method: self.title, classes });
        }
        (self.check)(facts)
    }
}

/// Checks every key's range.
pub(crate) fn check_keys(keys: &[Key], own: &Sections) -> Result<(), MethodError> {
    for key in keys {
        if let Some(value) = own.value(key.name)
            && let Some(expected) = key.range.refuses(value)
        {
            return Err(MethodError::Value { key: key.name, expected, found: value.to_string() });
        }
    }
    Ok(())
}

/// Nothing beyond the keys' ranges.
pub fn nothing_more(_: &Facts<'_>) -> Result<(), MethodError> {
    Ok(())
}

/// Nothing a person would not expect.
pub fn no_notes(_: &Facts<'_>) -> Vec<String> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ranges_refuse_in_words() {
        for (range, good, bad) in [
            (Range::Count(2, MANY), json!(2), vec![json!(1), json!(-1), json!(2.5), json!("2")]),
            (Range::Count(0, 64), json!(0), vec![json!(65)]),
            (Range::Positive, json!(1e-9), vec![json!(0), json!(-1.0), json!(null)]),
            (Range::AtLeastZero, json!(0), vec![json!(-0.1)]),
            (Range::Share, json!(1.0), vec![json!(1.1), json!(-0.1)]),
            (Range::OneOf(&["a", "b"]), json!("b"), vec![json!("c"), json!(1)]),
        ] {
            assert_eq!(range.refuses(&good), None, "{range:?}");
            for value in bad {
                assert!(range.refuses(&value).is_some(), "{range:?} {value}");
            }
        }
    }
}
