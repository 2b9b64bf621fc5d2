//! Colours that go together: dark, middle and light of a material.

use crate::Rng;

pub(super) type Rgb = [f32; 3];

/// Three tones of one material; tones between are mixed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Palette {
    tones: [Rgb; 3],
}

const MATERIALS: [[[u8; 3]; 3]; 18] = [
    [[46, 61, 36], [98, 124, 58], [180, 196, 122]],
    [[96, 42, 30], [178, 92, 62], [236, 182, 144]],
    [[18, 52, 74], [44, 112, 138], [158, 206, 208]],
    [[120, 96, 66], [196, 168, 122], [240, 224, 190]],
    [[58, 30, 62], [124, 70, 118], [210, 166, 200]],
    [[40, 46, 54], [96, 106, 116], [190, 198, 202]],
    [[104, 68, 20], [194, 142, 44], [244, 212, 130]],
    [[86, 20, 42], [172, 50, 80], [240, 162, 170]],
    [[14, 62, 58], [40, 130, 116], [168, 218, 198]],
    [[44, 32, 26], [106, 78, 60], [182, 154, 126]],
    [[44, 74, 122], [104, 150, 200], [206, 226, 240]],
    [[124, 134, 148], [192, 202, 212], [244, 246, 246]],
    [[116, 44, 58], [216, 106, 74], [250, 198, 132]],
    [[20, 40, 32], [52, 94, 62], [136, 170, 112]],
    [[66, 60, 110], [130, 122, 182], [210, 204, 234]],
    [[110, 84, 30], [214, 186, 62], [248, 238, 160]],
    [[34, 28, 34], [78, 68, 72], [150, 138, 136]],
    [[130, 60, 84], [222, 130, 146], [252, 214, 212]],
];

pub(super) fn mix(a: Rgb, b: Rgb, t: f32) -> Rgb {
    std::array::from_fn(|c| a[c] + (b[c] - a[c]) * t)
}

pub(super) fn scale(a: Rgb, by: f32) -> Rgb {
    a.map(|v| v * by)
}

impl Palette {
    /// A random material, its colours moved a little.
    pub fn random(rng: &mut Rng) -> Self {
        Self::of(rng.below(MATERIALS.len() as u64) as usize, rng)
    }

    /// Plain grey.
    pub fn grey() -> Self {
        Self { tones: [[0.25; 3], [0.5; 3], [0.75; 3]] }
    }

    /// One of the two materials usual for a class, its colours moved a little. Several materials look alike, so
    /// colour hints at the class and does not give it away.
    pub fn usual_for(class: usize, rng: &mut Rng) -> Self {
        Self::of((2 * class + rng.below(2) as usize) % MATERIALS.len(), rng)
    }

    fn of(material: usize, rng: &mut Rng) -> Self {
        let base = MATERIALS[material];
        let tint: Rgb = std::array::from_fn(|_| rng.uniform_f32(-0.06, 0.06));
        let gain = rng.uniform_f32(0.85, 1.12);
        let tones = base
            .map(|tone| std::array::from_fn(|c| (f32::from(tone[c]) / 255.0 * gain + tint[c]).clamp(0.0, 1.0)));
        Self { tones }
    }

    /// A palette from `draw` whose middle is at least `distance` from that of another, as far as a few tries allow.
    pub fn apart_from(other: &Self, distance: f32, rng: &mut Rng, draw: impl Fn(&mut Rng) -> Self) -> Self {
        let mut best = draw(rng);
        for _ in 0..8 {
            if best.distance(other) >= distance {
                break;
            }
            let next = draw(rng);
            if next.distance(other) > best.distance(other) {
                best = next;
            }
        }
        best
    }

    /// The same colours moved towards the grey of their middle: 0 leaves them, 1 makes them one grey.
    pub fn muted(self, by: f32) -> Self {
        let grey = self.tones[1].iter().sum::<f32>() / 3.0;
        Self { tones: self.tones.map(|tone| mix(tone, [grey; 3], by)) }
    }

    fn distance(&self, other: &Self) -> f32 {
        let squared: f32 = (0..3).map(|c| (self.tones[1][c] - other.tones[1][c]).powi(2)).sum();
        squared.sqrt()
    }

    /// 0 is dark, 0.5 the middle, 1 light.
    pub fn tone(&self, t: f32) -> Rgb {
        let t = t.clamp(0.0, 1.0) * 2.0;
        if t < 1.0 { mix(self.tones[0], self.tones[1], t) } else { mix(self.tones[1], self.tones[2], t - 1.0) }
    }
}
