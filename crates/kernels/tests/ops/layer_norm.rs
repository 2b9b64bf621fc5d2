use burn::tensor::Tensor;
use ocelli_kernels::{layer_norm, layer_norm::layer_norm_reference};

use crate::common::*;

const EPS: f32 = 1e-6;

type Inputs = (Tensor<2>, Tensor<1>, Tensor<1>);

fn inputs(rows: usize, dim: usize, scale: f32) -> Inputs {
    (random(1, [rows, dim], scale) + 0.5, random(2, [dim], 0.5) + 1.0, random(3, [dim], 0.5))
}

/// Value and gradients.
fn run(
    f: impl Fn(Tensor<2>, Tensor<1>, Tensor<1>, f32) -> Tensor<2>,
    (x, gamma, beta): Inputs,
) -> (Tensor<2>, Tensor<2>, Tensor<1>, Tensor<1>) {
    let (x, gamma, beta) = (x.require_grad(), gamma.require_grad(), beta.require_grad());
    let y = f(x.clone(), gamma.clone(), beta.clone(), EPS);
    let grads = weigh(y.clone()).backward();
    (y, x.grad(&grads).unwrap(), gamma.grad(&grads).unwrap(), beta.grad(&grads).unwrap())
}

fn check((x, gamma, beta): Inputs, tolerance: f64) {
    let what = format!("layer_norm {:?}", x.dims());
    let wide = (double(&x), double(&gamma), double(&beta));
    let got = run(layer_norm, (x.detach(), gamma.detach(), beta.detach()));
    let want = run(layer_norm_reference, wide);
    close(&what, &got.0, &want.0, tolerance);
    // One number is its own mean: nothing is left of numbers of size 1, and of their sum over rows.
    let [rows, _] = got.0.dims();
    close_or_zero(&format!("{what} dx"), &got.1, &want.1, tolerance, 1.0);
    close_or_zero(&format!("{what} dgamma"), &got.2, &want.2, tolerance, rows as f64);
    close(&format!("{what} dbeta"), &got.3, &want.3, tolerance);
}

#[test]
fn agrees_with_the_reference() {
    for (rows, dim) in [(1, 96), (3, 1), (5, 7), (17, 16), (65, 33), (129, 96), (300, 384), (2, 1000)] {
        check(inputs(rows, dim, 1.0), 1e-5);
    }
}

#[test]
fn survives_large_inputs() {
    let (x, gamma, beta) = inputs(9, 50, 1e4);
    check((x, gamma, beta), 1e-5);
}

#[test]
fn takes_strided_inputs() {
    let x = random(4, [40, 60], 1.0);
    let (_, gamma, beta) = inputs(1, 40, 1.0);
    check((x.clone().transpose(), gamma, beta), 1e-5);
    let (_, gamma, beta) = inputs(1, 21, 1.0);
    check((x.slice([3..17, 5..26]), gamma, beta), 1e-5);
}

#[test]
fn is_the_same_on_any_number_of_threads() {
    same_bits("layer_norm", || {
        let (y, dx, dgamma, dbeta) = run(layer_norm, inputs(1000, 96, 1.0));
        vec![bits(&y), bits(&dx), bits(&dgamma), bits(&dbeta)]
    });
}

#[test]
fn reference_passes_finite_differences() {
    let (x, gamma, beta) = inputs(3, 5, 1.0);
    let (g, b) = (double(&gamma), double(&beta));
    differences("x", &x, |x| layer_norm_reference(x, g.clone(), b.clone(), EPS));
    let x = double(&x);
    differences("gamma", &gamma, |g| layer_norm_reference(x.clone(), g, b.clone(), EPS));
}

#[test]
fn gradients_only_where_asked() {
    let (x, gamma, beta) = inputs(4, 8, 1.0);
    let gamma = gamma.require_grad();
    let grads = weigh(layer_norm(x.clone(), gamma.clone(), beta, EPS)).backward();
    assert!(x.grad(&grads).is_none());
    assert!(gamma.grad(&grads).is_some());
}
