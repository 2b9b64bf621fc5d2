//! Semantic segmentation: FCN on a dilated ResNet, and linear or small convolutional heads on patch features.
//!
//! [`SegmentationTask`] is what the training loop drives, [`Segmenter`] what comes out of it. The protocols are those by which
//! DenseCL is judged (FCN-R50-d8 on PASCAL VOC and Cityscapes, as mmsegmentation trains it); those of Vision Transformers
//! follow DINOv2's.
//!
//! ```
//! use ocelli_transfer::segmentation::{Axis, Corners};
//!
//! // Two cells become four: the second of them lies a quarter of the way to the next cell.
//! let axis = Axis::new(2, 4, Corners::HalfPixel);
//! assert_eq!(axis.taps(1), [(0, 0.75), (1, 0.25)]);
//! ```

mod config;
mod data;
mod evaluation;
mod figures;
mod head;
mod inference;
mod load;
mod loss;
mod memory;
mod network;
mod resize;
mod sheet;
mod step;
mod task;
#[cfg(test)]
mod tests;

pub use config::{
    HeadKind, MOST_CLASSES, SEGMENTATION_TASK, SegmentationConfig, SegmentationEval, SegmentationLoading,
    SegmentationOptim, SegmentationPreset, segmentation_presets,
};
pub use data::{SegmentedData, painted, palette};
pub use evaluation::{Limits, PictureScore, SegmentationFound, evaluate};
pub use head::{ConvModule, FcnHead, FcnHeadConfig, LinearHead, PatchHead, PatchHeadConfig, keep_mask};
pub use inference::{Inference, Sliding, classes_of_logits};
pub use load::Segmenter;
pub use loss::{Labels, PixelLoss, carrying, pixel_loss};
pub use network::{DecodeConfig, DecodeHead, Logits, NetworkConfig, SegmentationNet};
pub use resize::{Axis, Corners, Resize};
pub use sheet::{SegmentedPicture, segmentation_sheet};
pub use step::{LossConfig, Losses, losses, update};
pub use task::{SEGMENTATION_FILE, SEGMENTER_FILE, SegmentationTask};
