//! Every function on slices against the same in double precision, at odd and even sizes, with whatever vectors `OCELLI_SIMD`
//! leaves (`cargo xtask test` runs them with each).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod adamw;
mod attention;
mod batch_norm;
mod common;
mod dino_cross_entropy;
mod gelu;
mod lanes;
mod layer_norm;
mod max_pool;
mod mlp;
mod nearest;
mod pixels;
mod products;
mod roi_align;
