use burn::tensor::Tensor;
use ocelli_kernels::{attention, attention::attention_reference};

use crate::common::*;

fn run(f: impl Fn(Tensor<3>, usize, f32) -> Tensor<3>, qkv: Tensor<3>, heads: usize) -> (Tensor<3>, Tensor<3>) {
    let scale = 1.0 / ((qkv.dims()[2] / 3 / heads) as f32).sqrt();
    let qkv = qkv.require_grad();
    let y = f(qkv.clone(), heads, scale);
    let grads = weigh(y.clone()).backward();
    (y, qkv.grad(&grads).unwrap())
}

fn check(qkv: Tensor<3>, heads: usize, tolerance: f64) {
    let what = format!("attention {:?} of {heads} heads", qkv.dims());
    let want = run(attention_reference, double(&qkv), heads);
    let got = run(attention, qkv.detach(), heads);
    close(&what, &got.0, &want.0, tolerance);
    close(&format!("{what} dqkv"), &got.1, &want.1, tolerance);
}

#[test]
fn agrees_with_the_reference() {
    for (batch, tokens, heads, hd) in [
        (1, 1, 1, 32),
        (2, 3, 3, 8),
        (2, 17, 3, 32),
        (3, 65, 3, 32),
        (1, 65, 5, 12),
        (1, 197, 6, 64),
        (1, 130, 1, 7),
        (2, 16, 6, 1),
        (1, 128, 2, 16),
    ] {
        check(random(1, [batch, tokens, 3 * heads * hd], 1.0), heads, 3e-6);
    }
}

/// Blocks of kernels for hardware are 64 queries or 32 (of large heads), and 32 keys in four parts: whole ones, and ends in every
/// part.
#[test]
fn agrees_where_blocks_end() {
    for (batch, tokens, heads, hd) in [
        (2, 64, 1, 64),
        (1, 37, 2, 64),
        (1, 50, 1, 64),
        (1, 257, 1, 64),
        (3, 5, 2, 32),
        (1, 96, 1, 32),
        (1, 41, 2, 48),
        (1, 33, 2, 128),
    ] {
        check(random(2, [batch, tokens, 3 * heads * hd], 1.0), heads, 3e-6);
    }
}

#[test]
fn survives_large_inputs() {
    let qkv = random(1, [2, 19, 3 * 2 * 16], 1e4).require_grad();
    let y = attention(qkv.clone(), 2, 0.25);
    finite("attention", &y);
    let grads = weigh(y).backward();
    finite("attention dqkv", &qkv.grad(&grads).unwrap());
    // Sharp but not yet decided by rounding.
    check(random(1, [2, 19, 3 * 2 * 16], 8.0), 2, 2e-5);
}

#[test]
fn takes_strided_inputs() {
    let qkv = random(4, [12, 4, 60], 1.0);
    check(qkv.clone().swap_dims(0, 1), 2, 3e-6);
    check(qkv.slice([1..9, 0..3, 6..54]), 2, 3e-6);
}

#[test]
fn is_the_same_on_any_number_of_threads() {
    same_bits("attention", || {
        let (y, d) = run(attention, random(1, [9, 65, 288], 1.0), 3);
        vec![bits(&y), bits(&d)]
    });
}

#[test]
fn reference_passes_finite_differences() {
    differences("qkv", &random(5, [2, 3, 12], 1.0), |qkv| attention_reference(qkv, 2, 0.7));
}
