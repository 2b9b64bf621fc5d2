use ocelli_simd::pixels::{Weights, weighted_sums};

#[test]
fn sums_are_those_of_wide_numbers() {
    let pixels: Vec<[u8; 4]> =
        (0..40).map(|i: usize| [i * 37, i * 91 + 5, 255 - i, i * i].map(|v| v as u8)).collect();
    // Outputs with none to nine weights, of either sign and as large as 22 fractional bits make them.
    let counts = [4, 1, 0, 9, 2, 3, 8];
    let ends: Vec<usize> = counts.iter().scan(0, |end, count| Some((*end += count, *end).1)).collect();
    let starts = [0, 39, 40, 31, 7, 20, 11];
    let weights: Vec<i32> = (0..27).map(|i| (i * 123_457 % 500_000) - 200_000).collect();
    let mut out = vec![[0; 4]; counts.len()];
    weighted_sums(&pixels, Weights { starts: &starts, ends: &ends, weights: &weights }, 1 << 21, &mut out);
    for (((start, end), count), out) in starts.iter().zip(&ends).zip(counts).zip(&out) {
        for channel in 0..4 {
            let sum: i64 = (0..count)
                .map(|i| i64::from(weights[end - count + i]) * i64::from(pixels[start + i][channel]))
                .sum();
            assert_eq!(i64::from(out[channel]), (1 << 21) + sum, "{start}, {count} weights");
        }
    }
}
