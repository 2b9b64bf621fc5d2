use burn::tensor::Tensor;
use ocelli_kernels::info_nce;
use ocelli_kernels::info_nce::info_nce_reference;

use crate::common::*;

/// Rows of unit length.
fn unit(seed: u64, rows: usize, dim: usize) -> Tensor<2> {
    let x = random::<2>(seed, [rows, dim], 1.0);
    let norm = x.clone().powi_scalar(2).sum_dim(1).sqrt();
    x / norm
}

fn check(query: &Tensor<2>, key: &Tensor<2>, queue: &Tensor<2>, temperature: f64, weights: Option<&Tensor<2>>) {
    let what = format!("info_nce {:?} {:?} {temperature}", query.dims(), queue.dims());
    let wide = double(query).require_grad();
    let want = info_nce_reference(wide.clone(), double(key), double(queue), temperature, weights.map(double));
    let expected = wide.grad(&(want.clone() * 3.0).backward()).unwrap();
    let leaf = query.clone().detach().require_grad();
    let plain = |t: &Tensor<2>| t.clone().inner();
    let got = info_nce(leaf.clone(), plain(key), &plain(queue), temperature, weights.map(plain));
    let dq = leaf.grad(&(got.loss.clone() * 3.0).backward()).unwrap();
    close(&what, &got.loss, &want, 1e-5);
    close(&format!("{what} dq"), &dq, &expected, 1e-5);
    // Without a graph it is the same.
    let plain_loss = info_nce(plain(query), plain(key), &plain(queue), temperature, weights.map(plain)).loss;
    assert_eq!(list(&plain_loss), list(&got.loss), "{what}");
    // How often the positive is above every negative.
    let (q, k, negatives) = (list(query), list(key), list(queue));
    let ([rows, dim], len) = (query.dims(), queue.dims()[1]);
    let share = |row: usize| weights.map_or(1.0 / rows as f64, |w| list(w)[row]);
    let dot = |row: usize, of: &dyn Fn(usize) -> f64| (0..dim).map(|d| q[row * dim + d] * of(d)).sum::<f64>();
    let won = |row: usize| {
        let positive = dot(row, &|d| k[row * dim + d]);
        (0..len).all(|j| positive > dot(row, &|d| negatives[d * len + j]))
    };
    let top1: f64 = (0..rows).filter(|row| won(*row)).map(share).sum();
    assert!((list(&got.top1)[0] - top1).abs() < 1e-6, "{what}: top-1 {:?}, expected {top1}", list(&got.top1));
}

#[test]
fn agrees_with_the_reference() {
    for (rows, dim, len) in [(1, 1, 1), (3, 5, 7), (8, 16, 64), (9, 128, 130), (70, 33, 1000), (2, 128, 5000)] {
        let query = unit(1, rows, dim);
        // A key that often wins.
        let key = query.clone() + unit(2, rows, dim) * 0.5;
        check(&query, &key, &unit(3, len, dim).transpose(), 0.2, None);
    }
}

#[test]
fn weights_pick_rows() {
    let weights = random::<2>(4, [13, 1], 1.0).abs().mask_fill(random::<2>(5, [13, 1], 1.0).lower_elem(0.0), 0.0);
    check(&unit(1, 13, 24), &unit(2, 13, 24), &unit(3, 200, 24).transpose(), 0.07, Some(&weights));
}

#[test]
fn goes_through_the_queue_in_chunks() {
    // 1,568 rows leave room for 2,624 entries of the softmax at a time.
    check(&unit(1, 1568, 8), &unit(2, 1568, 8), &unit(3, 2700, 8).transpose(), 0.2, None);
}

#[test]
fn takes_strided_inputs_and_one_tensor_twice() {
    let (x, queue) = (random::<2>(6, [12, 40], 0.5), random::<2>(7, [12, 40], 0.5).slice([0..12, 3..30]));
    check(&x.clone().transpose(), &x.transpose(), &queue, 0.5, None);
}

#[test]
fn survives_small_temperatures_and_tiny_numbers() {
    let (q, k, queue) = (unit(1, 5, 8), unit(2, 5, 8), unit(3, 40, 8).transpose());
    check(&q, &k, &queue, 1e-3, None);
    let leaf = (q * 1e-40).detach().require_grad();
    let got = info_nce(leaf.clone(), k.inner(), &queue.inner(), 0.2, None);
    // All logits are equal.
    assert!((list(&got.loss)[0] - 41f64.ln()).abs() < 1e-5);
    finite("dq", &leaf.grad(&got.loss.backward()).unwrap());
}

#[test]
fn a_hundred_calls_give_the_same_bits() {
    let (q, k, queue) = (unit(1, 19, 16), unit(2, 19, 16).inner(), unit(3, 900, 16).transpose().inner());
    let all = || {
        let leaf = q.clone().detach().require_grad();
        let found = info_nce(leaf.clone(), k.clone(), &queue, 0.2, None);
        let dq = leaf.grad(&found.loss.backward()).unwrap();
        vec![bits(&found.loss), bits(&found.top1), bits(&dq)]
    };
    let first = all();
    for call in 1..100 {
        assert!(all() == first, "call {call} differs");
    }
}

#[test]
fn reference_passes_finite_differences() {
    let (key, queue) = (double(&unit(2, 3, 4)), double(&unit(3, 7, 4)).transpose());
    let weights = double(&random::<2>(4, [3, 1], 1.0));
    differences("query", &unit(1, 3, 4), |q| {
        info_nce_reference(q, key.clone(), queue.clone(), 0.3, Some(weights.clone()))
    });
}
