//! `manifest.json`: what a run was made with, when and of what.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::place::absolute_of;
use crate::replace::MANIFEST;

/// What the run was made with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    ocelli: String,
    burn: String,
    os: String,
    arch: String,
    pub device: String,
    pub data: String,
    /// Where the data lies, whatever folder one stands in. Nothing built in has that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_path: Option<String>,
    /// The same of the weights that the run began from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_path: Option<String>,
    started_unix_s: u64,
    command: Vec<String>,
    /// What was made of data and weights.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub understood: serde_json::Value,
    /// The later parts of a run that was continued.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed: Vec<Part>,
}

impl Manifest {
    /// That of a run that begins now, with this configuration in TOML.
    pub fn begun(now: Part, config: &str) -> Self {
        Self {
            ocelli: now.ocelli,
            burn: "0.22.1".into(),
            os: std::env::consts::OS.into(),
            arch: std::env::consts::ARCH.into(),
            device: String::new(),
            data: String::new(),
            data_path: None,
            weights_path: weights_in(config).as_deref().and_then(absolute_of),
            started_unix_s: now.unix_s,
            command: now.command,
            understood: serde_json::Value::Null,
            resumed: Vec::new(),
        }
    }

    /// That of the run in a folder, where it is there and whole.
    pub fn read(root: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(root.join(MANIFEST)).ok()?).ok()
    }

    /// Takes the data by the name it is opened by. Where the run goes on from another folder, the data keeps the name it was given.
    pub fn take_data(&mut self, name: &str) {
        if self.data_path.as_deref() != Some(name) {
            (self.data, self.data_path) = (name.into(), absolute_of(name));
        }
    }
}

/// One process that went on with a run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Part {
    ocelli: String,
    device: String,
    unix_s: u64,
    command: Vec<String>,
}

impl Part {
    pub fn now(device: &str) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            ocelli: env!("CARGO_PKG_VERSION").into(),
            device: device.into(),
            unix_s: now.map_or(0, |d| d.as_secs()),
            command: std::env::args().collect(),
        }
    }
}

/// The weights that a configuration names, whatever its task calls them.
fn weights_in(config: &str) -> Option<String> {
    let table: toml::Table = config.parse().ok()?;
    let named = ["init_from", "weights"].iter().find_map(|key| table.get(*key)?.as_str())?;
    Some(named.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_names_its_weights() {
        let config =
            toml::to_string(&crate::RunConfig { init_from: "a.pth".into(), ..Default::default() }).unwrap();
        assert_eq!(weights_in(&config).as_deref(), Some("a.pth"));
        assert_eq!(weights_in("task = \"linear\"\nweights = \"b.pth\"").as_deref(), Some("b.pth"));
        assert_eq!(weights_in("epochs = 3"), None);
    }
}
