//! The operations that decide how fast Ocelli trains, each with a fused kernel and a reference in plain tensor
//! operations.
//!
//! Every operation is a function on tensors. It looks at where its input lives: `f32` on the CPU goes to a kernel
//! written here, `f32` on a GPU to WGSL from `shaders/`, both with their own backward pass; everything else to the
//! reference, which burn differentiates.
//! [`set_mode`] sends everything to the reference, for comparisons.
//!
//! CPU results are the same bits for any number of threads.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod alloc;
mod buffer;
mod choice;
mod gemm;
#[cfg(feature = "wgsl")]
pub mod gpu;
mod mode;
mod parallel;
mod simd;

pub mod adamw;
pub mod attention;
pub mod attention_row;
pub mod batch_norm;
pub mod conv;
pub mod dino_cross_entropy;
pub mod gelu;
pub mod host;
pub mod info_nce;
pub mod layer_norm;
pub mod linear;
pub mod mlp;
pub mod residual_branch;
pub mod roi_align;
pub mod similarity_topk;
#[cfg(feature = "wgsl")]
pub mod views;

pub use adamw::{AdamWStep, adamw, adamw_ema};
pub use alloc::release_memory;
pub use attention::attention;
pub use attention_row::attention_row;
pub use batch_norm::{BatchNormed, batch_norm};
pub use choice::{choices_file, keep_choices};
pub use conv::{ConvShape, conv2d};
pub use dino_cross_entropy::dino_cross_entropy;
pub use gelu::gelu;
pub use info_nce::info_nce;
pub use layer_norm::layer_norm;
pub use linear::{linear, linear_residual};
pub use mlp::mlp;
pub use mode::{Mode, in_wgsl, mode, set_mode};
pub use residual_branch::{attention_branch, mlp_branch};
pub use roi_align::{Roi, RoiAlignShape, roi_align};
pub use similarity_topk::similarity_topk;
#[cfg(feature = "wgsl")]
pub use views::views;
