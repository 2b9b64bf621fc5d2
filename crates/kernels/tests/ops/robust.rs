//! What every operation must survive: nothing at all, one tensor in two places, denormals, a hundred calls, sizes that fit no
//! tile.

use burn::tensor::Tensor;
use ocelli_kernels::attention::attention_reference;
use ocelli_kernels::dino_cross_entropy::dino_cross_entropy_reference;
use ocelli_kernels::{attention, dino_cross_entropy, gelu, layer_norm, linear, mlp};

use crate::common::*;

#[test]
fn nothing_gives_nothing() {
    let x = || random::<2>(1, [1, 8], 1.0).slice([0..0, 0..8]);
    let (w, b) = (random::<2>(2, [8, 4], 1.0), random::<1>(3, [4], 1.0));
    assert_eq!(linear(x(), w.clone(), Some(b.clone())).dims(), [0, 4]);
    let (g, c) = (random::<1>(4, [8], 1.0), random::<1>(5, [8], 1.0));
    assert_eq!(layer_norm(x(), g, c.clone(), 1e-6).dims(), [0, 8]);
    assert_eq!(gelu(x()).dims(), [0, 8]);
    assert_eq!(mlp(x(), w, b, random::<2>(6, [4, 8], 1.0), c).dims(), [0, 8]);
    let qkv = random::<3>(7, [1, 3, 24], 1.0).slice([0..0, 0..3, 0..24]);
    assert_eq!(attention(qkv, 2, 0.5).dims(), [0, 3, 8]);
}

#[test]
fn one_tensor_may_come_twice() {
    let x = random::<2>(1, [37, 37], 1.0);
    let want = double(&x).matmul(double(&x));
    close("x·x", &linear(x.clone(), x.clone(), None), &want, 1e-5);
    // A transposed view of the very same numbers.
    let want = double(&x).matmul(double(&x).transpose());
    close("x·xᵀ", &linear(x.clone(), x.clone().transpose(), None), &want, 1e-5);
    let leaf = x.require_grad();
    let grads = weigh(linear(leaf.clone(), leaf.clone(), None)).backward();
    let wide = double(&leaf).require_grad();
    let expected = weigh(wide.clone().matmul(wide.clone())).backward();
    close("gradient of x·x", &leaf.grad(&grads).unwrap(), &wide.grad(&expected).unwrap(), 1e-5);
}

#[test]
fn denormals_are_numbers() {
    let tiny = || random::<2>(1, [5, 12], 1e-40);
    finite("gelu", &gelu(tiny()));
    finite("layer norm", &layer_norm(tiny(), random::<1>(2, [12], 1.0), random::<1>(3, [12], 1.0), 1e-6));
    finite("linear", &linear(tiny(), random::<2>(4, [12, 8], 1.0), None));
    finite("attention", &attention(tiny().reshape([1, 5, 12]), 1, 0.5));
    let loss = dino_cross_entropy(
        tiny().slice([0..4, 0..12]),
        tiny().inner().slice([0..4, 0..12]),
        Tensor::zeros([1, 12], &device().inner()),
        0.1,
        0.04,
        2,
    );
    // Uniform on both sides.
    assert!((list(&loss)[0] - 12f64.ln()).abs() < 1e-5, "{:?}", list(&loss));
}

#[test]
fn a_hundred_calls_give_the_same_bits() {
    let qkv = random::<3>(1, [2, 33, 3 * 40], 1.0);
    let (x, w) = (random::<2>(2, [700, 24], 1.0), random::<2>(3, [24, 20], 1.0));
    let (student, teacher) = (random::<2>(4, [12, 1000], 1.0), random::<2>(5, [6, 1000], 1.0).inner());
    let all = || -> Vec<Vec<f32>> {
        let q = qkv.clone().require_grad();
        let dq = q.grad(&weigh(attention(q.clone(), 5, 0.3)).backward()).unwrap();
        let v = w.clone().require_grad();
        let dv = v.grad(&weigh(linear(x.clone(), v.clone(), None)).backward()).unwrap();
        let s = student.clone().require_grad();
        let centre = Tensor::zeros([1, 1000], &teacher.device());
        let loss = dino_cross_entropy(s.clone(), teacher.clone(), centre, 0.1, 0.04, 4);
        let ds = s.grad(&loss.backward()).unwrap();
        vec![bits(&dq), bits(&dv), bits(&loss), bits(&ds)]
    };
    let first = all();
    for call in 1..100 {
        assert!(all() == first, "call {call} differs");
    }
}

#[test]
fn sizes_that_fit_no_tile() {
    for tokens in [1, 3, 197, 785] {
        let qkv = random::<3>(1, [1, tokens, 3 * 5 * 32], 1.0);
        let leaf = qkv.clone().require_grad();
        let y = attention(leaf.clone(), 5, 0.18);
        let dx = leaf.grad(&weigh(y.clone()).backward()).unwrap();
        let wide = double(&qkv).require_grad();
        let want = attention_reference(wide.clone(), 5, 0.18);
        let expected = wide.grad(&weigh(want.clone()).backward()).unwrap();
        close(&format!("attention over {tokens}"), &y, &want, 1e-5);
        close(&format!("gradient over {tokens}"), &dx, &expected, 1e-5);
    }
    for k in [1, 1000, 65_536] {
        let (student, teacher) = (random::<2>(2, [3, k], 1.0), random::<2>(3, [2, k], 1.0));
        let centre = random::<2>(4, [1, k], 0.1);
        let of =
            |s: Tensor<2>, t: Tensor<2>, c: Tensor<2>| dino_cross_entropy(s, t.inner(), c.inner(), 0.1, 0.04, 3);
        let leaf = student.clone().require_grad();
        let loss = of(leaf.clone(), teacher.clone(), centre.clone());
        let ds = leaf.grad(&loss.clone().backward()).unwrap();
        let wide = double(&student).require_grad();
        let (t, c) = (double(&teacher).inner(), double(&centre).inner());
        let want = dino_cross_entropy_reference(wide.clone(), t, c, 0.1, 0.04, 3);
        let expected = wide.grad(&want.clone().backward()).unwrap();
        // Of one prototype both are zero.
        close_or_zero(&format!("loss of {k}"), &loss, &want, 1e-5, 1.0);
        close_or_zero(&format!("gradient of {k}"), &ds, &expected, 1e-5, 1.0 / 0.1);
    }
}
