//! What single vectors do, and the functions on them.

use ocelli_simd::{Level, WIDEST, math, simd_fn};

use crate::common::*;

#[test]
fn the_level_is_the_one_asked_for() {
    let level = Level::detect();
    let asked = std::env::var("OCELLI_SIMD").unwrap_or_default();
    println!("vectors: {}, asked for: {asked:?}", level.name());
    if asked == "portable" {
        assert_eq!(level, Level::Portable);
    }
    #[cfg(target_arch = "x86_64")]
    if asked == "avx2" {
        let there = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        assert_eq!(level, if there { Level::Avx2 } else { Level::Portable });
    }
    #[cfg(target_arch = "aarch64")]
    if asked != "portable" {
        assert_eq!(level, Level::Neon);
    }
    assert!(level.vector() <= WIDEST && level.tile().is_multiple_of(level.vector()));
}

/// What two vectors and a third give, in the order of [`expected`].
const RESULTS: usize = 10;

simd_fn! {
    /// Every operation on vectors of three slices, number by number.
    fn operations<L>(a: &[f32], b: &[f32], c: &[f32], out: &mut [Vec<f32>; RESULTS]) {
        for at in (0..a.len()).step_by(L::N) {
            let (x, y, z) = (L::load(&a[at..]), L::load(&b[at..]), L::load(&c[at..]));
            let results = [
                x.add(y),
                x.sub(y),
                x.mul(y),
                x.div(y),
                x.mul_add(y, z),
                x.max(y),
                x.min(y),
                x.round(),
                x.select_gt(y, z, x),
                L::splat(a[at]),
            ];
            for (result, out) in results.iter().zip(out.iter_mut()) {
                result.store(&mut out[at..]);
            }
        }
    }
}

#[test]
fn operations_follow_their_rules() {
    let special =
        [0.0, -0.0, 1.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.5, 1.5, 2.5, -0.5, -2.5, 1e-3];
    let pick = |i: usize, by: usize| special[(i / by) % special.len()];
    let count = (special.len() * special.len()).next_multiple_of(WIDEST);
    let a: Vec<f32> = (0..count).map(|i| pick(i, 1)).collect();
    let b: Vec<f32> = (0..count).map(|i| pick(i, special.len())).collect();
    let c = numbers(1, count, 3.0);
    let mut out: [Vec<f32>; RESULTS] = std::array::from_fn(|_| vec![0.0; count]);
    operations(&a, &b, &c, &mut out);
    let vector = Level::detect().vector();
    for i in 0..count {
        let (x, y, z) = (a[i], b[i], c[i]);
        let fused = (f64::from(x) * f64::from(y) + f64::from(z)) as f32;
        let want = [
            x + y,
            x - y,
            x * y,
            x / y,
            // With one rounding or with two.
            if out[4][i] == x * y + z { x * y + z } else { fused },
            if x > y { x } else { y },
            if x < y { x } else { y },
            // The rule is for numbers that are finite.
            if x.is_finite() { x.round_ties_even() } else { out[7][i] },
            if x > y { z } else { x },
            a[i / vector * vector],
        ];
        for (r, (out, want)) in out.iter().zip(want).enumerate() {
            let same = out[i] == want || (out[i].is_nan() && want.is_nan());
            assert!(same, "operation {r} of {x}, {y}, {z}: {}, expected {want}", out[i]);
        }
    }
}

simd_fn! {
    /// The sum and the largest of a vector, and both halves of two in turns.
    fn across<L>(a: &[f32], b: &[f32], turns: &mut [f32]) -> [f32; 2] {
        let (x, y) = (L::load(a), L::load(b));
        let (low, high) = x.interleave(y);
        low.store(turns);
        high.store(&mut turns[L::N..]);
        [x.sum(), x.largest()]
    }
}

#[test]
fn sums_and_the_largest_go_over_every_lane() {
    let vector = Level::detect().vector();
    for lane in 0..vector {
        let mut a = vec![1.0; vector];
        a[lane] = 7.0;
        let b: Vec<f32> = (0..vector).map(|i| -(i as f32)).collect();
        let mut turns = vec![0.5; 2 * vector];
        assert_eq!(across(&a, &b, &mut turns), [vector as f32 + 6.0, 7.0], "lane {lane}");
        let want: Vec<f32> = a.iter().zip(&b).flat_map(|(a, b)| [*a, *b]).collect();
        assert_eq!(turns, want);
    }
}

simd_fn! {
    /// Reads a part of a vector and writes all of it, and the other way round.
    fn parts<L>(from: &[f32], whole: &mut [f32], to: &mut [f32]) {
        L::load_part(from).store(whole);
        L::load(whole).add(L::splat(1.0)).store_part(to);
    }
}

#[test]
fn parts_of_vectors_touch_nothing_else() {
    let vector = Level::detect().vector();
    for count in 0..vector {
        let from: Vec<f32> = (0..count).map(|i| i as f32 + 1.0).collect();
        let (mut whole, mut to) = (vec![9.0; WIDEST], vec![9.0; WIDEST]);
        parts(&from, &mut whole, &mut to[..count]);
        for i in 0..WIDEST {
            let read = if i < count { from[i] } else { 0.0 };
            assert_eq!(whole[i], if i < vector { read } else { 9.0 }, "read {count}, lane {i}");
            assert_eq!(to[i], if i < count { read + 1.0 } else { 9.0 }, "wrote {count}, number {i}");
        }
    }
}

simd_fn! {
    /// Each of the functions of [`math`], and powers of two.
    fn functions<L>(x: &[f32], out: &mut [Vec<f32>; 4]) {
        for at in (0..x.len()).step_by(L::N) {
            let x = L::load(&x[at..]);
            let results = [math::exp(x), math::half_erf(x), math::gelu_slope(x), x.round().exp2_int()];
            for (result, out) in results.iter().zip(out.iter_mut()) {
                result.store(&mut out[at..]);
            }
        }
    }
}

#[test]
fn functions_are_as_exact_as_they_say() {
    let x: Vec<f32> = (0..2800 * WIDEST).map(|i| (i as f32 / (1400 * WIDEST) as f32 - 1.0) * 87.0).collect();
    let mut out: [Vec<f32>; 4] = std::array::from_fn(|_| vec![0.0; x.len()]);
    functions(&x, &mut out);
    let [exp, erf, slope, power] = &out;
    for (i, x) in x.iter().enumerate() {
        let wide = f64::from(*x);
        let want = wide.exp();
        assert!((f64::from(exp[i]) / want - 1.0).abs() < 2.0 * f64::from(f32::EPSILON), "e^{x}: {}", exp[i]);
        let half = libm::erf(wide / 2f64.sqrt()) / 2.0;
        assert!((f64::from(erf[i]) - half).abs() < 1e-7, "erf({x}/√2)/2: {}, expected {half}", erf[i]);
        let want = half + wide * (-wide * wide / 2.0).exp() / std::f64::consts::TAU.sqrt();
        assert!((f64::from(slope[i]) - want).abs() < 3e-7, "slope at {x}: {}, expected {want}", slope[i]);
        assert_eq!(f64::from(power[i]), 2f64.powi(x.round_ties_even() as i32), "2^{x}");
    }
}

#[test]
fn exponentials_end_where_they_say_and_keep_what_is_no_number() {
    let mut x = vec![f32::NAN; WIDEST];
    x[..4].copy_from_slice(&[-1e30, f32::NEG_INFINITY, 1e30, f32::INFINITY]);
    let mut out: [Vec<f32>; 4] = std::array::from_fn(|_| vec![0.0; WIDEST]);
    functions(&x, &mut out);
    let [low, lowest, high, highest] = [0, 1, 2, 3].map(|i| out[0][i]);
    assert!(low == lowest && (0.9e-38..1.3e-38).contains(&low), "{low}");
    assert!(high == highest && (2.2e38..2.5e38).contains(&high), "{high}");
    assert!(out[0][4..].iter().all(|x| x.is_nan()) && out[1][4..].iter().all(|x| x.is_nan()));
}
