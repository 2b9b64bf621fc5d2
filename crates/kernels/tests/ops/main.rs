//! Every operation against its reference: values, gradients, odd sizes, strided inputs, threads.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod adamw;
mod attention;
mod attention_row;
mod batch_norm;
mod common;
mod conv;
mod dino_cross_entropy;
mod gelu;
mod info_nce;
mod layer_norm;
mod linear;
mod max_pool;
mod mlp;
mod residual_branch;
mod robust;
mod roi_align;
mod selftest;
#[cfg(feature = "gpu")]
mod shaders;
mod similarity_topk;
#[cfg(feature = "gpu")]
mod views;
