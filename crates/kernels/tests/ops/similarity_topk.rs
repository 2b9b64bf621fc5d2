use burn::tensor::{Int, Tensor};
use ocelli_kernels::similarity_topk;

use crate::common::*;

/// By sorting everything: indices, best first, equal similarities in the order of the bank.
fn sorted(queries: &Tensor<2>, bank: &Tensor<2>, k: usize) -> Vec<Vec<usize>> {
    let scores = double(queries).matmul(double(bank).transpose());
    let [_, n] = scores.dims();
    list(&scores)
        .chunks(n)
        .map(|row| {
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
            order.truncate(k);
            order
        })
        .collect()
}

fn indices(found: &Tensor<2, Int>) -> Vec<usize> {
    found.to_data().convert::<i64>().try_to_vec::<i64>().unwrap().into_iter().map(|i| i as usize).collect()
}

#[test]
fn agrees_with_sorting_everything() {
    for (rows, dim, n, k, tile) in [
        (1, 1, 1, 1, 1),
        (3, 5, 7, 7, 3),
        (17, 24, 300, 20, 64),
        (5, 33, 1000, 200, 256),
        (70, 16, 513, 1, 128),
        (9, 8, 700, 256, 4096),
    ] {
        // Few different numbers, small enough to be summed without rounding: many similarities are equal.
        let whole = |x: Tensor<2>| (x * 2.0).round();
        let queries = whole(random(1, [rows, dim], 1.0)).inner();
        let bank = whole(random(2, [n, dim], 1.0)).inner();
        let (similarities, found) = similarity_topk(queries.clone(), bank.clone(), k, tile);
        let want = sorted(&queries, &bank, k);
        let what = format!("{k} of {n} for {rows} rows of {dim}, tiles of {tile}");
        assert_eq!(indices(&found), want.concat(), "{what}");
        let scores = list(&double(&queries).matmul(double(&bank).transpose()));
        for (row, (found, got)) in want.iter().zip(list(&similarities).chunks(k)).enumerate() {
            let want: Vec<f64> = found.iter().map(|i| scores[row * n + i]).collect();
            assert_eq!(got, want, "{what}, row {row}");
        }
    }
}

#[test]
fn equal_rows_come_in_the_order_of_the_bank() {
    let bank = random::<2>(1, [1, 6], 1.0).inner().expand([500, 6]);
    let queries = random::<2>(2, [3, 6], 1.0).inner();
    let (_, found) = similarity_topk(queries, bank, 100, 64);
    assert_eq!(indices(&found), (0..100).cycle().take(300).collect::<Vec<_>>());
}

#[test]
fn a_hundred_calls_give_the_same() {
    let (queries, bank) = (random::<2>(3, [20, 32], 1.0).inner(), random::<2>(4, [900, 32], 1.0).inner());
    let all = || {
        let (similarities, found) = similarity_topk(queries.clone(), bank.clone(), 50, 256);
        (bits(&similarities), indices(&found))
    };
    let first = all();
    for call in 1..100 {
        assert!(all() == first, "call {call} differs");
    }
    same_bits("similarity_topk", || vec![all().0]);
}
