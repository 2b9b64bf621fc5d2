//! Images in, batches of views out.
//!
//! A [`Source`] is a numbered list of images. A [`ViewPlan`] says which crops and colour changes make the views of one
//! sample; all 8-bit image arithmetic matches PIL to the level. With the feature `files`, sources read folders and
//! CIFAR records, and a `Loader` decodes and renders ahead of the trainer on its own threads. Randomness is a function
//! of (seed, epoch, sample), so runs can be replayed and resumed whatever the number of threads.
//!
//! Without `files` (the browser) there are no threads, files or clocks: the view arithmetic and the built-in scenes
//! remain.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod annotated;
mod error;
#[cfg(feature = "files")]
pub mod files;
mod raster;
mod rng;
pub mod scenes;
mod source;
mod subset;
pub mod views;

pub use error::DataError;
#[cfg(feature = "files")]
pub use files::{
    AllImages, AnnotatedLoader, BadFile, BatchIter, BoxedSet, CifarSource, DataSet, DecodeLimits, DetectionTest,
    DrawnView, Draws, EpochIter, EvalBatch, EvalBatches, EvalConfig, FolderSource, LeftOut, Loader, LoaderConfig,
    MapImages, MaskedSet, PartInfo, Stored, Understood, ViewBatch, ViewGroup, bad_limit, decode_bytes,
    decode_file, images_ahead, map_images, open_boxed, open_data, open_data_beside, open_masked, open_source,
    open_split,
};
pub use raster::{Image, Mask};
pub use rng::{Rng, hash_words, split_mix};
pub use scenes::{SceneConfig, SceneSource};
pub use source::{Source, Split};
pub use subset::Subset;
pub use views::{
    Affine, Blur, BlurKind, Colour, ColourJitter, Crop, CropBox, DetectionBatch, DetectionSample, DetectionViews,
    DinoViews, Erase, EraseBox, EvalTransform, Filter, FloatBrightness, Grid, IMAGENET_MEAN, IMAGENET_STD,
    Interpolation, InterpolationChoice, JitterStep, Mix, MixDraw, MocoViews, RandAugment, RandStep, Scratch,
    SegmentationBatch, SegmentationSample, SegmentationTest, SegmentationViews, TestView, ViewBox, ViewParams,
    ViewPlace, ViewPlan, ViewSpec, ViewStep, Window, normalise_into,
};
