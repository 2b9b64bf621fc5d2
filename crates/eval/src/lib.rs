//! Evaluation of frozen self-supervised features, and pictures that show what they learned.
//!
//! * [`knn`]: the weighted k-nearest-neighbour classifier of the DINO evaluation.
//! * [`linear`]: linear classifiers, many rates side by side, by the published protocols.
//! * [`svm`]: linear SVMs for each class of a multi-label set, the VOC07 protocol.
//! * [`low_shot`]: logistic regression with few labels.
//! * [`average_precision`]: how far up the relevant items of a ranking stand.
//! * [`retrieval`]: mean average precision on the revisited Oxford and Paris sets.
//! * [`copies`]: copy detection on Copydays, with whitening.
//! * [`attention`]: attention-mass masks and their Jaccard index with a ground-truth mask.
//! * [`correspondence`]: which cells of two images match, how often rightly, and a picture of it.
//! * [`features`]: feature tables as `.safetensors`, `.npy` or `.csv` bytes.
//! * [`index`]: an index of features in one file, search in it, near-duplicates.
//! * [`pca`]: the three leading principal components of patch features, as colours.
//! * [`umap`]: features laid out in a plane by their neighbours.
//! * [`detection`]: average precision of boxes as PASCAL VOC and COCO have it, and boxes on pictures.
//! * [`segmentation`]: region J and boundary F of the DAVIS benchmark, mIoU, and classes as colours.
//! * [`video`]: a first frame's mask carried through a video by the likeness of features.
//! * [`picture`], [`colour`], [`sheet`], [`text`]: RGB pictures, heat-maps, overlays and labelled contact sheets.
//!
//! Nothing here touches files, clocks, or threads that it is not told to use: results are numbers, pictures and bytes, and the caller decides
//! where they go. That is what lets the crate run unchanged in a browser.
//!
//! ```
//! use burn::tensor::{Device, Tensor, TensorData};
//! use ocelli_eval::knn::{KnnConfig, knn};
//!
//! let device = Device::flex();
//! let rows = |values: &[f32]| {
//!     let data = TensorData::new(values.to_vec(), [values.len() / 2, 2]);
//!     Tensor::<2>::from_data(data, &device)
//! };
//! let (train, train_labels) = (rows(&[1.0, 0.1, 0.9, 0.0, 0.0, 1.0, 0.1, 0.8]), [0, 0, 1, 1]);
//! let (test, test_labels) = (rows(&[1.0, 0.2, 0.2, 1.0]), [0, 1]);
//! let config = KnnConfig { ks: vec![2], ..KnnConfig::default() };
//! let report = knn(train, &train_labels, test, &test_labels, 2, &config)?;
//! assert_eq!(report.get(2).map(|result| result.top1), Some(100.0));
//! # Ok::<(), ocelli_eval::EvalError>(())
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod accuracy;
pub mod attention;
pub mod average_precision;
pub mod colour;
pub mod copies;
pub mod correspondence;
mod dense;
pub mod detection;
mod error;
pub mod features;
pub mod index;
pub mod knn;
pub mod linear;
pub mod low_shot;
pub mod mask;
pub mod pca;
pub mod picture;
pub mod retrieval;
pub mod segmentation;
pub mod sheet;
pub mod svm;
pub mod text;
pub mod umap;
pub mod video;

#[cfg(test)]
mod golden;

pub use error::EvalError;
