//! Where in its image a view looks, in numbers that two views of an image share.

use super::ViewPlace;

/// What a view shows of its image.
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

impl From<&ViewPlace> for ViewBox {
    /// In pixels of the image.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CropBox;

    #[test]
    fn a_mirrored_view_finds_its_own_cells_where_they_are() {
        let crop = CropBox { top: 20, left: 10, height: 40, width: 60 };
        let grid = [2, 3];
        let [plain, mirrored] = [false, true].map(|flip| ViewBox::from(&ViewPlace { crop, flip }));
        assert_eq!(plain.cell_centre(0, grid), (20.0, 30.0));
        assert_eq!(mirrored.cell_centre(0, grid), (60.0, 30.0));
        for cell in 0..6 {
            let (x, y) = mirrored.position_of(mirrored.cell_centre(cell, grid), grid).unwrap();
            assert!((x - (cell % 3) as f32 - 0.5).abs() < 1e-4 && (y - (cell / 3) as f32 - 0.5).abs() < 1e-4);
        }
        assert_eq!(plain.position_of((9.0, 30.0), grid), None);
        assert!((plain.cell_diagonal(grid) - 800f32.sqrt()).abs() < 1e-4);
    }
}
