//! Boolean masks: the cells an attention head keeps, or an object's pixels.
//!
//! ```
//! use ocelli_eval::mask::Mask;
//!
//! let left = Mask::new(2, 2, vec![true, false, true, false])?;
//! let upper = Mask::new(2, 2, vec![true, true, false, false])?;
//! // One cell is in both, three are in either.
//! assert_eq!(left.jaccard(&upper)?, 1.0 / 3.0);
//! assert_eq!(left.upsample(4).count(), 32);
//! # Ok::<(), ocelli_eval::EvalError>(())
//! ```

use crate::EvalError;

/// A boolean picture, row-major, `[height, width]`: patch cells or pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    width: usize,
    height: usize,
    data: Vec<bool>,
}

impl Mask {
    /// A mask from its cells, `[height, width]` row-major.
    ///
    /// # Errors
    /// [`EvalError::Shape`] if the number of cells is not `width × height`.
    pub fn new(width: usize, height: usize, data: Vec<bool>) -> Result<Self, EvalError> {
        if data.len() != width * height {
            return Err(EvalError::shape("mask", format!("{width} × {height} cells"), data.len()));
        }
        Ok(Self { width, height, data })
    }

    /// A mask of the bytes that are not zero, `[height, width]` row-major: a palette mask whose background is 0.
    ///
    /// # Errors
    /// As [`Mask::new`].
    pub fn from_bytes(width: usize, height: usize, bytes: &[u8]) -> Result<Self, EvalError> {
        Self::new(width, height, bytes.iter().map(|byte| *byte != 0).collect())
    }

    /// Cells across.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Cells down.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All cells, `[height, width]` row-major.
    pub fn cells(&self) -> &[bool] {
        &self.data
    }

    /// The cell at column `x` and row `y`; `false` outside.
    pub fn get(&self, x: usize, y: usize) -> bool {
        x < self.width && y < self.height && self.data[y * self.width + x]
    }

    /// Number of cells that are set.
    pub fn count(&self) -> usize {
        self.data.iter().filter(|cell| **cell).count()
    }

    /// Repeats every cell `factor × factor` times: from patches to pixels.
    pub fn upsample(&self, factor: usize) -> Self {
        self.resize(self.width * factor, self.height * factor)
    }

    /// Nearest-neighbour resampling to `width × height`: cell `floor(x · old / new)`, as everywhere in the field.
    pub fn resize(&self, width: usize, height: usize) -> Self {
        let mut data = Vec::with_capacity(width * height);
        for y in 0..height {
            let row = y * self.height / height * self.width;
            data.extend((0..width).map(|x| self.data.get(row + x * self.width / width).copied().unwrap_or(false)));
        }
        Self { width, height, data }
    }

    /// The top left `width × height` cells: what is left of a truth mask once the picture was cut to whole patches.
    /// Sizes beyond the mask are clamped.
    pub fn crop(&self, width: usize, height: usize) -> Self {
        let (width, height) = (width.min(self.width), height.min(self.height));
        let rows = self.data.chunks(self.width.max(1)).take(height);
        Self { width, height, data: rows.flat_map(|row| row[..width].iter().copied()).collect() }
    }

    /// The Jaccard index (intersection over union) of two masks of one size, in 0..=1.
    ///
    /// Two empty masks agree: their index is 1, as in the region similarity J of DAVIS (Perazzi et al. 2016).
    ///
    /// # Errors
    /// [`EvalError::Shape`] if the sizes differ.
    pub fn jaccard(&self, other: &Self) -> Result<f64, EvalError> {
        if (self.width, self.height) != (other.width, other.height) {
            return Err(EvalError::shape(
                "mask",
                format!("{} × {}", self.width, self.height),
                format!("{} × {}", other.width, other.height),
            ));
        }
        let (mut both, mut either) = (0usize, 0usize);
        for (a, b) in self.data.iter().zip(&other.data) {
            both += usize::from(*a && *b);
            either += usize::from(*a || *b);
        }
        Ok(if either == 0 { 1.0 } else { both as f64 / either as f64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(rows: &[&str]) -> Mask {
        let data = rows.iter().flat_map(|row| row.bytes().map(|b| b == b'#')).collect();
        Mask::new(rows[0].len(), rows.len(), data).unwrap()
    }

    #[test]
    fn jaccard_and_its_empty_rule() {
        let a = mask(&["##..", "##.."]);
        assert_eq!(a.jaccard(&a).unwrap(), 1.0);
        assert_eq!(a.jaccard(&mask(&[".##.", ".##."])).unwrap(), 2.0 / 6.0);
        let empty = mask(&["....", "...."]);
        assert_eq!(empty.jaccard(&empty).unwrap(), 1.0);
        assert_eq!(empty.jaccard(&a).unwrap(), 0.0);
        assert!(a.jaccard(&mask(&["##"])).is_err());
    }

    #[test]
    fn upsampling_and_cropping() {
        let a = mask(&["#.", ".#"]);
        let up = a.upsample(2);
        assert_eq!(up, mask(&["##..", "##..", "..##", "..##"]));
        assert_eq!(up.crop(3, 3), mask(&["##.", "##.", "..#"]));
        assert_eq!(up.resize(2, 2), a);
        assert!(Mask::new(2, 2, vec![true; 3]).is_err());
    }
}
