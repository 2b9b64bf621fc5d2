//! Networks as ONNX files, for onnxruntime and what else reads them.
//!
//! [`vit`] and [`resnet`] turn weights in our names into a graph of standard operators (opset 17, f32). The input is
//! `pixels`, `[batch, 3, height, width]`, RGB, already normalised; the metadata say how. Batch and size are fixed or free,
//! as [`Axes`] says.
//!
//! Nothing here computes features or touches files: whoever writes one compares it with the network it came from.
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
