use ocelli_simd::nearest::similarity_topk;

/// Small whole numbers: their products and sums are exact, and many are alike.
fn whole(count: usize, by: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * by + i / 7) % 5) as f32 - 2.0).collect()
}

#[test]
fn the_best_rows_in_the_order_of_the_bank() {
    for [rows, n, dim, k, tile] in
        [[1, 1, 1, 1, 1], [3, 10, 5, 4, 3], [65, 33, 17, 33, 16], [2, 200, 8, 7, 64], [70, 40, 3, 1, 100]]
    {
        let (queries, bank) = (whole(rows * dim, 3), whole(n * dim, 11));
        let (similarities, indices) = similarity_topk(&queries, &bank, dim, k, tile);
        for (r, query) in queries.chunks_exact(dim).enumerate() {
            let score = |row: &[f32]| row.iter().zip(query).map(|(a, b)| a * b).sum::<f32>();
            let mut all: Vec<(f32, usize)> = bank.chunks_exact(dim).map(score).zip(0..).collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            for (place, (similarity, index)) in all.into_iter().take(k).enumerate() {
                let got = (similarities[r * k + place], indices[r * k + place]);
                assert_eq!(got, (similarity, index as i64), "{rows} of {n}×{dim}: query {r}, place {place}");
            }
        }
    }
}
