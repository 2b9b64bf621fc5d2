//! Newton's method with conjugate gradients.

use super::Logistic;
use super::objective::{Objective, Value};
use crate::dense::{Cholesky, Matrix, MatrixMut, add_product};

/// Newton steps, at most: far more than were ever seen.
const MOST_STEPS: usize = 200;
/// Conjugate gradients of a step, at most.
const MOST_GRADIENTS: usize = 2000;
/// A step is taken where the objective falls by this share of what the slope promises.
const ENOUGH: f64 = 1e-4;
/// Halvings of a step, at most.
const HALVINGS: usize = 40;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// The weights at the minimum. `tolerance` bounds their distance from it, by their norm: the objective curves at
/// least like λ/2·‖w‖², so the gradient's norm divided by λ is no less than the distance.
pub(super) fn minimise(objective: &Objective<'_>, tolerance: f64) -> Logistic {
    let mut weight = vec![0.0; objective.len()];
    let mut value = objective.at(&weight);
    let first = norm(&value.gradient);
    let moments = Preconditioner::is_worth(objective).then(|| objective.second_moments());
    let (mut steps, mut converged) = (0, false);
    loop {
        let size = norm(&value.gradient);
        converged = converged || size == 0.0 || size <= tolerance * objective.lambda * norm(&weight);
        if converged || steps == MOST_STEPS {
            break;
        }
        steps += 1;
        let preconditioner = moments.as_ref().and_then(|m| Preconditioner::of(objective, m, &value));
        // Far from the minimum a rough direction does; near it, one that is ever finer.
        let residual = (0.1f64).min((size / first).sqrt()) * size;
        // No finer than what ends it all.
        let residual = residual.max(0.3 * tolerance * objective.lambda * norm(&weight));
        let direction = newton_direction(objective, &value, preconditioner.as_ref(), residual);
        let slope = dot(&value.gradient, &direction);
        let mut length = 1.0;
        let next = (0..HALVINGS).find_map(|_| {
            let to: Vec<f64> = weight.iter().zip(&direction).map(|(w, d)| w + length * d).collect();
            let there = objective.at(&to);
            let is_lower = there.objective <= value.objective + ENOUGH * length * slope;
            length *= 0.5;
            is_lower.then_some((to, there))
        });
        match next {
            Some((to, there)) => (weight, value) = (to, there),
            // Nothing lower can be told from rounding.
            None => converged = true,
        }
    }
    Logistic { weight, classes: objective.classes, objective: value.objective, steps, converged }
}

/// Solves H·d = −g to a residual of this norm.
fn newton_direction(
    objective: &Objective<'_>,
    value: &Value,
    preconditioner: Option<&Preconditioner>,
    residual: f64,
) -> Vec<f64> {
    let precondition = |r: &[f64]| preconditioner.map_or_else(|| r.to_vec(), |p| p.apply(r, objective.classes));
    let mut direction = vec![0.0; objective.len()];
    let mut r: Vec<f64> = value.gradient.iter().map(|g| -g).collect();
    let mut z = precondition(&r);
    let mut p = z.clone();
    let mut rz = dot(&r, &z);
    for _ in 0..MOST_GRADIENTS {
        if norm(&r) <= residual {
            break;
        }
        let hp = objective.hessian(&value.probabilities, &p);
        let alpha = rz / dot(&p, &hp);
        direction.iter_mut().zip(&p).for_each(|(d, p)| *d += alpha * p);
        r.iter_mut().zip(&hp).for_each(|(r, h)| *r -= alpha * h);
        z = precondition(&r);
        let before = rz;
        rz = dot(&r, &z);
        p.iter_mut().zip(&z).for_each(|(p, z)| *p = z + rz / before * *p);
    }
    direction
}

/// The inverse of h·E[x·xᵀ] + λ, where h is the mean of p·(1 − p): the Hessian of every class, were all rows as
/// uncertain as their mean. Features have few directions of large variance, which hold up conjugate gradients;
/// these are known to it.
struct Preconditioner {
    /// `[dim, dim]`, symmetric.
    inverse: Vec<f64>,
    dim: usize,
}

impl Preconditioner {
    /// Whether inverting takes no longer than a few products with the Hessian.
    fn is_worth(objective: &Objective<'_>) -> bool {
        objective.dim().pow(2) <= 8 * objective.images() * objective.classes
    }

    fn of(objective: &Objective<'_>, moments: &[f64], value: &Value) -> Option<Self> {
        let dim = objective.dim();
        let uncertain = |p: &f32| f64::from(*p) * (1.0 - f64::from(*p));
        let mean = value.probabilities.iter().map(uncertain).sum::<f64>() / value.probabilities.len() as f64;
        let mut table: Vec<f64> = moments.iter().map(|m| mean * m).collect();
        table.iter_mut().step_by(dim + 1).for_each(|d| *d += objective.lambda);
        let factor = Cholesky::of(table, dim)?;
        let mut inverse = vec![0.0; dim * dim];
        for (i, column) in inverse.chunks_exact_mut(dim).enumerate() {
            column[i] = 1.0;
            factor.solve(column);
        }
        Some(Self { inverse, dim })
    }

    /// Times rows `[classes, dim]`.
    fn apply(&self, rows: &[f64], classes: usize) -> Vec<f64> {
        let dim = self.dim;
        let mut out = vec![0.0; rows.len()];
        add_product(
            &mut MatrixMut::by_cols(&mut out, dim, classes, dim),
            0.0,
            1.0,
            Matrix::by_cols(&self.inverse, dim, dim, dim),
            Matrix::by_cols(rows, dim, classes, dim),
        );
        out
    }
}
