//! ROIAlign: the part of a map under each of some boxes, resampled to one size.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use ocelli_kernels::{Roi, RoiAlignShape, roi_align};
//!
//! // A map of half the image's resolution that is 1 everywhere.
//! let map = Tensor::<4>::ones([1, 1, 8, 8], &Device::flex());
//! let shape = RoiAlignShape { rows: 2, cols: 2, scale: 0.5, sampling_ratio: 2 };
//! let part = roi_align(map, &[Roi { image: 0, xyxy: [4.0, 4.0, 12.0, 12.0] }], shape);
//! assert_eq!(part.dims(), [1, 1, 2, 2]);
//! assert!(part.into_data().try_to_vec::<f32>()?.iter().all(|value| (value - 1.0).abs() < 1e-6));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "autodiff")]
mod backward;
mod cpu;
#[cfg(feature = "wgsl")]
mod gpu;
mod kernel;
mod reference;

use std::sync::Arc;

use burn::tensor::Tensor;

pub use kernel::RoiAlignKernel;
pub use ocelli_simd::roi_align::{Roi, RoiAlignShape, RoiPlan};

fn plan(features: &Tensor<4>, rois: &[Roi], shape: RoiAlignShape) -> RoiPlan {
    let [images, _, height, width] = features.dims();
    assert!(
        images * height * width > 0 && shape.rows * shape.cols > 0,
        "roi_align: maps {:?}, {shape:?}",
        features.dims()
    );
    for (i, roi) in rois.iter().enumerate() {
        assert!(roi.image < images, "roi_align: box {i} is on image {}, there are {images}", roi.image);
    }
    RoiPlan::new(rois, shape, [images, height, width])
}

/// ROIAlign (He et al. 2017) as its second version has it, with the first cell's centre half a cell from the image's edge: of
/// `features [images, channels, height, width]` the part under each box, `[boxes, channels, rows, cols]`.
///
/// A box is cut into rows × cols equal parts; an output is the mean of a grid of samples in one of them, each between the
/// centres of the four nearest cells. A sample more than a cell outside of the map counts as 0. A box without samples gives
/// zeros: an empty one where their number follows the size, and one with a coordinate that is not finite.
///
/// The gradient goes to the features alone. Without any box the result is empty, and no gradient goes anywhere.
///
/// # Panics
/// When a box lies on no image of the batch, and where the maps or the result have no cells.
pub fn roi_align(features: Tensor<4>, rois: &[Roi], shape: RoiAlignShape) -> Tensor<4> {
    let plan = plan(&features, rois, shape);
    let channels = features.dims()[1];
    if plan.boxes() * channels == 0 {
        return Tensor::zeros(plan.output(channels), &features.device());
    }
    if crate::mode::fused(&features) {
        let y = <burn::backend::Dispatch as kernel::RoiAlignOps>::fused_roi_align(
            features.into_dispatch(),
            Arc::new(plan),
        );
        return Tensor::from_dispatch(y);
    }
    reference::roi_align(&features, &plan)
}

/// [`roi_align`] in plain tensor operations; on any device, in any precision.
///
/// # Panics
/// As [`roi_align`], and without any box.
pub fn roi_align_reference(features: &Tensor<4>, rois: &[Roi], shape: RoiAlignShape) -> Tensor<4> {
    reference::roi_align(features, &plan(features, rois, shape))
}
