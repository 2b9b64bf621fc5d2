//! Images in, batches of views out.
//!
//! A [`Source`] is a numbered list of images. A [`ViewPlan`] says which crops and colour changes make the views of one
//! sample; all 8-bit image arithmetic matches PIL to the level. With the feature `files`, sources read folders and
//! CIFAR records, and a `Loader` decodes and renders ahead of the trainer on its own threads. Randomness is a function
//! of (seed, epoch, sample), so runs can be replayed and resumed whatever the number of threads.
//!
//! Without `files` (the browser) there are no threads, files or clocks: the view arithmetic and the built-in scenes
//! remain.
//!
//! | module | what is in it |
//! |---|---|
//! | [`views`] | crops, colour changes and the plans that say which a sample gets |
//! | [`scenes`] | the built-in labelled scenes, drawn and not stored |
//! | [`annotated`] | images with boxes or with a class for every pixel |
//! | `files` | folders, records, annotations and the threaded loaders (feature `files`) |
//!
//! ```
//! use ocelli_data::{DinoViews, Rng, SceneConfig, SceneSource, Source, ViewPlan};
//!
//! let scenes = SceneSource::new(SceneConfig { count: 10, size_px: 32, ..SceneConfig::default() })?;
//! let views = DinoViews { global_size_px: 16, local_size_px: 8, local_crops: 2, ..DinoViews::default() };
//! let plan = ViewPlan::dino(views);
//! plan.validate()?;
//! assert_eq!(plan.groups(), [(16, 0..2), (8, 2..4)]);
//!
//! // The views of sample 3 in epoch 0 depend on the seed, the epoch and the sample alone.
//! let image = scenes.load(3)?;
//! let draw = |epoch| plan.draw_all(&image, &mut Rng::for_sample(7, epoch, 3));
//! assert_eq!(draw(0), draw(0));
//! assert_ne!(draw(0), draw(1));
//! # Ok::<(), ocelli_data::DataError>(())
//! ```
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
    DinoViews, Erase, EraseBox, EvalTransform, Filter, FittedImage, FloatBrightness, Grid, IMAGENET_MEAN,
    IMAGENET_STD, Interpolation, InterpolationChoice, JitterStep, Mix, MixDraw, MocoViews, RandAugment, RandStep,
    Scratch, SegmentationBatch, SegmentationSample, SegmentationTest, SegmentationViews, TestView, ViewBox,
    ViewParams, ViewPlace, ViewPlan, ViewSpec, ViewStep, Window, fit_to_cells, normalise_into,
};
