//! What differs between two configurations, and which differences a run can be continued with.

use toml::{Table, Value};

use super::resolve::table_of;
use super::{ConfigError, RunConfig};

/// One value that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Dotted key.
    pub key: String,
    /// The value before, as TOML.
    pub before: String,
    /// The value after, as TOML.
    pub after: String,
    /// Whether a run may go on with it: it does not change what the remaining steps compute.
    pub is_harmless: bool,
}

/// Sections that decide what is read, measured and written, but not what is trained.
const HARMLESS: [&str; 4] = ["loader.", "log.", "eval.", "watch."];

/// The values that differ, by key.
///
/// # Errors
/// When a configuration cannot be written as TOML.
pub fn changes(before: &RunConfig, after: &RunConfig) -> Result<Vec<Change>, ConfigError> {
    Ok(changes_of(&table_of(before)?, &table_of(after)?))
}

/// The same of any task's configuration.
pub(crate) fn changes_of(before: &Table, after: &Table) -> Vec<Change> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    flatten("", before, &mut a);
    flatten("", after, &mut b);
    let shown = |of: &[(String, Value)], key: &str| {
        of.iter().find(|(k, _)| k == key).map_or_else(|| "nothing".to_owned(), |(_, value)| value.to_string())
    };
    let mut keys: Vec<&String> = a.iter().chain(&b).map(|(key, _)| key).collect();
    keys.sort();
    keys.dedup();
    let change = |key: &String| {
        let (before, after) = (shown(&a, key), shown(&b, key));
        let is_harmless = HARMLESS.iter().any(|section| key.starts_with(section));
        (before != after).then(|| Change { key: key.clone(), before, after, is_harmless })
    };
    keys.into_iter().filter_map(change).collect()
}

/// Dotted keys and their values.
fn flatten(prefix: &str, table: &Table, to: &mut Vec<(String, Value)>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            Value::Table(inner) => flatten(&format!("{key}."), inner, to),
            value => to.push((key, value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve_over;

    #[test]
    fn changes_are_named_and_judged() {
        let before = RunConfig::default();
        assert_eq!(changes(&before, &before).unwrap(), []);
        let sets = ["optim.lr=0.001", "log.every_steps=5", "arch=vit-ti/16"].map(str::to_owned);
        let found = changes(&before, &resolve_over(&before, &sets).unwrap()).unwrap();
        let found: Vec<_> = found.iter().map(|c| (c.key.as_str(), c.after.as_str(), c.is_harmless)).collect();
        assert_eq!(
            found,
            [("arch", "\"vit-ti/16\"", false), ("log.every_steps", "5", true), ("optim.lr", "0.001", false)]
        );
    }
}
