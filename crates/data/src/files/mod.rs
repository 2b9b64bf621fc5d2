//! What needs an operating system: decoding, folders, record files, and the threaded loader.
//!
//! ```
//! use ocelli_data::{DinoViews, Loader, LoaderConfig, ViewPlan, open_data};
//!
//! // A folder's path goes here as well.
//! let set = open_data("scenes:12:32")?;
//! let views = DinoViews { global_size_px: 16, local_size_px: 8, local_crops: 2, ..DinoViews::default() };
//! let config = LoaderConfig { batch_size: 4, threads: 1, ..LoaderConfig::default() };
//! let loader = Loader::new(set.train, ViewPlan::dino(views), config)?;
//! let mut batches = 0;
//! for batch in loader.epoch(0, 0) {
//!     let batch = batch?;
//!     assert_eq!(batch.indices.len(), 4);
//!     assert_eq!(batch.groups[0].data.len(), 2 * 4 * 3 * 16 * 16);
//!     batches += 1;
//! }
//! assert_eq!(batches, loader.batches_per_epoch());
//! # Ok::<(), ocelli_data::DataError>(())
//! ```

mod all;
mod annotated;
mod annotated_loader;
mod cifar;
mod decode;
mod entries;
mod eval_batches;
mod folder;
mod held;
mod layout;
mod listing;
mod loader;
mod multi_label;
mod open;
mod own;
mod prefetch;
mod rounds;
mod samples;
#[cfg(test)]
mod test_folder;
mod text;
mod understood;
mod whole;

pub use all::AllImages;
pub use annotated::{BoxedSet, MaskedSet, VOC_CLASSES, open_boxed, open_masked, voc_colour};
pub use annotated_loader::{AnnotatedLoader, DetectionTest, Draws};
pub use cifar::CifarSource;
pub use decode::{DecodeLimits, MAX_PIXELS, decode_bytes, decode_file, set_max_pixels};
pub use eval_batches::{EvalBatch, EvalBatches, EvalConfig, MapImages, images_ahead, map_images};
pub use folder::FolderSource;
pub use loader::{DrawnView, EpochIter, Loader, ViewBatch, ViewGroup};
pub use multi_label::{MultiLabelPart, MultiLabelSet, Presence, open_multi_label};
pub use open::{DataSet, open_data, open_data_beside, open_source, open_split};
pub use own::{is_marked, marked_png};
pub use rounds::{BatchIter, LoaderConfig};
pub use samples::{BadFile, Stored, bad_limit};
pub use text::decoded;
pub use understood::{LeftOut, PartInfo, Understood};
pub use whole::{TEMPORARY, temporary_in, write_whole};
