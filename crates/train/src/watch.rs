//! Watches a run for collapse: the outputs of the teacher that carry no information about the image.
//!
//! Three forms of DINO's (Caron et al. 2021, §5.3 and figure 7, for the first two): *uniform*, every prototype equally likely for
//! every image; *one prototype*, the same one for every image; *constant features*, the backbone itself says the same of
//! every image. Contrast with a queue has the last of them, and *indifference*: every key is as near to a query as its own. A
//! healthy run may pass close to any of them for a moment, above all in its first epochs, so a form
//! counts only when it has been there in every row for [`WatchConfig::patience_epochs`], and not during warm-up.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::StepFigures;

/// What to do about a collapse, and how soon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchConfig {
    /// `stop` (the default: exit code 3 at the last good checkpoint), `warn`, or `off`.
    pub collapse: OnCollapse,
    /// Epochs a sign of collapse has to last (1), and at least 100 steps.
    pub patience_epochs: f64,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self { collapse: OnCollapse::Stop, patience_epochs: 1.0 }
    }
}

/// What to do when a run has collapsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnCollapse {
    /// End the run at its last good checkpoint.
    Stop,
    /// Say so once and go on.
    Warn,
    /// Do not look.
    Off,
}

/// A form of collapse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Collapse {
    /// Every prototype equally likely.
    Uniform,
    /// The same prototype for every image.
    OnePrototype,
    /// The same features for every image.
    ConstantFeatures,
    /// No key of the queue is nearer than another.
    Indifferent,
}

impl fmt::Display for Collapse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uniform => {
                "the teacher's output is uniform: every prototype is equally likely for every image, and the student \
                 has nothing to learn from. Usual remedies: a lower dino.teacher_temp (0.04), a lower \
                 dino.warmup_teacher_temp, a lower dino.centre_momentum (0.9), a higher dino.teacher_momentum"
            }
            Self::OnePrototype => {
                "the teacher answers every image with the same prototype, and the loss is near zero for nothing. Usual \
                 remedies: check that centring is on (dino.centre_momentum below 1), a higher dino.teacher_temp, \
                 dino.head.norm_last_layer = true, a lower optim.lr"
            }
            Self::Indifferent => {
                "the loss stays at ln(queue + 1): to every query all keys of the queue are as near as its own. Usual \
                 remedies: a higher moco.momentum (0.99 and more: keys of one queue must be comparable), a lower optim.lr, \
                 an optim.warmup_epochs, a smaller moco.queue"
            }
            Self::ConstantFeatures => {
                "the backbone gives every image the same features. Usual remedies: a lower optim.lr, a longer \
                 optim.warmup_epochs, a smaller optim.weight_decay_end, a smaller optim.clip_grad, a larger batch_size"
            }
        })
    }
}

/// Shares of ln K, and a spread, below or above which a row looks collapsed. The closest a healthy run has come is a KL
/// divergence of 0.008 ln K at an entropy of 0.99 ln K, in the first epochs of the demo; a run that has collapsed is below
/// 0.0002. Healthy spreads are 0.1 and more.
const UNIFORM_ENTROPY: f64 = 0.98;
const UNIFORM_KL: f64 = 0.001;
const ONE_PROTOTYPE_LOSS: f64 = 0.04;
const CONSTANT_STD: f64 = 0.01;
const FEWEST_STEPS: usize = 100;
/// A contrastive loss above this share of ln(K + 1), with a share of won comparisons below that.
const INDIFFERENT_LOSS: f64 = 0.995;
const INDIFFERENT_TOP1: f64 = 0.05;

/// What the rows so far looked like. Part of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Watch {
    /// The form the last rows had, and the step of the last row before they had it.
    suspicion: Option<(Collapse, usize)>,
    /// Steps seen, up to and including the last row.
    steps: usize,
    /// Whether the collapse has been told (when it only warns).
    told: bool,
}

impl Watch {
    /// Looks at one row; returns a collapse once it has lasted `patience_steps`. `ln_k` is
    /// [`RunConfig::uniform_entropy`](crate::RunConfig::uniform_entropy); nothing is suspected before `from_step`.
    pub fn see(
        &mut self,
        row: &StepFigures,
        ln_k: f64,
        from_step: usize,
        patience_steps: usize,
    ) -> Option<Collapse> {
        let before = std::mem::replace(&mut self.steps, row.step + 1);
        let form = if row.step < from_step { None } else { form_of(row, ln_k) };
        self.suspicion = match (form, self.suspicion) {
            (None, _) => None,
            (Some(form), Some((last, since))) if form == last => Some((form, since)),
            (Some(form), _) => Some((form, before)),
        };
        let (form, since) = self.suspicion?;
        (row.step + 1 - since >= patience_steps.max(FEWEST_STEPS)).then_some(form)
    }

    /// Steps after which the run looked healthy for the last time, while it does not.
    pub fn healthy_until(&self) -> Option<usize> {
        self.suspicion.map(|(_, since)| since)
    }

    /// True the first time.
    pub fn tell(&mut self) -> bool {
        !std::mem::replace(&mut self.told, true)
    }
}

fn form_of(row: &StepFigures, ln_k: f64) -> Option<Collapse> {
    let of = |name: &str| row.of_method.get(name).copied();
    if row.feature_std < CONSTANT_STD {
        return Some(Collapse::ConstantFeatures);
    }
    if let Some(top1) = of("top1") {
        let loss = of("loss_global").unwrap_or(row.loss);
        let indifferent = loss > INDIFFERENT_LOSS * ln_k && top1 < INDIFFERENT_TOP1;
        return indifferent.then_some(Collapse::Indifferent);
    }
    let (entropy, kl) = (of("teacher_entropy").unwrap_or_default(), of("kl").unwrap_or_default());
    if entropy > UNIFORM_ENTROPY * ln_k && kl < UNIFORM_KL * ln_k {
        Some(Collapse::Uniform)
    } else if row.loss < ONE_PROTOTYPE_LOSS * ln_k {
        Some(Collapse::OnePrototype)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LN_K: f64 = 11.09;

    fn row(step: usize, entropy: f64, kl: f64, feature_std: f64) -> StepFigures {
        StepFigures {
            step,
            loss: entropy + kl,
            feature_std,
            of_method: [("teacher_entropy", entropy), ("kl", kl)].into(),
            ..StepFigures::default()
        }
    }

    /// Rows of ten steps; the step at which a collapse was reported, and its form.
    fn found(rows: impl Iterator<Item = StepFigures>) -> Option<(usize, Collapse)> {
        let mut watch = Watch::default();
        rows.into_iter().find_map(|r| watch.see(&r, LN_K, 200, 300).map(|c| (r.step, c)))
    }

    #[test]
    fn each_form_is_found_after_its_patience_and_not_before() {
        let steps = || (9..2000).step_by(10);
        let uniform = |s: usize| if s < 500 { row(s, 8.0, 0.8, 0.9) } else { row(s, 11.08, 0.01, 0.4) };
        // The last healthy row ends at step 499: 300 steps later are 799.
        assert_eq!(found(steps().map(uniform)), Some((799, Collapse::Uniform)));
        let one = |s: usize| if s < 500 { row(s, 8.0, 0.8, 0.9) } else { row(s, 0.01, 0.1, 0.4) };
        assert_eq!(found(steps().map(one)), Some((799, Collapse::OnePrototype)));
        assert_eq!(found(steps().map(|s| row(s, 6.0, 0.8, 0.001))), Some((499, Collapse::ConstantFeatures)));
    }

    #[test]
    fn contrast_that_tells_nothing_apart_is_found() {
        let contrast = |step: usize, loss: f64, top1: f64| StepFigures {
            step,
            loss,
            feature_std: 0.5,
            of_method: [("top1", top1)].into(),
            ..StepFigures::default()
        };
        let steps = || (9..2000).step_by(10);
        let lost = |s: usize| if s < 500 { contrast(s, 9.0, 0.3) } else { contrast(s, 11.08, 0.001) };
        assert_eq!(found(steps().map(lost)), Some((799, Collapse::Indifferent)));
        // Hard, but not lost.
        assert_eq!(found(steps().map(|s| contrast(s, 10.5, 0.01))), None);
        assert_eq!(
            found(steps().map(|s| StepFigures { feature_std: 0.0, ..contrast(s, 1.0, 0.9) })).unwrap().1,
            Collapse::ConstantFeatures
        );
    }

    #[test]
    fn healthy_runs_are_left_alone() {
        let steps = || (9..3000).step_by(10);
        // As in the published curves: a uniform-looking start, then sharpening.
        let healthy = |s: usize| if s < 400 { row(s, 11.0, 0.01, 0.05) } else { row(s, 5.0, 0.6, 1.0) };
        assert_eq!(found(steps().map(healthy)), None);
        // Signs that come and go do not add up.
        let moody = |s: usize| if s % 200 < 180 { row(s, 11.08, 0.01, 0.4) } else { row(s, 9.0, 0.4, 0.9) };
        assert_eq!(found(steps().map(moody)), None);
        // A sharp teacher is healthy while the student cannot guess it.
        assert_eq!(found(steps().map(|s| row(s, 0.1, 2.5, 0.9))), None);
    }
}
