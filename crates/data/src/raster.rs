//! Packed 8-bit images and masks: the common currency between sources, views and evaluation.

use crate::DataError;

/// A packed RGB image: `data` is `[height, width, 3]`, row-major, 8 bits per channel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Image {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `height * width * 3` bytes.
    pub data: Vec<u8>,
}

impl Image {
    /// Wraps `[height, width, 3]` bytes.
    ///
    /// # Errors
    /// [`DataError::Config`] when a side is zero or the number of bytes does not fit the sides.
    pub fn new(width: u32, height: u32, data: Vec<u8>) -> Result<Self, DataError> {
        let expected = width as usize * height as usize * 3;
        if width == 0 || height == 0 || data.len() != expected {
            return Err(DataError::config(
                format!("image of {width}x{height} pixels"),
                format!("sides of at least 1 pixel and {expected} bytes"),
                format!("{} bytes", data.len()),
            ));
        }
        Ok(Self { width, height, data })
    }

    /// An image of one colour.
    pub fn filled(width: u32, height: u32, rgb: [u8; 3]) -> Self {
        let pixels = width as usize * height as usize;
        Self { width, height, data: rgb.repeat(pixels) }
    }

    /// The colour at (`x`, `y`), or `None` outside the image.
    pub fn pixel(&self, x: u32, y: u32) -> Option<[u8; 3]> {
        if x >= self.width || y >= self.height {
            return None;
        }
        let at = (y as usize * self.width as usize + x as usize) * 3;
        self.data.get(at..at + 3).map(|p| [p[0], p[1], p[2]])
    }

    /// Number of pixels.
    pub fn pixels(&self) -> usize {
        self.width as usize * self.height as usize
    }
}

/// A binary mask: `data` is `[height, width]`, row-major, 1 on the object and 0 elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mask {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `height * width` bytes, each 0 or 1.
    pub data: Vec<u8>,
}

impl Mask {
    /// Fraction of the pixels on the object, 0 for an empty mask.
    pub fn fraction(&self) -> f32 {
        if self.data.is_empty() {
            return 0.0;
        }
        let on = self.data.iter().filter(|&&v| v != 0).count();
        on as f32 / self.data.len() as f32
    }
}
