//! Random numbers as a function of counters.
//!
//! A generator is seeded from whole words (seed, epoch, sample), so any sample of any epoch can be replayed alone, in
//! any order, on any number of threads. Integer arithmetic only, hence the same stream on every platform.
//! Seeding is SplitMix64, the stream xoshiro256++ (Blackman and Vigna, "Scrambled linear pseudorandom number
//! generators").

/// A small, fast, reproducible random number generator.
#[derive(Debug, Clone)]
pub struct Rng {
    state: [u64; 4],
}

/// Keeps the streams of samples, orders and replacements apart although they share seed and epoch.
const SAMPLE_STREAM: u64 = 0x5341_4D50;

/// The next number of a SplitMix64 stream, which moves on.
pub fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A 64-bit hash of a list of words; the order of the words matters.
pub fn hash_words(words: &[u64]) -> u64 {
    let mut hash = 0x243F_6A88_85A3_08D3u64 ^ words.len() as u64;
    for &word in words {
        let mut state = hash ^ word;
        hash = split_mix(&mut state).rotate_left(17) ^ word.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    }
    split_mix(&mut hash)
}

impl Rng {
    /// The stream belonging to a list of words.
    pub fn from_words(words: &[u64]) -> Self {
        let mut seed = hash_words(words);
        Self { state: std::array::from_fn(|_| split_mix(&mut seed)) }
    }

    /// The stream of one sample in one epoch: what its views look like depends on nothing else.
    pub fn for_sample(seed: u64, epoch: u64, index: u64) -> Self {
        Self::from_words(&[SAMPLE_STREAM, seed, epoch, index])
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let c2 = c ^ a;
        let d2 = d ^ b;
        self.state = [a ^ d2, b ^ c2, c2 ^ (b << 17), d2.rotate_left(45)];
        result
    }

    /// Uniform in `[0, 1)`, 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `[0, 1)`, 24 random bits.
    pub fn unit_f32(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 * (1.0 / (1u32 << 24) as f32)
    }

    /// Uniform in `[low, high)`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform in `[low, high)`, single precision.
    pub fn uniform_f32(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit_f32()
    }

    /// Uniform in `0..n` without bias; 0 when `n` is 0. (Multiply-and-reject, Lemire 2019.)
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        let reject = n.wrapping_neg() % n;
        loop {
            let wide = u128::from(self.next_u64()) * u128::from(n);
            if wide as u64 >= reject {
                return (wide >> 64) as u64;
            }
        }
    }

    /// True with probability `p`. Always consumes one draw, so later draws do not depend on `p`.
    pub fn chance(&mut self, p: f32) -> bool {
        self.unit() < f64::from(p)
    }

    /// Puts a slice into random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_reproducible_and_distinct() {
        let draw = |s, e, i| Rng::for_sample(s, e, i).next_u64();
        assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
        let mut seen = std::collections::HashSet::new();
        for s in 0..8 {
            for e in 0..8 {
                for i in 0..256 {
                    assert!(seen.insert(draw(s, e, i)));
                }
            }
        }
    }

    #[test]
    fn below_is_uniform_and_unit_stays_in_range() {
        let mut rng = Rng::from_words(&[7]);
        let mut counts = [0u32; 6];
        for _ in 0..60_000 {
            counts[rng.below(6) as usize] += 1;
            assert!((0.0..1.0).contains(&rng.unit()));
        }
        // 5 standard deviations of a binomial(60000, 1/6) are 456.
        assert!(counts.iter().all(|&c| c.abs_diff(10_000) < 456), "{counts:?}");
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.below(1), 0);
    }
}
