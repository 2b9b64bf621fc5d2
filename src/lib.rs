//! Ocelli trains self-supervised vision models on any GPU, or none, in pure Rust.
//!
//! This crate gathers the others under one name; the command line lives in the binary.
//!
//! - [`models`] — Vision Transformers, ResNets, heads, weights.
//! - [`methods`] — DINO, DenseCL, and what they are compared with.
//! - [`data`] — sources of images, views, the loader.
//! - [`train`] — configuration, devices, the loop.
//! - [`transfer`] — fine-tuned detection and segmentation.
//! - [`eval`] — k-NN, attention masks, feature tables, pictures.
//! - [`report`] — the HTML report of a run, comparisons, TensorBoard event files.
//! - [`kernels`] — the operations underneath.

pub use ocelli_data as data;
pub use ocelli_eval as eval;
pub use ocelli_kernels as kernels;
pub use ocelli_methods as methods;
pub use ocelli_models as models;
pub use ocelli_report as report;
pub use ocelli_train as train;
pub use ocelli_transfer as transfer;
