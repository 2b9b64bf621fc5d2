//! Transcendental functions on vectors.

use crate::Lanes;

/// `e^x`, within 2 units in the last place; inputs below −87.3 give about 1e-38, above 88.3 about 2.4e38.
#[inline(always)]
pub fn exp<L: Lanes>(x: L) -> L {
    let x = L::splat(-87.3).max(x);
    let x = L::splat(88.3).min(x);
    let n = x.mul(L::splat(core::f32::consts::LOG2_E)).round();
    // ln 2 in two parts, so that the remainder is exact to f32.
    let r = n.mul_add(L::splat(-0.693_359_4), x);
    let r = n.mul_add(L::splat(2.121_944_4e-4), r);
    // Minimax polynomial of (e^r − 1 − r)/r² on |r| ≤ ln 2 / 2.
    let p = L::splat(0.001_381_455_3);
    let p = p.mul_add(r, L::splat(0.008_368_745));
    let p = p.mul_add(r, L::splat(0.041_668_39));
    let p = p.mul_add(r, L::splat(0.166_665_21));
    let p = p.mul_add(r, L::splat(0.499_999_94));
    let p = p.mul_add(r.mul(r), r).add(L::splat(1.0));
    p.mul(n.exp2_int())
}

/// Odd function `x·R(2x²/limit² − 1)` that saturates at ±½ beyond ±`limit`.
#[inline(always)]
fn odd<L: Lanes>(x: L, limit: f32, coefficients: &[f32]) -> L {
    let square = x.mul(x);
    let t = square.mul_add(L::splat(2.0 / (limit * limit)), L::splat(-1.0));
    let mut p = L::splat(0.0);
    for &c in coefficients.iter().rev() {
        p = p.mul_add(t, L::splat(c));
    }
    let tail = x.select_gt(L::splat(0.0), L::splat(0.5), L::splat(-0.5));
    square.select_gt(L::splat(limit * limit), tail, x.mul(p))
}

/// `erf(x/√2)/2`, the normal distribution function less ½, with an absolute error below 1e-7.
///
/// The polynomial in `t = 2x²/5.25² − 1` is a weighted least-squares fit of `erf(x/√2)/(2x)` on Chebyshev nodes,
/// reweighted towards equal errors.
#[inline(always)]
pub fn half_erf<L: Lanes>(x: L) -> L {
    odd(
        x,
        5.25,
        &[
            0.134_659_35,
            -0.067_126_82,
            0.049_645_785,
            -0.039_763_413,
            0.032_031_44,
            -0.025_041_932,
            0.018_538_645,
            -0.012_775_253,
            0.008_417_881,
            -0.005_448_516,
            0.002_892_345_4,
            -0.001_039_538_1,
            6.647_443e-4,
            -6.565_827e-4,
            2.399_465_3e-4,
        ],
    )
}

/// Derivative of the exact GELU less ½, `erf(x/√2)/2 + x·φ(x)`, with an absolute error below 3e-7; fitted like
/// [`half_erf`].
#[inline(always)]
pub fn gelu_slope<L: Lanes>(x: L) -> L {
    odd(
        x,
        5.7,
        &[
            0.124_165_32,
            -0.062_925_935,
            0.050_137_732,
            -0.048_452_545,
            0.053_315_107,
            -0.061_355_866,
            0.068_364_67,
            -0.071_365_4,
            0.068_918_265,
            -0.058_297_124,
            0.042_361_18,
            -0.033_248_357,
            0.028_723_08,
            -0.014_715_834,
            0.001_562_021_6,
            -0.002_683_772_5,
            0.005_254_498,
            -0.002_037_712_6,
        ],
    )
}

/// A number as a level, truncated and clipped, as `as u8` does it; compilers make vectors of this, and not of that.
#[inline(always)]
#[allow(unsafe_code, clippy::manual_clamp)] // clamp leaves NaN what it is.
pub fn level(x: f32) -> u8 {
    // The larger of NaN and 0 is 0.
    let within = x.max(0.0).min(255.0);
    // SAFETY: a number from 0 to 255.
    unsafe { within.to_int_unchecked::<i32>() as u8 }
}

/// [`level`] of double precision.
#[inline(always)]
#[allow(unsafe_code, clippy::manual_clamp)] // clamp leaves NaN what it is.
pub fn level_of_double(x: f64) -> u8 {
    let within = x.max(0.0).min(255.0);
    // SAFETY: a number from 0 to 255.
    unsafe { within.to_int_unchecked::<i32>() as u8 }
}
