//! The sources most like a cell, kept while the context passes by.

/// The values at or above the k-th largest of all that were offered, with where they came from, in the order
/// offered.
#[derive(Debug)]
pub struct TopK {
    k: usize,
    /// The largest k so far, falling.
    best: Vec<f32>,
    /// All that may still belong to them.
    kept: Vec<(u32, f32)>,
    /// Length of `kept` at which those that no longer belong are dropped.
    limit: usize,
}

impl TopK {
    pub fn new(k: usize) -> Self {
        Self { k, best: Vec::new(), kept: Vec::new(), limit: 64 }
    }

    /// What a value must reach.
    fn bar(&self) -> f32 {
        if self.best.len() < self.k { f32::NEG_INFINITY } else { self.best[self.k - 1] }
    }

    /// Offers values of sources that follow each other.
    pub fn offer(&mut self, values: &[f32], first: u32) {
        // Hardly any row holds one; the largest of a row is quick to find.
        let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if largest < self.bar() {
            return;
        }
        for (source, value) in (first..).zip(values) {
            let bar = self.bar();
            if *value < bar {
                continue;
            }
            self.kept.push((source, *value));
            if *value > bar || self.best.len() < self.k {
                let place = self.best.partition_point(|other| other >= value);
                self.best.insert(place, *value);
                self.best.truncate(self.k);
            }
        }
        if self.kept.len() > self.limit {
            self.drop_rest();
            self.limit = 64.max(2 * self.kept.len());
        }
    }

    fn drop_rest(&mut self) {
        let bar = self.bar();
        self.kept.retain(|(_, value)| *value >= bar);
    }

    /// The sources and their values.
    pub fn finish(mut self) -> Vec<(u32, f32)> {
        self.drop_rest();
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_as_by_sorting_all_with_equal_ones() {
        let values: Vec<f32> = (0..500u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as f32).collect();
        for k in [1, 3, 50, 499, 500, 700] {
            for row in [1, 7, 25, 500] {
                let mut top = TopK::new(k);
                for (i, part) in values.chunks(row).enumerate() {
                    top.offer(part, (i * row) as u32);
                }
                let mut sorted = values.clone();
                sorted.sort_by(|a, b| b.total_cmp(a));
                let bar = sorted.get(k - 1).copied().unwrap_or(f32::NEG_INFINITY);
                let want: Vec<(u32, f32)> = (0..).zip(values.iter().copied()).filter(|(_, v)| *v >= bar).collect();
                assert_eq!(top.finish(), want, "k {k}, rows of {row}");
            }
        }
    }
}
