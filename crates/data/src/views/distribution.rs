//! Normal, gamma and beta draws that are the same on every platform: libm, and no fused arithmetic.

use crate::Rng;

/// Uniform in (0, 1]: has a logarithm.
fn above_zero(rng: &mut Rng) -> f64 {
    1.0 - rng.unit()
}

/// Two independent standard normal numbers (Box–Muller).
pub(crate) fn normal_pair(rng: &mut Rng) -> [f64; 2] {
    let radius = libm::sqrt(-2.0 * libm::log(above_zero(rng)));
    let turn = std::f64::consts::TAU * rng.unit();
    [radius * libm::cos(turn), radius * libm::sin(turn)]
}

/// A standard normal number. Always takes two steps of the generator.
pub(crate) fn normal(rng: &mut Rng) -> f64 {
    normal_pair(rng)[0]
}

/// The logarithm of a gamma number of this shape and scale 1 (Marsaglia and Tsang 2000). Shapes below one are raised by one
/// and corrected by U^(1/shape), in logarithms because small shapes underflow.
fn ln_gamma_draw(shape: f64, rng: &mut Rng) -> f64 {
    if shape < 1.0 {
        let correction = libm::log(above_zero(rng)) / shape;
        return ln_gamma_draw(shape + 1.0, rng) + correction;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / libm::sqrt(9.0 * d);
    loop {
        let x = normal(rng);
        let root = 1.0 + c * x;
        let u = above_zero(rng);
        if root > 0.0 {
            let v = root * root * root;
            if libm::log(u) < 0.5 * x * x + d - d * v + d * libm::log(v) {
                return libm::log(d * v);
            }
        }
    }
}

/// A number from the distribution Beta(`a`, `b`), both above zero.
pub(crate) fn beta(a: f64, b: f64, rng: &mut Rng) -> f64 {
    let (x, y) = (ln_gamma_draw(a, rng), ln_gamma_draw(b, rng));
    1.0 / (1.0 + libm::exp(y - x))
}
