use burn::tensor::Tensor;
use ocelli_kernels::adamw::{adamw_ema_reference, adamw_reference};
use ocelli_kernels::{AdamWStep, adamw, adamw_ema};

use crate::common::*;

fn step(clip: f64) -> AdamWStep {
    AdamWStep { clip, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, keep: 0.998, lr: 2e-3, step: 3 }
}

fn inputs(n: usize) -> (Tensor<1>, Tensor<1>, Tensor<2>) {
    // Second moments are positive.
    let moments = random::<2>(3, [2, n], 1e-2).inner().powi_scalar(2);
    (random::<1>(1, [n], 1.0).inner(), random::<1>(2, [n], 1e-2).inner(), moments)
}

/// Of a moment: f32 rounds what clipping leaves of the gradient (twice in its square), the factors, both products and their
/// sum, 6e-8 each.
const MOMENT: f64 = 4e-7;

/// Both moments, each by its own size: the second is thousands of times smaller.
fn moments_close(what: &str, got: &Tensor<2>, want: &Tensor<2>) {
    for (i, name) in ["first", "second"].into_iter().enumerate() {
        let part = |t: &Tensor<2>| t.clone().narrow(0, i, 1);
        close(&format!("{name} {what}"), &part(got), &part(want), MOMENT);
    }
}

/// Where there was nothing before, the step itself is seen, not what it leaves of the parameter.
#[test]
fn steps_are_exact_by_their_own_size() {
    for n in [3, 64, 4099] {
        for clip in [0.0, 0.01] {
            let (p, g, moments) = inputs(n);
            let (zero, none) = (p * 0.0, moments * 0.0);
            let wide = |x: &Tensor<1>| double(x).inner();
            let want =
                adamw_ema_reference(wide(&zero), wide(&g), double(&none).inner(), wide(&zero), 0.9996, step(clip));
            let got = adamw_ema(zero.clone(), g, none, zero, 0.9996, step(clip));
            let what = format!("{n} from nothing, clip {clip}");
            close(&format!("p of {what}"), &got.0, &want.0, 1e-6);
            moments_close(&format!("moments of {what}"), &got.1, &want.1);
            close(&format!("follower of {what}"), &got.2, &want.2, 1e-6);
        }
    }
}

#[test]
fn agrees_with_the_reference() {
    for n in [1, 3, 64, 1000, 4099, 65_536, 100_001] {
        // No clipping, a limit no gradient reaches, one that every gradient of some length does.
        for clip in [0.0, 100.0, 0.01] {
            let (p, g, moments) = inputs(n);
            let want =
                adamw_reference(double(&p).inner(), double(&g).inner(), double(&moments).inner(), step(clip));
            let got = adamw(p, g, moments, step(clip));
            close(&format!("p of {n}, clip {clip}"), &got.0, &want.0, 1e-6);
            moments_close(&format!("moments of {n}, clip {clip}"), &got.1, &want.1);
        }
    }
}

#[test]
fn is_the_same_every_time_and_on_any_number_of_threads() {
    let (p, g, moments) = inputs(70_003);
    same_bits("adamw", || {
        let (p, moments) = adamw(p.clone(), g.clone(), moments.clone(), step(0.5));
        vec![bits(&p), bits(&moments)]
    });
    let first = bits(&adamw(p.clone(), g.clone(), moments.clone(), step(0.5)).0);
    for _ in 0..100 {
        assert_eq!(first, bits(&adamw(p.clone(), g.clone(), moments.clone(), step(0.5)).0));
    }
}

#[test]
fn a_gradient_of_zero_only_decays() {
    let p = random::<1>(1, [40], 1.0).inner();
    let zero = p.clone() * 0.0;
    let moments: Tensor<2> = Tensor::stack(vec![zero.clone(), zero.clone()], 0);
    let (next, _) = adamw(p.clone(), zero, moments, step(3.0));
    close("decayed", &next, &(double(&p).inner() * 0.998), 1e-7);
}

#[test]
fn a_follower_moves_in_the_same_pass() {
    for n in [1, 3, 1000, 4099, 70_000] {
        for (clip, momentum) in [(0.0, 0.5), (0.01, 0.996), (3.0, 0.9999), (3.0, 1.0)] {
            let (p, g, moments) = inputs(n);
            let follower = random::<1>(4, [n], 1.0).inner();
            let wide = |x: &Tensor<1>| double(x).inner();
            let want = adamw_ema_reference(
                wide(&p),
                wide(&g),
                double(&moments).inner(),
                wide(&follower),
                momentum,
                step(clip),
            );
            let alone = adamw(p.clone(), g.clone(), moments.clone(), step(clip));
            let got = adamw_ema(p, g, moments, follower, momentum, step(clip));
            close(&format!("p of {n}"), &got.0, &want.0, 1e-6);
            moments_close(&format!("moments of {n}"), &got.1, &want.1);
            close(&format!("follower of {n}, momentum {momentum}"), &got.2, &want.2, 1e-6);
            assert_eq!(bits(&got.0), bits(&alone.0), "the step is the same with and without a follower");
            assert_eq!(bits(&got.1), bits(&alone.1));
        }
    }
}

#[test]
fn what_somebody_else_holds_is_not_written_to() {
    let (p, g, moments) = inputs(5000);
    let follower = random::<1>(4, [5000], 1.0).inner();
    let before = (bits(&p), bits(&g), bits(&moments), bits(&follower));
    let got = adamw_ema(p.clone(), g.clone(), moments.clone(), follower.clone(), 0.9, step(3.0));
    assert_ne!(bits(&got.0), before.0);
    assert_eq!((bits(&p), bits(&g), bits(&moments), bits(&follower)), before);
    // A view of what is held counts as well.
    let view = p.clone().reshape([50, 100]);
    let _ = adamw(p, g, moments, step(3.0));
    assert_eq!(bits(&view), before.0);
}
