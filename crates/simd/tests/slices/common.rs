//! Numbers to test with, and comparisons.

/// Repeatable numbers between −1.5·`scale` and 1.5·`scale`.
pub fn numbers(seed: u64, count: usize, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..count).map(|_| (next() + next() + next() - 1.5) * scale).collect()
}

/// The same numbers in double precision.
pub fn wide(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|x| f64::from(*x)).collect()
}

/// Asserts that numbers agree within `tolerance` times the largest expected one, or times `least`, if that is more.
pub fn close_or(what: &str, got: &[f32], want: &[f64], tolerance: f64, least: f64) {
    assert_eq!(got.len(), want.len(), "{what}: number of values");
    let bound = tolerance * want.iter().fold(least, |most, x| most.max(x.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let apart = (f64::from(*g) - w).abs();
        assert!(apart <= bound, "{what}: at {i} {g}, expected {w}: {apart:.2e} apart, {bound:.2e} at most");
    }
}

/// Asserts that numbers agree within `tolerance` times the largest expected one.
pub fn close(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert!(want.is_empty() || want.iter().any(|x| *x != 0.0), "{what}: nothing but zeros is expected");
    close_or(what, got, want, tolerance, 0.0);
}

/// `A[m, k]·B[k, n]`.
pub fn product(a: &[f64], b: &[f64], [m, n, k]: [usize; 3]) -> Vec<f64> {
    let mut out = vec![0.0; m * n];
    for (i, out) in out.chunks_exact_mut(n.max(1)).enumerate() {
        for p in 0..k {
            for (out, b) in out.iter_mut().zip(&b[p * n..]) {
                *out += a[i * k + p] * b;
            }
        }
    }
    out
}

/// Rows and columns exchanged.
pub fn transposed<T: Copy>(a: &[T], cols: usize) -> Vec<T> {
    (0..cols).flat_map(|c| a.iter().skip(c).step_by(cols).copied()).collect()
}

/// The sum of every column.
pub fn column_sums(a: &[f64], cols: usize) -> Vec<f64> {
    (0..cols).map(|c| a.iter().skip(c).step_by(cols).sum()).collect()
}
