//! Networks of Ocelli: Vision Transformers, ResNets, projection heads, and their weights.
//!
//! Module paths are PyTorch's names (`blocks.0.attn.qkv.weight`, `head.last_layer.weight_v`), so a network's
//! parameters, optimizer groups, weight files and the reference fixtures all speak of the same thing. Linear
//! weights are stored `[in, out]` and transposed only on the way in and out of files ([`weights`]).
//!
//! Nothing here touches files, threads or clocks; the crate compiles to wasm unchanged.
//!
//! | module | what is in it |
//! |---|---|
//! | [`params`] | a module's parameters by name: collected, replaced, taken out |
//! | [`weights`] | parameters in and out of files |
//! | [`mlp`], [`contrast_head`] | projection heads |
//!
//! Backbones are at the top: [`Vit`] and [`ResNet`], and [`AnyBackbone`] for either, each with a configuration and a name to parse.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use ocelli_models::{Arch, Init, Mode};
//!
//! let device = Device::flex();
//! let vit = "vit-32x1x2/8".parse::<Arch>()?.config(16, 0.0).init(&mut Init::new(0, &device))?;
//! let images = Tensor::<4>::ones([2, 3, 16, 16], &device);
//! // The class token's feature; the class token and four patches.
//! assert_eq!(vit.forward(images.clone(), Mode::Eval).dims(), [2, 32]);
//! assert_eq!(vit.tokens(images).dims(), [2, 1 + 4, 32]);
//! # Ok::<(), ocelli_models::VitError>(())
//! ```
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
pub use layers::{BatchNorm, HeldStatistics, LayerNorm, Linear, Mode, NormBatch, hold_statistics, watch_norms};
pub use pos_embed::{PositionGrid, PositionRule, resample_positions};
pub use probe::{ProbeError, ProbeFeatures};
pub use resnet::{ResNet, ResNetArch, ResNetConfig, ResNetError, Stem};
pub use vit::{Arch, Trace, Vit, VitConfig, VitError, usual_side_px};
