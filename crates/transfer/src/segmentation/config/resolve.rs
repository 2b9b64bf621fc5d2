//! A configuration out of a recipe, a file and single values, and back into text.

use ocelli_train::TrainError;
use ocelli_train::config::ConfigError;
use ocelli_train::config::layers::{lay_over, layers_of, of_table, parse, table_of};
use toml::{Table, Value};

use super::presets::preset;
use super::{SEGMENTATION_TASK, SegmentationConfig};

impl SegmentationConfig {
    /// The defaults, over them a recipe, a file (its name and text) and `key=value` pairs with dotted keys, values as in TOML
    /// (bare words are taken as strings).
    ///
    /// # Errors
    /// For recipes and keys nobody knows, values of another kind, and those that [`SegmentationConfig::check`] refuses.
    pub fn resolve(
        preset_name: Option<&str>,
        file: Option<(&str, &str)>,
        sets: &[String],
    ) -> Result<Self, ConfigError> {
        let mut table = table_of(&Self::default())?;
        if let Some(name) = preset_name {
            lay_over(&mut table, parse(preset(name)?.toml, name)?, name)?;
        }
        Self::finish(table, file, sets)
    }

    /// Lays a file (its name and text) and then `key=value` pairs over this configuration. A file that names no task is taken
    /// for one of this task.
    ///
    /// # Errors
    /// As [`SegmentationConfig::resolve`].
    pub fn with(&self, file: Option<(&str, &str)>, sets: &[String]) -> Result<Self, ConfigError> {
        Self::finish(table_of(self)?, file, sets)
    }

    fn finish(mut table: Table, file: Option<(&str, &str)>, sets: &[String]) -> Result<Self, ConfigError> {
        for (over, name) in layers_of(file, sets)? {
            of_this_task(&over, SEGMENTATION_TASK, &name)?;
            lay_over(&mut table, over, &name)?;
        }
        let config: Self = of_table(table, "configuration")?;
        config.check()?;
        Ok(config)
    }

    /// Reads what [`SegmentationConfig::table`] wrote.
    ///
    /// # Errors
    /// When it is another task's, or damaged; the message begins with `name`.
    pub fn parse(text: &str, name: &str) -> Result<Self, TrainError> {
        let table = parse(text, name)?;
        // A run's configuration without a task is of before there were several.
        of_this_task(&table, "pretraining", name)?;
        let mut base = table_of(&Self::default())?;
        lay_over(&mut base, table, name)?;
        Ok(of_table(base, name)?)
    }

    /// As TOML.
    ///
    /// # Errors
    /// When a value has no place there.
    pub fn table(&self) -> Result<Table, TrainError> {
        Ok(table_of(self)?)
    }
}

fn wrong(name: &str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Toml { source_name: name.to_owned(), reason: reason.into() }
}

/// Refuses another task's configuration in words; one that names none is of the task `unnamed`.
fn of_this_task(table: &Table, unnamed: &str, name: &str) -> Result<(), ConfigError> {
    let found = match table.get("task") {
        None => unnamed.to_owned(),
        Some(Value::String(found)) => found.clone(),
        Some(other) => other.to_string(),
    };
    if found == SEGMENTATION_TASK {
        return Ok(());
    }
    let expected = format!("expected a segmentation (task = \"{SEGMENTATION_TASK}\")");
    Err(wrong(name, format!("{expected}, found a run of task \"{found}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_and_others_are_refused() {
        let config = SegmentationConfig::preset("cityscapes-40k").unwrap();
        let text = config.table().unwrap().to_string();
        assert_eq!(SegmentationConfig::parse(&text, "x").unwrap(), config);
        for (text, words) in [
            ("task = \"linear\"", "found a run of task \"linear\""),
            ("method = \"dino\"", "found a run of task \"pretraining\""),
            ("task = \"segmentation\"\ncrops = 3", "unknown key \"crops\""),
            ("task = \"segmentation\"\nviews = 3", "views: expected a section"),
            ("task = ", "x:"),
        ] {
            let message = SegmentationConfig::parse(text, "x").unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn layers_lie_over_each_other() {
        let file = ("own.toml", "task = \"segmentation\"\nchannels = 32\n[optim]\nlr = 1\n");
        let sets = ["channels=16", "views.crop_px=[64, 96]", "arch=resnet-34"].map(String::from);
        let config = SegmentationConfig::resolve(Some("laptop"), Some(file), &sets).unwrap();
        assert_eq!((config.channels, config.optim.lr, config.auxiliary_channels), (16, 1.0, 64));
        assert_eq!((config.views.crop_px, config.arch.to_string().as_str()), ([64, 96], "resnet-34"));
        // The task is understood where a file does not name it, and another one is refused.
        let named = |text| SegmentationConfig::resolve(Some("laptop"), Some(("own.toml", text)), &[]);
        assert_eq!(named("channels = 32").unwrap().channels, 32);
        let message = named("task = \"detection\"").unwrap_err().to_string();
        assert!(message.contains("found a run of task \"detection\""), "{message}");
        let again = config.with(None, &["seed=7".into()]).unwrap();
        assert_eq!(again, SegmentationConfig { seed: 7, ..config.clone() });
        for (set, words) in [
            ("chanels=3", "unknown key \"chanels\""),
            ("views.crop=3", "unknown key \"views.crop\""),
            ("channels=\"3\"", "channels: expected integer"),
            ("channels", "expected key=value"),
            ("dropout=7", "dropout:"),
            ("arch=resnet-9", "resnet-9"),
        ] {
            let message = config.with(None, &[set.to_owned()]).unwrap_err().to_string();
            assert!(message.contains(words), "{set}: {message}");
        }
    }
}
