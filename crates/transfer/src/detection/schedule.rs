//! The learning rate of a fine-tuned detector: a linear warm-up from a small share, then steps down at milestones.

use serde::{Deserialize, Serialize};

/// SGD with momentum and its schedule; defaults are the published recipe's, for 16 images a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectorOptim {
    /// Learning rate after the warm-up (0.02).
    pub lr: f64,
    /// Share of the momentum buffer that stays (0.9).
    pub momentum: f64,
    /// Decay of weights and biases (1e-4); normalisations have none.
    pub weight_decay: f64,
    /// Iterations of linear warm-up (100).
    pub warmup_iterations: usize,
    /// Share of the rate that the warm-up begins with (0.001).
    pub warmup_factor: f64,
    /// Iterations from which on the rate is `gamma` times as large (18000 and 22000).
    pub milestones: Vec<usize>,
    /// What a milestone multiplies by (0.1).
    pub gamma: f64,
}

impl Default for DetectorOptim {
    fn default() -> Self {
        Self {
            lr: 0.02,
            momentum: 0.9,
            weight_decay: 1e-4,
            warmup_iterations: 100,
            warmup_factor: 0.001,
            milestones: vec![18_000, 22_000],
            gamma: 0.1,
        }
    }
}

impl DetectorOptim {
    /// The learning rate of an iteration, from 0.
    pub fn lr_at(&self, iteration: usize) -> f64 {
        let passed = self.milestones.iter().filter(|m| **m <= iteration).count();
        let factor = if iteration < self.warmup_iterations {
            let done = iteration as f64 / self.warmup_iterations as f64;
            self.warmup_factor * (1.0 - done) + done
        } else {
            1.0
        };
        self.lr * self.gamma.powi(passed as i32) * factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_milestone_within_the_warm_up_counts() {
        let optim = DetectorOptim { milestones: vec![50], ..DetectorOptim::default() };
        assert!((optim.lr_at(49) / optim.lr_at(50) - 10.0 * 0.49051 / 0.5005).abs() < 1e-9);
        let none = DetectorOptim { warmup_iterations: 0, ..optim };
        assert_eq!((none.lr_at(0), none.lr_at(49)), (0.02, 0.02));
    }
}
