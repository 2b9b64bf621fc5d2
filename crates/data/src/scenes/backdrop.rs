//! What lies behind the object: a patterned ground and things that are no member of any class.

use libm::{cosf, sinf};

use super::Difficulty;
use super::noise::{Noise, floor};
use super::palette::{Palette, Rgb, mix};
use super::shape::{Point, circle, polygon, stroke};
use super::texture::step;
use crate::Rng;

#[derive(Debug, Clone, Copy)]
enum Pattern {
    Clouds,
    Stripes,
    Pebbles,
    Planks,
    Horizon,
}

/// The ground: a patchwork of pieces, each of its own material and pattern. One crop of an image shows other pieces
/// than another, so the background says nothing that two views of an image share; the object does.
pub(super) struct Backdrop {
    pieces: Vec<(Point, Piece)>,
    noise: Noise,
    contrast: f32,
}

struct Piece {
    pattern: Pattern,
    palettes: [Palette; 2],
    frequency: f32,
    direction: Point,
}

impl Backdrop {
    /// A random patchwork, and the palette of its middle piece.
    pub fn random(difficulty: &Difficulty, rng: &mut Rng) -> Self {
        let [few, many] = difficulty.backdrop_pieces;
        let count = few.max(1) + rng.below(u64::from(many.saturating_sub(few)) + 1) as u32;
        let pieces = (0..count).map(|_| {
            let place = [rng.unit_f32(), rng.unit_f32()];
            (place, Piece::random(difficulty, rng))
        });
        Self {
            pieces: pieces.collect(),
            noise: Noise::new(rng),
            contrast: difficulty.backdrop_contrast * rng.uniform_f32(0.6, 1.0),
        }
    }

    /// The material of the piece nearest to a point.
    pub fn palette(&self, p: Point) -> Palette {
        self.nearest(p).map_or_else(Palette::grey, |piece| piece.palettes[0])
    }

    /// The colour at a point of the image, both coordinates 0..1.
    pub fn colour(&self, p: Point) -> Rgb {
        // Seams that are not straight look less like tiles.
        let bend = |offset: f32| 0.12 * (self.noise.at(p[0] * 7.0 + offset, p[1] * 7.0) - 0.5);
        let bent = [p[0] + bend(0.0), p[1] + bend(31.0)];
        self.nearest(bent).map_or([0.5; 3], |piece| piece.colour(p, &self.noise, self.contrast))
    }

    fn nearest(&self, p: Point) -> Option<&Piece> {
        let far = |q: &Point| (p[0] - q[0]).powi(2) + (p[1] - q[1]).powi(2);
        self.pieces.iter().min_by(|a, b| far(&a.0).total_cmp(&far(&b.0))).map(|(_, piece)| piece)
    }
}

impl Piece {
    fn random(difficulty: &Difficulty, rng: &mut Rng) -> Self {
        let patterns = [Pattern::Clouds, Pattern::Stripes, Pattern::Pebbles, Pattern::Planks, Pattern::Horizon];
        let pattern = patterns[rng.below(patterns.len() as u64) as usize];
        let angle = rng.uniform_f32(0.0, std::f32::consts::TAU);
        let mut material = || Palette::random(rng).muted(difficulty.backdrop_muted);
        Self {
            pattern,
            palettes: [material(), material()],
            frequency: rng.uniform_f32(0.7, 1.5),
            direction: [cosf(angle), sinf(angle)],
        }
    }

    /// The colour at a point of the image, both coordinates 0..1.
    fn colour(&self, p: Point, noise: &Noise, contrast: f32) -> Rgb {
        let f = self.frequency;
        let (x, y) = (p[0], p[1]);
        let along = x * self.direction[0] + y * self.direction[1];
        let across = y * self.direction[0] - x * self.direction[1];
        let fine = noise.octaves(x * 9.0 * f, y * 9.0 * f, 3);
        let (pattern, second) = match self.pattern {
            Pattern::Clouds => {
                let broad = noise.octaves(x * 3.0 * f, y * 3.0 * f, 4);
                (broad, 0.5 * step(0.45, 0.7, noise.at(x * 4.0 + 9.0, y * 4.0)))
            }
            Pattern::Stripes => {
                let bend = noise.octaves(x * 2.5, y * 2.5, 2);
                let phase = along * 5.0 * f + bend * 1.6;
                (0.5 - 0.5 * cosf(phase * std::f32::consts::TAU), 0.25)
            }
            Pattern::Pebbles => {
                let (near, next) = noise.points(x * 6.0 * f, y * 6.0 * f);
                let gap = step(0.03, 0.2, next - near);
                (gap * (1.0 - 0.6 * near), 0.6 * step(0.5, 0.6, noise.at(x * 6.0 * f, y * 6.0 * f)))
            }
            Pattern::Planks => {
                let board = along * 5.0 * f + 40.0;
                let edge = step(0.0, 0.08, board - floor(board) as f32);
                let shade = noise.cell(floor(board), 3);
                let grain = noise.octaves(along * 40.0, across * 3.0, 2);
                (edge * (0.25 + 0.5 * shade + 0.3 * grain), 0.15)
            }
            Pattern::Horizon => {
                let ridge = 0.45 + 0.25 * noise.octaves(x * 3.0, 2.5, 3) - y;
                let above = step(-0.01, 0.01, ridge);
                (above * (0.6 + 0.4 * y) + (1.0 - above) * fine, above)
            }
        };
        let tone = 0.5 + (pattern * 0.75 + fine * 0.25 - 0.5) * contrast;
        mix(self.palettes[0].tone(tone), self.palettes[1].tone(tone), second)
    }
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Disc,
    Block,
    Wedge,
    Stick,
    Crescent,
}

/// A small thing that is no member of any class.
pub(super) struct Thing {
    form: Form,
    centre: Point,
    radius: f32,
    turn: Point,
    palette: Palette,
    striped: bool,
}

impl Thing {
    pub fn random(difficulty: &Difficulty, rng: &mut Rng) -> Self {
        let forms = [Form::Disc, Form::Block, Form::Wedge, Form::Stick, Form::Crescent];
        let angle = rng.uniform_f32(0.0, std::f32::consts::TAU);
        let [low, high] = difficulty.clutter_radius;
        Self {
            form: forms[rng.below(forms.len() as u64) as usize],
            centre: [rng.uniform_f32(0.02, 0.98), rng.uniform_f32(0.02, 0.98)],
            radius: rng.uniform_f32(low, high),
            turn: [cosf(angle), sinf(angle)],
            palette: Palette::random(rng),
            striped: rng.chance(0.5),
        }
    }

    /// Where the thing ends, in image units: (centre, radius).
    pub fn bounds(&self) -> (Point, f32) {
        (self.centre, self.radius * 1.8)
    }

    fn local(&self, p: Point) -> Point {
        let d = [(p[0] - self.centre[0]) / self.radius, (p[1] - self.centre[1]) / self.radius];
        [d[0] * self.turn[0] + d[1] * self.turn[1], d[1] * self.turn[0] - d[0] * self.turn[1]]
    }

    /// Signed distance in image units.
    pub fn distance(&self, p: Point) -> f32 {
        let q = self.local(p);
        let d = match self.form {
            Form::Disc => circle(q, [0.0; 2], 0.85),
            Form::Block => (q[0].abs() - 0.9).max(q[1].abs() - 0.55),
            Form::Wedge => polygon(q, &[[0.0, -1.0], [0.9, 0.7], [-0.9, 0.7]]),
            Form::Stick => stroke(q, [-1.5, 0.0], [1.5, 0.0], 0.2, 0.14),
            Form::Crescent => circle(q, [0.0; 2], 0.95).max(-circle(q, [0.5, 0.0], 0.75)),
        };
        d * self.radius
    }

    pub fn colour(&self, p: Point) -> Rgb {
        let q = self.local(p);
        let stripe = if self.striped && (q[0] * 1.6).rem_euclid(1.0) < 0.45 { 0.3 } else { 0.0 };
        self.palette.tone(0.55 + stripe - 0.25 * (q[1] * 0.5 + 0.3))
    }
}
