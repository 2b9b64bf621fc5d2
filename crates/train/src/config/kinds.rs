//! Names in a configuration: the method, the backbone, the optimizer.

use std::fmt;
use std::str::FromStr;

use ocelli_models::{Arch, ResNetArch};
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
    /// What is trained.
    MethodKind, "method":
    /// Self-distillation with no labels (Caron et al. 2021).
    Dino = "dino",
    /// Contrast with a queue (Chen et al. 2020).
    Moco = "moco",
    /// Contrast at every location (Wang et al. 2021).
    DenseCl = "densecl",
}

names! {
    /// How gradients become steps.
    OptimizerKind, "optim.optimizer":
    /// AdamW (Loshchilov & Hutter 2019).
    AdamW = "adamw",
    /// Stochastic gradient descent with momentum.
    Sgd = "sgd",
    /// Layer-wise adaptive rates (You et al. 2017), for large batches.
    Lars = "lars",
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

impl MethodKind {
    /// Whether it contrasts two views with a queue.
    pub fn has_queue(self) -> bool {
        matches!(self, Self::Moco | Self::DenseCl)
    }
}

/// A backbone by name: a Vision Transformer (`vit-s/16`, see [`Arch`]) or a ResNet (`resnet-50`, see [`ResNetArch`];
/// `resnet50` is the same).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BackboneArch {
    /// A Vision Transformer.
    Vit(Arch),
    /// A ResNet.
    ResNet(ResNetArch),
}

impl FromStr for BackboneArch {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, ConfigError> {
        let wrong = |expected: String| ConfigError::Value { key: "arch", expected, found: format!("\"{name}\"") };
        if name.contains("resnet") {
            // torchvision writes resnet50.
            let dashed = match name.split_once("resnet") {
                Some((before, depth)) if depth.starts_with(|c: char| c.is_ascii_digit()) => {
                    format!("{before}resnet-{depth}")
                }
                _ => name.to_owned(),
            };
            return Ok(Self::ResNet(dashed.parse().map_err(|e| wrong(format!("a ResNet ({e})")))?));
        }
        if name.starts_with("vit") {
            return Ok(Self::Vit(name.parse().map_err(|e| wrong(format!("a Vision Transformer ({e})")))?));
        }
        let expected =
            "a Vision Transformer such as vit-s/16 or a ResNet such as resnet-50 (unknown architecture)";
        Err(wrong(expected.into()))
    }
}

impl fmt::Display for BackboneArch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vit(arch) => arch.fmt(f),
            Self::ResNet(arch) => arch.fmt(f),
        }
    }
}

impl TryFrom<String> for BackboneArch {
    type Error = ConfigError;
    fn try_from(name: String) -> Result<Self, ConfigError> {
        name.parse()
    }
}

impl From<BackboneArch> for String {
    fn from(arch: BackboneArch) -> Self {
        arch.to_string()
    }
}

impl BackboneArch {
    /// Heads, of a Vision Transformer.
    pub fn heads(&self) -> Option<usize> {
        match self {
            Self::Vit(arch) => Some(arch.heads),
            Self::ResNet(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_are_refused_in_words() {
        for (name, written) in [
            ("resnet50", "resnet-50"),
            ("resnet-18c8", "resnet-18c8"),
            ("wide-resnet50", "wide-resnet-50"),
            ("vit-s/16", "vit-s/16"),
        ] {
            assert_eq!(name.parse::<BackboneArch>().unwrap().to_string(), written);
        }
        let cut = [
            "resnet-18é",
            "resnet18é",
            "résnet-18",
            "éresnet-18",
            "resnet-é",
            "resnet-18cé",
            "vit-é/16",
            "é",
            "vité",
        ];
        for name in ["resnet", "resnet-51", "alexnet", "vit-s"].into_iter().chain(cut) {
            let message = name.parse::<BackboneArch>().unwrap_err().to_string();
            assert!(message.contains("arch: expected") && message.contains("unknown architecture"), "{message}");
        }
        let message = "simclr".parse::<MethodKind>().unwrap_err().to_string();
        assert_eq!(message, "method: expected \"dino\" or \"moco\" or \"densecl\", found \"simclr\"");
    }
}
