//! Schedules, in f64 on the host, as the reference computes them.

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
