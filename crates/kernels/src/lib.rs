//! The operations that decide how fast Ocelli trains, each with a fused kernel and a reference in plain tensor
//! operations.
//!
//! Every operation is a function on tensors. It looks at where its input lives: `f32` on the CPU goes to a kernel
//! written here, `f32` on a GPU to WGSL from `shaders/`, both with their own backward pass; everything else to the
//! reference, which burn differentiates.
//! [`set_mode`] sends everything to the reference, for comparisons.
//!
//! CPU results are the same bits for any number of threads.
//!
//! | module | what it computes |
//! |---|---|
//! | [`linear`](mod@linear), [`mlp`](mod@mlp), [`gelu`](mod@gelu), [`layer_norm`](mod@layer_norm) | the layers of a Vision Transformer |
//! | [`attention`](mod@attention), [`attention_row`](mod@attention_row), [`residual_branch`] | self-attention, one query's attention, a block's branches |
//! | [`conv`], [`batch_norm`](mod@batch_norm), [`max_pool`](mod@max_pool) | the layers of a ResNet |
//! | [`dino_cross_entropy`](mod@dino_cross_entropy), [`info_nce`](mod@info_nce) | losses |
//! | [`adamw`](mod@adamw) | a step of the optimizer, with what follows the network |
//! | [`similarity_topk`](mod@similarity_topk) | nearest neighbours |
//! | [`roi_align`](mod@roi_align) | the part of a map below a box |
//! | [`together`] | several processes that compute the parts of one batch |
//! | `selftest` | all of them against their references, on a device (not in a browser) |
//! | [`host`] | small matrix products on slices |
//!
//! ```
//! use burn::tensor::{Device, Tensor, TensorData};
//! use ocelli_kernels::layer_norm;
//!
//! let device = Device::flex();
//! let x = Tensor::<2>::from_data(TensorData::new(vec![1.0f32, 2.0, 4.0, 0.0, -1.0, 7.0], [2, 3]), &device);
//! let (gamma, beta) = (Tensor::<1>::ones([3], &device), Tensor::<1>::zeros([3], &device));
//!
//! // The kernel, and what it has to agree with.
//! let fused = layer_norm(x.clone(), gamma.clone(), beta.clone(), 1e-6);
//! let plain = layer_norm::layer_norm_reference(x, gamma, beta, 1e-6);
//! let differences = (fused - plain).into_data().try_to_vec::<f32>()?;
//! assert!(differences.iter().all(|difference| difference.abs() < 1e-5));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]
// Without gradients nothing calls the ways back, and linking leaves them out.
#![cfg_attr(not(feature = "autodiff"), allow(dead_code))]

mod buffer;
mod choice;
#[cfg(feature = "wgsl")]
pub mod gpu;
mod mode;

pub mod adamw;
pub mod attention;
pub mod attention_row;
pub mod batch_norm;
pub mod conv;
pub mod dino_cross_entropy;
pub mod gelu;
pub mod info_nce;
pub mod layer_norm;
pub mod linear;
pub mod max_pool;
pub mod mlp;
pub mod residual_branch;
pub mod roi_align;
#[cfg(not(target_family = "wasm"))]
pub mod selftest;
pub mod similarity_topk;
pub mod together;
#[cfg(feature = "wgsl")]
pub mod views;

// The modules beside these see the CPU's slices as parts of this crate.
use ocelli_simd::{self as simd, alloc, gemm, parallel};

pub use adamw::{AdamWStep, adamw, adamw_ema};
pub use attention::attention;
pub use attention_row::attention_row;
pub use batch_norm::{BatchNormed, batch_norm};
pub use choice::{Choice, choices, choices_file, is_unreadable, keep_choices};
pub use conv::{ConvShape, conv2d};
pub use dino_cross_entropy::dino_cross_entropy;
pub use gelu::gelu;
pub use info_nce::info_nce;
pub use layer_norm::layer_norm;
pub use linear::{linear, linear_residual};
pub use max_pool::max_pool;
pub use mlp::mlp;
pub use mode::{Mode, in_wgsl, mode, set_mode};
pub use ocelli_simd::{alloc::release_memory, host};
pub use residual_branch::{attention_branch, mlp_branch};
pub use roi_align::{Roi, RoiAlignShape, roi_align};
pub use similarity_topk::similarity_topk;
#[cfg(feature = "wgsl")]
pub use views::views;
