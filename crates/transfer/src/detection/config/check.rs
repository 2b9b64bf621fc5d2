//! What values a configuration may have, how many steps it makes, and what should be known of it.

use ocelli_train::TrainError;
use ocelli_train::config::{ConfigError, ViewsOn};

use super::{DETECTION_TASK, DetectionConfig, FASTER_RCNN};

impl DetectionConfig {
    /// The loop's epochs and the steps of each: spans of [`every_iterations`](super::DetectionEval::every_iterations) steps. Where those do not divide
    /// `iterations`, spans are of equal length and the last step comes up to a span's number of steps late.
    pub fn spans(&self) -> (usize, usize) {
        let every = match self.eval.every_iterations {
            0 => self.iterations,
            every => every.min(self.iterations),
        };
        let spans = self.iterations.div_ceil(every.max(1)).max(1);
        (spans, self.iterations.div_ceil(spans).max(1))
    }

    /// Optimizer steps that are taken: `iterations`, rounded up to whole spans.
    pub fn steps(&self) -> usize {
        let (spans, each) = self.spans();
        spans * each
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first that is out of range, with its key and what is allowed.
    pub fn check(&self) -> Result<(), TrainError> {
        self.arch.check().map_err(ocelli_methods::MethodError::from)?;
        self.views.validate()?;
        self.log.check()?;
        let (rpn, roi, optim, eval) = (&self.rpn, &self.roi, &self.optim, &self.eval);
        let share = |v: f64| v > 0.0 && v <= 1.0;
        let overlap = |v: f32| (0.0..=1.0).contains(&v);
        let positive = |v: f64| v > 0.0 && v.is_finite();
        let size = |v: &f32| (1.0..=100_000.0).contains(v);
        let ratio = |v: &f32| (0.001..=1000.0).contains(v);
        let few = |all: &[f32]| (1..=64).contains(&all.len());
        let show = |all: &[f32]| format!("{all:?}");
        let count = |v: usize| (1..=1_000_000).contains(&v);
        let counts = "1 to 1000000";
        let overlaps = "0 to 1";
        let shares = "above 0 and at most 1";
        let checks: Vec<(bool, &'static str, &str, String)> = vec![
            (self.task == DETECTION_TASK, "task", DETECTION_TASK, self.task.clone()),
            (self.method == FASTER_RCNN, "method", FASTER_RCNN, self.method.clone()),
            (
                (1..=100_000_000).contains(&self.iterations),
                "iterations",
                "1 to 100000000",
                self.iterations.to_string(),
            ),
            ((1..=4096).contains(&self.batch_size), "batch_size", "1 to 4096", self.batch_size.to_string()),
            (
                self.accumulate > 0 && self.batch_size.is_multiple_of(self.accumulate),
                "accumulate",
                "a divisor of batch_size",
                self.accumulate.to_string(),
            ),
            (
                few(&self.anchors.sizes_px) && self.anchors.sizes_px.iter().all(size),
                "anchors.sizes_px",
                "1 to 64 sizes from 1 to 100000",
                show(&self.anchors.sizes_px),
            ),
            (
                few(&self.anchors.ratios) && self.anchors.ratios.iter().all(ratio),
                "anchors.ratios",
                "1 to 64 numbers from 0.001 to 1000",
                show(&self.anchors.ratios),
            ),
            (
                (0.0..1.0).contains(&self.anchors.offset),
                "anchors.offset",
                "0 or more, below 1",
                self.anchors.offset.to_string(),
            ),
            (
                count(rpn.batch_size_per_image),
                "rpn.batch_size_per_image",
                counts,
                rpn.batch_size_per_image.to_string(),
            ),
            (share(rpn.positive_fraction), "rpn.positive_fraction", shares, rpn.positive_fraction.to_string()),
            (
                overlap(rpn.background_below) && rpn.background_below <= rpn.object_from,
                "rpn.background_below",
                "0 to rpn.object_from",
                rpn.background_below.to_string(),
            ),
            (overlap(rpn.object_from), "rpn.object_from", overlaps, rpn.object_from.to_string()),
            (overlap(rpn.nms_iou), "rpn.nms_iou", overlaps, rpn.nms_iou.to_string()),
            (count(rpn.train_before_nms), "rpn.train_before_nms", counts, rpn.train_before_nms.to_string()),
            (count(rpn.train_after_nms), "rpn.train_after_nms", counts, rpn.train_after_nms.to_string()),
            (count(rpn.test_before_nms), "rpn.test_before_nms", counts, rpn.test_before_nms.to_string()),
            (count(rpn.test_after_nms), "rpn.test_after_nms", counts, rpn.test_after_nms.to_string()),
            (
                count(roi.batch_size_per_image),
                "roi.batch_size_per_image",
                counts,
                roi.batch_size_per_image.to_string(),
            ),
            (share(roi.positive_fraction), "roi.positive_fraction", shares, roi.positive_fraction.to_string()),
            (overlap(roi.object_from), "roi.object_from", overlaps, roi.object_from.to_string()),
            ((1..=64).contains(&roi.cells), "roi.cells", "1 to 64", roi.cells.to_string()),
            (roi.sampling_ratio <= 64, "roi.sampling_ratio", "0 to 64", roi.sampling_ratio.to_string()),
            (
                roi.box_weights.iter().all(|w| positive(f64::from(*w))),
                "roi.box_weights",
                "four numbers above 0",
                show(&roi.box_weights),
            ),
            ((0.0..1.0).contains(&roi.score), "roi.score", "0 or more, below 1", roi.score.to_string()),
            (overlap(roi.nms_iou), "roi.nms_iou", overlaps, roi.nms_iou.to_string()),
            (count(roi.top), "roi.top", counts, roi.top.to_string()),
            (positive(optim.lr), "optim.lr", "a number above 0", optim.lr.to_string()),
            (
                (0.0..1.0).contains(&optim.momentum),
                "optim.momentum",
                "0 or more, below 1",
                optim.momentum.to_string(),
            ),
            (
                optim.weight_decay >= 0.0 && optim.weight_decay.is_finite(),
                "optim.weight_decay",
                "0 or more",
                optim.weight_decay.to_string(),
            ),
            (
                (0.0..=1.0).contains(&optim.warmup_factor),
                "optim.warmup_factor",
                overlaps,
                optim.warmup_factor.to_string(),
            ),
            (positive(optim.gamma), "optim.gamma", "a number above 0", optim.gamma.to_string()),
            (
                optim.milestones.is_sorted_by(|a, b| a < b),
                "optim.milestones",
                "rising iterations",
                format!("{:?}", optim.milestones),
            ),
            ((1..=16_384).contains(&eval.short_px), "eval.short_px", "1 to 16384", eval.short_px.to_string()),
            (self.loader.max_pixels > 0, "loader.max_pixels", "at least 1", "0".to_owned()),
            (
                self.loader.views != ViewsOn::Gpu,
                "loader.views",
                "auto or cpu, where images with boxes are rendered",
                "gpu".to_owned(),
            ),
        ];
        match checks.into_iter().find(|(is_right, ..)| !is_right) {
            None => Ok(()),
            Some((_, key, expected, found)) => {
                Err(ConfigError::Value { key, expected: expected.to_owned(), found }.into())
            }
        }
    }

    /// Settings that make no sense together, a line each.
    pub fn warnings(&self) -> Vec<String> {
        let (steps, optim, mut found) = (self.steps(), &self.optim, Vec::new());
        if optim.warmup_iterations > 0 && optim.warmup_iterations >= steps {
            found.push(format!(
                "optim.warmup_iterations is {} and the run has {steps} steps: the learning rate never reaches its peak",
                optim.warmup_iterations
            ));
        }
        let late: Vec<String> =
            optim.milestones.iter().filter(|m| **m >= steps).map(ToString::to_string).collect();
        if !late.is_empty() {
            let all = late.len() == optim.milestones.len();
            found.push(format!(
                "of optim.milestones {} come after the run's {steps} steps{}",
                late.join(", "),
                if all { ": the learning rate never steps down" } else { "" }
            ));
        }
        if self.eval.every_iterations > self.iterations {
            found.push(format!(
                "eval.every_iterations is {} and the run has {steps} steps: it is evaluated once, at the end",
                self.eval.every_iterations
            ));
        }
        found
    }

    /// What a person should know before the first step, with so many training images.
    pub fn notes(&self, images: usize) -> Vec<String> {
        let mut notes = Vec::new();
        let (spans, each) = self.spans();
        let passes = (self.steps() * self.batch_size) as f64 / images.max(1) as f64;
        notes.push(format!(
            "{} steps of {} images, {passes:.1} passes over {images} images; the curves count {each} steps as an epoch, {spans} {} in \
             all",
            self.steps(),
            self.batch_size,
            if spans == 1 { "epoch" } else { "epochs" }
        ));
        if self.steps() != self.iterations {
            notes.push(format!(
                "{} steps instead of {}, so that every epoch has the same number of steps",
                self.steps(),
                self.iterations
            ));
        }
        if self.accumulate > 1 {
            notes.push(format!(
                "each of the {} parts of a step (accumulate) is normalised by its own statistics, as on so many devices without \
                 synchronised normalisation",
                self.accumulate
            ));
        }
        notes
    }
}
