//! What differs between two configurations, and which differences a run can be continued with.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::resolve::table_of;
use super::{ConfigError, RunConfig, ViewsOn};

/// One value that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Dotted key.
    pub key: String,
    /// The value before, as TOML.
    pub before: String,
    /// The value after, as TOML.
    pub after: String,
    /// Whether a run may go on with it: the remaining steps compute the same, and its curves stay comparable.
    pub is_harmless: bool,
}

/// What may change while a run goes on, with the reason. Everything else decides what is trained or measured and may not.
const HARMLESS: [&str; 14] = [
    // Who does the work and how far ahead. The result is the same for any number of threads.
    "loader.threads",
    "loader.prefetch",
    // When to give up. Which images take the place of unreadable ones does not depend on it.
    "loader.max_bad_fraction",
    // Which steps share a row of the metrics. The weights do not see it.
    "log.every_steps",
    // What is kept.
    "log.checkpoint_every_epochs",
    "log.checkpoint_every_minutes",
    "log.keep_checkpoints",
    "log.keep_every_epochs",
    // How often it is measured, and how many images at once.
    "eval.every_epochs",
    "eval.batch_size",
    "eval.linear",
    // Whether to go on after a collapse, and how soon it is one.
    "watch.collapse",
    "watch.patience_epochs",
    // Decided by where the views are in fact rendered: see `continued_of`.
    VIEWS,
];
/// Levels of views rendered on the processor and on a GPU differ, and so does what is trained on them.
const VIEWS: &str = "loader.views";

/// The values that differ, by key. `loader.views` leaves open what `auto` means on this machine; `continued_of` knows.
///
/// # Errors
/// When a configuration cannot be written as TOML.
pub fn changes(before: &RunConfig, after: &RunConfig) -> Result<Vec<Change>, ConfigError> {
    Ok(changes_of(&table_of(before)?, &table_of(after)?))
}

/// The same of any task's configuration.
fn changes_of(before: &Table, after: &Table) -> Vec<Change> {
    let (a, b) = (flat(before), flat(after));
    let is_open = |values: &BTreeMap<String, Value>| {
        let auto = ViewsOn::Auto.to_string();
        values.get(VIEWS).and_then(Value::as_str) == Some(&auto)
    };
    let open = is_open(&a) || is_open(&b);
    // Only what a method has is in its configuration.
    let absent = || "absent".to_owned();
    let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differ = keys.into_iter().filter(|key| a.get(*key) != b.get(*key));
    let change = |key: &String| Change {
        key: key.clone(),
        before: a.get(key).map_or_else(absent, Value::to_string),
        after: b.get(key).map_or_else(absent, Value::to_string),
        is_harmless: HARMLESS.contains(&key.as_str()) && (key != VIEWS || open),
    };
    differ.map(change).collect()
}

/// As [`changes`], for a run that goes on: `rendered` is where the views were rendered before and where they are now (`cpu`
/// or `gpu`), which `auto` decides by the machine. A run that does not say where it rendered them is taken by its word.
pub(crate) fn continued_of(before: &Table, after: &Table, rendered: [Option<ViewsOn>; 2]) -> Vec<Change> {
    let mut all = changes_of(before, after);
    let [Some(then), Some(now)] = rendered else {
        all.iter_mut().filter(|change| change.key == VIEWS).for_each(|change| change.is_harmless = false);
        return all;
    };
    all.retain(|change| change.key != VIEWS);
    if then != now {
        all.push(Change {
            key: VIEWS.into(),
            before: format!("views rendered on the {then} (--set {VIEWS}={then} goes on with that)"),
            after: format!("views rendered on the {now}, whose levels differ"),
            is_harmless: false,
        });
    }
    all
}

fn flat(table: &Table) -> BTreeMap<String, Value> {
    let mut values = BTreeMap::new();
    flatten("", table, &mut values);
    values
}

fn flatten(prefix: &str, table: &Table, to: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            Value::Table(inner) => flatten(&format!("{key}."), inner, to),
            value => {
                to.insert(key, value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve_over;

    fn over(base: &RunConfig, sets: &[&str]) -> RunConfig {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        resolve_over(base, None, &sets).unwrap()
    }

    #[test]
    fn changes_are_named_and_judged() {
        let before = RunConfig::default();
        assert_eq!(changes(&before, &before).unwrap(), []);
        let after = over(&before, &["optim.lr=0.001", "log.every_steps=5", "arch=vit-ti/16"]);
        let found = changes(&before, &after).unwrap();
        let found: Vec<_> = found.iter().map(|c| (c.key.as_str(), c.after.as_str(), c.is_harmless)).collect();
        assert_eq!(
            found,
            [("arch", "\"vit-ti/16\"", false), ("log.every_steps", "5", true), ("optim.lr", "0.001", false)]
        );
    }

    /// In the sections that mostly say how, not what, every key is decided by name.
    #[test]
    fn every_key_is_decided() {
        // Another crop or another choice of images is another measurement: one curve, and a best, must not mix them.
        // With another limit other images are read.
        let decisive = ["eval.resize_px", "eval.crop_px", "eval.max_train", "eval.max_test", "loader.max_pixels"];
        let all = flat(&table_of(&RunConfig::default()).unwrap());
        let how = |key: &&String| ["loader.", "log.", "eval.", "watch."].iter().any(|s| key.starts_with(s));
        for key in all.keys().filter(how) {
            let (harmless, decides) = (HARMLESS.contains(&key.as_str()), decisive.contains(&key.as_str()));
            assert!(harmless != decides, "{key}: decide whether a run may go on with another value");
        }
        for key in HARMLESS {
            assert!(all.contains_key(key), "{key} is no key");
        }
        let before = RunConfig::default();
        for set in ["eval.crop_px=192", "eval.max_test=10", "accumulate=2", "seed=1"] {
            let found = changes(&before, &over(&before, &[set])).unwrap();
            assert!(matches!(&found[..], [change] if !change.is_harmless), "{set}: {found:?}");
        }
    }

    /// What was rendered counts, not the word.
    #[test]
    fn other_views_are_another_run() {
        let (cpu, gpu) = (Some(ViewsOn::Cpu), Some(ViewsOn::Gpu));
        let auto = RunConfig::default();
        let [on_cpu, on_gpu] = ["loader.views=cpu", "loader.views=gpu"].map(|set| over(&auto, &[set]));
        let refused = |before: &RunConfig, after: &RunConfig, rendered| {
            continued_of(&table_of(before).unwrap(), &table_of(after).unwrap(), rendered)
                .iter()
                .any(|c| c.key == VIEWS && !c.is_harmless)
        };
        // The same word on another machine.
        assert!(refused(&auto, &auto, [cpu, gpu]));
        assert!(refused(&auto, &auto, [gpu, cpu]));
        assert!(!refused(&auto, &auto, [cpu, cpu]));
        // Another word for the same.
        assert!(!refused(&auto, &on_cpu, [cpu, cpu]));
        assert!(refused(&auto, &on_gpu, [cpu, gpu]));
        // Checkpoints from before it was written down.
        assert!(!refused(&auto, &auto, [None, gpu]));
        assert!(refused(&auto, &on_cpu, [None, cpu]));
        // Before a device is open, only two plain words are known to differ.
        let plain = |before: &RunConfig, after: &RunConfig| changes(before, after).unwrap()[0].is_harmless;
        assert!(!plain(&on_cpu, &on_gpu) && plain(&auto, &on_cpu));
        let table = table_of(&auto).unwrap();
        let found = continued_of(&table, &table, [cpu, gpu]);
        assert!(found[0].before.contains("--set loader.views=cpu"), "{found:?}");
    }
}
