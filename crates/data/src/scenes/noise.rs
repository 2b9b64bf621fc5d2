//! Smooth random fields.

use crate::Rng;

const SIDE: usize = 32;
/// Wraps a coordinate into the lattice.
const MASK: i32 = SIDE as i32 - 1;

/// Value noise on a wrapping lattice, and what is made of it.
pub(super) struct Noise {
    lattice: [f32; SIDE * SIDE],
}

/// Rounded down. (The library function is a call on the plainest x86-64 processors, and this is the inner loop.)
pub(super) fn floor(x: f32) -> i32 {
    let whole = x as i32;
    whole - i32::from((whole as f32) > x)
}

fn ease(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

impl Noise {
    pub fn new(rng: &mut Rng) -> Self {
        Self { lattice: std::array::from_fn(|_| rng.unit_f32()) }
    }

    /// The random number of a lattice cell, 0..1.
    pub fn cell(&self, x: i32, y: i32) -> f32 {
        self.lattice[(y & MASK) as usize * SIDE + (x & MASK) as usize]
    }

    /// Smooth noise with features about 1 wide, 0..1.
    pub fn at(&self, x: f32, y: f32) -> f32 {
        let (ix, iy) = (floor(x), floor(y));
        let (tx, ty) = (ease(x - ix as f32), ease(y - iy as f32));
        let mix = |a: f32, b: f32, t: f32| a + (b - a) * t;
        let top = mix(self.cell(ix, iy), self.cell(ix + 1, iy), tx);
        let bottom = mix(self.cell(ix, iy + 1), self.cell(ix + 1, iy + 1), tx);
        mix(top, bottom, ty)
    }

    /// Several octaves of noise, each twice as fine and half as strong, spread to about 0..1.
    pub fn octaves(&self, x: f32, y: f32, count: u32) -> f32 {
        let (mut sum, mut total, mut strength, mut scale) = (0.0, 0.0, 1.0, 1.0);
        for octave in 0..count {
            // The offset keeps the lattice lines of the octaves apart.
            let shift = octave as f32 * 7.37;
            sum += strength * self.at(x * scale + shift, y * scale - shift);
            total += strength;
            strength *= 0.55;
            scale *= 2.0;
        }
        (0.5 + (sum / total - 0.5) * 1.7).clamp(0.0, 1.0)
    }

    /// Distances to the nearest and second nearest point of a jittered grid, in cells: (nearest, second).
    pub fn points(&self, x: f32, y: f32) -> (f32, f32) {
        let (ix, iy) = (floor(x), floor(y));
        let (mut first, mut second) = (9.0f32, 9.0f32);
        for cy in iy - 1..=iy + 1 {
            for cx in ix - 1..=ix + 1 {
                let px = cx as f32 + 0.15 + 0.7 * self.cell(cx, cy);
                let py = cy as f32 + 0.15 + 0.7 * self.cell(cx + 13, cy + 5);
                let squared = (px - x) * (px - x) + (py - y) * (py - y);
                if squared < first {
                    second = first;
                    first = squared;
                } else if squared < second {
                    second = squared;
                }
            }
        }
        (first.sqrt(), second.sqrt())
    }
}
