//! Gradients of one step.

use std::collections::HashMap;

use burn::tensor::Tensor;

/// Gradients of one optimizer step by parameter name, flattened: micro-batches add up here.
#[derive(Default, Clone)]
pub struct GradientSum {
    sum: HashMap<String, Tensor<1>>,
}

impl GradientSum {
    /// Adds gradients multiplied by `weight` (1 / number of micro-batches).
    pub fn add(&mut self, gradients: Vec<(String, Tensor<1>)>, weight: f64) {
        for (name, gradient) in gradients {
            let gradient = if weight == 1.0 { gradient } else { gradient * weight };
            let total = match self.sum.remove(&name) {
                None => gradient,
                Some(sum) => sum + gradient,
            };
            self.sum.insert(name, total);
        }
    }

    /// All of them in the order of their names, which is the same in every process.
    pub(crate) fn into_sorted(self) -> Vec<(String, Tensor<1>)> {
        let mut all: Vec<_> = self.sum.into_iter().collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The summed gradient of a parameter.
    pub fn get(&self, name: &str) -> Option<&Tensor<1>> {
        self.sum.get(name)
    }

    /// Takes a parameter's gradient out, so that its memory serves again.
    pub(super) fn take(&mut self, name: &str) -> Option<Tensor<1>> {
        self.sum.remove(name)
    }

    /// Leaves parameters out of the step: no moments, no decay.
    pub fn drop_where(&mut self, is_frozen: impl Fn(&str) -> bool) {
        self.sum.retain(|name, _| !is_frozen(name));
    }

    /// Scales every gradient whose norm is above `limit` down to it, each parameter's on its own, as the reference does:
    /// g·min(1, limit/(‖g‖ + 1e-6)). (AdamW's step does this by itself.)
    pub fn clip_each(&mut self, limit: f64) {
        for gradient in self.sum.values_mut() {
            let norm = gradient.clone().powi_scalar(2).sum().sqrt();
            *gradient = gradient.clone() * (norm + 1e-6).recip().mul_scalar(limit).clamp_max(1.0);
        }
    }

    /// Norm of all gradients together and the largest norm of one parameter's, before clipping: `[1]` each.
    pub fn norms(&self) -> Option<(Tensor<1>, Tensor<1>)> {
        if self.sum.is_empty() {
            return None;
        }
        // Sorted, so that the sum does not depend on the map's order.
        let mut names: Vec<&String> = self.sum.keys().collect();
        names.sort();
        let squares: Vec<Tensor<1>> = names.iter().map(|n| self.sum[*n].clone().powi_scalar(2).sum()).collect();
        let squares = Tensor::cat(squares, 0);
        Some((squares.clone().sum().sqrt(), squares.max().sqrt()))
    }
}
