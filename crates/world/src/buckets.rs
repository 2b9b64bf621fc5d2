//! Tensors in buckets: few long messages instead of many short ones, and never a copy of everything at once.

use std::ops::Range;

/// Bytes after which a bucket is full. A longer tensor has one of its own.
pub const BUCKET_BYTES: usize = 25_000_000;

/// Runs of neighbours among tensors of so many values each, in their order, that go into one bucket.
pub fn buckets(values: &[usize]) -> Vec<Range<usize>> {
    let (mut all, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (i, len) in values.iter().enumerate() {
        if i > start && bytes + 4 * len > BUCKET_BYTES {
            all.push(start..i);
            (start, bytes) = (i, 0);
        }
        bytes += 4 * len;
    }
    if start < values.len() {
        all.push(start..values.len());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_not_too_large() {
        let whole = BUCKET_BYTES / 4;
        assert_eq!(buckets(&[]), []);
        let all = 0..3;
        assert_eq!(buckets(&[1, 2, 3]), [all]);
        assert_eq!(buckets(&[whole, 1, whole - 1, 1]), [0..1, 1..3, 3..4]);
        assert_eq!(buckets(&[1, 5 * whole, 0, 1]), [0..1, 1..2, 2..4]);
    }
}
