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
//! - [`world`] — what several processes of one run share.
//! - [`kernels`] — the operations underneath.
//!
//! ```
//! use burn::tensor::{Device, Tensor, TensorData};
//! use ocelli::data::{EvalTransform, SceneConfig, SceneSource, Source};
//! use ocelli::eval::attention::AttentionMap;
//! use ocelli::models::{Arch, Init};
//!
//! // An image of the built-in scenes as a network takes it.
//! let scenes = SceneSource::new(SceneConfig { count: 1, size_px: 64, ..SceneConfig::default() })?;
//! let transform = EvalTransform { resize_short_px: None, crop_px: None, ..EvalTransform::default() };
//! let (pixels, _, _) = transform.apply_normalised(&scenes.load(0)?);
//!
//! // What an untrained Vision Transformer's class token attends to.
//! let device = Device::flex();
//! let vit = "vit-32x2x2/8".parse::<Arch>()?.config(64, 0.0).init(&mut Init::new(0, &device))?;
//! let image = Tensor::<4>::from_data(TensorData::new(pixels, [1, 3, 64, 64]), &device);
//! let grid = vit.grid(64, 64);
//! let attention = vit.cls_attention(image).into_data().try_to_vec::<f32>()?;
//! let map = AttentionMap::new(vit.heads(), grid.rows, grid.cols, attention)?;
//! assert_eq!((map.heads(), map.rows(), map.columns()), (2, 8, 8));
//! // The rest of its attention is on the class token itself.
//! assert!(map.head(0).iter().sum::<f32>() < 1.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub use ocelli_data as data;
pub use ocelli_eval as eval;
pub use ocelli_kernels as kernels;
pub use ocelli_methods as methods;
pub use ocelli_models as models;
pub use ocelli_report as report;
pub use ocelli_train as train;
pub use ocelli_transfer as transfer;
pub use ocelli_world as world;
