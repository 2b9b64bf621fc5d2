//! Photometric distortion, the colour changes of segmentation (and of SSD, Liu et al. 2016, which it comes from).
//!
//! Each with probability ½: brightness x + b with b from ±32 levels; contrast c·x about black, not about the mean; saturation
//! S·s and hue H + h in HSV, h from ±18 of the 180 that OpenCV counts in a circle. Contrast comes before saturation and hue or
//! after them, at random. All of it is done on floats, clipped after every change; the published code rounds to 8 bits after each
//! and draws whole numbers for the hue, so single levels differ while the distribution does not.

use super::FloatPlanes;
use crate::Rng;

/// Most that brightness is moved, in levels of 255.
const BRIGHTNESS_LEVELS: f64 = 32.0;
/// Range of the factors of contrast and saturation.
const FACTORS: [f64; 2] = [0.5, 1.5];
/// Most that the hue is turned, and the whole circle, in OpenCV's steps of two degrees.
const HUE_STEPS: f64 = 18.0;
const CIRCLE_STEPS: f64 = 180.0;

/// What was drawn for one picture; `None` where a change does not happen.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Distortion {
    /// Added to numbers in 0..1.
    pub brightness: Option<f32>,
    /// Multiplies them.
    pub contrast: Option<f32>,
    /// Whether contrast comes before saturation and hue.
    pub contrast_first: bool,
    /// Multiplies S of HSV.
    pub saturation: Option<f32>,
    /// Added to H of HSV, in turns.
    pub hue: Option<f32>,
}

impl Distortion {
    /// Every change takes two numbers, whether it happens or not.
    pub fn draw(rng: &mut Rng) -> Self {
        let mut change = |low: f64, high: f64| {
            let happens = rng.chance(0.5);
            let by = rng.uniform(low, high) as f32;
            happens.then_some(by)
        };
        let brightness = change(-BRIGHTNESS_LEVELS / 255.0, BRIGHTNESS_LEVELS / 255.0);
        let contrast = change(FACTORS[0], FACTORS[1]);
        let saturation = change(FACTORS[0], FACTORS[1]);
        let hue = change(-HUE_STEPS / CIRCLE_STEPS, HUE_STEPS / CIRCLE_STEPS);
        Self { brightness, contrast, contrast_first: rng.chance(0.5), saturation, hue }
    }

    /// Changes colours in 0..1.
    pub fn apply(&self, floats: &mut FloatPlanes) {
        if let Some(by) = self.brightness {
            floats.brightness_add(by);
        }
        let (before, after) = if self.contrast_first { (self.contrast, None) } else { (None, self.contrast) };
        if let Some(factor) = before {
            floats.brightness(factor);
        }
        if let Some(factor) = self.saturation {
            floats.saturation(factor);
        }
        if let Some(turns) = self.hue {
            floats.hue(turns);
        }
        if let Some(factor) = after {
            floats.brightness(factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_pixel(rgb: [f32; 3]) -> FloatPlanes {
        FloatPlanes { width: 1, height: 1, data: rgb.to_vec() }
    }

    #[track_caller]
    fn assert_becomes(distortion: Distortion, from: [f32; 3], to: [f32; 3]) {
        let mut floats = one_pixel(from);
        distortion.apply(&mut floats);
        let worst = floats.data.iter().zip(to).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-5, "{distortion:?} makes {from:?} {:?}, expected {to:?}", floats.data);
    }

    #[test]
    fn each_change_does_what_it_says() {
        let none = Distortion::default();
        let rgb = [0.8, 0.4, 0.2];
        assert_becomes(none, rgb, rgb);
        assert_becomes(Distortion { brightness: Some(0.3), ..none }, rgb, [1.0, 0.7, 0.5]);
        assert_becomes(Distortion { contrast: Some(0.5), ..none }, rgb, [0.4, 0.2, 0.1]);
        // V stays .8, S goes from .75 to .375: the smallest is .8·(1 − .375).
        assert_becomes(Distortion { saturation: Some(0.5), ..none }, rgb, [0.8, 0.6, 0.5]);
        // A third of a circle moves red to green.
        assert_becomes(Distortion { hue: Some(1.0 / 3.0), ..none }, rgb, [0.2, 0.8, 0.4]);
    }

    /// Contrast clips, so its place is seen: before saturation it has clipped red already.
    #[test]
    fn contrast_comes_first_or_last() {
        let both = Distortion { contrast: Some(1.5), saturation: Some(0.5), ..Distortion::default() };
        assert_becomes(both, [0.8, 0.4, 0.2], [1.0, 0.9, 0.75]);
        assert_becomes(Distortion { contrast_first: true, ..both }, [0.8, 0.4, 0.2], [1.0, 0.8, 0.65]);
    }

    #[test]
    fn draws_have_the_published_ranges() {
        const DRAWS: usize = 4000;
        let mut rng = Rng::from_words(&[17, 1]);
        let all: Vec<Distortion> = (0..DRAWS).map(|_| Distortion::draw(&mut rng)).collect();
        let range = |what: &str, of: fn(&Distortion) -> Option<f32>, low: f64, high: f64| {
            let drawn: Vec<f64> = all.iter().filter_map(|d| of(d).map(f64::from)).collect();
            // Five standard deviations of a binomial(4000, ½) are 158.
            assert!(drawn.len().abs_diff(DRAWS / 2) < 158, "{what}: {} of {DRAWS}", drawn.len());
            let (least, most) = drawn.iter().fold((f64::MAX, f64::MIN), |(l, m), &x| (l.min(x), m.max(x)));
            let near = (high - low) / 100.0;
            assert!(least >= low - 1e-6 && least < low + near, "{what}: {least} for {low}");
            assert!(most <= high + 1e-6 && most > high - near, "{what}: {most} for {high}");
        };
        range("brightness", |d| d.brightness, -32.0 / 255.0, 32.0 / 255.0);
        range("contrast", |d| d.contrast, 0.5, 1.5);
        range("saturation", |d| d.saturation, 0.5, 1.5);
        range("hue", |d| d.hue, -0.1, 0.1);
        let first = all.iter().filter(|d| d.contrast_first).count();
        assert!(first.abs_diff(DRAWS / 2) < 158, "{first}");
    }
}
