//! Two images with their matches, and under them their features in common colours.

use super::Match;
use crate::EvalError;
use crate::pca::pca_rgb;
use crate::picture::{Filter, Picture, Rgb};
use crate::text::draw_text;

/// Paper of the page, and its ink.
const PAPER: Rgb = [250, 250, 248];
const INK: Rgb = [40, 40, 40];
/// Space around and between pictures, and the height of words, in pixels.
const GAP: usize = 12;
const WORDS: usize = 14;

/// What a picture of matches is drawn from: images and maps of the two sides.
pub struct MatchPicture<'a> {
    /// The images, their sides whole numbers of cells.
    pub images: [&'a Picture; 2],
    /// Features of their cells, `[rows·columns, dim]` row-major.
    pub features: [&'a [f32]; 2],
    /// Rows and columns of the maps.
    pub grids: [[usize; 2]; 2],
    /// Channels of a feature.
    pub dim: usize,
}

/// A colour for a place, `x` and `y` from 0 to 1: the hue goes round the centre, the saturation outwards, so that
/// neighbours look alike and opposite corners do not.
pub fn position_colour(x: f32, y: f32) -> Rgb {
    let (dx, dy) = (2.0 * x - 1.0, 2.0 * y - 1.0);
    let hue = dy.atan2(dx) / std::f32::consts::TAU + 0.5;
    let saturation = 0.35 + 0.65 * (dx.hypot(dy)).min(1.0);
    let channel = |offset: f32| {
        let t = ((hue + offset).fract() * 6.0 - 3.0).abs() - 1.0;
        let full = t.clamp(0.0, 1.0);
        (255.0 * (1.0 - saturation * (1.0 - full))) as u8
    };
    [channel(0.0), channel(2.0 / 3.0), channel(1.0 / 3.0)]
}

impl MatchPicture<'_> {
    /// Images above with a line per match, coloured by its place in the first; features below, their three leading
    /// components over both together as colours.
    ///
    /// # Errors
    /// [`EvalError::Shape`] where features do not fit the grids, and what [`pca_rgb`] says.
    pub fn render(&self, matches: &[Match]) -> Result<Picture, EvalError> {
        let mut both = Vec::new();
        for (features, [rows, cols]) in self.features.iter().zip(self.grids) {
            if features.len() != rows * cols * self.dim {
                let expected = format!("{rows} × {cols} × {}", self.dim);
                return Err(EvalError::shape("features of an image", expected, features.len()));
            }
            both.extend_from_slice(features);
        }
        let [a, b] = self.images;
        let height = a.height().max(b.height());
        let right = 2 * GAP + a.width();
        let second = 3 * GAP + 2 * WORDS + height;
        let (width, total) = (right + b.width() + GAP, second + height + GAP);
        let mut page = Picture::filled(width, total, PAPER);
        let words = [format!("{} matches", matches.len()), "features, three leading components as colours".into()];
        for (text, y) in words.iter().zip([GAP / 2, second - GAP / 2 - WORDS]) {
            draw_text(&mut page, GAP, y, text, WORDS, INK);
        }
        let top = GAP + WORDS;
        page.paste(a, GAP, top);
        page.paste(b, right, top);
        let colours = pca_rgb(&both, self.dim)?;
        let split = self.features[0].len() / self.dim * 3;
        for ((bytes, image), ([rows, cols], x)) in [&colours[..split], &colours[split..]]
            .into_iter()
            .zip([a, b])
            .zip(self.grids.into_iter().zip([GAP, right]))
        {
            let map = Picture::new(cols, rows, bytes.to_vec())?;
            page.paste(&map.resize(image.width(), image.height(), Filter::Nearest), x, second);
        }
        for m in matches {
            let place = |side: usize, cell: usize| {
                let [rows, cols] = self.grids[side];
                (((cell % cols) as f32 + 0.5) / cols as f32, ((cell / cols) as f32 + 0.5) / rows as f32)
            };
            let ((ax, ay), (bx, by)) = (place(0, m.from), place(1, m.to));
            let colour = position_colour(ax, ay);
            let at = |image: &Picture, left: usize, x: f32, y: f32| {
                (left as f32 + x * image.width() as f32, top as f32 + y * image.height() as f32)
            };
            let (start, end) = (at(a, GAP, ax, ay), at(b, right, bx, by));
            line(&mut page, start, end, colour);
            dot(&mut page, start, colour);
            dot(&mut page, end, colour);
        }
        Ok(page)
    }
}

/// A soft line a little over a pixel wide.
fn line(page: &mut Picture, (x0, y0): (f32, f32), (x1, y1): (f32, f32), colour: Rgb) {
    let steps = (x1 - x0).abs().max((y1 - y0).abs()).ceil().max(1.0);
    for step in 0..=steps as usize {
        let t = step as f32 / steps;
        let (x, y) = (x0 + t * (x1 - x0), y0 + t * (y1 - y0));
        // The share of either row, so that slanted lines are not stairs.
        let (row, below) = (y.floor(), y - y.floor());
        page.blend(x as usize, row as usize, colour, 0.8 * (1.0 - below));
        page.blend(x as usize, row as usize + 1, colour, 0.8 * below);
    }
}

/// A disc with a dark rim.
fn dot(page: &mut Picture, (x, y): (f32, f32), colour: Rgb) {
    const RADIUS: f32 = 3.5;
    let reach = RADIUS.ceil() as i32 + 1;
    for dy in -reach..=reach {
        for dx in -reach..=reach {
            let away = (dx as f32).hypot(dy as f32);
            let (px, py) = (x as i32 + dx, y as i32 + dy);
            if away > RADIUS + 0.5 || px < 0 || py < 0 {
                continue;
            }
            let shade = if away > RADIUS - 1.0 { INK } else { colour };
            page.blend(px as usize, py as usize, shade, (RADIUS + 0.5 - away).clamp(0.0, 1.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_both_images_their_features_and_the_lines() {
        let (a, b) = (Picture::filled(32, 16, [10, 20, 30]), Picture::filled(16, 16, [200, 210, 220]));
        let features: Vec<f32> = (0..8).map(|i| i as f32 * if i % 2 == 0 { 1.0 } else { -0.5 }).collect();
        let picture = MatchPicture {
            images: [&a, &b],
            features: [&features, &features[..4]],
            grids: [[2, 2], [1, 2]],
            dim: 2,
        };
        let plain = picture.render(&[]).unwrap();
        assert_eq!((plain.width(), plain.height()), (32 + 16 + 3 * GAP, 2 * 16 + 4 * GAP + 2 * WORDS));
        assert_eq!(plain.get(GAP, GAP + WORDS), Some([10, 20, 30]));
        assert_eq!(plain.get(2 * GAP + 32, GAP + WORDS), Some([200, 210, 220]));
        let m = Match { from: 0, to: 1, similarity: 1.0, mutual: true };
        let drawn = picture.render(&[m]).unwrap();
        // The line crosses the gap between the images, where there was paper.
        let column = GAP + 32 + GAP / 2;
        let at = |p: &Picture| (0..GAP + WORDS + 16).map(|y| p.get(column, y)).collect::<Vec<_>>();
        assert_ne!(at(&plain)[GAP + WORDS..], at(&drawn)[GAP + WORDS..]);
        let wrong = MatchPicture { grids: [[2, 3], [1, 2]], ..picture };
        assert!(wrong.render(&[]).is_err());
    }

    #[test]
    fn opposite_corners_have_other_colours_than_neighbours() {
        let apart = |a: Rgb, b: Rgb| a.iter().zip(b).map(|(x, y)| x.abs_diff(y) as u32).sum::<u32>();
        let corner = position_colour(0.05, 0.05);
        assert!(apart(corner, position_colour(0.1, 0.05)) < 60);
        assert!(apart(corner, position_colour(0.95, 0.95)) > 200);
    }
}
