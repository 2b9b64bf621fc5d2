//! Outlines: signed distances, negative inside, in object units (the outline reaches about 1 from its centre).
//!
//! x points right and y down. Values away from the outline are only roughly distances; what counts is the sign, and that
//! they grow evenly across the edge.

use libm::{atan2f, cosf, sinf};

use crate::Rng;

/// The classes, in label order.
pub const CLASS_NAMES: [&str; 10] =
    ["fish", "leaf", "starfish", "gear", "ring", "flower", "cat", "mushroom", "butterfly", "snail"];

pub(super) type Point = [f32; 2];

pub(super) fn length(p: Point) -> f32 {
    (p[0] * p[0] + p[1] * p[1]).sqrt()
}

fn minus(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1]]
}

pub(super) fn circle(p: Point, centre: Point, radius: f32) -> f32 {
    length(minus(p, centre)) - radius
}

pub(super) fn ellipse(p: Point, centre: Point, radii: Point) -> f32 {
    let q = minus(p, centre);
    let k = length([q[0] / radii[0], q[1] / radii[1]]);
    let gradient = length([q[0] / (radii[0] * radii[0]), q[1] / (radii[1] * radii[1])]);
    if gradient < 1e-5 { -radii[0].min(radii[1]) } else { k * (k - 1.0) / gradient }
}

/// A stroke from `a` to `b`, its radius going from `ra` to `rb`.
pub(super) fn stroke(p: Point, a: Point, b: Point, ra: f32, rb: f32) -> f32 {
    let (pa, ba) = (minus(p, a), minus(b, a));
    let t = (pa[0] * ba[0] + pa[1] * ba[1]) / (ba[0] * ba[0] + ba[1] * ba[1]);
    let t = t.clamp(0.0, 1.0);
    length([pa[0] - ba[0] * t, pa[1] - ba[1] * t]) - (ra + (rb - ra) * t)
}

/// A convex polygon, corners clockwise on the screen.
pub(super) fn polygon(p: Point, corners: &[Point]) -> f32 {
    let mut worst = f32::MIN;
    for (i, &a) in corners.iter().enumerate() {
        let b = corners[(i + 1) % corners.len()];
        let edge = minus(b, a);
        let outward = [edge[1], -edge[0]];
        let q = minus(p, a);
        worst = worst.max((q[0] * outward[0] + q[1] * outward[1]) / length(outward).max(1e-6));
    }
    worst
}

/// Union with a fillet about `k` wide.
pub(super) fn join(a: f32, b: f32, k: f32) -> f32 {
    let h = (k - (a - b).abs()).max(0.0) / k;
    a.min(b) - h * h * k * 0.25
}

/// Folds the plane into one of `count` equal sectors around the x axis.
fn fold(p: Point, count: f32) -> Point {
    let sector = std::f32::consts::TAU / count;
    let angle = atan2f(p[1], p[0]);
    let inside = angle - sector * (angle / sector + 0.5).floor();
    let r = length(p);
    [r * cosf(inside), r * sinf(inside)]
}

/// One individual of a class.
pub(super) struct Shape {
    pub class: usize,
    /// Small numbers in 0..1 that make individuals differ.
    pub vary: [f32; 5],
    /// A whole number that makes them differ: teeth, petals.
    pub count: f32,
}

impl Shape {
    pub fn random(class: usize, rng: &mut Rng) -> Self {
        let vary = std::array::from_fn(|_| rng.unit_f32());
        let (low, spread) = match class {
            3 => (8, 5),
            5 => (5, 4),
            _ => (0, 1),
        };
        Self { class, vary, count: (low + rng.below(spread)) as f32 }
    }

    fn between(&self, which: usize, low: f32, high: f32) -> f32 {
        low + (high - low) * self.vary[which]
    }

    /// Signed distance of a point to the outline.
    pub fn distance(&self, p: Point) -> f32 {
        match self.class {
            0 => self.fish(p),
            1 => self.leaf(p),
            2 => self.starfish(p),
            3 => self.gear(p),
            4 => circle(p, [0.0, 0.0], 0.7).abs() - self.between(0, 0.2, 0.29),
            5 => self.flower(p),
            6 => self.cat(p),
            7 => self.mushroom(p),
            8 => self.butterfly(p),
            _ => self.snail(p),
        }
    }

    fn fish(&self, p: Point) -> f32 {
        let tall = self.between(0, 0.34, 0.52);
        let body = ellipse(p, [-0.2, 0.0], [0.76, tall]);
        let spread = self.between(1, 0.36, 0.52);
        // Two lobes: the notch between them is what a convex polygon cannot have.
        let upper = polygon(p, &[[0.3, 0.08], [1.0, -spread], [0.86, 0.08]]);
        let lower = polygon(p, &[[0.3, -0.08], [0.86, -0.08], [1.0, spread]]);
        let tail = upper.min(lower);
        let at = self.between(2, -0.35, 0.0);
        let fin = polygon(p, &[[at - 0.2, -tall * 0.7], [at + 0.25, -tall - 0.26], [at + 0.4, -tall * 0.5]]);
        join(join(body, tail, 0.14), fin, 0.1)
    }

    fn leaf(&self, p: Point) -> f32 {
        let bend = self.between(0, -0.25, 0.25);
        let q = [p[0] + 0.1, p[1] + bend * (p[0] * p[0] - 0.3)];
        // A lens: two discs of radius r whose centres lie `off` above and below the axis.
        let half = 0.86;
        let wide = self.between(1, 0.34, 0.5);
        let r = (half * half + wide * wide) / (2.0 * wide);
        let off = r - wide;
        let lens = circle(q, [0.0, off], r).max(circle(q, [0.0, -off], r));
        let teeth = self.between(2, 5.0, 9.0);
        let phase = (q[0] + 2.0) * teeth;
        let saw = (phase - phase.floor()) * self.between(3, 0.02, 0.07);
        let stalk = stroke(q, [0.7, 0.0], [1.1, 0.04], 0.045, 0.03);
        join(lens + saw, stalk, 0.05)
    }

    fn starfish(&self, p: Point) -> f32 {
        let q = fold(p, 5.0);
        let arm = stroke(q, [0.0, 0.0], [0.92, 0.0], self.between(0, 0.26, 0.36), self.between(1, 0.07, 0.13));
        join(arm, circle(p, [0.0, 0.0], 0.34), 0.12)
    }

    fn gear(&self, p: Point) -> f32 {
        let r = length(p);
        let wave = cosf(atan2f(p[1], p[0]) * self.count) * 2.4;
        let tooth = wave.clamp(-1.0, 1.0) * self.between(0, 0.08, 0.12);
        let outer = r - 0.84 - tooth;
        outer.max(self.between(1, 0.18, 0.34) - r)
    }

    fn flower(&self, p: Point) -> f32 {
        let q = fold(p, self.count);
        let wide = self.between(0, 0.85, 1.05) * 1.75 / self.count;
        let petal = ellipse(q, [0.56, 0.0], [0.44, wide.min(0.36)]);
        join(petal, circle(p, [0.0, 0.0], 0.3), 0.06)
    }

    fn cat(&self, p: Point) -> f32 {
        let head = ellipse(p, [0.0, 0.2], [self.between(0, 0.76, 0.9), self.between(1, 0.62, 0.74)]);
        let q = [p[0].abs(), p[1]];
        let tip = self.between(2, 0.6, 0.74);
        let ear = polygon(q, &[[0.1, -0.3], [tip, -0.95], [0.78, 0.15], [0.3, 0.2]]);
        join(head, ear, 0.1)
    }

    fn mushroom(&self, p: Point) -> f32 {
        let cap = ellipse(p, [0.0, 0.0], [self.between(0, 0.78, 0.98), self.between(1, 0.7, 0.9)]);
        let rim = p[1] - 0.1 - 0.06 * (1.0 - p[0] * p[0]);
        let thick = self.between(2, 0.18, 0.27);
        let stem = stroke(p, [0.0, 0.1], [0.05, 0.82], thick, thick * 1.25);
        join(cap.max(rim), stem, 0.08)
    }

    fn butterfly(&self, p: Point) -> f32 {
        let q = [p[0].abs(), p[1]];
        let turned = |centre: Point, radii: Point, angle: f32| {
            let (s, c) = (sinf(angle), cosf(angle));
            let d = minus(q, centre);
            ellipse([d[0] * c + d[1] * s, d[1] * c - d[0] * s], [0.0, 0.0], radii)
        };
        let lean = self.between(0, -0.75, -0.5);
        let upper = turned([0.5, -0.34], [0.56, self.between(1, 0.28, 0.38)], lean);
        let lower = turned([0.36, 0.38], [0.42, self.between(2, 0.24, 0.32)], 0.7);
        let body = stroke(q, [0.0, -0.4], [0.0, 0.5], 0.1, 0.06);
        join(upper.min(lower), body, 0.06)
    }

    fn snail(&self, p: Point) -> f32 {
        let shell = circle(p, [0.12, -0.12], self.between(0, 0.56, 0.68));
        let foot = stroke(p, [-0.72, 0.56], [0.92, 0.6], 0.15, 0.07);
        let neck = stroke(p, [-0.62, 0.52], [-0.78, 0.08], 0.15, 0.15);
        let horn = stroke(p, [-0.8, 0.05], [-0.98, -0.36], 0.05, 0.045);
        let other = stroke(p, [-0.74, 0.05], [-0.72, -0.38], 0.05, 0.045);
        join(join(shell, join(foot, neck, 0.15), 0.05), horn.min(other), 0.04)
    }

    /// Area of the outline in object units, by counting a coarse grid.
    pub fn area(&self) -> f32 {
        const STEPS: usize = 28;
        const REACH: f32 = 1.15;
        let step = 2.0 * REACH / STEPS as f32;
        let at = |i: usize| (i as f32 + 0.5) * step - REACH;
        let cells = (0..STEPS * STEPS).filter(|i| self.distance([at(i % STEPS), at(i / STEPS)]) < 0.0);
        cells.count() as f32 * step * step
    }
}
