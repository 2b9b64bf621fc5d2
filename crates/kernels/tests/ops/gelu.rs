use burn::tensor::Tensor;
use ocelli_kernels::{gelu, gelu::gelu_reference};

use crate::common::*;

fn run(f: impl Fn(Tensor<2>) -> Tensor<2>, x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let x = x.require_grad();
    let y = f(x.clone());
    let grads = weigh(y.clone()).backward();
    (y, x.grad(&grads).unwrap())
}

fn check(x: Tensor<2>, tolerance: f64) {
    let what = format!("gelu {:?}", x.dims());
    let want = run(gelu_reference, double(&x));
    let got = run(gelu, x.detach());
    close(&what, &got.0, &want.0, tolerance);
    close(&format!("{what} dx"), &got.1, &want.1, tolerance);
}

#[test]
fn agrees_with_the_reference() {
    for (rows, dim) in [(1, 1), (3, 5), (17, 16), (65, 33), (200, 384)] {
        check(random(1, [rows, dim], 2.0), 1e-6);
    }
}

#[test]
fn is_exact_everywhere() {
    let steps = 40_000;
    let line: Vec<f32> = (0..=steps).map(|i| (i as f32 / steps as f32 - 0.5) * 24.0).collect();
    let x = Tensor::<1>::from_floats(line.as_slice(), &cpu()).unsqueeze::<2>();
    let y = list(&gelu(x));
    for (x, y) in line.iter().zip(&y) {
        let x = f64::from(*x);
        // Complementary form for accuracy on both sides.
        let want = x * 0.5 * erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
        let tolerance = 1e-6f64.max(x.abs() * 1.2e-7);
        assert!((y - want).abs() < tolerance, "gelu({x}) = {y}, expected {want}");
    }
}

/// Complementary error function by its continued fraction, or its series near zero.
fn erfc(x: f64) -> f64 {
    if x.abs() < 2.5 {
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term.abs() > 1e-18 {
            n += 1.0;
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        return 1.0 - sum * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let z = x.abs();
    let tail = (1..200).rev().fold(0.0, |f, n| f64::from(n) / 2.0 / (z + f));
    let value = (-z * z).exp() / (z + tail) * std::f64::consts::FRAC_2_SQRT_PI / 2.0;
    if x > 0.0 { value } else { 2.0 - value }
}

#[test]
fn survives_large_inputs() {
    let x = random(1, [7, 13], 1e4);
    check(x, 1e-6);
}

#[test]
fn takes_strided_inputs() {
    let x = random(4, [40, 60], 1.0);
    check(x.clone().transpose(), 1e-6);
    check(x.slice([3..17, 5..26]), 1e-6);
}

#[test]
fn is_the_same_on_any_number_of_threads() {
    same_bits("gelu", || {
        let (y, dx) = run(gelu, random(1, [700, 100], 1.0));
        vec![bits(&y), bits(&dx)]
    });
}

#[test]
fn reference_passes_finite_differences() {
    differences("x", &random(5, [3, 7], 2.0), gelu_reference);
}
