//! From a preset, a TOML file and `key=value` pairs to one configuration, and back to TOML.

use ocelli_train::TrainError;
use ocelli_train::config::ConfigError;
use toml::{Table, Value};

use super::{DETECTION_TASK, DetectionConfig, PRESETS};

impl DetectionConfig {
    /// The published recipe, a preset, a TOML file (its name and text) and single `key=value` pairs, each laid over what comes before.
    ///
    /// # Errors
    /// Unknown presets and keys, values of the wrong kind. What is out of range is found by [`DetectionConfig::check`].
    pub fn resolve(preset: Option<&str>, file: Option<(&str, &str)>, sets: &[String]) -> Result<Self, TrainError> {
        let mut table = Self::default().table()?;
        if let Some(name) = preset {
            let Some((_, _, text)) = PRESETS.iter().find(|p| p.0 == name) else {
                let known = PRESETS.map(|p| p.0).join(", ");
                let (name, hint) = (name.to_owned(), String::new());
                return Err(ConfigError::UnknownPreset { name, known, hint }.into());
            };
            lay_over(&mut table, parse(text, name)?, "", name)?;
        }
        if let Some((name, text)) = file {
            lay_over(&mut table, parse(text, name)?, "", name)?;
        }
        for set in sets {
            let name = format!("--set {set}");
            lay_over(&mut table, parse_set(set, &name)?, "", &name)?;
        }
        Self::of_table(table, "the configuration")
    }

    /// Lays a TOML file, by its name and text, over this one.
    ///
    /// # Errors
    /// As [`DetectionConfig::resolve`].
    pub fn with_file(&self, (name, text): (&str, &str)) -> Result<Self, TrainError> {
        let mut table = self.table()?;
        lay_over(&mut table, parse(text, name)?, "", name)?;
        Self::of_table(table, "the configuration")
    }

    /// Lays single `key=value` pairs over this one.
    ///
    /// # Errors
    /// As [`DetectionConfig::resolve`].
    pub fn with(&self, sets: &[String]) -> Result<Self, TrainError> {
        let mut table = self.table()?;
        for set in sets {
            let name = format!("--set {set}");
            lay_over(&mut table, parse_set(set, &name)?, "", &name)?;
        }
        Self::of_table(table, "the configuration")
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
        Self::of_table(table, name)
    }

    /// As TOML.
    ///
    /// # Errors
    /// When a value has no place there.
    pub fn table(&self) -> Result<Table, TrainError> {
        let wrong = |e: toml::ser::Error| ConfigError::Toml {
            source_name: "the configuration of the detector".into(),
            reason: e.to_string(),
        };
        Ok(Table::try_from(self).map_err(wrong)?)
    }

    fn of_table(table: Table, name: &str) -> Result<Self, TrainError> {
        let wrong = |e: toml::de::Error| ConfigError::Toml {
            source_name: name.to_owned(),
            reason: e.message().to_owned(),
        };
        Ok(table.try_into().map_err(wrong)?)
    }
}

fn parse(text: &str, name: &str) -> Result<Table, ConfigError> {
    text.parse().map_err(|e: toml::de::Error| ConfigError::Toml {
        source_name: name.to_owned(),
        reason: e.to_string().trim_end().to_owned(),
    })
}

/// `a.b=v` as a table; bare words are strings.
fn parse_set(set: &str, name: &str) -> Result<Table, ConfigError> {
    let Some((key, value)) = set.split_once('=') else {
        let reason = "expected key=value, such as optim.lr=0.01".to_owned();
        return Err(ConfigError::Toml { source_name: name.to_owned(), reason });
    };
    let (key, value) = (key.trim(), value.trim());
    let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("v"));
    let mut value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
    for part in key.split('.').rev() {
        value = Value::Table(Table::from_iter([(part.to_owned(), value)]));
    }
    match value {
        Value::Table(table) => Ok(table),
        _ => Ok(Table::new()),
    }
}

/// Lays `over` on `base`, which has every key with the same kind of value.
fn lay_over(base: &mut Table, over: Table, prefix: &str, name: &str) -> Result<(), ConfigError> {
    for (key, value) in over {
        let full = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let known: Vec<&str> = base.keys().map(String::as_str).collect();
        let known = known.join(", ");
        match (base.get_mut(&key), value) {
            (None, _) => {
                let hint = format!("; there are: {known}");
                return Err(ConfigError::UnknownKey { key: full, source_name: name.to_owned(), hint });
            }
            (Some(Value::Table(inner)), Value::Table(value)) => lay_over(inner, value, &full, name)?,
            (Some(slot @ Value::Float(_)), Value::Integer(value)) => *slot = Value::Float(value as f64),
            (Some(slot), value) if slot.same_type(&value) => *slot = value,
            (Some(slot), value) => {
                let reason = format!("{full}: expected {}, found {} {value}", slot.type_str(), value.type_str());
                return Err(ConfigError::Toml { source_name: name.to_owned(), reason });
            }
        }
    }
    Ok(())
}
