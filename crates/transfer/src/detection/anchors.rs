//! Anchors: the boxes from which a region proposal network starts (Ren et al. 2015).
//!
//! ```
//! use ocelli_transfer::detection::anchors::Anchors;
//!
//! let anchors = Anchors { stride: 16, sizes: vec![32.0], ratios: vec![1.0], offset: 0.0 };
//! assert_eq!(anchors.grid(1, 2), [[-16.0, -16.0, 16.0, 16.0], [0.0, -16.0, 32.0, 16.0]]);
//! ```

use super::boxes::Xyxy;

/// The same boxes at every cell of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Anchors {
    /// Pixels of the image from one cell to the next.
    pub stride: usize,
    /// Sides of a square with an anchor's area, in pixels.
    pub sizes: Vec<f32>,
    /// Heights over widths.
    pub ratios: Vec<f32>,
    /// Where in its cell an anchor has its centre, in cells: 0 is the top left corner (what the C4 networks use), 0.5 the middle.
    pub offset: f32,
}

impl Anchors {
    /// Boxes of one cell: sizes times ratios.
    pub fn per_cell(&self) -> usize {
        self.sizes.len() * self.ratios.len()
    }

    /// The boxes of a cell around 0, all ratios of the first size first. Nothing is rounded.
    pub fn cell(&self) -> Vec<Xyxy> {
        let mut boxes = Vec::with_capacity(self.per_cell());
        for size in self.sizes.iter().map(|s| f64::from(*s)) {
            for ratio in self.ratios.iter().map(|r| f64::from(*r)) {
                let width = (size * size / ratio).sqrt();
                let height = ratio * width;
                boxes.push([-width / 2.0, -height / 2.0, width / 2.0, height / 2.0].map(|v| v as f32));
            }
        }
        boxes
    }

    /// The anchors of a map, in the order row, column, anchor of the cell: `rows · cols · per_cell` of them. Those that reach
    /// beyond the image stay.
    pub fn grid(&self, rows: usize, cols: usize) -> Vec<Xyxy> {
        let cell = self.cell();
        let stride = self.stride as f32;
        let mut boxes = Vec::with_capacity(rows * cols * cell.len());
        for row in 0..rows {
            let y = (row as f32 + self.offset) * stride;
            for col in 0..cols {
                let x = (col as f32 + self.offset) * stride;
                boxes.extend(cell.iter().map(|[x1, y1, x2, y2]| [x + x1, y + y1, x + x2, y + y2]));
            }
        }
        boxes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_anchor_is_centred_on_the_corner_and_columns_come_before_rows() {
        let anchors = Anchors { stride: 16, sizes: vec![32.0, 64.0], ratios: vec![1.0], offset: 0.0 };
        let grid = anchors.grid(2, 3);
        assert_eq!(grid.len(), 12);
        assert_eq!(grid[0], [-16.0, -16.0, 16.0, 16.0]);
        assert_eq!(grid[1], [-32.0, -32.0, 32.0, 32.0]);
        assert_eq!(grid[2], [0.0, -16.0, 32.0, 16.0]);
        assert_eq!(grid[6], [-16.0, 0.0, 16.0, 32.0]);
        let middle = Anchors { offset: 0.5, ..anchors.clone() };
        assert_eq!(middle.grid(1, 1)[0], [-8.0, -8.0, 24.0, 24.0]);
        assert!(anchors.grid(0, 3).is_empty());
    }
}
