//! Everything that decides what a linear probe computes.

use ocelli_data::{ViewPlan, ViewSpec};
use ocelli_eval::linear::{ProbeConfig, Published};
use ocelli_models::{BackboneArch, ProbeFeatures};
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::TrainError;
use crate::config::ConfigError;

/// The task's name in configurations and events.
pub const LINEAR_TASK: &str = "linear";

/// A linear probe's configuration, every value resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearConfig {
    /// [`LINEAR_TASK`].
    pub task: String,
    /// The same word, where other runs have their method.
    pub method: String,
    /// The backbone.
    pub arch: BackboneArch,
    /// Its weights, as they were named.
    pub weights: String,
    /// CRC-32 of their values.
    pub weights_crc32: String,
    /// The protocol.
    pub protocol: Published,
    /// What the heads see of an image.
    pub features: ProbeFeatures,
    /// Features are computed once, of images as they are evaluated, instead of augmented views in every epoch.
    pub cached: bool,
    /// Learning rates as papers name them, a head for each.
    pub rates: Vec<f64>,
    /// Seed of first weights, order and views.
    pub seed: u64,
    /// Epochs.
    pub epochs: usize,
    /// Images of a step.
    pub batch_size: usize,
    /// Epochs between evaluations.
    pub evaluate_every: usize,
    /// Side of the augmented views, pixels.
    pub side_px: usize,
    /// Short side of held-out images after resizing, pixels; 0 leaves them.
    pub resize_px: usize,
    /// Side of their centre crop, pixels; 0 is none.
    pub crop_px: usize,
    /// Per-channel mean taken off.
    pub mean: [f32; 3],
    /// Per-channel standard deviation divided by.
    pub std: [f32; 3],
}

impl LinearConfig {
    /// Reads what [`LinearConfig::table`] wrote.
    ///
    /// # Errors
    /// When it is another task's, or damaged; the message begins with `name`.
    pub fn parse(text: &str, name: &str) -> Result<Self, TrainError> {
        let wrong = |reason: String| ConfigError::Toml { source_name: name.to_owned(), reason };
        let table: Table = text.parse().map_err(|e: toml::de::Error| wrong(e.to_string()))?;
        let found = table.get("task").and_then(toml::Value::as_str).unwrap_or("pretraining").to_owned();
        if found != LINEAR_TASK {
            let reason =
                format!("expected a linear probe (task = \"{LINEAR_TASK}\"), found a run of task \"{found}\"");
            return Err(wrong(reason).into());
        }
        Ok(table.try_into().map_err(|e: toml::de::Error| wrong(e.to_string()))?)
    }

    /// As TOML.
    ///
    /// # Errors
    /// When a value has no place there.
    pub fn table(&self) -> Result<Table, TrainError> {
        let wrong = |e: toml::ser::Error| ConfigError::Toml {
            source_name: "the configuration of the linear probe".into(),
            reason: e.to_string(),
        };
        Ok(Table::try_from(self).map_err(wrong)?)
    }

    /// How the heads are trained.
    pub fn probe(&self) -> ProbeConfig {
        self.protocol.config(&self.rates, self.epochs, self.batch_size)
    }

    /// The views that are trained on where features are not cached: a random resized crop (8 to 100 % of the area, bicubic) and
    /// a flip.
    pub fn view_plan(&self) -> ViewPlan {
        let view = ViewSpec { title: "training view".into(), size_px: self.side_px as u32, ..ViewSpec::default() };
        ViewPlan { views: vec![view], mean: self.mean, std: self.std }
    }

    /// What a person should know of the figure.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.cached {
            notes.push(
                "features are computed once, without augmentation (--cached): another protocol than the published one, usually \
                 a point or two from it"
                    .to_owned(),
            );
        }
        if self.rates.len() > 1 {
            notes.push(format!(
                "{} rates side by side; the best on the held-out images is reported, as papers do",
                self.rates.len()
            ));
        }
        if self.epochs != self.protocol.epochs() {
            notes.push(format!(
                "{} epochs instead of the {} published for the protocol \"{}\"",
                self.epochs,
                self.protocol.epochs(),
                self.protocol
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn config() -> LinearConfig {
        LinearConfig {
            task: LINEAR_TASK.into(),
            method: LINEAR_TASK.into(),
            arch: "vit-32x2x2/8".parse().unwrap(),
            weights: "w.pth".into(),
            weights_crc32: "0".into(),
            protocol: Published::Dino,
            features: ProbeFeatures::Cls { blocks: 2 },
            cached: true,
            rates: vec![0.001, 0.1],
            seed: 3,
            epochs: 100,
            batch_size: 64,
            evaluate_every: 1,
            side_px: 32,
            resize_px: 0,
            crop_px: 32,
            mean: [0.5; 3],
            std: [0.25; 3],
        }
    }

    #[test]
    fn it_reads_back_and_others_are_refused() {
        let text = config().table().unwrap().to_string();
        assert_eq!(LinearConfig::parse(&text, "x").unwrap(), config());
        for (text, words) in [
            ("task = \"classification\"", "found a run of task \"classification\""),
            ("method = \"dino\"", "found a run of task \"pretraining\""),
            ("task = \"linear\"", "missing field"),
            ("task = ", "x:"),
        ] {
            let message = LinearConfig::parse(text, "x").unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn what_is_not_the_published_protocol_is_said() {
        let notes = LinearConfig { epochs: 10, ..config() }.notes().join("; ");
        for words in ["another protocol", "2 rates", "10 epochs instead of the 100"] {
            assert!(notes.contains(words), "{notes}");
        }
        let published = LinearConfig { cached: false, rates: vec![0.001], ..config() };
        assert_eq!(published.notes(), Vec::<String>::new());
    }
}
