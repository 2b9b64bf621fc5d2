//! The working form of an image inside a view: three planes instead of packed pixels.
//!
//! Every colour operation and the blur run over plain slices then, which the compiler turns into vector code, and the
//! network wants planes anyway.

use crate::Image;

/// Three 8-bit planes, `data` is `[3, height, width]`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Planes {
    pub width: usize,
    pub height: usize,
    pub data: Vec<u8>,
}

impl Planes {
    pub fn set_size(&mut self, width: usize, height: usize) {
        self.width = width;
        self.height = height;
        self.data.resize(width * height * 3, 0);
    }

    pub fn area(&self) -> usize {
        self.width * self.height
    }

    /// Red, green and blue.
    pub fn split(&self) -> (&[u8], &[u8], &[u8]) {
        let (red, rest) = self.data.split_at(self.area());
        let (green, blue) = rest.split_at(self.area());
        (red, green, blue)
    }

    /// Red, green and blue, to change.
    pub fn split_mut(&mut self) -> (&mut [u8], &mut [u8], &mut [u8]) {
        let area = self.area();
        let (red, rest) = self.data.split_at_mut(area);
        let (green, blue) = rest.split_at_mut(area);
        (red, green, blue)
    }

    pub fn to_image(&self) -> Image {
        let (red, green, blue) = self.split();
        let mut data = vec![0; self.data.len()];
        for (pixel, ((&r, &g), &b)) in data.chunks_exact_mut(3).zip(red.iter().zip(green).zip(blue)) {
            pixel.copy_from_slice(&[r, g, b]);
        }
        Image { width: self.width as u32, height: self.height as u32, data }
    }

    pub fn from_image(image: &Image) -> Self {
        let mut planes = Self::default();
        planes.set_size(image.width as usize, image.height as usize);
        let (red, green, blue) = planes.split_mut();
        for (i, pixel) in image.data.chunks_exact(3).enumerate() {
            (red[i], green[i], blue[i]) = (pixel[0], pixel[1], pixel[2]);
        }
        planes
    }
}
