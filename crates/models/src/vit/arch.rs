//! Names of Vision Transformers: `vit-s/16`, or any shape spelled out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::VitConfig;
use crate::PositionRule;

/// What is wrong with a Vision Transformer's shape or name.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum VitError {
    /// A name that is none of ours.
    #[error(
        "unknown architecture \"{0}\": expected vit-ti/P, vit-s/P, vit-b/P, vit-l/P (P the patch size in pixels, such as \
         vit-s/16), or a shape written WIDTHxDEPTHxHEADS, such as vit-96x6x3/4; with four registers vit-s/14-reg4"
    )]
    UnknownName(String),
    /// Numbers that do not fit together.
    #[error("architecture {what}: {problem}")]
    Shape {
        /// The numbers.
        what: String,
        /// Why they do not fit.
        problem: String,
    },
}

/// A Vision Transformer by name: `vit-ti/16`, `vit-s/8`, `vit-b/16`, `vit-l/14`, or `vit-{width}x{depth}x{heads}/{patch}`; with
/// registers `vit-s/14-reg4`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Arch {
    /// Embedding width.
    pub dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Patch side, pixels.
    pub patch_size_px: usize,
    /// Tokens that belong to no place of the image.
    pub registers: usize,
}

const NAMED: [(&str, usize, usize, usize); 4] =
    [("ti", 192, 12, 3), ("s", 384, 12, 6), ("b", 768, 12, 12), ("l", 1024, 24, 16)];

/// Published networks have 4 or 16.
const MOST_REGISTERS: usize = 1024;

impl Arch {
    /// The full configuration for images of `image_size_px`. Position embeddings are interpolated as DINO does, with
    /// registers as DINOv2 does.
    pub fn config(&self, image_size_px: usize, drop_path: f64) -> VitConfig {
        VitConfig {
            image_size_px,
            patch_size_px: self.patch_size_px,
            dim: self.dim,
            depth: self.depth,
            heads: self.heads,
            mlp_ratio: 4,
            drop_path,
            registers: self.registers,
            position_rule: PositionRule::of_registers(self.registers),
        }
    }
}

impl FromStr for Arch {
    type Err = VitError;

    fn from_str(name: &str) -> Result<Self, VitError> {
        let unknown = || VitError::UnknownName(name.to_owned());
        let (size, patch) = name.strip_prefix("vit-").and_then(|s| s.split_once('/')).ok_or_else(unknown)?;
        let (patch, registers) = match patch.split_once("-reg") {
            Some((patch, count)) => (patch, count.parse().ok().filter(|n| *n > 0).ok_or_else(unknown)?),
            None => (patch, 0),
        };
        let patch_size_px = patch.parse().map_err(|_| unknown())?;
        let (dim, depth, heads) = match NAMED.iter().find(|n| n.0 == size) {
            Some(&(_, dim, depth, heads)) => (dim, depth, heads),
            None => {
                let numbers: Vec<usize> =
                    size.split('x').map(str::parse).collect::<Result<_, _>>().map_err(|_| unknown())?;
                let [dim, depth, heads] = numbers[..] else { return Err(unknown()) };
                (dim, depth, heads)
            }
        };
        let arch = Self { dim, depth, heads, patch_size_px, registers };
        arch.config(patch_size_px.max(1), 0.0).check()?;
        Ok(arch)
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMED.iter().find(|n| (n.1, n.2, n.3) == (self.dim, self.depth, self.heads)) {
            Some((name, ..)) => write!(f, "vit-{name}/{}", self.patch_size_px)?,
            None => write!(f, "vit-{}x{}x{}/{}", self.dim, self.depth, self.heads, self.patch_size_px)?,
        }
        if self.registers > 0 {
            write!(f, "-reg{}", self.registers)?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Arch {
    type Error = VitError;
    fn try_from(name: String) -> Result<Self, VitError> {
        name.parse()
    }
}

impl From<Arch> for String {
    fn from(arch: Arch) -> Self {
        arch.to_string()
    }
}

impl VitConfig {
    /// Its name.
    pub fn arch(&self) -> Arch {
        let &Self { dim, depth, heads, patch_size_px, registers, .. } = self;
        Arch { dim, depth, heads, patch_size_px, registers }
    }

    /// Checks that the numbers fit together.
    ///
    /// # Errors
    /// Which number is wrong and why.
    pub fn check(&self) -> Result<(), VitError> {
        let fail = |problem: String| {
            Err(VitError::Shape {
                what: format!("{}x{}x{}/{}", self.dim, self.depth, self.heads, self.patch_size_px),
                problem,
            })
        };
        if self.dim == 0 || self.depth == 0 || self.heads == 0 || self.patch_size_px == 0 || self.mlp_ratio == 0 {
            return fail("width, depth, heads, patch size and MLP ratio must be at least 1".into());
        }
        if !self.dim.is_multiple_of(self.heads) {
            return fail(format!("{} heads do not divide the width {}", self.heads, self.dim));
        }
        if self.registers > MOST_REGISTERS {
            return fail(format!("expected at most {MOST_REGISTERS} registers, found {}", self.registers));
        }
        if self.image_size_px < self.patch_size_px {
            return fail(format!(
                "an image of {0}×{0} px has no whole patch of {1} px",
                self.image_size_px, self.patch_size_px
            ));
        }
        if !(0.0..1.0).contains(&self.drop_path) {
            return fail(format!("drop path must be at least 0 and below 1, found {}", self.drop_path));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        let names = [
            "vit-ti/16",
            "vit-s/16",
            "vit-s/8",
            "vit-b/8",
            "vit-l/14",
            "vit-s/14-reg4",
            "vit-96x6x3/4",
            "vit-8x1x2/2-reg1",
        ];
        for name in names {
            let arch: Arch = name.parse().unwrap();
            assert_eq!(arch.to_string(), name);
            assert_eq!(arch.config(28, 0.0).arch(), arch);
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_was_expected() {
        for name in [
            "resnet50",
            "vit-s",
            "vit-s/0",
            "vit-x/16",
            "vit-100x2x3/8",
            "vit-s/16/8",
            "vit-s/14-reg",
            "vit-s/14-reg0",
            "vit-s/14-reg18446744073709551615",
            "vit-s/14-reg18446744073709551616",
            "vit-s/-reg4",
        ] {
            let error = name.parse::<Arch>().unwrap_err().to_string();
            assert!(error.contains("expected") || error.contains("must") || error.contains("divide"), "{error}");
        }
    }
}
