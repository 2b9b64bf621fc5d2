//! Which part of an image a view shows: a random crop, the centre, or one patch of a grid.
//!
//! A view that is no whole crop is a window of a canvas: the crop is resized to the canvas and mirrored, and the window is cut
//! out of it. Only the window's pixels are computed.
//!
//! Every patch of a grid is a view of its own, so that plans, batches and places need no second kind of view; the patches of
//! one grid share the crop, the mirroring and the order that the first of them drew. Nothing else is shared: colour changes,
//! where a plan has any, are drawn for each patch.

use serde::{Deserialize, Serialize};

use super::sample::random_crop;
use super::{CropBox, ViewSpec};
use crate::{DataError, Rng};

/// Which part of an image a view shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Crop {
    /// A random crop, by the view's `scale` and `ratio`, resized to the view.
    #[default]
    Random,
    /// The centre, after a resize of the short side.
    Centre {
        /// The short side becomes this many pixels, the long side ⌊long·size/short⌋. At least the side of the view.
        resize_short_px: u32,
    },
    /// One patch of a random crop that was resized to the canvas of a grid.
    Patch {
        /// The grid, the same for all its patches.
        grid: Grid,
        /// Which of the grid's views this is, from 0. The views of a grid follow each other in a plan.
        number: u32,
    },
}

/// Patches of a square canvas, in rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Side of the canvas in pixels.
    pub canvas_px: u32,
    /// Cells along each side.
    pub per_side: u32,
    /// From the origin of a cell to the origin of the next, in pixels.
    pub stride_px: u32,
    /// A patch begins up to this many pixels (inclusive, drawn for each axis) after the origin of its cell.
    pub jitter_px: u32,
    /// View `number` shows a cell drawn without replacement; otherwise cell `number`.
    pub shuffled: bool,
}

/// The part of a canvas that a view shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Columns of the canvas.
    pub canvas_width: u32,
    /// Rows of the canvas.
    pub canvas_height: u32,
    /// First column of the view, counted in the mirrored canvas where the view is mirrored.
    pub left: u32,
    /// First row of the view.
    pub top: u32,
    /// Side of the view.
    pub size_px: u32,
}

impl Grid {
    /// InfoMin's: 3×3 cells of 85 pixels, for patches of 64.
    pub const JIGSAW: Self = Self { canvas_px: 255, per_side: 3, stride_px: 85, jitter_px: 21, shuffled: false };

    /// Upper left corner of a cell in the canvas: (left, top).
    pub fn origin(&self, cell: u32) -> (u32, u32) {
        let per_side = self.per_side.max(1);
        (self.stride_px * (cell % per_side), self.stride_px * (cell / per_side))
    }

    /// The first `count` views of the grid, each like `view` apart from its crop and its number in the title.
    pub fn views(&self, count: u32, view: &ViewSpec) -> Vec<ViewSpec> {
        let one = |number: u32| {
            let title = format!("{} {}", view.title, number + 1).trim_start().to_owned();
            ViewSpec { title, crop: Crop::Patch { grid: *self, number }, ..view.clone() }
        };
        (0..count).map(one).collect()
    }

    fn validate(&self, number: u32, size_px: u32) -> Result<(), DataError> {
        let (side, canvas) = (u64::from(self.per_side), u64::from(self.canvas_px));
        let needed = side.saturating_sub(1) * u64::from(self.stride_px);
        let needed = needed + u64::from(self.jitter_px) + u64::from(size_px);
        if !(1..=64).contains(&self.per_side) {
            return Err(DataError::config("cells along a side of a grid", "1 to 64", self.per_side));
        }
        if !(needed..=8192).contains(&canvas) {
            let expected = format!("{needed} pixels, which its patches take, to 8192");
            return Err(DataError::config("canvas of a grid", expected, canvas));
        }
        if u64::from(number) >= side * side {
            let expected = format!("below {}, the cells of the grid", side * side);
            return Err(DataError::config("number of a patch", expected, number));
        }
        Ok(())
    }
}

impl Window {
    /// The window moved and its canvas grown as far as needed for it to lie within: what was drawn always does.
    pub(super) fn within(self, size_px: u32) -> Self {
        let size_px = size_px.max(1);
        let (canvas_width, canvas_height) = (self.canvas_width.max(size_px), self.canvas_height.max(size_px));
        let (left, top) = (self.left.min(canvas_width - size_px), self.top.min(canvas_height - size_px));
        Self { canvas_width, canvas_height, left, top, size_px }
    }

    /// The part of `crop` that the window shows, to the nearest pixel and at least one.
    pub fn of(&self, crop: CropBox, flip: bool) -> CropBox {
        let left = if flip {
            self.canvas_width.saturating_sub(self.left).saturating_sub(self.size_px)
        } else {
            self.left
        };
        let axis = |first: u32, side: u32, canvas: u32, begin: u32| {
            let px = f64::from(side) / f64::from(canvas.max(1));
            let at = |x: u32| (f64::from(x) * px).round() as u32;
            let start = at(first).min(side.saturating_sub(1));
            (begin + start, at(first + self.size_px).clamp(start + 1, side.max(start + 1)) - start)
        };
        let (left, width) = axis(left, crop.width, self.canvas_width, crop.left);
        let (top, height) = axis(self.top, crop.height, self.canvas_height, crop.top);
        CropBox { top, left, height, width }
    }
}

/// What the patches of a grid share.
#[derive(Debug, Clone)]
pub(super) struct Canvas {
    crop: CropBox,
    flip: bool,
    cells: Vec<u32>,
}

/// What a view shows: the crop, mirrored or not, and the window of it.
pub(super) type Drawn = (CropBox, bool, Option<Window>);

impl ViewSpec {
    /// Draws what the view shows of a `width`×`height` image. `canvas` is what the patch before drew and what the next needs.
    pub(super) fn draw_crop(
        &self,
        [width, height]: [u32; 2],
        rng: &mut Rng,
        canvas: &mut Option<Canvas>,
    ) -> Drawn {
        match self.crop {
            Crop::Random => {
                let crop = random_crop(self, width, height, rng);
                (crop, rng.chance(self.flip_prob), None)
            }
            Crop::Centre { resize_short_px } => {
                let flip = rng.chance(self.flip_prob);
                let window = centre_window([width, height], resize_short_px.max(1), self.size_px.max(1), flip);
                (CropBox { top: 0, left: 0, height, width }, flip, Some(window))
            }
            Crop::Patch { grid, number } => {
                if number == 0 {
                    *canvas = None;
                }
                let Canvas { crop, flip, cells } = canvas.get_or_insert_with(|| {
                    let crop = random_crop(self, width, height, rng);
                    let flip = rng.chance(self.flip_prob);
                    let mut cells: Vec<u32> = (0..grid.per_side * grid.per_side).collect();
                    if grid.shuffled {
                        rng.shuffle(&mut cells);
                    }
                    Canvas { crop, flip, cells }
                });
                let (left, top) = grid.origin(cells.get(number as usize).copied().unwrap_or(0));
                let mut offset = || rng.below(u64::from(grid.jitter_px) + 1) as u32;
                let (top, left) = (top + offset(), left + offset());
                let side = grid.canvas_px;
                let window =
                    Window { canvas_width: side, canvas_height: side, left, top, size_px: self.size_px.max(1) };
                (*crop, *flip, Some(window))
            }
        }
    }

    pub(super) fn validate_crop(&self) -> Result<(), DataError> {
        match self.crop {
            Crop::Random => Ok(()),
            Crop::Centre { resize_short_px } if (self.size_px..=8192).contains(&resize_short_px) => Ok(()),
            Crop::Centre { resize_short_px } => {
                let expected = format!("{} pixels, the side of the view, to 8192", self.size_px);
                Err(DataError::config("short side before a centre crop", expected, resize_short_px))
            }
            Crop::Patch { grid, number } => grid.validate(number, self.size_px),
        }
    }
}

/// The centre of an image resized to this short side. The view is cut out before it is mirrored.
fn centre_window([width, height]: [u32; 2], short_px: u32, size_px: u32, flip: bool) -> Window {
    let short = u64::from(width.min(height).max(1));
    let scaled = |side: u32| (u64::from(short_px) * u64::from(side) / short).max(u64::from(size_px)) as u32;
    let (canvas_width, canvas_height) = (scaled(width), scaled(height));
    // torchvision rounds half to even.
    let offset = |side: u32| (f64::from(side - size_px) / 2.0).round_ties_even() as u32;
    let (left, top) = (offset(canvas_width), offset(canvas_height));
    let left = if flip { canvas_width - size_px - left } else { left };
    Window { canvas_width, canvas_height, left, top, size_px }
}
