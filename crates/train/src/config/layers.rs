//! Layers of a configuration as tables: a TOML file, `key=value` pairs, one laid over another. What every task's configuration
//! is read with.
//!
//! ```
//! use ocelli_train::config::layers::{lay_over, parse};
//!
//! let mut base = parse("epochs = 100\n[optim]\nlr = 0.1\n", "defaults")?;
//! lay_over(&mut base, parse("optim.lr = 0.2", "my file")?, "my file")?;
//! assert_eq!(base["optim"]["lr"].as_float(), Some(0.2));
//! assert!(lay_over(&mut base, parse("optim.rate = 0.2", "my file")?, "my file").is_err());
//! # Ok::<(), ocelli_train::config::ConfigError>(())
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::ConfigError;
use super::hints;

fn wrong(name: &str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Toml { source_name: name.to_owned(), reason: reason.into() }
}

/// A configuration as a table.
///
/// # Errors
/// When a value has no place in TOML.
pub fn table_of<T: Serialize>(config: &T) -> Result<Table, ConfigError> {
    Table::try_from(config).map_err(|e| wrong("configuration", e.to_string()))
}

/// A configuration out of a table with every key in it.
///
/// # Errors
/// When a key is missing or a value is no such thing; the message begins with `name`.
pub fn of_table<T: DeserializeOwned>(table: Table, name: &str) -> Result<T, ConfigError> {
    table.try_into().map_err(|e: toml::de::Error| wrong(name, e.message()))
}

/// The table of a TOML text.
///
/// # Errors
/// When it is none: `name`, line and reason.
pub fn parse(text: &str, name: &str) -> Result<Table, ConfigError> {
    text.parse().map_err(|e: toml::de::Error| {
        let before = |at: usize| text.bytes().take(at).filter(|b| *b == b'\n').count();
        let line = e.span().map(|s| 1 + before(s.start));
        let at = line.map(|l| format!("line {l}: ")).unwrap_or_default();
        wrong(name, format!("{at}{}", e.message()))
    })
}

/// A file (its name and text) and single values, each with the name messages have for it.
///
/// # Errors
/// When one cannot be read.
pub fn layers_of(file: Option<(&str, &str)>, sets: &[String]) -> Result<Vec<(Table, String)>, ConfigError> {
    let mut layers: Vec<(Table, String)> = Vec::new();
    if let Some((name, text)) = file {
        layers.push((parse(text, name)?, name.to_owned()));
    }
    for set in sets {
        layers.push((parse_set(set)?, format!("--set {set}")));
    }
    Ok(layers)
}

/// `a.b=v` to a table; values as in TOML, bare words are taken as strings.
fn parse_set(set: &str) -> Result<Table, ConfigError> {
    let Some((key, value)) = set.split_once('=') else {
        return Err(wrong(&format!("--set {set}"), "expected key=value, such as optim.lr=0.001"));
    };
    let (key, value) = (key.trim(), value.trim());
    let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("v"));
    let mut value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
    let mut parts = key.split('.').rev();
    let leaf = parts.next().unwrap_or(key).to_owned();
    let mut inner = Table::new();
    inner.insert(leaf, value);
    for part in parts {
        value = Value::Table(inner);
        inner = Table::new();
        inner.insert(part.to_owned(), value);
    }
    Ok(inner)
}

/// Lays `over`, by its name in messages, on `base`; every key must be there already, with the same kind of value.
///
/// # Errors
/// Unknown keys (with those that may be meant, wherever they are) and values of another kind.
pub fn lay_over(base: &mut Table, over: Table, name: &str) -> Result<(), ConfigError> {
    if let Some(key) = first_unknown(base, &over, "") {
        let hint = hints::did_you_mean(&key, base);
        return Err(ConfigError::UnknownKey { key, source_name: name.to_owned(), hint });
    }
    lay(base, over, "", name)
}

/// The first key that `base` lacks, with its sections before it.
fn first_unknown(base: &Table, over: &Table, prefix: &str) -> Option<String> {
    over.iter().find_map(|(key, value)| {
        let mut full = format!("{prefix}{key}");
        match (base.get(key), value) {
            (None, mut value) => {
                // Of a single value the whole key is told.
                while let Value::Table(inner) = value
                    && let (Some((key, next)), 1) = (inner.iter().next(), inner.len())
                {
                    full.push('.');
                    full.push_str(key);
                    value = next;
                }
                Some(full)
            }
            (Some(Value::Table(base)), Value::Table(over)) => first_unknown(base, over, &format!("{full}.")),
            _ => None,
        }
    })
}

/// What a value is, in a word.
fn kind(value: &Value) -> &'static str {
    if value.is_table() { "a section" } else { value.type_str() }
}

fn lay(base: &mut Table, over: Table, prefix: &str, name: &str) -> Result<(), ConfigError> {
    for (key, value) in over {
        let full = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match (base.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => lay(inner, value, &full, name)?,
            (Some(slot @ Value::Float(_)), Value::Integer(value)) => *slot = Value::Float(value as f64),
            (Some(slot), value) if slot.same_type(&value) => *slot = value,
            (slot, value) => {
                let (expected, found) = (slot.map_or("no such key", |slot| kind(slot)), kind(&value));
                let found = if value.is_table() { found.to_owned() } else { format!("{found} {value}") };
                return Err(wrong(name, format!("{full}: expected {expected}, found {found}")));
            }
        }
    }
    Ok(())
}
