//! Schedules, in f64 on the host, as the reference computes them.
//!
//! ```
//! use ocelli_methods::schedule::Cosine;
//!
//! let lr = Cosine::new(1.0, 0.0, 10).with_warmup(2);
//! assert_eq!((lr.at(0), lr.at(1), lr.at(2)), (0.0, 1.0, 1.0));
//! assert!(lr.at(9) < lr.at(5) && lr.at(9) > 0.0);
//! ```

use crate::optim::{OptimConfig, ScheduleKind, WarmupKind};

/// A cosine from `base` to `end` after a linear warm-up, one value per iteration.
///
/// end + ½(base − end)(1 + cos(πi/N)), i = 0 … N − 1, N the iterations after warm-up (so `end` itself is never
/// reached); the warm-up is `linspace(start, base, W)`, whose last value is `base`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cosine {
    /// Value where the cosine begins.
    pub base: f64,
    /// Value it approaches.
    pub end: f64,
    /// First value of the warm-up.
    pub warmup_start: f64,
    /// Iterations of warm-up.
    pub warmup_iterations: usize,
    /// All iterations, warm-up included.
    pub iterations: usize,
}

impl Cosine {
    /// Without warm-up.
    pub fn new(base: f64, end: f64, iterations: usize) -> Self {
        Self { base, end, warmup_start: 0.0, warmup_iterations: 0, iterations }
    }

    /// With a linear warm-up from 0; a warm-up longer than the run is cut to it.
    pub fn with_warmup(self, warmup_iterations: usize) -> Self {
        Self { warmup_iterations: warmup_iterations.min(self.iterations), ..self }
    }

    /// The value at an iteration; past the end, the last one.
    pub fn at(&self, iteration: usize) -> f64 {
        if iteration < self.warmup_iterations {
            return linspace(self.warmup_start, self.base, self.warmup_iterations, iteration);
        }
        let length = self.iterations - self.warmup_iterations;
        if length == 0 {
            return self.base;
        }
        let i = (iteration - self.warmup_iterations).min(length - 1);
        let angle = std::f64::consts::PI * i as f64 / length as f64;
        self.end + 0.5 * (self.base - self.end) * (1.0 + angle.cos())
    }
}

/// The learning rate of every iteration: a linear warm-up, then what the configuration says.
///
/// Without a warm-up, iteration t of T: `cosine` as [`Cosine`]; `poly` (peak − min)·(1 − t/T)^power + min, which never reaches
/// min; `step` peak·gamma^n, n the milestones passed, counted from the run's start; `constant` the peak. Past the end, the last
/// value. Where the rate moves by epoch, an epoch has the value of its first iteration.
#[derive(Debug, Clone, PartialEq)]
pub struct LrSchedule {
    kind: ScheduleKind,
    peak: f64,
    min: f64,
    warmup: WarmupKind,
    warmup_start: f64,
    warmup_iterations: usize,
    iterations: usize,
    /// The rate moves every so many iterations.
    every: usize,
    /// Iterations.
    milestones: Vec<usize>,
    gamma: f64,
    power: f64,
}

impl LrSchedule {
    /// The schedule of a run with this peak ([`OptimConfig::peak_lr`]). What counts iterations alone has one step per epoch.
    pub fn new(config: &OptimConfig, peak: f64, steps_per_epoch: usize, epochs: usize) -> Self {
        let iterations = epochs * steps_per_epoch;
        Self {
            kind: config.schedule,
            peak,
            min: config.min_lr,
            warmup: config.warmup,
            warmup_start: config.warmup_start_lr,
            warmup_iterations: (config.warmup_epochs * steps_per_epoch).min(iterations),
            iterations,
            every: if config.lr_by_epoch { steps_per_epoch.max(1) } else { 1 },
            milestones: config.milestones_epochs.iter().map(|m| m.saturating_mul(steps_per_epoch)).collect(),
            gamma: config.gamma,
            power: config.power,
        }
    }

    /// The learning rate at an iteration.
    pub fn at(&self, iteration: usize) -> f64 {
        let iteration = iteration / self.every * self.every;
        let warmup = self.warmup_iterations;
        if iteration < warmup {
            return match self.warmup {
                WarmupKind::Closed => linspace(self.warmup_start, self.peak, warmup, iteration),
                WarmupKind::Open | WarmupKind::Overlapping => {
                    self.warmup_start + iteration as f64 * (self.peak - self.warmup_start) / warmup as f64
                }
            };
        }
        let before = if self.warmup == WarmupKind::Overlapping { 0 } else { warmup };
        let (t, length) = (iteration - before, self.iterations - before);
        match self.kind {
            ScheduleKind::Cosine => Cosine::new(self.peak, self.min, length).at(t),
            ScheduleKind::Poly if length > 0 => {
                let left = 1.0 - t.min(length - 1) as f64 / length as f64;
                (self.peak - self.min) * left.powf(self.power) + self.min
            }
            ScheduleKind::Step => {
                let passed = self.milestones.iter().filter(|m| **m <= iteration).count();
                self.peak * self.gamma.powi(passed as i32)
            }
            ScheduleKind::Poly | ScheduleKind::Constant => self.peak,
        }
    }
}

/// The teacher's temperature: linear over the warm-up epochs, then constant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TeacherTemperature {
    /// Temperature of epoch 0.
    pub start: f64,
    /// Temperature after the warm-up.
    pub end: f64,
    /// Epochs of warm-up; longer than the run is allowed.
    pub warmup_epochs: usize,
}

impl TeacherTemperature {
    /// The temperature of an epoch.
    pub fn at(&self, epoch: usize) -> f64 {
        if epoch < self.warmup_epochs {
            linspace(self.start, self.end, self.warmup_epochs, epoch)
        } else {
            self.end
        }
    }
}

/// Entry `i` of `n` equally spaced values, NumPy's rule: one value is `start`, the last of several is `end`.
fn linspace(start: f64, end: f64, n: usize, i: usize) -> f64 {
    match (n, i) {
        (0 | 1, _) => start,
        _ if i + 1 == n => end,
        _ => start + i as f64 * ((end - start) / (n - 1) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(config: &OptimConfig, steps_per_epoch: usize, epochs: usize) -> Vec<f64> {
        let schedule = LrSchedule::new(config, 1.0, steps_per_epoch, epochs);
        (0..steps_per_epoch * epochs).map(|i| schedule.at(i)).collect()
    }

    /// To the bit what runs have had so far, by step and by epoch.
    #[test]
    fn cosine_is_the_cosine_with_warm_up() {
        for (warmup_epochs, lr_by_epoch, epochs) in
            [(0, false, 5), (2, false, 5), (2, true, 5), (0, true, 4), (9, false, 3)]
        {
            let config = OptimConfig { warmup_epochs, lr_by_epoch, min_lr: 0.01, ..OptimConfig::default() };
            let cosine = Cosine::new(0.3, 0.01, 7 * epochs).with_warmup(7 * warmup_epochs);
            let schedule = LrSchedule::new(&config, 0.3, 7, epochs);
            let every = if lr_by_epoch { 7 } else { 1 };
            for i in 0..7 * epochs + 3 {
                assert_eq!(schedule.at(i), cosine.at(i / every * every), "{warmup_epochs} {lr_by_epoch} {i}");
            }
        }
    }

    #[test]
    fn warm_ups_end_in_three_ways() {
        let constant = OptimConfig {
            schedule: ScheduleKind::Constant,
            warmup_epochs: 2,
            warmup_start_lr: 0.2,
            ..OptimConfig::default()
        };
        let close = |found: &[f64], expected: &[f64]| {
            let near = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12);
            assert!(near && found.len() == expected.len(), "{found:?} {expected:?}");
        };
        close(&rates(&constant, 2, 3), &[0.2, 0.2 + 0.8 / 3.0, 0.2 + 1.6 / 3.0, 1.0, 1.0, 1.0]);
        let open = OptimConfig { warmup: WarmupKind::Open, ..constant };
        close(&rates(&open, 2, 3), &[0.2, 0.4, 0.6, 0.8, 1.0, 1.0]);
        let by_epoch = OptimConfig { lr_by_epoch: true, ..open.clone() };
        close(&rates(&by_epoch, 2, 3), &[0.2, 0.2, 0.6, 0.6, 1.0, 1.0]);
        // Half of what is left after the warm-up, and half of everything.
        let poly = OptimConfig { schedule: ScheduleKind::Poly, power: 1.0, min_lr: 0.0, ..open };
        close(&rates(&poly, 1, 4), &[0.2, 0.6, 1.0, 0.5]);
        let over = OptimConfig { warmup: WarmupKind::Overlapping, ..poly };
        close(&rates(&over, 1, 4), &[0.2, 0.6, 0.5, 0.25]);
    }

    #[test]
    fn steps_come_at_the_start_of_their_epochs() {
        let config = OptimConfig {
            schedule: ScheduleKind::Step,
            milestones_epochs: vec![1, 2],
            gamma: 0.5,
            warmup_epochs: 0,
            ..OptimConfig::default()
        };
        assert_eq!(rates(&config, 2, 3), [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]);
        config.check().unwrap();
        let message = OptimConfig { milestones_epochs: vec![2, 1], ..config }.check().unwrap_err().to_string();
        assert_eq!(message, "optim.milestones_epochs: expected rising epochs, found [2, 1]");
    }
}
