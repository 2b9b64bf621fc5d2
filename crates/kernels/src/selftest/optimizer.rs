//! A step of the optimizer.

use std::cell::RefCell;

use burn::tensor::Tensor;

use super::{Case, Parts, Place, Side};
use crate::adamw::{adamw_ema_reference, adamw_reference};
use crate::{AdamWStep, adamw, adamw_ema};

/// A step rounds some dozen times.
const STEP: f64 = 2e-6;

pub(super) fn cases() -> Vec<Case> {
    // No clipping, and a limit that the gradient reaches; by vectors, and one by one.
    let mut cases: Vec<Case> = [(65_536, 0.0), (65_536, 0.01), (4099, 0.01)].map(|(n, clip)| step(n, clip)).into();
    cases.extend([(100_000, 0.01), (4099, 3.0)].map(|(n, clip)| step_with_follower(n, clip)));
    cases
}

fn scalars(clip: f64) -> AdamWStep {
    AdamWStep { clip, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, keep: 0.998, lr: 2e-3, step: 3 }
}

/// Parameter, gradient, moments.
fn inputs(place: &Place, n: usize) -> (Tensor<1>, Tensor<1>, Tensor<2>) {
    // Second moments are positive.
    let moments = place.random::<2>(3, [2, n], 1e-2).inner().powi_scalar(2);
    (place.random(1, [n], 1.0).inner(), place.random(2, [n], 1e-2).inner(), moments)
}

/// Each by its own size: the second moment is thousands of times smaller than the first.
fn parts(p: &Tensor<1>, moments: &Tensor<2>) -> Parts {
    let moment = |i| moments.clone().narrow(0, i, 1);
    Parts::within(STEP).with("p", p).with("first moment", &moment(0)).with("second moment", &moment(1))
}

/// A tensor that nobody else holds any more, so that the kernel writes over it as it does in training.
fn taken<const D: usize>(tensor: &mut Tensor<D>) -> Tensor<D> {
    let device = tensor.device();
    std::mem::replace(tensor, Tensor::empty([0; D], &device))
}

fn words(n: usize, clip: f64) -> String {
    format!("{n}{}", if clip > 0.0 { format!(", clipped at {clip}") } else { String::new() })
}

fn step(n: usize, clip: f64) -> Case {
    Case::new("adamw", words(n, clip), move |place| {
        let (p, g, moments) = inputs(place, n);
        let state = RefCell::new((p, moments));
        Box::new(move |side| {
            let f = match side {
                Side::Kernel => adamw,
                Side::Reference => adamw_reference,
            };
            state.replace_with(|(p, moments)| f(taken(p), g.clone(), taken(moments), scalars(clip)));
            let (p, moments) = &*state.borrow();
            parts(p, moments)
        })
    })
}

fn step_with_follower(n: usize, clip: f64) -> Case {
    Case::new("adamw_ema", words(n, clip), move |place| {
        let (p, g, moments) = inputs(place, n);
        let state = RefCell::new((p, moments, place.random(4, [n], 1.0).inner()));
        Box::new(move |side| {
            let f = match side {
                Side::Kernel => adamw_ema,
                Side::Reference => adamw_ema_reference,
            };
            state.replace_with(|(p, moments, follower)| {
                f(taken(p), g.clone(), taken(moments), taken(follower), 0.996, scalars(clip))
            });
            let (p, moments, follower) = &*state.borrow();
            parts(p, moments).with("follower", follower)
        })
    })
}
