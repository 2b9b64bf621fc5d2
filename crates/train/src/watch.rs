//! Watches a run for collapse: the outputs of the teacher that carry no information about the image.
//!
//! What to look for is the method's to declare ([`ocelli_methods::Sign`]). A healthy run may pass close to any of it for a
//! moment, above all in its first epochs, so a sign counts only when it has been there in every row for
//! [`WatchConfig::patience_epochs`], and not during warm-up.

use serde::{Deserialize, Serialize};

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

/// A sign that lasts less is no sign.
const FEWEST_STEPS: usize = 100;

/// What the rows so far looked like. Part of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Watch {
    /// The sign the last rows showed, and the step of the last row before they did.
    suspicion: Option<(String, usize)>,
    /// Steps seen, up to and including the last row.
    steps: usize,
    /// Whether the collapse has been told (when it only warns).
    told: bool,
}

impl Watch {
    /// Looks at one row, which ends at `step` and shows `sign` where it shows one; returns the sign once it has been there in
    /// every row for `patience_steps`.
    pub fn see(&mut self, step: usize, sign: Option<&'static str>, patience_steps: usize) -> Option<&'static str> {
        let before = std::mem::replace(&mut self.steps, step + 1);
        self.suspicion = match (sign, self.suspicion.take()) {
            (None, _) => None,
            (Some(sign), Some((last, since))) if sign == last => Some((last, since)),
            (Some(sign), _) => Some((sign.to_owned(), before)),
        };
        let (_, since) = self.suspicion.as_ref()?;
        sign.filter(|_| step + 1 - since >= patience_steps.max(FEWEST_STEPS))
    }

    /// Steps after which the run looked healthy for the last time, while it does not.
    pub fn healthy_until(&self) -> Option<usize> {
        self.suspicion.as_ref().map(|(_, since)| *since)
    }

    /// True the first time.
    pub fn tell(&mut self) -> bool {
        !std::mem::replace(&mut self.told, true)
    }
}

#[cfg(test)]
mod tests {
    use ocelli_methods::{Level, recipe};

    use super::*;
    use crate::Figures;

    /// Rows of ten steps; the step at which a collapse of the method was reported, and its sign. Nothing is judged before step
    /// 200, and a sign has to last 300.
    fn found(method: &str, row: impl Fn(usize) -> Figures) -> Option<(usize, &'static str)> {
        let few = Level::new("1 / (queue + 1), at least 0.025", 0.025);
        let levels = [Level::new("ln K", 11.09), Level::new("ln(queue + 1)", 11.09), few];
        let signs = recipe(method).unwrap().signs;
        let mut watch = Watch::default();
        (9..3000).step_by(10).find_map(|step| {
            let seen = if step < 200 { None } else { signs.iter().find(|s| s.is_seen(&row(step), &levels)) };
            watch.see(step, seen.map(|s| s.name), 300).map(|sign| (step, sign))
        })
    }

    fn dino(entropy: f64, kl: f64, feature_std: f64) -> Figures {
        [("loss", entropy + kl), ("teacher_entropy", entropy), ("kl", kl), ("feature_std", feature_std)].into()
    }

    #[test]
    fn each_sign_is_found_after_its_patience_and_not_before() {
        let uniform = |s: usize| if s < 500 { dino(8.0, 0.8, 0.9) } else { dino(11.08, 0.01, 0.4) };
        // The last healthy row ends at step 499: 300 steps later are 799.
        assert_eq!(found("dino", uniform), Some((799, "uniform")));
        let one = |s: usize| if s < 500 { dino(8.0, 0.8, 0.9) } else { dino(0.01, 0.1, 0.4) };
        assert_eq!(found("dino", one), Some((799, "one_prototype")));
        assert_eq!(found("dino", |_| dino(6.0, 0.8, 0.001)), Some((499, "constant_features")));
    }

    #[test]
    fn contrast_that_tells_nothing_apart_is_found() {
        let contrast = |loss: f64, top1: f64, std: f64| -> Figures {
            [("loss", loss), ("loss_global", loss), ("top1", top1), ("feature_std", std)].into()
        };
        for method in ["moco", "densecl"] {
            let lost = |s: usize| if s < 500 { contrast(9.0, 0.3, 0.5) } else { contrast(11.08, 0.001, 0.5) };
            assert_eq!(found(method, lost), Some((799, "indifferent")), "{method}");
            // Hard, but not lost.
            assert_eq!(found(method, |_| contrast(10.5, 0.01, 0.5)), None);
            assert_eq!(found(method, |_| contrast(1.0, 0.9, 0.0)).unwrap().1, "constant_features");
        }
    }

    #[test]
    fn healthy_runs_are_left_alone() {
        // As in the published curves: a uniform-looking start, then sharpening.
        let healthy = |s: usize| if s < 400 { dino(11.0, 0.01, 0.05) } else { dino(5.0, 0.6, 1.0) };
        assert_eq!(found("dino", healthy), None);
        // Signs that come and go do not add up.
        let moody = |s: usize| if s % 200 < 180 { dino(11.08, 0.01, 0.4) } else { dino(9.0, 0.4, 0.9) };
        assert_eq!(found("dino", moody), None);
        // A sharp teacher is healthy while the student cannot guess it.
        assert_eq!(found("dino", |_| dino(0.1, 2.5, 0.9)), None);
    }

    #[test]
    fn what_a_method_does_not_tell_is_not_judged() {
        for recipe in ocelli_methods::METHODS {
            // A small loss alone, and nothing else.
            assert_eq!(found(recipe.name, |_| [("loss", 0.001)].into()), None, "{}", recipe.name);
        }
    }
}
