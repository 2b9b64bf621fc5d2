//! Names and shapes of ResNets: `resnet-50`, `resnet-50x2`, `wide-resnet-50`, `resnet-152x3-sk`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::weights::StateDict;

/// What is wrong with a ResNet's name, shape or tensors.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ResNetError {
    /// A name that is none of ours.
    #[error(
        "unknown architecture \"{0}\": expected resnet-D or wide-resnet-D with D one of 18, 34, 50, 101, 152, 200, \
         optionally followed by xK (K times the channels) or cN (N channels in the first stage), and by -sk \
         (selective kernels), such as resnet-50, resnet-50x4, resnet-18c16, resnet-152x3-sk"
    )]
    UnknownName(String),
    /// Numbers that do not fit together.
    #[error("ResNet: {key}: expected {expected}, found {found}")]
    Value {
        /// What is wrong.
        key: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// What was given.
        found: usize,
    },
    /// Tensors of another network.
    #[error("expected a ResNet's weights in torchvision's names; {0}")]
    Tensors(String),
}

/// Shape of a ResNet's stages (He et al. 2016, stride in the 3×3 convolution as everyone since).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResNetArch {
    /// Blocks of the four stages.
    pub blocks: [usize; 4],
    /// Blocks of three convolutions (50 and deeper) instead of two.
    pub bottleneck: bool,
    /// Channels of the first stage: 64, 128 in `x2`.
    pub channels: usize,
    /// Channels inside a bottleneck over those of the stage: 1, 2 in torchvision's `wide_resnet`.
    pub inner: usize,
    /// Selective kernels and the deep stem of SimCLRv2 (Chen et al. 2020).
    pub selective_kernel: bool,
}

const DEPTHS: [(usize, [usize; 4], bool); 6] = [
    (18, [2, 2, 2, 2], false),
    (34, [3, 4, 6, 3], false),
    (50, [3, 4, 6, 3], true),
    (101, [3, 4, 23, 3], true),
    (152, [3, 8, 36, 3], true),
    (200, [3, 24, 36, 3], true),
];

/// Channels of the first stage of a network of usual width.
const BASE: usize = 64;

/// Width of the selection inside a selective kernel over its channels, and the least.
const SK_RATIO: usize = 16;
const SK_LEAST: usize = 32;

impl ResNetArch {
    /// Channels of a stage's output.
    pub fn stage_dim(&self, stage: usize) -> usize {
        (self.channels << stage) * if self.bottleneck { 4 } else { 1 }
    }

    /// Channels of the last stage's output.
    pub fn dim(&self) -> usize {
        self.stage_dim(3)
    }

    /// Channels inside a stage's blocks.
    pub(crate) fn stage_inner(&self, stage: usize) -> usize {
        (self.channels << stage) * self.inner
    }

    /// Width of the selection of a selective kernel over `channels`.
    pub(crate) fn sk_width(channels: usize) -> usize {
        (channels / SK_RATIO).max(SK_LEAST)
    }

    /// Trained values of the backbone, by formula: convolutions without bias, two per channel of a batch
    /// normalisation. `stem_side` is the first kernel's, 7 or 3.
    pub fn num_parameters(&self, stem_side: usize) -> usize {
        let conv = |input: usize, output: usize, side: usize| input * output * side * side + 2 * output;
        let c = self.channels;
        let stem = match self.selective_kernel {
            false => conv(3, c, stem_side),
            true => conv(3, c / 2, 3) + conv(c / 2, c / 2, 3) + conv(c / 2, c, 3),
        };
        let middle = |inner: usize| match self.selective_kernel {
            false => conv(inner, inner, 3),
            true => {
                let mid = Self::sk_width(inner);
                conv(inner, 2 * inner, 3) + conv(inner, mid, 1) + mid * 2 * inner
            }
        };
        let mut total = stem;
        let mut input = c;
        for (stage, blocks) in self.blocks.iter().enumerate() {
            let (inner, output) = (self.stage_inner(stage), self.stage_dim(stage));
            for block in 0..*blocks {
                total += match self.bottleneck {
                    true => conv(input, inner, 1) + middle(inner) + conv(inner, output, 1),
                    false => conv(input, inner, 3) + middle(output),
                };
                if block == 0 && (stage > 0 || input != output) {
                    total += conv(input, output, 1);
                }
                input = output;
            }
        }
        total
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// Which is wrong and what is allowed.
    pub fn check(&self) -> Result<(), ResNetError> {
        let value = |key, expected, found| Err(ResNetError::Value { key, expected, found });
        if let Some(found) = self.blocks.iter().find(|b| !(1..=1000).contains(*b)) {
            return value("blocks of a stage", "1 to 1000", *found);
        }
        if !(2..=4096).contains(&self.channels) || !self.channels.is_multiple_of(2) {
            return value("channels of the first stage", "an even number from 2 to 4096", self.channels);
        }
        if !(1..=4).contains(&self.inner) {
            return value("width inside the blocks", "1 to 4 times the stage's", self.inner);
        }
        if !self.bottleneck && self.inner != 1 {
            return value("width inside blocks of two convolutions", "1 times the stage's", self.inner);
        }
        if !self.bottleneck && self.selective_kernel {
            let convolutions = 2 * self.blocks.iter().sum::<usize>() + 2;
            return value("layers of a network with selective kernels", "50 or more", convolutions);
        }
        Ok(())
    }

    /// Reads the shape off a backbone's tensors, and the side of its first kernel (7, or 3 in the stem for small
    /// images).
    ///
    /// # Errors
    /// When they are another network's, or fewer than a network of this shape has.
    pub fn of(state: &StateDict) -> Result<(Self, usize), ResNetError> {
        let first = |name: &str| state.get(name).map(|t| t.shape.as_slice());
        let missing = |name: &str| {
            let found = state.tensors.first().map_or("nothing", |(n, _)| n.as_str());
            ResNetError::Tensors(format!("there is no {name} (the first tensor is {found})"))
        };
        let count = |stage: usize| {
            (0..).take_while(|i| first(&format!("layer{stage}.{i}.conv1.weight")).is_some()).count()
        };
        let blocks = [count(1), count(2), count(3), count(4)];
        let bottleneck = first("layer1.0.conv3.weight").is_some();
        let inside = first("layer1.0.conv1.weight").ok_or_else(|| missing("layer1.0.conv1.weight"))?;
        let selective_kernel = first("layer1.0.sk.conv.weight").is_some();
        let stem = if selective_kernel { "stem.2.conv.weight" } else { "conv1.weight" };
        let &[channels @ (1..), _, side, _] = first(stem).ok_or_else(|| missing(stem))? else {
            return Err(ResNetError::Tensors(format!("{stem} is no convolution")));
        };
        let inner = inside.first().map_or(0, |inside| inside / channels);
        let arch = Self { blocks, bottleneck, channels, inner, selective_kernel };
        arch.check()?;
        // A network is only built for weights that could fill it, so that a file cannot ask for any amount of memory.
        let (needs, has) = (arch.num_parameters(side), state.num_values());
        if needs > has {
            return Err(ResNetError::Tensors(format!(
                "a {arch} has {needs} parameters, and there are {has} values in the file"
            )));
        }
        Ok((arch, side))
    }
}

impl FromStr for ResNetArch {
    type Err = ResNetError;

    fn from_str(name: &str) -> Result<Self, ResNetError> {
        let unknown = || ResNetError::UnknownName(name.to_owned());
        let (rest, inner) = match name.strip_prefix("wide-") {
            Some(rest) => (rest, 2),
            None => (name, 1),
        };
        let (rest, selective_kernel) = match rest.strip_suffix("-sk") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let rest = rest.strip_prefix("resnet-").ok_or_else(unknown)?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (depth, width) = rest.split_at(digits);
        let depth: usize = depth.parse().map_err(|_| unknown())?;
        let &(_, blocks, bottleneck) = DEPTHS.iter().find(|d| d.0 == depth).ok_or_else(unknown)?;
        let number =
            |text: &str| text.parse::<usize>().ok().filter(|n| (1..=4096).contains(n)).ok_or_else(unknown);
        let channels = match (width.strip_prefix('x'), width.strip_prefix('c')) {
            (Some(k), _) => number(k)? * BASE,
            (_, Some(n)) => number(n)?,
            _ if width.is_empty() => BASE,
            _ => return Err(unknown()),
        };
        let arch = Self { blocks, bottleneck, channels, inner, selective_kernel };
        arch.check()?;
        Ok(arch)
    }
}

impl fmt::Display for ResNetArch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.inner == 2 {
            f.write_str("wide-")?;
        }
        match DEPTHS.iter().find(|d| (d.1, d.2) == (self.blocks, self.bottleneck)) {
            Some((depth, ..)) => write!(f, "resnet-{depth}")?,
            None => write!(f, "resnet of {:?} blocks", self.blocks)?,
        }
        match self.channels {
            BASE => {}
            c if c.is_multiple_of(BASE) => write!(f, "x{}", c / BASE)?,
            c => write!(f, "c{c}")?,
        }
        f.write_str(if self.selective_kernel { "-sk" } else { "" })
    }
}

impl TryFrom<String> for ResNetArch {
    type Error = ResNetError;
    fn try_from(name: String) -> Result<Self, ResNetError> {
        name.parse()
    }
}

impl From<ResNetArch> for String {
    fn from(arch: ResNetArch) -> Self {
        arch.to_string()
    }
}
