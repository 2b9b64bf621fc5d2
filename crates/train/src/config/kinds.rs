//! Names in a configuration: what is done, and where views are rendered.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ConfigError;

macro_rules! names {
    ($(#[$about:meta])* $name:ident, $key:literal: $($(#[$doc:meta])* $variant:ident = $text:literal),* $(,)?) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $text,)*
                })
            }
        }

        impl FromStr for $name {
            type Err = ConfigError;

            fn from_str(name: &str) -> Result<Self, ConfigError> {
                match name {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(ConfigError::Value {
                        key: $key,
                        expected: [$(concat!("\"", $text, "\"")),*].join(" or "),
                        found: format!("\"{name}\""),
                    }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = ConfigError;
            fn try_from(name: String) -> Result<Self, ConfigError> {
                name.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.to_string()
            }
        }
    };
}

names! {
    /// Where the views of a batch are rendered.
    ViewsOn, "loader.views":
    /// On graphics hardware where there is some, else on the processor.
    Auto = "auto",
    /// On the processor, ahead of the trainer.
    Cpu = "cpu",
    /// On the run's GPU, from pictures that were decoded ahead of it.
    Gpu = "gpu",
}

names! {
    /// What a run is.
    TaskKind, "task":
    /// Pre-training of a backbone: `ocelli pretrain`.
    Pretraining = "pretraining",
    /// Fine-tuning of a backbone and a classifier: `ocelli finetune classification`.
    Classification = "classification",
}

impl TaskKind {
    /// The command it belongs to.
    pub fn command(self) -> &'static str {
        match self {
            Self::Pretraining => "pretrain",
            Self::Classification => "finetune classification",
        }
    }
}
