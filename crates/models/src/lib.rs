//! Networks of Ocelli: Vision Transformers, ResNets, projection heads, and their weights.
//!
//! Module paths are PyTorch's names (`blocks.0.attn.qkv.weight`, `head.last_layer.weight_v`), so a network's
//! parameters, optimizer groups, weight files and the reference fixtures all speak of the same thing. Linear
//! weights are stored `[in, out]` and transposed only on the way in and out of files ([`weights`]).
//!
//! Nothing here touches files, threads or clocks; the crate compiles to wasm unchanged.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod backbone;
pub mod contrast_head;
mod conv;
mod heads;
mod init;
mod layers;
pub mod mlp;
pub mod params;
mod pos_embed;
mod probe;
mod resnet;
mod size;
mod vit;
pub mod weights;

pub use backbone::{AnyBackbone, Backbone, BackboneArch, BackboneConfig, BackboneError, BackboneKind, pool};
pub use conv::{Conv2d, Kernel};
pub use heads::{DinoHead, DinoHeadConfig};
pub use init::Init;
pub use layers::{BatchNorm, LayerNorm, Linear, Mode, NormBatch, watch_norms};
pub use pos_embed::{PositionGrid, PositionRule, resample_positions};
pub use probe::{ProbeError, ProbeFeatures};
pub use resnet::{ResNet, ResNetArch, ResNetConfig, ResNetError, Stem};
pub use vit::{Arch, Trace, Vit, VitConfig, VitError, usual_side_px};
