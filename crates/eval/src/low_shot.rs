//! Classification with few labels: multinomial logistic regression on frozen features.
//!
//! The low-shot evaluation of Caron et al. 2021 (*Emerging Properties in Self-Supervised Vision Transformers*,
//! arXiv:2104.14294): features as for k-NN, divided by their length, and then the optimum of
//!
//! ```text
//! 1/n Σ [ logsumexp_k(w_k·xᵢ) − w_yᵢ·xᵢ ] + λ/2 Σ ‖w_k‖²
//! ```
//!
//! without a bias, at λ = 0.1/n. scikit-learn's `LogisticRegression(C = 1/(n·λ), fit_intercept=False)` has the
//! same optimum. It is found here by Newton's method with conjugate gradients, in f64, to a bound on its distance
//! and not to a number of epochs.
//!
//! ```
//! use ocelli_eval::accuracy::accuracy;
//! use ocelli_eval::low_shot::{LogisticConfig, fit};
//!
//! let (features, labels) = ([1.0, 0.1, 0.9, 0.0, 0.0, 1.0, 0.1, 0.8], [0, 0, 1, 1]);
//! let classifier = fit(&features, &labels, 2, &LogisticConfig::default())?;
//! assert!(classifier.converged);
//! assert_eq!(accuracy(&classifier.logits(&features, 1)?, 2, &labels)?.top1, 100.0);
//! # Ok::<(), ocelli_eval::EvalError>(())
//! ```

mod newton;
mod objective;
#[cfg(test)]
mod tests;

use crate::EvalError;
use newton::minimise;
use objective::Objective;

/// Settings. The defaults are those of the published run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogisticConfig {
    /// λ times the number of training rows, above 0.
    pub lambda_times_n: f64,
    /// Largest distance of the weights from the optimum, by their norm.
    pub tolerance: f64,
    /// Threads. Results do not depend on them.
    pub threads: usize,
}

impl Default for LogisticConfig {
    fn default() -> Self {
        Self { lambda_times_n: 0.1, tolerance: 1e-4, threads: 1 }
    }
}

/// A classifier at its optimum.
#[derive(Clone, Debug, PartialEq)]
pub struct Logistic {
    /// `[classes, dim]`.
    pub weight: Vec<f64>,
    /// Number of classes.
    pub classes: usize,
    /// Value of the objective.
    pub objective: f64,
    /// Newton steps.
    pub steps: usize,
    /// Whether the bound on the distance was reached; it was in every run so far.
    pub converged: bool,
}

/// Fits a classifier to features `[n, dim]` and labels `[n]`, each below `classes`.
///
/// # Errors
/// Bad settings, no rows, shapes or labels that do not fit, features that are not finite.
pub fn fit(
    features: &[f32],
    labels: &[u32],
    classes: usize,
    config: &LogisticConfig,
) -> Result<Logistic, EvalError> {
    for (name, value) in [("lambda·n", config.lambda_times_n), ("tolerance", config.tolerance)] {
        if !(value.is_finite() && value > 0.0) {
            return Err(EvalError::setting(name, "a finite number above 0", value));
        }
    }
    if classes == 0 {
        return Err(EvalError::Empty { what: "the set of classes" });
    }
    if let Some(row) = labels.iter().position(|l| *l as usize >= classes) {
        return Err(EvalError::Label { set: "train", row, label: labels[row], classes });
    }
    let objective = Objective::new(features, labels, classes, config)?;
    Ok(minimise(&objective, config.tolerance))
}

impl Logistic {
    /// Logits `[n, classes]` of features `[n, dim]`.
    ///
    /// # Errors
    /// No rows, shapes that do not fit, features that are not finite.
    pub fn logits(&self, features: &[f32], threads: usize) -> Result<Vec<f32>, EvalError> {
        let dim = self.weight.len() / self.classes.max(1);
        let rows = objective::UnitRows::new(features, dim, "the test features")?;
        Ok(rows.logits(&self.weight, self.classes, threads))
    }
}
