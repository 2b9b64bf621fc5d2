//! The layers of a Vision Transformer.

use burn::tensor::Tensor;

use super::{Case, FUNCTIONS, PRODUCTS, Parts, Place, Side, backward, leaf};
use crate::residual_branch::{Heads, Map, Norm, attention_branch_reference, mlp_branch_reference};
use crate::{attention, attention_branch, attention_row, gelu, layer_norm, linear, mlp, mlp_branch};

/// ViT-S/16 at 224 px, then what divides by nothing.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for training in [false, true] {
        cases.extend([[197, 384, 1152], [197, 1536, 384], [65, 33, 49]].map(|sizes| map(sizes, training)));
    }
    // A weight gradient that is split along its rows.
    cases.push(map([1300, 96, 52], true));
    cases.extend([[197, 384, 384], [65, 33, 49]].map(residual));
    cases.extend([[197, 1536], [17, 33]].map(activation));
    cases.extend([[197, 384], [65, 33]].map(norm));
    cases.extend([[197, 384, 1536, 384], [65, 33, 50, 49]].map(perceptron));
    for training in [false, true] {
        // The tokens of 224 px, of local views of 96 px, and of patches of 8 px (one head of six).
        let shapes = [[1, 197, 6, 64], [4, 37, 6, 64], [1, 785, 1, 64], [2, 17, 3, 32], [1, 65, 5, 12]];
        cases.extend(shapes.map(|sizes| attention_of(sizes, training)));
    }
    for training in [false, true] {
        cases.extend([[197, 384, 1536], [3, 5, 7]].map(|sizes| perceptron_branch(sizes, training)));
        cases.extend([[1, 197, 6, 64], [2, 3, 3, 8]].map(|sizes| attention_branch_of(sizes, training)));
    }
    cases
}

/// On the CPU the reference is as good.
pub(super) fn cases_of_gpus() -> Vec<Case> {
    [[1, 785, 6, 64], [2, 3, 5, 32]].map(row).into()
}

/// The name of a case with gradients or without.
fn name(sizes: &str, training: bool) -> String {
    format!("{sizes}{}", if training { "" } else { ", inference" })
}

/// Numbers that leave the size of what they are multiplied with alone.
fn weight(place: &Place, seed: u64, shape: [usize; 2]) -> Tensor<2> {
    place.random(seed, shape, 1.0 / (shape[0] as f32).sqrt())
}

fn map([rows, from, to]: [usize; 3], training: bool) -> Case {
    Case::new("linear", name(&format!("{rows}×{from}×{to}"), training), move |place| {
        let (x, w, b) =
            (place.random(1, [rows, from], 1.0), weight(place, 2, [from, to]), place.random(3, [to], 1.0));
        let dy = place.random(9, [rows, to], 1.0);
        Box::new(move |side| {
            let (x, w, b) = (leaf(&x, training), leaf(&w, training), leaf(&b, training));
            let f = match side {
                Side::Kernel => linear,
                Side::Reference => linear::linear_reference,
            };
            let y = f(x.clone(), w.clone(), Some(b.clone()));
            let parts = Parts::within(PRODUCTS).with("y", &y);
            if !training {
                return parts;
            }
            let g = backward(&y, &dy);
            parts.gradient("dx", &x, &g).gradient("dw", &w, &g).gradient("db", &b, &g)
        })
    })
}

fn residual([rows, from, to]: [usize; 3]) -> Case {
    Case::new("linear_residual", format!("{rows}×{from}×{to}"), move |place| {
        let (x, w, b) =
            (place.random(1, [rows, from], 1.0), weight(place, 2, [from, to]), place.random(3, [to], 1.0));
        let (past, dy) = (place.random(4, [rows, to], 1.0), place.random(9, [rows, to], 1.0));
        Box::new(move |side| {
            let (x, w, b, past) = (leaf(&x, true), leaf(&w, true), leaf(&b, true), leaf(&past, true));
            let f = match side {
                Side::Kernel => crate::linear_residual,
                Side::Reference => linear::linear_residual_reference,
            };
            let y = f(x.clone(), w.clone(), b.clone(), past.clone());
            let g = backward(&y, &dy);
            let parts = Parts::within(PRODUCTS).with("y", &y).gradient("dx", &x, &g).gradient("dw", &w, &g);
            parts.gradient("db", &b, &g).gradient("past", &past, &g)
        })
    })
}

fn activation([rows, dim]: [usize; 2]) -> Case {
    Case::new("gelu", format!("{rows}×{dim}"), move |place| {
        let (x, dy) = (place.random(1, [rows, dim], 2.0), place.random(9, [rows, dim], 1.0));
        Box::new(move |side| {
            let x = leaf(&x, true);
            let f = match side {
                Side::Kernel => gelu,
                Side::Reference => gelu::gelu_reference,
            };
            let y = f(x.clone());
            let g = backward(&y, &dy);
            Parts::within(FUNCTIONS).with("y", &y).gradient("dx", &x, &g)
        })
    })
}

fn norm([rows, dim]: [usize; 2]) -> Case {
    Case::new("layer_norm", format!("{rows}×{dim}"), move |place| {
        let x = place.random(1, [rows, dim], 1.0) + 0.5;
        let (gamma, beta) = (place.random(2, [dim], 0.5) + 1.0, place.random(3, [dim], 0.5));
        let dy = place.random(9, [rows, dim], 1.0);
        Box::new(move |side| {
            let (x, gamma, beta) = (leaf(&x, true), leaf(&gamma, true), leaf(&beta, true));
            let f = match side {
                Side::Kernel => layer_norm,
                Side::Reference => layer_norm::layer_norm_reference,
            };
            let y = f(x.clone(), gamma.clone(), beta.clone(), 1e-6);
            let g = backward(&y, &dy);
            let parts = Parts::within(FUNCTIONS).with("y", &y).gradient("dx", &x, &g);
            parts.gradient("dgamma", &gamma, &g).gradient("dbeta", &beta, &g)
        })
    })
}

fn perceptron([rows, from, hidden, to]: [usize; 4]) -> Case {
    Case::new("mlp", format!("{rows}×{from}×{hidden}×{to}"), move |place| {
        let x = place.random(1, [rows, from], 1.0);
        let (w1, b1) = (weight(place, 2, [from, hidden]), place.random(3, [hidden], 0.5));
        let (w2, b2) = (weight(place, 4, [hidden, to]), place.random(5, [to], 0.5));
        let dy = place.random(9, [rows, to], 1.0);
        Box::new(move |side| {
            let x = leaf(&x, true);
            let (w1, b1, w2, b2) = (leaf(&w1, true), leaf(&b1, true), leaf(&w2, true), leaf(&b2, true));
            let f = match side {
                Side::Kernel => mlp,
                Side::Reference => mlp::mlp_reference,
            };
            let y = f(x.clone(), w1.clone(), b1.clone(), w2.clone(), b2.clone());
            let g = backward(&y, &dy);
            let parts = Parts::within(FUNCTIONS).with("y", &y).gradient("dx", &x, &g);
            let parts = parts.gradient("dw1", &w1, &g).gradient("db1", &b1, &g);
            parts.gradient("dw2", &w2, &g).gradient("db2", &b2, &g)
        })
    })
}

fn sizes([batch, tokens, heads, head]: [usize; 4]) -> String {
    format!("{batch}×{tokens}, {heads} {} of {head}", if heads == 1 { "head" } else { "heads" })
}

fn attention_of(shape: [usize; 4], training: bool) -> Case {
    Case::new("attention", name(&sizes(shape), training), move |place| {
        let [batch, tokens, heads, head] = shape;
        let qkv = place.random(1, [batch, tokens, 3 * heads * head], 1.0);
        let dy = place.random(9, [batch, tokens, heads * head], 1.0);
        Box::new(move |side| {
            let qkv = leaf(&qkv, training);
            let f = match side {
                Side::Kernel => attention,
                Side::Reference => attention::attention_reference,
            };
            let y = f(qkv.clone(), heads, 1.0 / (head as f32).sqrt());
            let parts = Parts::within(FUNCTIONS).with("y", &y);
            if training { parts.gradient("dqkv", &qkv, &backward(&y, &dy)) } else { parts }
        })
    })
}

fn row(shape: [usize; 4]) -> Case {
    Case::new("attention_row", sizes(shape), move |place| {
        let [batch, tokens, heads, head] = shape;
        let qkv = place.random(1, [batch, tokens, 3 * heads * head], 1.0);
        Box::new(move |side| {
            let f = match side {
                Side::Kernel => attention_row,
                Side::Reference => attention_row::attention_row_reference,
            };
            let qkv = qkv.clone().inner();
            Parts::within(FUNCTIONS).with("probabilities", &f(qkv, heads, 1.0 / (head as f32).sqrt(), tokens - 1))
        })
    })
}

/// The parameters of a residual branch: γ, β, and weight and bias of both maps.
struct Parameters {
    vectors: [Tensor<1>; 4],
    weights: [Tensor<2>; 2],
}

impl Parameters {
    fn new(place: &Place, dim: usize, [inner, outer]: [usize; 2]) -> Self {
        Self {
            vectors: [
                place.random(2, [dim], 0.5) + 1.0,
                place.random(3, [dim], 0.5),
                place.random(4, [inner], 0.5),
                place.random(5, [dim], 0.5),
            ],
            weights: [weight(place, 6, [dim, inner]), weight(place, 7, [outer, dim])],
        }
    }

    /// The result of a branch of `x`, and every gradient.
    fn run(
        &self,
        x: &Tensor<2>,
        dy: &Tensor<2>,
        training: bool,
        branch: impl FnOnce(Tensor<2>, Norm, Map, Map) -> Tensor<2>,
    ) -> Parts {
        let x = leaf(x, training);
        let [gamma, beta, b1, b2] = self.vectors.each_ref().map(|v| leaf(v, training));
        let [w1, w2] = self.weights.each_ref().map(|w| leaf(w, training));
        let norm = Norm { gamma: gamma.clone(), beta: beta.clone(), epsilon: 1e-6 };
        let map = |w: &Tensor<2>, b: &Tensor<1>| Map { weight: w.clone(), bias: b.clone() };
        let y = branch(x.clone(), norm, map(&w1, &b1), map(&w2, &b2));
        let parts = Parts::within(FUNCTIONS).with("y", &y);
        if !training {
            return parts;
        }
        let g = backward(&y, dy);
        let parts = parts.gradient("dx", &x, &g).gradient("dgamma", &gamma, &g).gradient("dbeta", &beta, &g);
        let parts = parts.gradient("dw1", &w1, &g).gradient("db1", &b1, &g);
        parts.gradient("dw2", &w2, &g).gradient("db2", &b2, &g)
    }
}

fn perceptron_branch([rows, dim, hidden]: [usize; 3], training: bool) -> Case {
    Case::new("mlp_branch", name(&format!("{rows}×{dim}×{hidden}"), training), move |place| {
        let given = Parameters::new(place, dim, [hidden, hidden]);
        let (x, dy) = (place.random(1, [rows, dim], 1.0), place.random(9, [rows, dim], 1.0));
        Box::new(move |side| {
            let f = match side {
                Side::Kernel => mlp_branch,
                Side::Reference => mlp_branch_reference,
            };
            given.run(&x, &dy, training, f)
        })
    })
}

fn attention_branch_of(shape: [usize; 4], training: bool) -> Case {
    Case::new("attention_branch", name(&sizes(shape), training), move |place| {
        let [batch, tokens, heads, head] = shape;
        let (rows, dim) = (batch * tokens, heads * head);
        let given = Parameters::new(place, dim, [3 * dim, dim]);
        let (x, dy) = (place.random(1, [rows, dim], 1.0), place.random(9, [rows, dim], 1.0));
        let heads = Heads { batch, heads, scale: 1.0 / (head as f32).sqrt() };
        Box::new(move |side| {
            let f = match side {
                Side::Kernel => attention_branch,
                Side::Reference => attention_branch_reference,
            };
            given.run(&x, &dy, training, |x, norm, qkv, proj| f(x, norm, qkv, proj, heads))
        })
    })
}
