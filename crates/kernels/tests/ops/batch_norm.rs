use burn::tensor::Tensor;
use ocelli_kernels::batch_norm;
use ocelli_kernels::batch_norm::{BatchNormed, batch_norm_reference};

use crate::common::*;

type BatchNorm = fn(Tensor<4>, Tensor<1>, Tensor<1>, Option<Tensor<4>>, bool, f64) -> BatchNormed;

const EPS: f64 = 1e-5;

/// Results, then gradients: of maps, gamma, beta, and what is added.
fn run(f: BatchNorm, inputs: &Inputs, relu: bool) -> (BatchNormed, [Tensor<4>; 2], [Tensor<1>; 2]) {
    let leaf = |t: &Tensor<4>| t.clone().detach().require_grad();
    let vector = |t: &Tensor<1>| t.clone().detach().require_grad();
    let (x, gamma, beta) = (leaf(&inputs.x), vector(&inputs.gamma), vector(&inputs.beta));
    let other = inputs.other.as_ref().map(leaf);
    let got = f(x.clone(), gamma.clone(), beta.clone(), other.clone(), relu, EPS);
    let grads = weigh(got.output.clone()).backward();
    let of = |t: &Tensor<4>| t.grad(&grads).unwrap();
    let dother = other.as_ref().map_or_else(|| of(&x), of);
    (got, [of(&x), dother], [gamma.grad(&grads).unwrap(), beta.grad(&grads).unwrap()])
}

struct Inputs {
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    other: Option<Tensor<4>>,
}

impl Inputs {
    fn new(shape: [usize; 4], residual: bool) -> Self {
        Self {
            x: random(1, shape, 1.0) * 2.0 + 0.7,
            gamma: random(2, [shape[1]], 1.0),
            beta: random(3, [shape[1]], 1.0),
            other: residual.then(|| random(4, shape, 1.0)),
        }
    }

    fn double(&self) -> Self {
        Self {
            x: double(&self.x),
            gamma: double(&self.gamma),
            beta: double(&self.beta),
            other: self.other.as_ref().map(double),
        }
    }
}

fn check(inputs: &Inputs, relu: bool, tolerance: f64) {
    let what = format!("batch norm {:?}, residual {}, relu {relu}", inputs.x.dims(), inputs.other.is_some());
    let (got, maps, vectors) = run(batch_norm, inputs, relu);
    let (want, want_maps, want_vectors) = run(batch_norm_reference, &inputs.double(), relu);
    close(&what, &got.output, &want.output, tolerance);
    close(&format!("{what} mean"), &got.mean, &want.mean, tolerance);
    close(&format!("{what} variance"), &got.variance, &want.variance, tolerance);
    for (name, got, want) in [("dx", &maps[0], &want_maps[0]), ("dother", &maps[1], &want_maps[1])] {
        close(&format!("{what} {name}"), got, want, tolerance);
    }
    for (name, got, want) in [("dgamma", &vectors[0], &want_vectors[0]), ("dbeta", &vectors[1], &want_vectors[1])]
    {
        close(&format!("{what} {name}"), got, want, tolerance);
    }
}

#[test]
fn agrees_with_the_reference() {
    for shape in
        [[2, 3, 5, 7], [4, 16, 14, 14], [1, 5, 7, 7], [3, 1, 1, 1], [2, 70, 1, 3], [1, 9, 33, 29], [2, 2, 40, 40]]
    {
        for (residual, relu) in [(false, false), (false, true), (true, true), (true, false)] {
            check(&Inputs::new(shape, residual), relu, 1e-5);
        }
    }
}

#[test]
fn takes_strided_inputs_and_one_tensor_twice() {
    let turned = |seed| random::<4>(seed, [6, 4, 3, 5], 1.0).permute([2, 3, 0, 1]);
    let inputs = Inputs { x: turned(1), other: Some(turned(2)), ..Inputs::new([3, 5, 6, 4], false) };
    check(&inputs, true, 1e-5);
    let x = random::<4>(1, [2, 3, 4, 4], 1.0).require_grad();
    let Inputs { gamma, beta, .. } = Inputs::new([2, 3, 4, 4], false);
    let twice = |f: BatchNorm, x: Tensor<4>, gamma: Tensor<1>, beta: Tensor<1>| {
        let y = f(x.clone(), gamma, beta, Some(x.clone()), true, EPS).output;
        x.grad(&weigh(y).backward()).unwrap()
    };
    let wide = twice(batch_norm_reference, double(&x).require_grad(), double(&gamma), double(&beta));
    close("gradient of both", &twice(batch_norm, x, gamma, beta), &wide, 1e-5);
}

#[test]
fn a_mean_far_from_zero_does_not_cancel() {
    let mut inputs = Inputs::new([2, 4, 9, 9], false);
    inputs.x = inputs.x + 1000.0;
    let (got, ..) = run(batch_norm, &inputs, false);
    let (want, ..) = run(batch_norm_reference, &inputs.double(), false);
    close("variance", &got.variance, &want.variance, 1e-5);
    close("output", &got.output, &want.output, 1e-4);
}

#[test]
fn equal_and_tiny_numbers_stay_finite() {
    let mut inputs = Inputs::new([2, 3, 4, 5], true);
    for x in [inputs.x.clone() * 0.0 + 3.0, inputs.x.clone() * 1e-40] {
        inputs.x = x;
        let (got, maps, vectors) = run(batch_norm, &inputs, true);
        finite("output", &got.output);
        maps.iter().for_each(|m| finite("maps", m));
        vectors.iter().for_each(|v| finite("vectors", v));
    }
}

#[test]
fn is_the_same_on_any_number_of_threads() {
    same_bits("batch_norm", || {
        let (got, [dx, dother], [dgamma, dbeta]) = run(batch_norm, &Inputs::new([20, 40, 16, 16], true), true);
        let vectors = [&got.mean, &got.variance, &dgamma, &dbeta].map(bits);
        [&got.output, &dx, &dother].map(bits).into_iter().chain(vectors).collect()
    });
}

#[test]
fn a_hundred_calls_give_the_same_bits() {
    let inputs = Inputs::new([3, 10, 13, 11], true);
    let all = || {
        let (got, [dx, _], [dgamma, _]) = run(batch_norm, &inputs, true);
        vec![bits(&got.output), bits(&dx), bits(&dgamma)]
    };
    let first = all();
    for call in 1..100 {
        assert!(all() == first, "call {call} differs");
    }
}

#[test]
fn reference_passes_finite_differences() {
    let inputs = Inputs::new([2, 3, 3, 2], true);
    let Inputs { gamma, beta, other, .. } = inputs.double();
    differences("x", &inputs.x, |x| {
        batch_norm_reference(x, gamma.clone(), beta.clone(), other.clone(), false, EPS).output
    });
}
