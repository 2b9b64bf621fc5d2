//! Training: configuration, devices, the loop, optimizers, checkpoints and the stream of events that everything
//! which shows a run listens to.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod adamw;
mod backbone;
mod checkpoint;
pub mod config;
pub mod device;
mod error;
mod event;
mod features;
mod run_dir;
mod trainer;

pub use adamw::{AdamW, AdamWState, GradientSum, StepRates};
pub use backbone::{Backbone, load_backbone, load_backbone_into, load_backbone_part, resolve_weights};
pub use checkpoint::Checkpoint;
pub use config::RunConfig;
pub use error::TrainError;
pub use event::{EpochFigures, Event, KnnFigures, StepFigures};
pub use features::{Labelled, eval_transform, extract_features, knn_of, knn_of_pixels, to_tensor};
pub use run_dir::{RunDir, write_atomically};
pub use trainer::{Summary, Trainer};
