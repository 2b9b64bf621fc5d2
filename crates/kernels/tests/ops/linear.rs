use burn::tensor::Tensor;
use ocelli_kernels::{linear, linear::linear_reference};

use crate::common::*;

type Inputs = (Tensor<2>, Tensor<2>, Option<Tensor<1>>);
type Results = (Tensor<2>, Tensor<2>, Tensor<2>, Option<Tensor<1>>);

fn inputs(rows: usize, from: usize, to: usize, bias: bool) -> Inputs {
    (random(1, [rows, from], 1.0), random(2, [from, to], 1.0), bias.then(|| random(3, [to], 1.0)))
}

fn run(f: impl Fn(Tensor<2>, Tensor<2>, Option<Tensor<1>>) -> Tensor<2>, (x, w, b): Inputs) -> Results {
    let (x, w, b) = (x.require_grad(), w.require_grad(), b.map(Tensor::require_grad));
    let y = f(x.clone(), w.clone(), b.clone());
    let grads = weigh(y.clone()).backward();
    (y, x.grad(&grads).unwrap(), w.grad(&grads).unwrap(), b.map(|b| b.grad(&grads).unwrap()))
}

fn check((x, w, b): Inputs, tolerance: f64) {
    let what = format!("linear {:?} {:?}", x.dims(), w.dims());
    let want = run(linear_reference, (double(&x), double(&w), b.as_ref().map(double)));
    let got = run(linear, (x.detach(), w.detach(), b.map(Tensor::detach)));
    close(&what, &got.0, &want.0, tolerance);
    close(&format!("{what} dx"), &got.1, &want.1, tolerance);
    close(&format!("{what} dw"), &got.2, &want.2, tolerance);
    if let (Some(got), Some(want)) = (&got.3, &want.3) {
        close(&format!("{what} db"), got, want, tolerance);
    }
}

#[test]
fn agrees_with_the_reference() {
    for (rows, from, to) in [
        (1, 1, 1),
        (1, 96, 288),
        (3, 5, 7),
        (17, 96, 96),
        (65, 33, 49),
        (129, 384, 96),
        (700, 96, 384),
        (70, 600, 1100),
        (1300, 48, 50),
        (2100, 8, 400),
    ] {
        check(inputs(rows, from, to, true), 2e-6);
        check(inputs(rows, from, to, false), 2e-6);
    }
}

#[test]
fn takes_strided_inputs() {
    let x = random(4, [40, 60], 1.0);
    let w = random(5, [30, 40], 1.0);
    check((x.clone().transpose(), w.transpose(), None), 2e-6);
    let w = random(5, [30, 80], 1.0).slice([4..25, 7..66]);
    check((x.slice([3..17, 5..26]), w, None), 2e-6);
}

#[test]
fn is_the_same_on_any_number_of_threads() {
    for (rows, from, to) in [(3000, 96, 384), (500, 384, 1100), (70, 24, 3000)] {
        same_bits("linear", || {
            let (y, dx, dw, db) = run(linear, inputs(rows, from, to, true));
            vec![bits(&y), bits(&dx), bits(&dw), bits(&db.unwrap())]
        });
    }
}

#[test]
fn reference_passes_finite_differences() {
    let (x, w, b) = inputs(3, 4, 5, true);
    let (w64, b64) = (double(&w), b.as_ref().map(double));
    differences("x", &x, |x| linear_reference(x, w64.clone(), b64.clone()));
    let x = double(&x);
    differences("w", &w, |w| linear_reference(x.clone(), w, b64.clone()));
}

#[test]
fn gradients_only_where_asked() {
    let (x, w, b) = inputs(4, 8, 6, true);
    let w = w.require_grad();
    let grads = weigh(linear(x.clone(), w.clone(), b.clone())).backward();
    assert!(x.grad(&grads).is_none());
    assert!(w.grad(&grads).is_some());
    assert!(b.unwrap().grad(&grads).is_none());
}
