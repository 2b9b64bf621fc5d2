//! Surface patterns: a tone (0 dark, 0.5 middle, 1 light) for every point of an object.
//!
//! A class keeps its kind of pattern; frequency, phase and balance differ between individuals.

use libm::{atan2f, sinf};

use super::noise::{Noise, floor};
use super::shape::{Point, Shape, circle, length, stroke};
use crate::Rng;

/// The pattern of one individual.
pub(super) struct Texture {
    frequency: f32,
    phase: f32,
    /// Which end of the palette the pattern has on top.
    inverted: bool,
    contrast: f32,
}

/// 0 below `low`, 1 above `high`, smooth between.
pub(super) fn step(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// 0..1..0 along a line, period 1.
fn wave(x: f32) -> f32 {
    0.5 - 0.5 * libm::cosf(x * std::f32::consts::TAU)
}

fn part(x: f32) -> f32 {
    x - floor(x) as f32
}

impl Texture {
    pub fn random(contrast: f32, rng: &mut Rng) -> Self {
        Self {
            frequency: rng.uniform_f32(0.8, 1.25),
            phase: rng.uniform_f32(0.0, 1.0),
            inverted: rng.chance(0.5),
            contrast,
        }
    }

    /// The tone at a point of the object whose signed distance to the outline is `depth`.
    pub fn tone(&self, shape: &Shape, p: Point, depth: f32, noise: &Noise) -> f32 {
        let pattern = self.pattern(shape, p, depth, noise);
        let pattern = if self.inverted { 1.0 - pattern } else { pattern };
        let grain = noise.octaves(p[0] * 6.0 + 31.0, p[1] * 6.0, 2) - 0.5;
        let tone = 0.5 + (pattern - 0.5) * self.contrast + grain * 0.18;
        match self.detail(shape.class, p) {
            Some((detail, strength)) => tone + (detail - tone) * strength,
            None => tone,
        }
    }

    fn pattern(&self, shape: &Shape, p: Point, depth: f32, noise: &Noise) -> f32 {
        let (x, y, f) = (p[0], p[1], self.frequency);
        match shape.class {
            // Scales: rows of overlapping arcs.
            0 => {
                let (u, v) = (x * 5.2 * f + self.phase, y * 6.5 * f);
                let shifted = u + 0.5 * (floor(v) & 1) as f32;
                let q = [part(v) - 0.5, part(shifted) - 0.1];
                step(0.3, 0.62, length([q[0], q[1] * 0.9])) * 0.9
            }
            // Veins: a midrib with side veins swept towards the tip.
            1 => {
                let rib = step(0.07, 0.02, y.abs());
                let side = part((x - y.abs() * 0.9) * 4.6 * f + self.phase);
                let vein = step(0.16, 0.04, (side - 0.5).abs());
                rib.max(vein * 0.85)
            }
            // Warts: small round dots everywhere.
            2 => {
                let (near, _) = noise.points(x * 6.0 * f + 5.0, y * 6.0 * f);
                step(0.36, 0.2, near)
            }
            // Turned metal: fine rings.
            3 => {
                let ring = wave(length(p) * 5.5 * f + self.phase);
                let streak = noise.at(atan2f(y, x) * 3.0 + 16.0, length(p) * 2.0);
                0.7 * ring + 0.3 * streak
            }
            // Sprinkles: short strokes in all directions.
            4 => self.sprinkles(p, noise),
            // Petals: rays from the middle, a plain heart.
            5 => {
                let angle = atan2f(y, x) / std::f32::consts::TAU;
                let rays = wave(angle * shape.count * 3.0 + self.phase);
                let fade = step(0.25, 0.9, length(p));
                if length(p) < 0.28 { 0.95 } else { 0.25 + 0.5 * rays * (1.0 - fade) }
            }
            // Tabby: wavy stripes across.
            6 => {
                let bend = noise.octaves(x * 2.0 + 3.0, y * 2.0 + 9.0, 2) * 0.9;
                wave((y * 0.35 + x.abs() * 1.2) * 3.0 * f + bend + self.phase)
            }
            // Cap with large spots, pale striped stem.
            7 => {
                if y > 0.13 && x.abs() < 0.4 {
                    return 0.78 + 0.2 * wave(x * 9.0);
                }
                let (near, _) = noise.points(x * 2.6 * f + 11.0, y * 2.6 * f + self.phase);
                step(0.36, 0.3, near)
            }
            // Wings: bands that follow the edge, and an eye on each.
            8 => {
                let bands = wave(depth * 5.0 * f + self.phase * 0.3);
                let q = [x.abs(), y];
                let eye = circle(q, [0.62, -0.4], 0.0);
                let eye = if eye < 0.2 { wave(eye * 5.0) } else { bands };
                if x.abs() < 0.09 { 0.05 } else { eye }
            }
            // Spiral shell, plain body.
            _ => {
                let q = [x - 0.12, y + 0.12];
                let r = length(q);
                if r > 0.62 || circle(p, [0.12, -0.12], 0.68) > 0.0 {
                    return 0.6;
                }
                let turns = atan2f(q[1], q[0]) / std::f32::consts::TAU;
                wave(turns + r * 4.6 * f + self.phase)
            }
        }
    }

    fn sprinkles(&self, p: Point, noise: &Noise) -> f32 {
        let (u, v) = (p[0] * 4.2 * self.frequency + 7.0, p[1] * 4.2 * self.frequency + 7.0);
        let (cx, cy) = (floor(u), floor(v));
        let angle = noise.cell(cx, cy) * std::f32::consts::PI;
        let (dx, dy) = (libm::cosf(angle) * 0.28, sinf(angle) * 0.28);
        let q = [part(u) - 0.5, part(v) - 0.5];
        let d = stroke(q, [-dx, -dy], [dx, dy], 0.1, 0.1);
        0.12 + 0.88 * step(0.06, -0.04, d)
    }

    /// Eyes and the like: (tone, how much of it).
    fn detail(&self, class: usize, p: Point) -> Option<(f32, f32)> {
        match class {
            0 => {
                let d = length([p[0] + 0.66, p[1] + 0.1]);
                (d < 0.15).then_some((if d < 0.085 { 0.0 } else { 1.0 }, 1.0))
            }
            6 => {
                let q = [p[0].abs(), p[1]];
                let eye = length([(q[0] - 0.34) * 0.8, q[1] - 0.12]);
                if eye < 0.24 {
                    // Rimmed, so that it shows on any coat.
                    let dark = eye > 0.18 || (q[0] - 0.34).abs() < 0.06;
                    return Some(if dark { (0.0, 0.9) } else { (1.0, 1.0) });
                }
                let nose = q[0] < 0.12 && (0.4..0.52).contains(&p[1]);
                nose.then_some((0.05, 0.8))
            }
            _ => None,
        }
    }
}
