//! A whole picture for a network that takes any number of cells.

use super::{CropBox, Filter, resized_crop};
use crate::Image;

/// Longest side of a picture where nobody says another, pixels.
const USUAL_LONG_PX: usize = 480;

/// A picture cut to whole cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FittedImage {
    /// Its sides are multiples of the cell.
    pub image: Image,
    /// Width and height before the cut, pixels.
    pub scaled: (u32, u32),
}

/// Scales the long side to `long_px` (0 only shrinks images beyond 480) and cuts right and below to whole cells: what maps
/// of a picture are made of. There is at least one cell each way, however thin the picture.
pub fn fit_to_cells(image: &Image, long_px: usize, cell_px: usize) -> FittedImage {
    let (w, h) = (image.width as usize, image.height as usize);
    let long = w.max(h).max(1);
    let target = if long_px == 0 { long.min(USUAL_LONG_PX) } else { long_px };
    let side = |s: usize| (s * target / long).max(cell_px);
    let (width, height) = (side(w), side(h));
    let scaled = match (width, height) == (w, h) {
        true => image.clone(),
        false => resized_crop(image, CropBox::whole(image), width as u32, height as u32, Filter::Bicubic),
    };
    let (width, height) = ((width / cell_px * cell_px) as u32, (height / cell_px * cell_px) as u32);
    let crop = CropBox { left: 0, top: 0, width, height };
    FittedImage {
        image: resized_crop(&scaled, crop, width, height, Filter::Bicubic),
        scaled: (scaled.width, scaled.height),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_whole_cells() {
        let sides = |w, h, long, cell| {
            let fitted = fit_to_cells(&Image::filled(w, h, [7, 8, 9]), long, cell);
            assert_eq!(fitted.image.pixel(0, 0), Some([7, 8, 9]));
            ((fitted.image.width, fitted.image.height), fitted.scaled)
        };
        assert_eq!(sides(64, 40, 0, 8), ((64, 40), (64, 40)));
        assert_eq!(sides(67, 40, 0, 16), ((64, 32), (67, 40)));
        assert_eq!(sides(960, 480, 0, 16), ((480, 240), (480, 240)));
        assert_eq!(sides(100, 50, 224, 16), ((224, 112), (224, 112)));
        assert_eq!(sides(400, 2, 0, 16), ((400, 16), (400, 16)), "one cell at least");
    }
}
