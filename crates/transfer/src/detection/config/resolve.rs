//! From a preset, a TOML file and `key=value` pairs to one configuration, and back to TOML.

use ocelli_train::TrainError;
use ocelli_train::config::ConfigError;
use ocelli_train::config::layers::{lay_over, layers_of, of_table, parse, table_of};
use toml::{Table, Value};

use super::{DETECTION_TASK, DetectionConfig, PRESETS};

impl DetectionConfig {
    /// The published recipe, a preset, a TOML file (its name and text) and single `key=value` pairs, each laid over what comes before.
    ///
    /// # Errors
    /// Unknown presets and keys, values of the wrong kind. What is out of range is found by [`DetectionConfig::check`].
    pub fn resolve(preset: Option<&str>, file: Option<(&str, &str)>, sets: &[String]) -> Result<Self, TrainError> {
        let mut table = table_of(&Self::default())?;
        if let Some(name) = preset {
            let Some((_, _, text)) = PRESETS.iter().find(|p| p.0 == name) else {
                let known = PRESETS.map(|p| p.0).join(", ");
                let (name, hint) = (name.to_owned(), String::new());
                return Err(ConfigError::UnknownPreset { name, known, hint }.into());
            };
            lay_over(&mut table, parse(text, name)?, name)?;
        }
        of_table::<Self>(table, "the configuration")?.over(file, sets)
    }

    /// Lays a TOML file, by its name and text, over this one.
    ///
    /// # Errors
    /// As [`DetectionConfig::resolve`].
    pub fn with_file(&self, file: (&str, &str)) -> Result<Self, TrainError> {
        self.over(Some(file), &[])
    }

    /// Lays single `key=value` pairs over this one.
    ///
    /// # Errors
    /// As [`DetectionConfig::resolve`].
    pub fn with(&self, sets: &[String]) -> Result<Self, TrainError> {
        self.over(None, sets)
    }

    /// Reads what [`DetectionConfig::table`] wrote.
    ///
    /// # Errors
    /// When it is another task's, or damaged; the message begins with `name`.
    pub fn parse(text: &str, name: &str) -> Result<Self, TrainError> {
        let table = parse(text, name)?;
        let found = table.get("task").and_then(Value::as_str).unwrap_or("pretraining").to_owned();
        if found != DETECTION_TASK {
            let reason =
                format!("expected a detector (task = \"{DETECTION_TASK}\"), found a run of task \"{found}\"");
            return Err(ConfigError::Toml { source_name: name.to_owned(), reason }.into());
        }
        Ok(of_table(table, name)?)
    }

    /// As TOML.
    ///
    /// # Errors
    /// When a value has no place there.
    pub fn table(&self) -> Result<Table, TrainError> {
        Ok(table_of(self)?)
    }

    fn over(&self, file: Option<(&str, &str)>, sets: &[String]) -> Result<Self, TrainError> {
        let mut table = table_of(self)?;
        for (layer, name) in layers_of(file, sets)? {
            lay_over(&mut table, layer, &name)?;
        }
        Ok(of_table(table, "the configuration")?)
    }
}
