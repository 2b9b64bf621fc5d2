//! Training: configuration, devices, the loop, optimizers, checkpoints and the stream of events that everything
//! which shows a run listens to.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod atomic;
mod averages;
mod checkpoint;
mod checkpoint_files;
mod classification;
pub mod config;
mod correspondence;
pub mod device;
mod error;
mod event;
mod features;
mod fence;
#[cfg(feature = "gpu")]
pub mod gpu_views;
mod held_out;
mod knn;
mod linear;
pub mod memory;
mod pictures;
mod place;
mod pretraining;
mod replace;
mod run_dir;
mod steps;
mod task;
mod throughput;
mod trainer;
mod watch;
mod weights;

pub use atomic::write_atomically;
pub use classification::{CLASSIFIER_FILE, Classification, ClassifiedData};
pub use config::RunConfig;
pub use correspondence::correspondence;
pub use error::TrainError;
pub use event::{Best, EpochFigures, Event, Figures, KnnFigures, RunShape, StepFigures};
pub use features::{eval_transform, extract_features, extract_features_and_bad, to_tensor};
pub use fence::{catch_panics, of_data, record_panics};
pub use held_out::EveryTenth;
pub use knn::{Labelled, knn_of, knn_of_pixels, too_many};
pub use linear::{
    ClassifierHead, FrozenFeatures, HEAD, HEAD_PTH, LINEAR_TASK, LinearConfig, LinearTask, extract_for_probe,
    read_head,
};
pub use pictures::{Pictures, write_picture};
pub use place::Place;
pub use pretraining::Pretraining;
pub use run_dir::{RunDir, Stored};
pub use steps::{MethodTask, Steps};
pub use task::{Cadence, Declared, Rates, Scores, Size, Task};
pub use throughput::{Bench, Phase, Throughput, backbone_of, throughput};
pub use trainer::{Listen, Measured, Summary, Trainer};
pub use watch::{OnCollapse, WatchConfig};
pub use weights::{Loaded, Loading, WeightsFile, load_into, preprocessing_of, resolve_weights, weights_crc32};
