//! One SVM on its way to the optimum, by Newton steps on the support of its loss.
//!
//! The weights are sums of training rows, v = Σ βᵢ·xᵢ, so f = K·β are the decision values. The loss is quadratic
//! as long as the rows with yᵢ·fᵢ < 1, the active ones, stay the same; its minimum there solves
//!
//! ```text
//! (K + 1/s)·β = y on the active rows, β = 0 on the others,      sᵢ = 2·cᵢ
//! ```
//!
//! (Chapelle 2007, *Training a Support Vector Machine in the Primal*). Each step solves this by conjugate
//! gradients, or directly where these take longer, and goes to the lowest point of the loss on the line to the
//! solution. The optimum is reached, not approached: once the active rows are right, the next step is the last.
//!
//! Many problems share K. So a problem does not multiply by it: it says what it wants, and whoever drives it
//! computes the products of all of them at once.

/// Newton steps at one cost, at most: far more than were ever seen.
const MOST_STEPS: usize = 500;
/// Conjugate gradients end early where the active rows have changed and the gradient fell to this share.
const EARLY: f64 = 0.1;

/// What a problem needs to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// K times [`Problem::vector`].
    Product,
    /// The solution on the active rows, see [`Problem::system`].
    Solution,
    /// Nothing: it is at the optimum.
    Nothing,
}

/// What a problem was waiting for.
pub(super) enum Answer<'a> {
    /// It has just been given a cost.
    None,
    /// K times its vector.
    Product(&'a [f64]),
    /// The solution on the active rows, unless rounding is in the way.
    Solution(Option<Vec<f64>>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waiting for K·x, to begin conjugate gradients at x.
    Restart,
    /// Waiting for K·p, for a step of conjugate gradients.
    Step,
    /// Waiting for a direct solution.
    Direct,
    /// Waiting for K·x of a direct solution.
    Solved,
    Done,
}

pub(super) struct Problem {
    /// ±1.
    y: Vec<f64>,
    /// sᵢ at cost 1; 0 for rows that are not learnt from.
    unit: Vec<f64>,
    s: Vec<f64>,
    pub beta: Vec<f64>,
    /// K·β.
    pub f: Vec<f64>,
    active: Vec<bool>,
    /// Where the step leads, and K times it.
    x: Vec<f64>,
    fx: Vec<f64>,
    /// Size of the gradient's coefficients at β.
    rho: f64,
    /// Conjugate gradients: residual, direction, ⟨residual, preconditioned residual⟩, and steps.
    r: Vec<f64>,
    p: Vec<f64>,
    rz: f64,
    cg_steps: usize,
    phase: Phase,
    steps: usize,
    /// Set once conjugate gradients took too long: they will at every higher cost.
    direct: bool,
    direct_failed: bool,
    tolerance: f64,
    /// Whether the last cost's optimum was reached.
    pub converged: bool,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Problem {
    /// `positive`: the class of each row; `weight`: what errors on it cost, of every unit of the cost, 0 where it
    /// is not learnt from. `tolerance` bounds the error of the weights by their norm.
    pub fn new(positive: &[bool], weight: &[f64], tolerance: f64) -> Self {
        let n = positive.len();
        Self {
            y: positive.iter().map(|p| if *p { 1.0 } else { -1.0 }).collect(),
            unit: weight.iter().map(|w| 2.0 * w).collect(),
            s: vec![0.0; n],
            beta: vec![0.0; n],
            f: vec![0.0; n],
            active: vec![false; n],
            x: vec![0.0; n],
            fx: vec![0.0; n],
            r: vec![0.0; n],
            p: vec![0.0; n],
            rz: 0.0,
            cg_steps: 0,
            rho: 0.0,
            phase: Phase::Done,
            steps: 0,
            direct: false,
            direct_failed: false,
            tolerance,
            converged: false,
        }
    }

    /// Begins anew at another cost, from where it is.
    pub fn set_cost(&mut self, cost: f64) {
        self.s = self.unit.iter().map(|u| u * cost).collect();
        (self.steps, self.converged) = (0, false);
        // Most weights grow with the cost: the best multiple of those at hand is nearer.
        (self.x, self.fx) =
            (self.beta.iter().map(|b| 2.0 * b).collect(), self.f.iter().map(|f| 2.0 * f).collect());
        if let Some(t) = self.lowest_on_line(f64::INFINITY) {
            self.go(t);
        }
    }

    /// Goes on with what it was waiting for. `products_per_solution` tells by the number of active rows how many
    /// products take as long as a direct solution.
    pub fn advance(&mut self, answer: Answer<'_>, products_per_solution: impl Fn(usize) -> usize) -> Wanted {
        match (answer, self.phase) {
            (Answer::None, _) => self.begin(),
            (Answer::Product(kx), Phase::Restart) => {
                self.fx.copy_from_slice(kx);
                self.begin_gradients()
            }
            (Answer::Product(kp), Phase::Step) => {
                let limit = products_per_solution(self.active.iter().filter(|a| **a).count());
                self.gradient_step(kp, limit)
            }
            (Answer::Product(kx), Phase::Solved) => {
                self.fx.copy_from_slice(kx);
                self.end_step(true)
            }
            (Answer::Solution(Some(solution)), Phase::Direct) => {
                let active = self.active.iter().enumerate().filter(|(_, a)| **a).map(|(i, _)| i);
                self.x.fill(0.0);
                for (i, value) in active.zip(solution) {
                    self.x[i] = value;
                }
                self.phase = Phase::Solved;
                Wanted::Product
            }
            (Answer::Solution(None), Phase::Direct) => {
                (self.direct, self.direct_failed) = (false, true);
                self.phase = Phase::Restart;
                Wanted::Product
            }
            _ => Wanted::Nothing,
        }
    }

    /// What is to be multiplied by K.
    pub fn vector(&self) -> &[f64] {
        if self.phase == Phase::Step { &self.p } else { &self.x }
    }

    /// The active rows, and s and y on them.
    pub fn system(&self) -> (Vec<usize>, Vec<f64>, Vec<f64>) {
        let active: Vec<usize> = (0..self.y.len()).filter(|i| self.active[*i]).collect();
        let of = |values: &[f64]| active.iter().map(|i| values[*i]).collect();
        let (s, y) = (of(&self.s), of(&self.y));
        (active, s, y)
    }

    fn is_active(&self, f: &[f64], i: usize) -> bool {
        self.s[i] > 0.0 && self.y[i] * f[i] < 1.0
    }

    /// Whether the gradient, of which these are the coefficients' size, is as good as none for weights of this
    /// squared norm. The gradient is no larger than √λ times the size, and K's largest eigenvalue λ no larger than
    /// 2n; the loss curves at least like ½‖v‖², so the gradient bounds the error of the weights.
    fn is_small(&self, rho: f64, norm_squared: f64) -> bool {
        let bound = (2.0 * self.y.len() as f64).sqrt() * rho;
        bound <= self.tolerance * norm_squared.max(0.0).sqrt()
    }

    /// Begins a Newton step, or ends where the gradient is small.
    fn begin(&mut self) -> Wanted {
        self.active = (0..self.y.len()).map(|i| self.is_active(&self.f, i)).collect();
        let gradient = |i: usize| {
            let own = if self.active[i] { self.s[i] * (self.y[i] - self.f[i]) } else { 0.0 };
            self.beta[i] - own
        };
        self.rho = (0..self.y.len()).map(|i| gradient(i).powi(2)).sum::<f64>().sqrt();
        // Without a gradient zero weights are the optimum.
        if self.rho == 0.0 || self.is_small(self.rho, dot(&self.beta, &self.f)) {
            return self.end(true);
        }
        self.steps += 1;
        if self.steps > MOST_STEPS {
            return self.end(false);
        }
        let leaves = (0..self.y.len()).any(|i| !self.active[i] && self.beta[i] != 0.0);
        for i in 0..self.y.len() {
            self.x[i] = if self.active[i] { self.beta[i] } else { 0.0 };
        }
        if self.direct {
            self.phase = Phase::Direct;
            return Wanted::Solution;
        }
        if leaves {
            self.phase = Phase::Restart;
            return Wanted::Product;
        }
        self.fx.copy_from_slice(&self.f);
        self.begin_gradients()
    }

    fn end(&mut self, converged: bool) -> Wanted {
        self.converged = converged;
        self.phase = Phase::Done;
        Wanted::Nothing
    }

    /// Divides by the diagonal of K + 1/s: rows have norm 1, and the constant feature adds 1.
    fn preconditioned(&self, i: usize) -> f64 {
        if self.active[i] { self.r[i] / (2.0 + 1.0 / self.s[i]) } else { 0.0 }
    }

    /// Size of the gradient's coefficients at x, as long as the active rows stay.
    fn rho_at_x(&self) -> f64 {
        self.r.iter().zip(&self.s).map(|(r, s)| (r * s).powi(2)).sum::<f64>().sqrt()
    }

    fn begin_gradients(&mut self) -> Wanted {
        for i in 0..self.y.len() {
            self.r[i] = if self.active[i] { self.y[i] - self.fx[i] - self.x[i] / self.s[i] } else { 0.0 };
        }
        self.p = (0..self.y.len()).map(|i| self.preconditioned(i)).collect();
        self.rz = dot(&self.r, &self.p);
        self.cg_steps = 0;
        if self.rz <= 0.0 || self.is_small(2.0 * self.rho_at_x(), dot(&self.x, &self.fx)) {
            return self.end_step(true);
        }
        self.phase = Phase::Step;
        Wanted::Product
    }

    fn gradient_step(&mut self, kp: &[f64], limit: usize) -> Wanted {
        let n = self.y.len();
        let curvature: f64 =
            (0..n).filter(|i| self.active[*i]).map(|i| self.p[i] * (kp[i] + self.p[i] / self.s[i])).sum();
        // Not so by arithmetic, but by rounding.
        if curvature.is_nan() || curvature <= 0.0 {
            return self.end_step(false);
        }
        let alpha = self.rz / curvature;
        for (i, kp) in kp.iter().enumerate() {
            self.x[i] += alpha * self.p[i];
            self.fx[i] += alpha * kp;
            if self.active[i] {
                self.r[i] -= alpha * (kp + self.p[i] / self.s[i]);
            }
        }
        self.cg_steps += 1;
        let rho = self.rho_at_x();
        let is_exact = self.is_small(2.0 * rho, dot(&self.x, &self.fx));
        let is_stuck = self.cg_steps > 20 * n + 100;
        if is_exact || is_stuck || (rho <= EARLY * self.rho && self.may_end_early()) {
            return self.end_step(is_exact);
        }
        if self.cg_steps >= limit && !self.direct_failed {
            self.direct = true;
            self.phase = Phase::Direct;
            return Wanted::Solution;
        }
        let before = self.rz;
        self.rz = (0..n).map(|i| self.r[i] * self.preconditioned(i)).sum();
        let keep = self.rz / before;
        for i in 0..n {
            self.p[i] = self.preconditioned(i) + keep * self.p[i];
        }
        Wanted::Product
    }

    /// Other rows are active at x, so a better x for these is wasted, and the loss falls towards it.
    fn may_end_early(&self) -> bool {
        !self.is_right_at_x() && self.slope(0.0).0 < 0.0
    }

    /// Whether the rows that are active at x are those it was computed for.
    fn is_right_at_x(&self) -> bool {
        (0..self.y.len()).all(|i| self.is_active(&self.fx, i) == self.active[i])
    }

    /// `is_exact`: x solves the system of its active rows.
    fn end_step(&mut self, is_exact: bool) -> Wanted {
        if is_exact && self.is_right_at_x() {
            self.go(1.0);
            return self.end(true);
        }
        // No further than to x: what is beyond may differ from β in ways that f does not show, and grow without
        // end.
        match self.lowest_on_line(1.0) {
            Some(t) => {
                self.go(t);
                self.begin()
            }
            // An exact solution lies downhill, but for rounding.
            None => self.end(is_exact),
        }
    }

    /// Goes to β + t·(x − β).
    fn go(&mut self, t: f64) {
        for i in 0..self.y.len() {
            if t == 1.0 {
                (self.beta[i], self.f[i]) = (self.x[i], self.fx[i]);
            } else {
                self.beta[i] += t * (self.x[i] - self.beta[i]);
                self.f[i] += t * (self.fx[i] - self.f[i]);
            }
        }
    }

    /// Slope and curvature of the loss at β + t·(x − β), along the line.
    fn slope(&self, t: f64) -> (f64, f64) {
        let (mut slope, mut curvature) = (0.0, 0.0);
        for i in 0..self.y.len() {
            let (d, g) = (self.x[i] - self.beta[i], self.fx[i] - self.f[i]);
            slope += g * (self.beta[i] + t * d);
            curvature += g * d;
            let f = self.f[i] + t * g;
            if self.s[i] > 0.0 && self.y[i] * f < 1.0 {
                slope -= self.s[i] * (self.y[i] - f) * g;
                curvature += self.s[i] * g * g;
            }
        }
        (slope, curvature)
    }

    /// Where the loss is lowest on the line, up to `most`; `None` where it does not fall. The slope rises piece by
    /// piece, so Newton's method within brackets finds its root.
    fn lowest_on_line(&self, most: f64) -> Option<f64> {
        let (first, _) = self.slope(0.0);
        if first.is_nan() || first >= 0.0 {
            return None;
        }
        let (mut low, mut high, mut t) = (0.0, f64::INFINITY, 1.0);
        for _ in 0..200 {
            let (slope, curvature) = self.slope(t);
            let done = if t == 1.0 { 1e-9 } else { 1e-12 };
            if slope.abs() <= done * -first || high - low <= 1e-15 * t {
                break;
            }
            if slope < 0.0 {
                if t >= most {
                    break;
                }
                low = t;
            } else {
                high = t;
            }
            let next = t - slope / curvature;
            t = match (next > low && next < high, high.is_finite()) {
                (true, _) => next,
                (false, true) => 0.5 * (low + high),
                (false, false) => 2.0 * t,
            };
        }
        Some(t)
    }
}
