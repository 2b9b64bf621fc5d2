//! What values a configuration may have, and what a person should know of those it has.

use ocelli_methods::optim::OptimizerKind;
use ocelli_train::config::ConfigError;

use super::{HeadKind, SEGMENTATION_TASK, SegmentationConfig, wrong};

impl SegmentationConfig {
    /// Checks every value that needs neither weights nor data.
    ///
    /// # Errors
    /// The first value that is wrong, what is allowed and what was found.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (key, found) in [("task", &self.task), ("method", &self.method)] {
            if found != SEGMENTATION_TASK {
                return Err(wrong(key, format!("\"{SEGMENTATION_TASK}\""), format!("\"{found}\"")));
            }
        }
        let counts = [
            ("stride_px", self.stride_px, 1, 64),
            ("blocks", self.blocks, 1, 1000),
            ("channels", self.channels, 1, 1 << 14),
            ("convs", self.convs, 0, 16),
            ("auxiliary_channels", self.auxiliary_channels, 0, 1 << 14),
            ("iterations", self.iterations, 1, 1 << 30),
            ("evaluate_every", self.evaluate_every, 1, 1 << 30),
            ("batch_size", self.batch_size, 1, 1 << 16),
            ("accumulate", self.accumulate, 1, 1 << 16),
            ("eval.window_px", self.eval.window_px, 0, 8192),
        ];
        for (key, found, low, high) in counts {
            if !(low..=high).contains(&found) {
                return Err(wrong(key, format!("{low} to {high}"), found));
            }
        }
        if !self.iterations.is_multiple_of(self.evaluate_every) {
            let expected = format!("a divisor of iterations, {}", self.iterations);
            return Err(wrong("evaluate_every", expected, self.evaluate_every));
        }
        if !self.batch_size.is_multiple_of(self.accumulate) {
            let expected = format!("a divisor of batch_size, {}", self.batch_size);
            return Err(wrong("accumulate", expected, self.accumulate));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(wrong("dropout", "at least 0 and below 1", self.dropout));
        }
        if !(self.auxiliary_weight >= 0.0 && self.auxiliary_weight.is_finite()) {
            return Err(wrong("auxiliary_weight", "a number of at least 0", self.auxiliary_weight));
        }
        self.check_eval()?;
        self.log.check()?;
        if !(0.0..=1.0).contains(&self.loader.max_bad_fraction) {
            return Err(wrong("loader.max_bad_fraction", "a share from 0 to 1", self.loader.max_bad_fraction));
        }
        if self.loader.max_pixels == 0 {
            return Err(wrong("loader.max_pixels", "at least 1", self.loader.max_pixels));
        }
        let optim = &self.optim;
        if !matches!(optim.optimizer, OptimizerKind::Sgd | OptimizerKind::AdamW) {
            return Err(wrong("optim.optimizer", "\"sgd\" or \"adamw\"", optim.optimizer));
        }
        if !(0.0..=1.0).contains(&optim.backbone_lr) {
            return Err(wrong("optim.backbone_lr", "a share from 0 to 1", optim.backbone_lr));
        }
        if optim.warmup_iterations > self.iterations {
            let expected = format!("at most iterations, {}", self.iterations);
            return Err(wrong("optim.warmup_iterations", expected, optim.warmup_iterations));
        }
        optim.config().check()?;
        let views = self.views.validate();
        views.map_err(|e| wrong("views", "views that can be made", e))
    }

    fn check_eval(&self) -> Result<(), ConfigError> {
        let eval = &self.eval;
        let is_scale = eval.scale_px == [0, 0] || eval.scale_px.iter().all(|side| (1..=8192).contains(side));
        if !is_scale {
            let found = format!("{:?}", eval.scale_px);
            return Err(wrong("eval.scale_px", "two sides from 1 to 8192 pixels, or [0, 0]", found));
        }
        if eval.window_px > 0 && !(1..=eval.window_px).contains(&eval.window_stride_px) {
            let expected = format!("1 to {}, the window", eval.window_px);
            return Err(wrong("eval.window_stride_px", expected, eval.window_stride_px));
        }
        Ok(())
    }

    /// Settings that make no sense together, a line each.
    pub fn warnings(&self) -> Vec<String> {
        let warmup = self.optim.warmup_iterations;
        let rises = (warmup > 0 && warmup >= self.iterations).then(|| {
            format!(
                "optim.warmup_iterations is {warmup} and the run has {} steps: the learning rate rises to the very end",
                self.iterations
            )
        });
        rises.into_iter().collect()
    }

    /// What a person should know of the figures.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.accumulate > 1 && !self.frozen && self.head == HeadKind::Fcn {
            notes.push(format!(
                "batch normalisation sees one of {} parts at a time (accumulate): close to the whole batch at once, not the \
                 same",
                self.accumulate
            ));
        }
        if self.epochs() > 1 {
            notes.push(format!(
                "the network kept is the best of {} evaluations, chosen by the pictures it is then judged on: that flatters. \
                 Published figures are of the end (evaluate_every = iterations)",
                self.epochs()
            ));
        }
        if self.frozen {
            notes.push("the backbone stays as it is: only the heads are trained".into());
        }
        if self.eval.max_pictures > 0 {
            notes.push(format!(
                "only {} of the held-out pictures at most are evaluated (eval.max_pictures)",
                self.eval.max_pictures
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use ocelli_data::views::SegmentationViews;
    use ocelli_train::config::LogConfig;

    use super::super::{SegmentationEval, SegmentationLoading, SegmentationOptim};
    use super::*;

    #[test]
    fn wrong_values_are_told() {
        let base = SegmentationConfig::default;
        let optim = |optim| SegmentationConfig { optim, ..base() };
        let eval = |eval| SegmentationConfig { eval, ..base() };
        for (config, key) in [
            (SegmentationConfig { task: "detection".into(), ..base() }, "task"),
            (SegmentationConfig { evaluate_every: 3000, ..base() }, "evaluate_every"),
            (SegmentationConfig { iterations: 0, ..base() }, "iterations"),
            (SegmentationConfig { accumulate: 5, ..base() }, "accumulate"),
            (SegmentationConfig { dropout: 1.0, ..base() }, "dropout"),
            (SegmentationConfig { auxiliary_weight: f64::NAN, ..base() }, "auxiliary_weight"),
            (SegmentationConfig { channels: 0, ..base() }, "channels"),
            (optim(SegmentationOptim { lr: -1.0, ..SegmentationOptim::default() }), "optim.lr"),
            (
                optim(SegmentationOptim { optimizer: OptimizerKind::Lars, ..SegmentationOptim::default() }),
                "optim.optimizer",
            ),
            (optim(SegmentationOptim { backbone_lr: 2.0, ..SegmentationOptim::default() }), "optim.backbone_lr"),
            (eval(SegmentationEval { scale_px: [0, 5], ..SegmentationEval::default() }), "eval.scale_px"),
            (eval(SegmentationEval { window_px: 64, ..SegmentationEval::default() }), "eval.window_stride_px"),
            (
                SegmentationConfig {
                    log: LogConfig { checkpoint_every_minutes: 1e300, ..LogConfig::default() },
                    ..base()
                },
                "log.checkpoint_every_minutes",
            ),
            (
                SegmentationConfig {
                    loader: SegmentationLoading { max_bad_fraction: -0.5, ..SegmentationLoading::default() },
                    ..base()
                },
                "loader.max_bad_fraction",
            ),
            (
                SegmentationConfig {
                    views: SegmentationViews { flip: 2.0, ..SegmentationViews::default() },
                    ..base()
                },
                "views",
            ),
        ] {
            let message = config.check().unwrap_err().to_string();
            assert!(message.starts_with(&format!("{key}:")), "{key}: {message}");
        }
    }
}
