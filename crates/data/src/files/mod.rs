//! What needs an operating system: decoding, folders, record files, and the threaded loader.

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
pub use own::{PNG_MARK, marked_png};
pub use rounds::{BatchIter, LoaderConfig};
pub use samples::{BadFile, Stored, bad_limit};
pub use text::decoded;
pub use understood::{LeftOut, PartInfo, Understood};
pub use whole::{TEMPORARY, temporary_in, write_whole};
