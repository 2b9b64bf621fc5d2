//! Values that are right by themselves and make no sense together. A run with them is no mistake for certain, so each is a line of
//! warning, in the plan and when the run starts.

use ocelli_methods::optim::ScheduleKind;
use serde_json::{Map, Value};

use super::RunConfig;

impl RunConfig {
    /// What cannot take effect in a run over so many images, or not as it was meant: a line each.
    pub fn warnings(&self, images: usize) -> Vec<String> {
        let epochs = count(self.epochs, "epoch", "epochs");
        let mut found = self.schedule_warnings(&epochs);
        for (key, every, what) in [
            ("eval.every_epochs", self.eval.every_epochs, "the features are measured once, at the end"),
            (
                "log.checkpoint_every_epochs",
                self.log.checkpoint_every_epochs,
                "it never comes due, and checkpoints are those of evaluations, of the minutes and of the end",
            ),
        ] {
            if every > self.epochs {
                found.push(format!("{key} is {every} and the run has {epochs}: {what}"));
            }
        }
        let (resize, crop) = (self.eval.resize_px, self.eval.crop_px);
        if self.eval.every_epochs > 0 && resize > 0 && crop > resize {
            found.push(format!(
                "eval.crop_px is {crop} and eval.resize_px {resize}: what is measured are pictures with black edges"
            ));
        }
        found.extend(self.own_warnings(self.epochs.saturating_mul(images / self.batch_size.max(1)), &epochs));
        found
    }

    fn schedule_warnings(&self, epochs: &str) -> Vec<String> {
        let (optim, mut found) = (&self.optim, Vec::new());
        let warmup = optim.warmup_epochs;
        if warmup > 0 && warmup >= self.epochs {
            found.push(format!(
                "optim.warmup_epochs is {warmup} and the run has {epochs}: the learning rate rises to the very end"
            ));
        }
        if optim.schedule == ScheduleKind::Step {
            let late: Vec<String> =
                optim.milestones_epochs.iter().filter(|m| **m >= self.epochs).map(ToString::to_string).collect();
            let all = if late.len() == optim.milestones_epochs.len() {
                ": the learning rate never steps down"
            } else {
                ""
            };
            if !late.is_empty() {
                let late = late.join(", ");
                found.push(format!("of optim.milestones_epochs {late} come after the run's {epochs}{all}"));
            }
        }
        let falls = matches!(optim.schedule, ScheduleKind::Cosine | ScheduleKind::Poly);
        let peak = self.peak_lr();
        if falls && optim.min_lr > peak {
            found.push(format!(
                "optim.min_lr is {:e} and the peak of the learning rate {peak:e} (optim.lr scaled by the batch): the rate rises to \
                 the end",
                optim.min_lr
            ));
        }
        found
    }

    /// Spans of the method's own that do not end, or begin, within so many epochs and steps. A key's last word is its unit.
    fn own_warnings(&self, steps: usize, epochs: &str) -> Vec<String> {
        let mut numbers = Vec::new();
        whole_numbers("", &self.own.0, &mut numbers);
        let meaning = |key: &str| self.recipe().keys.iter().find(|k| k.name == key).map_or("", |k| k.meaning);
        let mut found = Vec::new();
        for (key, value) in numbers {
            let word = key.rsplit('_').next().unwrap_or_default();
            let late = match word {
                "epochs" => value >= self.epochs as u64,
                "iterations" | "steps" => value >= steps as u64,
                // What has no queue has no epoch for it.
                "epoch" => value >= self.epochs as u64 && self.is_on(&key),
                _ => false,
            };
            if !late || value == 0 {
                continue;
            }
            let (length, how) = match word {
                "epochs" => (epochs.to_owned(), "that does not end before the run does"),
                "epoch" => (epochs.to_owned(), "that never comes"),
                _ => (count(steps, "step", "steps"), "that does not end before the run does"),
            };
            found.push(format!("{key} ({}) is {value} and the run has {length}: {how}", meaning(&key)));
        }
        found
    }

    /// Whether there is what a key such as `swav.queue_from_epoch` says the beginning of.
    fn is_on(&self, key: &str) -> bool {
        key.split_once("_from_").is_none_or(|(what, _)| self.own.value(what).is_none() || self.own.count(what) > 0)
    }
}

/// Dotted keys with whole numbers.
fn whole_numbers(prefix: &str, section: &Map<String, Value>, to: &mut Vec<(String, u64)>) {
    for (key, value) in section {
        let full = format!("{prefix}{key}");
        match value {
            Value::Object(inner) => whole_numbers(&format!("{full}."), inner, to),
            value => to.extend(value.as_u64().map(|number| (full, number))),
        }
    }
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use crate::config::{presets, resolve};

    #[test]
    fn published_recipes_make_sense() {
        for (_, preset) in presets() {
            let config = resolve(Some(preset.name), None, &[]).unwrap();
            assert_eq!(config.warnings(1_281_167), Vec::<String>::new(), "{}", preset.name);
        }
    }

    #[test]
    fn what_makes_no_sense_together_is_said() {
        let of = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            resolve(None, None, &sets).unwrap().warnings(1000)
        };
        let short = ["epochs=10", "batch_size=100"];
        assert_eq!(of(&["epochs=10", "batch_size=100", "optim.warmup_epochs=9"]), Vec::<String>::new());
        for (sets, words) in [
            (&["optim.warmup_epochs=10"][..], "optim.warmup_epochs is 10 and the run has 10 epochs"),
            (
                &["dino.warmup_teacher_temp_epochs=30"],
                "dino.warmup_teacher_temp_epochs (epochs of its warm-up) is 30 and the run has 10 epochs",
            ),
            (&["dino.freeze_last_layer_epochs=10"], "that does not end before the run does"),
            (&["eval.every_epochs=11"], "the features are measured once, at the end"),
            (&["log.checkpoint_every_epochs=20"], "it never comes due"),
            (&["eval.resize_px=64", "eval.crop_px=96"], "black edges"),
            (&["optim.min_lr=0.1"], "the rate rises to the end"),
            (
                &["optim.schedule=step", "optim.milestones_epochs=[5, 12]"],
                "of optim.milestones_epochs 12 come after the run's 10 epochs",
            ),
            (&["optim.schedule=step", "optim.milestones_epochs=[10]"], "the learning rate never steps down"),
            (
                &[
                    "method=densecl",
                    "moco.queue=100",
                    "resnet.norm_groups=1",
                    "densecl.lambda_warmup_iterations=100",
                ],
                "is 100 and the run has 100 steps",
            ),
            (
                &[
                    "method=swav",
                    "resnet.norm_groups=1",
                    "swav.queue=100",
                    "swav.queue_from_epoch=15",
                    "swav.freeze_prototypes_steps=1",
                ],
                "swav.queue_from_epoch (the first epoch with the queue) is 15 and the run has 10 epochs: that never comes",
            ),
        ] {
            let calm = ["optim.warmup_epochs=0"];
            let found = of(&[&short[..], &calm, sets].concat());
            assert!(matches!(&found[..], [one] if one.contains(words)), "{sets:?}: {found:?}");
        }
        // Without the queue nobody asks when it begins.
        let off = [
            "method=swav",
            "resnet.norm_groups=1",
            "swav.queue=0",
            "optim.warmup_epochs=0",
            "swav.freeze_prototypes_steps=1",
        ];
        assert_eq!(of(&[&short[..], &off].concat()), Vec::<String>::new());
    }
}
