//! Evaluation of frozen self-supervised features, and pictures that show what they learned.
//!
//! * [`knn`]: the weighted k-nearest-neighbour classifier of the DINO evaluation.
//! * [`attention`]: attention-mass masks and their Jaccard index with a ground-truth mask.
//! * [`correspondence`]: which cells of two images match, how often rightly, and a picture of it.
//! * [`features`]: feature tables as `.safetensors`, `.npy` or `.csv` bytes.
//! * [`pca`]: the three leading principal components of patch features, as colours.
//! * [`picture`], [`colour`], [`sheet`], [`text`]: RGB pictures, heat-maps, overlays and labelled contact sheets.
//!
//! Nothing here touches files, threads or clocks: results are numbers, pictures and bytes, and the caller decides
//! where they go. That is what lets the crate run unchanged in a browser.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod accuracy;
pub mod attention;
pub mod colour;
pub mod correspondence;
mod error;
pub mod features;
pub mod knn;
pub mod mask;
pub mod pca;
pub mod picture;
pub mod sheet;
pub mod text;

#[cfg(test)]
mod golden;

pub use error::EvalError;
