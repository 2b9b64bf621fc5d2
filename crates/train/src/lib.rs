//! Training: configuration, devices, the loop, optimizers, checkpoints and the stream of events that everything
//! which shows a run listens to.
//!
//! | module | what is in it |
//! |---|---|
//! | [`config`] | what decides a run: presets, files and single values over each other |
//! | [`device`] | the adapters there are, and which one a name means |
//! | [`memory`] | what a run takes, before it is begun |
//!
//! The smallest run there is, kept nowhere:
//!
//! ```
//! use std::sync::Arc;
//!
//! use burn::tensor::Device;
//! use ocelli_data::{SceneConfig, SceneSource, Source};
//! use ocelli_train::{Event, Trainer, config};
//!
//! let scenes = SceneSource::new(SceneConfig { count: 16, ..SceneConfig::default() })?;
//! let scenes: Arc<dyn Source> = Arc::new(scenes);
//! let sets = [
//!     "arch=vit-32x2x2/8",
//!     "epochs=2",
//!     "batch_size=8",
//!     "optim.warmup_epochs=1",
//!     "dino.head.out_dim=256",
//!     "dino.head.hidden_dim=128",
//!     "eval.every_epochs=0",
//! ];
//! let config = config::resolve(Some("laptop"), None, &sets.map(str::to_owned))?;
//! let mut trainer = Trainer::new(&config, &Device::flex(), &scenes, None)?;
//! let mut losses = Vec::new();
//! trainer.run(None, &mut |event| {
//!     if let Event::Epoch(figures) = event {
//!         losses.extend(figures.figures.get("loss").copied());
//!     }
//!     Ok(())
//! })?;
//! assert_eq!((losses.len(), trainer.steps_done()), (2, 4));
//! assert!(losses.iter().all(|loss| loss.is_finite()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
pub mod limits;
mod linear;
mod looking;
pub mod memory;
mod pictures;
mod place;
mod pretraining;
mod replace;
mod run_dir;
pub mod selftest;
mod sharded;
mod steps;
mod task;
mod throughput;
mod trainer;
pub mod tune;
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
pub use looking::{Cells, Pooled, attention_of, cells_of, image_tensor, pooled_features};
pub use pictures::{Pictures, write_picture};
pub use place::Place;
pub use pretraining::Pretraining;
pub use run_dir::{RunDir, Stored};
pub use steps::{MethodTask, Share, Steps};
pub use task::{Cadence, Declared, Rates, Scores, Size, Task};
pub use throughput::{Bench, Phase, Throughput, backbone_of, throughput};
pub use trainer::{Listen, Measured, Summary, Trainer};
pub use watch::{OnCollapse, WatchConfig};
pub use weights::{
    Loaded, Loading, WeightsFile, allow_download, load_into, preprocessing_of, resolve_weights, weights_crc32,
};
