//! What a view shows of its image, for whoever compares places.

use super::ViewPlace;

/// A part of an image, perhaps mirrored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ViewBox {
    /// Left edge of the crop; like the others in any unit both views of an image share.
    pub left: f32,
    /// Upper edge.
    pub top: f32,
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
    /// Mirrored left to right.
    pub flip: bool,
}

/// In pixels of the image.
impl From<&ViewPlace> for ViewBox {
    fn from(place: &ViewPlace) -> Self {
        let crop = place.crop;
        Self {
            left: crop.left as f32,
            top: crop.top as f32,
            width: crop.width as f32,
            height: crop.height as f32,
            flip: place.flip,
        }
    }
}

impl ViewBox {
    /// The place in the image a cell's centre shows: (x, y). Cells are row-major in a grid of `rows`×`cols`.
    pub fn cell_centre(&self, cell: usize, [rows, cols]: [usize; 2]) -> (f32, f32) {
        let x = ((cell % cols) as f32 + 0.5) / cols as f32;
        let y = ((cell / cols) as f32 + 0.5) / rows as f32;
        let x = if self.flip { 1.0 - x } else { x };
        (self.left + x * self.width, self.top + y * self.height)
    }

    /// Where the view shows a place, in cells from its upper left corner (a cell's centre is at .5), if it does.
    pub fn position_of(&self, (x, y): (f32, f32), [rows, cols]: [usize; 2]) -> Option<(f32, f32)> {
        let across = (x - self.left) / self.width;
        let across = if self.flip { 1.0 - across } else { across };
        let down = (y - self.top) / self.height;
        let inside = (0.0..=1.0).contains(&across) && (0.0..=1.0).contains(&down);
        inside.then_some((across * cols as f32, down * rows as f32))
    }

    /// Diagonal of a cell.
    pub fn cell_diagonal(&self, [rows, cols]: [usize; 2]) -> f32 {
        (self.width / cols as f32).hypot(self.height / rows as f32)
    }
}
