//! Training: configuration, devices, the loop, optimizers, checkpoints and the stream of events that everything
//! which shows a run listens to.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod atomic;
mod backbone;
mod checkpoint;
mod checkpoint_files;
pub mod config;
mod dense;
pub mod device;
mod encoder;
mod error;
mod event;
mod features;
mod fence;
#[cfg(feature = "gpu")]
pub mod gpu_views;
mod learner;
mod means;
mod optimizer;
mod pictures;
mod replace;
mod resnet;
mod run_dir;
mod sgd;
mod trainer;
mod watch;

pub use atomic::write_atomically;
pub use backbone::{Backbone, load_backbone, load_backbone_into, load_backbone_part, resolve_weights};
pub use config::RunConfig;
pub use dense::{DenseNet, correspondence, load_dense, view_box};
pub use encoder::Encoder;
pub use error::TrainError;
pub use event::{Best, EpochFigures, Event, Figures, KnnFigures, RunShape, StepFigures};
pub use features::{Labelled, eval_transform, extract_features, knn_of, knn_of_pixels, to_tensor};
pub use fence::{catch_panics, of_data, record_panics};
pub use ocelli_methods::optim::{AdamW, AdamWState, GradientSum, StepRates};
pub use pictures::Pictures;
pub use resnet::{LoadedResNet, load_resnet, load_resnet_into};
pub use run_dir::{RunDir, Stored};
pub use sgd::{Sgd, SgdRule, SgdState};
pub use trainer::{Listen, Measured, Summary, Trainer};
pub use watch::{Collapse, OnCollapse, WatchConfig};
