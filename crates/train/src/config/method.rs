//! The method of a configuration, by name.

use std::fmt;
use std::str::FromStr;

use ocelli_methods::{METHODS, Recipe, recipe};
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// One of [`METHODS`].
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MethodChoice(&'static Recipe);

impl MethodChoice {
    /// What the method declares.
    pub fn recipe(self) -> &'static Recipe {
        self.0
    }
}

impl Default for MethodChoice {
    /// The first of the list.
    fn default() -> Self {
        Self(METHODS[0])
    }
}

/// Every method there is, by name.
pub(crate) fn known() -> String {
    let names: Vec<String> = METHODS.iter().map(|r| format!("\"{}\"", r.name)).collect();
    names.join(" or ")
}

impl FromStr for MethodChoice {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, ConfigError> {
        recipe(name).map(Self).ok_or_else(|| ConfigError::Value {
            key: "method",
            expected: known(),
            found: format!("\"{name}\""),
        })
    }
}

impl fmt::Display for MethodChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl fmt::Debug for MethodChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl PartialEq for MethodChoice {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for MethodChoice {}

impl TryFrom<String> for MethodChoice {
    type Error = ConfigError;
    fn try_from(name: String) -> Result<Self, ConfigError> {
        name.parse()
    }
}

impl From<MethodChoice> for String {
    fn from(method: MethodChoice) -> Self {
        method.to_string()
    }
}
