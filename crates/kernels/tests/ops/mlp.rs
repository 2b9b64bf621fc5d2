use burn::tensor::Tensor;
use ocelli_kernels::{mlp, mlp::mlp_reference};

use crate::common::*;

type Inputs = (Tensor<2>, Tensor<2>, Tensor<1>, Tensor<2>, Tensor<1>);

fn inputs(rows: usize, from: usize, hidden: usize, to: usize) -> Inputs {
    (
        random(1, [rows, from], 1.0),
        random(2, [from, hidden], 1.0 / (from as f32).sqrt()),
        random(3, [hidden], 0.5),
        random(4, [hidden, to], 1.0 / (hidden as f32).sqrt()),
        random(5, [to], 0.5),
    )
}

/// Value and gradients, flattened.
fn run(
    f: impl Fn(Tensor<2>, Tensor<2>, Tensor<1>, Tensor<2>, Tensor<1>) -> Tensor<2>,
    (x, w1, b1, w2, b2): Inputs,
) -> Vec<Tensor<1>> {
    let (x, w1, b1) = (x.require_grad(), w1.require_grad(), b1.require_grad());
    let (w2, b2) = (w2.require_grad(), b2.require_grad());
    let y = f(x.clone(), w1.clone(), b1.clone(), w2.clone(), b2.clone());
    let grads = weigh(y.clone()).backward();
    vec![
        y.flatten(0, 1),
        x.grad(&grads).unwrap().flatten(0, 1),
        w1.grad(&grads).unwrap().flatten(0, 1),
        b1.grad(&grads).unwrap(),
        w2.grad(&grads).unwrap().flatten(0, 1),
        b2.grad(&grads).unwrap(),
    ]
}

fn check((x, w1, b1, w2, b2): Inputs) {
    let what = format!("mlp {:?} {:?}", x.dims(), w2.dims());
    let wide = (double(&x), double(&w1), double(&b1), double(&w2), double(&b2));
    let want = run(mlp_reference, wide);
    let got = run(mlp, (x.detach(), w1.detach(), b1.detach(), w2.detach(), b2.detach()));
    for (part, (got, want)) in got.iter().zip(&want).enumerate() {
        close(&format!("{what} part {part}"), got, want, 3e-6);
    }
}

#[test]
fn agrees_with_the_reference() {
    for (rows, from, hidden, to) in [
        (1, 1, 1, 1),
        (1, 96, 384, 96),
        (3, 5, 17, 7),
        (65, 33, 50, 49),
        (700, 96, 384, 96),
        (1100, 24, 100, 20),
        // Too large for one pass.
        (150, 256, 1030, 200),
    ] {
        check(inputs(rows, from, hidden, to));
    }
}

#[test]
fn takes_strided_inputs() {
    let (_, w1, b1, w2, b2) = inputs(1, 40, 30, 20);
    let x = random(6, [40, 60], 1.0).transpose();
    check((x, w1.transpose().reshape([30, 40]).transpose(), b1, w2, b2));
}

#[test]
fn is_the_same_on_any_number_of_threads() {
    for sizes in [(2000, 96, 384, 96), (700, 256, 1100, 256)] {
        same_bits("mlp", || {
            let (rows, from, hidden, to) = sizes;
            run(mlp, inputs(rows, from, hidden, to)).iter().map(bits).collect()
        });
    }
}

#[test]
fn inference_gives_the_same_bits() {
    let (x, w1, b1, w2, b2) = inputs(300, 96, 384, 96);
    let trained = run(mlp, (x.clone(), w1.clone(), b1.clone(), w2.clone(), b2.clone()));
    let plain = mlp(x.inner(), w1.inner(), b1.inner(), w2.inner(), b2.inner());
    assert_eq!(bits(&trained[0]), bits(&plain));
}
