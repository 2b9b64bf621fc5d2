//! Small text on pictures.
//!
//! The glyphs are an 8 × 8 bitmap font. They are set proportionally and drawn at any size by thresholding their
//! interpolation softly, which rounds the corners that plain enlargement would show.
//!
//! ```
//! use ocelli_eval::picture::Picture;
//! use ocelli_eval::text::{draw_text, text_width};
//!
//! let width = text_width("k-NN", 16);
//! let mut picture = Picture::filled(width, 16, [255, 255, 255]);
//! draw_text(&mut picture, 0, 0, "k-NN", 16, [0, 0, 0]);
//! assert!(picture.data().iter().any(|level| *level < 128));
//! ```

use font8x8::{BASIC_FONTS, GREEK_FONTS, LATIN_FONTS, UnicodeFonts};

use crate::picture::{Picture, Rgb};

/// What stands for a character that the font lacks: a hollow box.
const MISSING: [u8; 8] = [0x00, 0x3e, 0x22, 0x22, 0x22, 0x22, 0x3e, 0x00];
/// Width of a font pixel over its height. The font is wide and heavy; set narrower it reads like print.
const ASPECT: f32 = 0.8;
/// Columns between two glyphs and columns of a space, in font pixels.
const GAP: usize = 1;
const SPACE: usize = 3;

/// A glyph: its rows, one bit per column, the leftmost column in the lowest bit; trimmed to its own width.
struct Glyph {
    rows: [u8; 8],
    width: usize,
}

fn glyph(c: char) -> Glyph {
    let fonts = || BASIC_FONTS.get(c).or_else(|| LATIN_FONTS.get(c)).or_else(|| GREEK_FONTS.get(c));
    let rows = if c.is_whitespace() { [0; 8] } else { fonts().unwrap_or(MISSING) };
    let used = rows.iter().fold(0, |used, row| used | row);
    if used == 0 {
        return Glyph { rows, width: SPACE };
    }
    let left = used.trailing_zeros();
    let width = (8 - used.leading_zeros() - left) as usize;
    // Digits keep one width, so that columns of numbers stand straight.
    let width = if c.is_ascii_digit() { width.max(6) } else { width };
    Glyph { rows: rows.map(|row| row >> left), width }
}

/// Width of a font pixel in pixels of the picture.
fn column_px(size_px: usize) -> f32 {
    size_px as f32 / 8.0 * ASPECT
}

/// Width in pixels of `text` drawn `size_px` high.
pub fn text_width(text: &str, size_px: usize) -> usize {
    let columns: usize = text.chars().map(|c| glyph(c).width + GAP).sum();
    (columns.saturating_sub(GAP) as f32 * column_px(size_px)).ceil() as usize
}

/// Draws `text` in one line, `size_px` high, with its top left corner at column `x` and row `y`. What lies outside the
/// picture is cut off.
pub fn draw_text(picture: &mut Picture, x: usize, y: usize, text: &str, size_px: usize, colour: Rgb) {
    let (across, down) = (column_px(size_px), size_px as f32 / 8.0);
    let mut column = 0;
    for c in text.chars() {
        let glyph = glyph(c);
        // Glyphs start at fractions of a pixel, so that the spacing stays even at odd sizes.
        let left = column as f32 * across;
        let right = left + (glyph.width + 1) as f32 * across;
        for px in (left - across).max(0.0) as usize..right.ceil() as usize {
            for py in 0..size_px {
                let u = (px as f32 + 0.5 - left) / across - 0.5;
                let v = (py as f32 + 0.5) / down - 0.5;
                let cover = coverage(&glyph, u, v, across);
                if cover > 0.0 {
                    picture.blend(x + px, y + py, colour, cover);
                }
            }
        }
        column += glyph.width + GAP;
    }
}

/// Ink in 0..=1 at the point (u, v) of a glyph, whose pixel centres lie at whole numbers.
fn coverage(glyph: &Glyph, u: f32, v: f32, scale: f32) -> f32 {
    let bit = |x: i32, y: i32| {
        let inside = (0..8).contains(&x) && (0..8).contains(&y);
        f32::from(inside && glyph.rows[y as usize] >> x & 1 == 1)
    };
    let (x, y) = (u.floor(), v.floor());
    let (fx, fy) = (u - x, v - y);
    let (x, y) = (x as i32, y as i32);
    let above = bit(x, y) * (1.0 - fx) + bit(x + 1, y) * fx;
    let below = bit(x, y + 1) * (1.0 - fx) + bit(x + 1, y + 1) * fx;
    let value = above * (1.0 - fy) + below * fy;
    // Half covered lies at 0.5; the slope makes the edge about one pixel of the picture wide.
    ((value - 0.5) * scale.max(1.0) + 0.5).clamp(0.0, 1.0)
}

/// `text`, or its beginning and end with `...` between them, at most `width_px` wide. The end counts as much as the
/// beginning: file names often differ there.
pub fn shorten(text: &str, size_px: usize, width_px: usize) -> String {
    if text_width(text, size_px) <= width_px {
        return text.to_owned();
    }
    let chars: Vec<char> = text.chars().collect();
    for kept in (0..chars.len()).rev() {
        let head = kept.div_ceil(2);
        let tail = &chars[chars.len() - (kept - head)..];
        let candidate: String = chars[..head].iter().chain(&['.'; 3]).chain(tail).collect();
        if text_width(&candidate, size_px) <= width_px {
            return candidate;
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_in_its_box() {
        for size in [8, 11, 16, 24] {
            let text = "IoU 0.41 gjÄ?\u{4e2d}";
            let width = text_width(text, size);
            let mut canvas = Picture::filled(width + 40, size + 40, [255; 3]);
            draw_text(&mut canvas, 20, 20, text, size, [0; 3]);
            let mut dark = 0;
            for y in 0..canvas.height() {
                for x in 0..canvas.width() {
                    if canvas.get(x, y) != Some([255; 3]) {
                        dark += 1;
                        assert!((19..width + 21).contains(&x) && (20..size + 20).contains(&y), "{size}: {x}, {y}");
                    }
                }
            }
            assert!(dark > size * size);
        }
    }

    #[test]
    fn drawing_outside_is_cut_off() {
        let mut canvas = Picture::filled(10, 10, [255; 3]);
        draw_text(&mut canvas, 6, 6, "wide text", 16, [0; 3]);
        draw_text(&mut canvas, 60, 60, "far", 16, [0; 3]);
    }

    #[test]
    fn long_names_lose_their_middle() {
        let name = "n01440764_a_very_long_file_name_0042.jpg";
        let short = shorten(name, 16, 150);
        assert!(text_width(&short, 16) <= 150);
        assert!(short.starts_with("n01") && short.contains("...") && short.ends_with("jpg"), "{short}");
        assert_eq!(shorten("cat.jpg", 16, 150), "cat.jpg");
        assert_eq!(shorten(name, 16, 2), "");
    }
}
