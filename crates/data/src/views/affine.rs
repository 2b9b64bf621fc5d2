//! Turns, shears and shifts, as PIL does them on 8-bit images.
//!
//! A matrix (a, b, c, d, e, f) maps the centre of an output pixel to a place of the input: xi = a(x + ½) + b(y + ½) + c,
//! yi = d(x + ½) + e(y + ½) + f. Places outside the image get the fill colour; elsewhere taps beyond the border repeat it, and
//! the result is truncated. Bicubic is a = −1, without antialiasing: not the filter of a resize.

use serde::{Deserialize, Serialize};

use super::planes::Planes;
use crate::Image;

/// What moves where.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Affine {
    /// Turns about the middle by this many degrees, counter-clockwise.
    Rotate(f64),
    /// Rows shift by this fraction of their height from the top; positive ones to the left.
    ShearX(f64),
    /// Columns shift by this fraction of their distance from the left; positive ones up.
    ShearY(f64),
    /// Shifts to the left by this fraction of the width.
    TranslateX(f64),
    /// Shifts up by this fraction of the height.
    TranslateY(f64),
}

/// How an affine change reads between pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Two by two pixels.
    Bilinear,
    /// Four by four pixels, a = −1.
    #[default]
    Bicubic,
}

impl Affine {
    /// The matrix (a, b, c, d, e, f) for an image of `width`×`height` pixels.
    pub fn matrix(self, width: u32, height: u32) -> [f64; 6] {
        let (width, height) = (f64::from(width), f64::from(height));
        match self {
            Self::Rotate(degrees) => {
                let angle = -degrees.rem_euclid(360.0).to_radians();
                // PIL rounds to 15 places; libm, not the platform's functions: the same pixels everywhere.
                let places = |x: f64| (x * 1e15).round() / 1e15;
                let (cos, sin) = (places(libm::cos(angle)), places(libm::sin(angle)));
                let (x, y) = (width / 2.0, height / 2.0);
                [cos, sin, cos * -x + sin * -y + x, -sin, cos, -sin * -x + cos * -y + y]
            }
            Self::ShearX(by) => [1.0, by, 0.0, 0.0, 1.0, 0.0],
            Self::ShearY(by) => [1.0, 0.0, 0.0, by, 1.0, 0.0],
            Self::TranslateX(by) => [1.0, 0.0, by * width, 0.0, 1.0, 0.0],
            Self::TranslateY(by) => [1.0, 0.0, 0.0, 0.0, 1.0, by * height],
        }
    }

    /// Applies the change to an image; `fill` is the colour of what lay outside.
    pub fn apply(self, image: &Image, interpolation: Interpolation, fill: [u8; 3]) -> Image {
        let mut planes = Planes::from_image(image);
        affine(&mut planes, self, interpolation, fill);
        planes.to_image()
    }
}

pub(crate) fn affine(planes: &mut Planes, change: Affine, interpolation: Interpolation, fill: [u8; 3]) {
    let (width, height) = (planes.width, planes.height);
    let [a, b, c, d, e, f] = change.matrix(width as u32, height as u32);
    let source = planes.data.clone();
    let area = planes.area().max(1);
    for y in 0..height {
        for x in 0..width {
            let (column, row) = (x as f64 + 0.5, y as f64 + 0.5);
            let (xi, yi) = (a * column + b * row + c, d * column + e * row + f);
            let inside = xi >= 0.0 && xi < width as f64 && yi >= 0.0 && yi < height as f64;
            let place = Place::new(xi - 0.5, yi - 0.5, width, height);
            for (channel, plane) in source.chunks_exact(area).enumerate() {
                planes.data[channel * area + y * width + x] = match (inside, interpolation) {
                    (false, _) => fill[channel],
                    (true, Interpolation::Bilinear) => place.bilinear(plane),
                    (true, Interpolation::Bicubic) => place.bicubic(plane),
                };
            }
        }
    }
}

/// Which pixels a place lies between: one before, two after, on each axis, and how far behind the second it lies.
struct Place {
    columns: [usize; 4],
    row_starts: [usize; 4],
    across: f64,
    down: f64,
}

impl Place {
    fn new(x: f64, y: f64, width: usize, height: usize) -> Self {
        let clamped = |at: f64, side: usize| {
            let first = at.floor() as i64 - 1;
            [0, 1, 2, 3].map(|tap| (first + tap).clamp(0, side as i64 - 1) as usize)
        };
        Self {
            columns: clamped(x, width),
            row_starts: clamped(y, height).map(|row| row * width),
            across: x - x.floor(),
            down: y - y.floor(),
        }
    }

    fn bilinear(&self, plane: &[u8]) -> u8 {
        let line = |row: usize| {
            let [left, right] = [1, 2].map(|i| f64::from(plane[row + self.columns[i]]));
            left + (right - left) * self.across
        };
        let (upper, lower) = (line(self.row_starts[1]), line(self.row_starts[2]));
        (upper + (lower - upper) * self.down) as u8
    }

    fn bicubic(&self, plane: &[u8]) -> u8 {
        let line = |row: usize| cubic(self.columns.map(|column| f64::from(plane[row + column])), self.across);
        // Conversion to u8 truncates and clips.
        cubic(self.row_starts.map(line), self.down) as u8
    }
}

/// Cubic convolution with a = −1 between the second and the third value.
fn cubic([v1, v2, v3, v4]: [f64; 4], t: f64) -> f64 {
    v2 + t * (v3 - v1 + t * (2.0 * (v1 - v2) + v3 - v4 + t * (v2 - v1 - v3 + v4)))
}
