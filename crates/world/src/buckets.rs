//! Tensors in buckets: few long messages instead of many short ones, and never a copy of everything at once.

use std::ops::Range;

/// Bytes after which a bucket is full. A longer tensor has one of its own.
pub const BUCKET_BYTES: usize = 25_000_000;

/// The first bucket and the last are shorter: nothing is sent while the first is read from the device, or while the last goes back.
const EDGE_BYTES: usize = BUCKET_BYTES / 4;

/// Runs of neighbours among tensors of so many values each, in their order, that go into one bucket. One where all fit into it.
pub fn buckets(values: &[usize]) -> Vec<Range<usize>> {
    let bytes = |range: Range<usize>| 4 * values[range].iter().sum::<usize>();
    let mut end = values.len();
    if end == 0 {
        return Vec::new();
    }
    if bytes(0..end) <= BUCKET_BYTES {
        let all = 0..end;
        return vec![all];
    }
    let (mut all, mut limit) = (Vec::new(), EDGE_BYTES);
    while end > 0 {
        let start = (0..end).rev().take_while(|start| bytes(*start..end) <= limit).last().unwrap_or(end - 1);
        all.push(start..end);
        (end, limit) = (start, BUCKET_BYTES);
    }
    if let Some(whole) = all.pop() {
        let short = (1..whole.end).take_while(|end| bytes(0..*end) <= EDGE_BYTES).last();
        let cut = short.filter(|_| bytes(whole.clone()) > EDGE_BYTES).unwrap_or(0);
        all.extend([cut..whole.end, 0..cut].into_iter().filter(|range| !range.is_empty()));
    }
    all.reverse();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_not_too_large() {
        let (whole, edge) = (BUCKET_BYTES / 4, EDGE_BYTES / 4);
        assert_eq!(buckets(&[]), []);
        let all = 0..3;
        assert_eq!(buckets(&[1, 2, whole - 3]), [all]);
        // A tensor is never divided.
        assert_eq!(buckets(&[whole, 1, whole - 1, 1]), [0..1, 1..3, 3..4]);
        assert_eq!(buckets(&[1, 5 * whole, 0, 1]), [0..1, 1..2, 2..4]);
        assert_eq!(buckets(&[edge, edge, 1, edge, edge]), [0..1, 1..4, 4..5]);
    }

    #[test]
    fn all_are_there_once_and_the_outer_ones_are_short() {
        let values: Vec<usize> = (0..500).map(|i| 10_000 + 7919 * i % 90_000).collect();
        let all = buckets(&values);
        assert!(all.len() > 4 && all[0].start == 0 && all[all.len() - 1].end == 500);
        assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start));
        for (i, bucket) in all.iter().enumerate() {
            let most = if i == 0 || i + 1 == all.len() { EDGE_BYTES } else { BUCKET_BYTES };
            let bytes = 4 * values[bucket.clone()].iter().sum::<usize>();
            assert!(bytes > 0 && bytes <= most, "bucket {i}: {bytes}");
        }
    }
}
