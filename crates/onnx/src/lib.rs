//! Networks as ONNX files, for onnxruntime and what else reads them.
//!
//! [`vit`] and [`resnet`] turn weights in our names into a graph of standard operators (opset 17, f32). The input is
//! `pixels`, `[batch, 3, height, width]`, RGB, already normalised; the metadata say how. Batch and size are fixed or free,
//! as [`Axes`] says.
//!
//! Nothing here computes features or touches files: whoever writes one compares it with the network it came from.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use ocelli_onnx::{Axes, PositionRule, Positions, VitOptions, decode, encode, shape_of, unsound, vit};
//! use ocelli_weights::{HostTensor, StateDict};
//!
//! // One block of width 4 on 2×2 patches of 2 px.
//! let mut state = StateDict::default();
//! let mut add = |name: &str, shape: &[usize]| {
//!     let values = vec![0.5; shape.iter().product()];
//!     state.tensors.push((name.to_owned(), HostTensor { shape: shape.to_vec(), values }));
//! };
//! add("cls_token", &[1, 1, 4]);
//! add("pos_embed", &[1, 5, 4]);
//! add("patch_embed.proj.weight", &[4, 3, 2, 2]);
//! add("patch_embed.proj.bias", &[4]);
//! for (layer, shape) in [("attn.qkv", [12, 4]), ("attn.proj", [4, 4]), ("mlp.fc1", [8, 4]), ("mlp.fc2", [4, 8])] {
//!     add(&format!("blocks.0.{layer}.weight"), &shape);
//!     add(&format!("blocks.0.{layer}.bias"), &shape[..1]);
//! }
//! for norm in ["blocks.0.norm1", "blocks.0.norm2", "norm"] {
//!     add(&format!("{norm}.weight"), &[4]);
//!     add(&format!("{norm}.bias"), &[4]);
//! }
//!
//! let options = VitOptions { heads: 2, positions: Positions::Resampled(PositionRule::Dino) };
//! let axes = Axes { batch: None, size: None };
//! let bytes = encode(&vit(state, &options, axes, &BTreeMap::new())?)?;
//! let model = decode(&bytes)?;
//! assert_eq!(unsound(&model), None);
//! let outputs: Vec<String> = model.graph.iter().flat_map(|graph| &graph.output).map(shape_of).collect();
//! assert_eq!(outputs, ["[batch, 4]", "[batch, tokens, 4]"]);
//! # Ok::<(), ocelli_onnx::OnnxError>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod error;
mod graph;
mod model;
mod positions;
pub mod proto;
mod resnet;
mod tensors;
mod vit;

pub use error::OnnxError;
pub use model::{Axes, IR_VERSION, OPSET, decode, encode, shape_of, unsound};
pub use positions::PositionRule;
pub use resnet::resnet;
pub use vit::{Positions, VitOptions, vit};
