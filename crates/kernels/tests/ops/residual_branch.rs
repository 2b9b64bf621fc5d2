use burn::tensor::Tensor;
use ocelli_kernels::residual_branch::{Heads, Map, Norm, attention_branch_reference, mlp_branch_reference};
use ocelli_kernels::{attention_branch, linear::linear_residual_reference, linear_residual, mlp_branch};

use crate::common::*;

/// Input, γ, β, and weight and bias of both maps.
struct Inputs {
    x: Tensor<2>,
    norm: [Tensor<1>; 2],
    weights: [Tensor<2>; 2],
    biases: [Tensor<1>; 2],
}

fn inputs(rows: usize, dim: usize, inner: [usize; 2]) -> Inputs {
    let small = 1.0 / (dim as f32).sqrt();
    Inputs {
        x: random(1, [rows, dim], 1.0),
        norm: [random(2, [dim], 1.0), random(3, [dim], 1.0)],
        weights: [random(4, [dim, inner[0]], small), random(5, [inner[1], dim], small)],
        biases: [random(6, [inner[0]], 1.0), random(7, [dim], 1.0)],
    }
}

impl Inputs {
    fn double(&self) -> Self {
        Self {
            x: double(&self.x),
            norm: [double(&self.norm[0]), double(&self.norm[1])],
            weights: [double(&self.weights[0]), double(&self.weights[1])],
            biases: [double(&self.biases[0]), double(&self.biases[1])],
        }
    }

    fn parts(&self) -> (Norm, Map, Map) {
        let [gamma, beta] = self.norm.clone();
        let map = |i: usize| Map { weight: self.weights[i].clone(), bias: self.biases[i].clone() };
        (Norm { gamma, beta, epsilon: 1e-6 }, map(0), map(1))
    }

    fn tracked(&self) -> Self {
        let one = |t: &Tensor<1>| t.clone().detach().require_grad();
        let two = |t: &Tensor<2>| t.clone().detach().require_grad();
        Self {
            x: two(&self.x),
            norm: [one(&self.norm[0]), one(&self.norm[1])],
            weights: [two(&self.weights[0]), two(&self.weights[1])],
            biases: [one(&self.biases[0]), one(&self.biases[1])],
        }
    }
}

/// The result and all gradients.
fn run(given: &Inputs, f: impl Fn(Tensor<2>, Norm, Map, Map) -> Tensor<2>) -> Vec<(&'static str, Vec<f64>)> {
    let given = given.tracked();
    let (norm, first, second) = given.parts();
    let y = f(given.x.clone(), norm, first, second);
    let grads = weigh(y.clone()).backward();
    let one = |t: &Tensor<1>| list(&t.grad(&grads).unwrap());
    let two = |t: &Tensor<2>| list(&t.grad(&grads).unwrap());
    vec![
        ("y", list(&y)),
        ("dx", two(&given.x)),
        ("gamma", one(&given.norm[0])),
        ("beta", one(&given.norm[1])),
        ("first weight", two(&given.weights[0])),
        ("second weight", two(&given.weights[1])),
        ("first bias", one(&given.biases[0])),
        ("second bias", one(&given.biases[1])),
    ]
}

fn compare(what: &str, got: &[(&str, Vec<f64>)], want: &[(&str, Vec<f64>)]) {
    for ((name, got), (_, want)) in got.iter().zip(want) {
        agree(&format!("{what} {name}"), got, want, 1e-5);
    }
}

#[test]
fn mlp_branch_agrees_with_the_reference() {
    for (rows, dim, hidden) in [(1, 4, 3), (3, 5, 7), (65, 32, 128), (197, 48, 192), (300, 96, 384)] {
        let given = inputs(rows, dim, [hidden, hidden]);
        let want = run(&given.double(), mlp_branch_reference);
        compare(&format!("{rows} rows of {dim}"), &run(&given, mlp_branch), &want);
        // Without anything to differentiate, nothing is kept.
        let (norm, fc1, fc2) = given.parts();
        let plain = mlp_branch(given.x.clone(), norm, fc1, fc2);
        compare("plain", &[("y", list(&plain))], &want);
    }
}

#[test]
fn attention_branch_agrees_with_the_reference() {
    for (batch, tokens, heads, head) in
        [(1, 1, 1, 4), (2, 3, 3, 8), (1, 197, 5, 32), (2, 65, 1, 64), (3, 17, 2, 6)]
    {
        let dim = heads * head;
        let given = inputs(batch * tokens, dim, [3 * dim, dim]);
        let heads = Heads { batch, heads, scale: 1.0 / (head as f32).sqrt() };
        let want = run(&given.double(), |x, n, a, b| attention_branch_reference(x, n, a, b, heads));
        let got = run(&given, |x, n, a, b| attention_branch(x, n, a, b, heads));
        compare(&format!("{batch} × {tokens} tokens, {heads:?}"), &got, &want);
        let (norm, qkv, proj) = given.parts();
        let plain = attention_branch(given.x.clone(), norm, qkv, proj, heads);
        compare("plain", &[("y", list(&plain))], &want);
    }
}

#[test]
fn references_pass_finite_differences() {
    let given = inputs(6, 8, [12, 12]).double();
    differences("mlp branch", &given.x, |x| {
        let (norm, fc1, fc2) = given.parts();
        mlp_branch_reference(x, norm, fc1, fc2)
    });
    let given = inputs(6, 8, [24, 8]).double();
    let heads = Heads { batch: 2, heads: 2, scale: 0.5 };
    differences("attention branch", &given.x, |x| {
        let (norm, qkv, proj) = given.parts();
        attention_branch_reference(x, norm, qkv, proj, heads)
    });
}

#[test]
fn is_the_same_on_any_number_of_threads_and_every_time() {
    let given = inputs(394, 48, [144, 48]);
    let heads = Heads { batch: 2, heads: 3, scale: 0.25 };
    let all = || -> Vec<Vec<f32>> {
        let parts = run(&given, |x, n, a, b| attention_branch(x, n, a, b, heads));
        parts.into_iter().map(|(_, values)| values.into_iter().map(|v| v as f32).collect()).collect()
    };
    same_bits("attention branch", all);
    let first = all();
    for call in 0..20 {
        assert!(all() == first, "call {call} differs");
    }
}

#[test]
fn gradients_only_where_asked() {
    let given = inputs(6, 8, [12, 12]);
    let (norm, fc1, fc2) = given.parts();
    let x = given.x.clone().detach().require_grad();
    let grads = weigh(mlp_branch(x.clone(), norm, fc1, fc2)).backward();
    assert!(x.grad(&grads).is_some());
    assert!(given.weights[0].grad(&grads).is_none() && given.norm[0].grad(&grads).is_none());
}

#[test]
fn a_linear_map_adds_what_goes_past_it() {
    for (rows, from, to) in [(1, 1, 1), (3, 5, 7), (65, 33, 49), (129, 96, 64)] {
        let (x, w) = (random::<2>(1, [rows, from], 1.0), random::<2>(2, [from, to], 1.0));
        let (b, past) = (random::<1>(3, [to], 1.0), random::<2>(4, [rows, to], 1.0));
        let leaf = |t: &Tensor<2>| t.clone().detach().require_grad();
        let run = |x: Tensor<2>, w: Tensor<2>, b: Tensor<1>, past: Tensor<2>, reference: bool| {
            let (x, w, b, past) = (leaf(&x), leaf(&w), b.detach().require_grad(), leaf(&past));
            let f = if reference { linear_residual_reference } else { linear_residual };
            let y = f(x.clone(), w.clone(), b.clone(), past.clone());
            let g = weigh(y.clone()).backward();
            let grad = |t: &Tensor<2>| list(&t.grad(&g).unwrap());
            vec![
                ("y", list(&y)),
                ("dx", grad(&x)),
                ("dw", grad(&w)),
                ("db", list(&b.grad(&g).unwrap())),
                ("past", grad(&past)),
            ]
        };
        let want = run(double(&x), double(&w), double(&b), double(&past), true);
        compare(&format!("{rows}×{from}×{to}"), &run(x, w, b, past, false), &want);
    }
}
