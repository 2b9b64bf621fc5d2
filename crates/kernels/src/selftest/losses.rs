//! Losses, and nearest neighbours.

use burn::tensor::{Int, Tensor};

use super::{Case, FUNCTIONS, Parts, Place, Side, leaf};
use crate::dino_cross_entropy::dino_cross_entropy_reference;
use crate::info_nce::info_nce_reference;
use crate::similarity_topk::similarity_topk_reference;
use crate::{dino_cross_entropy, info_nce, similarity_topk};

/// Published shapes in small, then what divides by nothing.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for training in [false, true] {
        cases.extend([[10, 4, 4096], [3, 4, 33]].map(|sizes| dino(sizes, training)));
    }
    // The third goes through the queue in chunks.
    cases.extend([[32, 128, 4096], [9, 128, 130], [1568, 8, 2700], [3, 5, 7]].map(contrast));
    // Of many neighbours and of few the kernel keeps lists of different lengths.
    cases.extend([[16, 384, 1000, 20], [5, 33, 700, 200], [3, 5, 7, 7]].map(nearest));
    cases
}

fn dino([views, batch, k]: [usize; 3], training: bool) -> Case {
    let words = format!("{views} views × {batch}, K = {k}{}", if training { "" } else { ", value alone" });
    Case::new("dino_cross_entropy", words, move |place| {
        let student = place.random(1, [views * batch, k], 0.5);
        let teacher = place.random(2, [2 * batch, k], 0.5).inner();
        let centre = place.random(3, [1, k], 0.2).inner();
        Box::new(move |side| {
            let student = leaf(&student, training);
            let f = match side {
                Side::Kernel => dino_cross_entropy,
                Side::Reference => dino_cross_entropy_reference,
            };
            let loss = f(student.clone(), teacher.clone(), centre.clone(), 0.1, 0.04, views);
            let parts = Parts::within(FUNCTIONS).with("loss", &loss);
            match training {
                true => parts.gradient("student", &student, &(loss * 1.5).backward()),
                false => parts,
            }
        })
    })
}

/// Rows of unit length.
fn unit(place: &Place, seed: u64, rows: usize, dim: usize) -> Tensor<2> {
    let x = place.random::<2>(seed, [rows, dim], 1.0);
    let norm = x.clone().powi_scalar(2).sum_dim(1).sqrt();
    x / norm
}

fn contrast([rows, dim, len]: [usize; 3]) -> Case {
    Case::new("info_nce", format!("{rows} rows × {len} of {dim}"), move |place| {
        let (query, key) = (unit(place, 1, rows, dim), unit(place, 2, rows, dim).inner());
        let queue = unit(place, 3, len, dim).inner().transpose();
        Box::new(move |side| {
            let query = leaf(&query, true);
            let loss = match side {
                Side::Kernel => info_nce(query.clone(), key.clone(), &queue, 0.2, None).loss,
                Side::Reference => info_nce_reference(query.clone(), key.clone(), queue.clone(), 0.2, None),
            };
            Parts::within(FUNCTIONS).with("loss", &loss).gradient(
                "query",
                &query,
                &(loss.clone() * 3.0).backward(),
            )
        })
    })
}

/// Few different numbers, small enough to be summed without rounding: many similarities are equal, and their order counts.
fn nearest([rows, dim, n, k]: [usize; 4]) -> Case {
    const TILE: usize = 256;
    Case::new("similarity_topk", format!("{k} of {n}×{dim} for {rows} rows"), move |place| {
        let whole = |seed, count| (place.random::<2>(seed, [count, dim], 1.0) * 2.0).round().inner();
        let (queries, bank, place) = (whole(1, rows), whole(2, n), place.clone());
        Box::new(move |side| {
            let (similarities, indices) = match side {
                Side::Kernel => similarity_topk(queries.clone(), bank.clone(), k, TILE),
                Side::Reference if place.is_exact() => sorted(&queries, &bank, k, &place),
                Side::Reference => similarity_topk_reference(&queries, &bank, k, TILE),
            };
            Parts::within(0.0).with("similarities", &similarities).with("indices", &indices.float())
        })
    })
}

/// By sorting everything: best first, equal similarities in the order of the bank.
fn sorted(queries: &Tensor<2>, bank: &Tensor<2>, k: usize, place: &Place) -> (Tensor<2>, Tensor<2, Int>) {
    let ([rows, _], [n, _]) = (queries.dims(), bank.dims());
    let scores = queries.clone().matmul(bank.clone().transpose()).into_data().convert::<f64>();
    let scores = scores.try_to_vec::<f64>().unwrap_or_default();
    let (mut best, mut places) = (Vec::new(), Vec::new());
    for row in scores.chunks(n) {
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        order.truncate(k);
        best.extend(order.iter().map(|i| row[*i] as f32));
        places.extend(order.iter().map(|i| *i as f32));
    }
    (place.tensor(best, [rows, k]), place.tensor(places, [rows, k]).int())
}
