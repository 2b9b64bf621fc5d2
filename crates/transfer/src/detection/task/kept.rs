//! The best detector as it stands in the folder of its run.

use ocelli_eval::detection::DetectionSummary;
use ocelli_models::weights::StateDict;
use ocelli_models::weights::preprocessing::{EvalSize, Preprocessing, Statistics, Told};
use ocelli_train::{Best, Task, TrainError};
use serde::Serialize;

use super::super::config::DETECTION_TASK;
use super::super::names::to_file;
use super::{DetectionTask, Evaluated};

/// What [`DETECTION_FILE`](super::DETECTION_FILE) has.
#[derive(Serialize)]
pub(super) struct Kept<'a> {
    #[serde(flatten)]
    pub summary: &'a DetectionSummary,
    /// Images to evaluate that could not be read.
    pub left_out: usize,
    /// "held-out" or "training": which images the figures are of.
    pub judged: String,
}

impl DetectionTask {
    /// The best detector as it is kept: detectron2's names, with what is known of it.
    pub(super) fn file(&self, evaluated: &Evaluated, best: &Best) -> Result<StateDict, TrainError> {
        let mut state = to_file(&evaluated.net)?;
        let config = &self.config;
        let said = [
            ("format", "pt".to_owned()),
            ("producer", concat!("ocelli ", env!("CARGO_PKG_VERSION")).to_owned()),
            ("task", DETECTION_TASK.to_owned()),
            ("arch", config.arch.to_string()),
            ("backbone_crc32", config.weights_crc32.clone()),
            ("classes", self.classes_as_json()),
            ("epochs_done", (best.epoch + 1).to_string()),
            ("steps_done", ((best.epoch + 1) * config.spans().1).to_string()),
            (
                "accuracy",
                format!(
                    "{} {:.2} % of {} {} images{}",
                    best.what,
                    best.accuracy,
                    evaluated.findings.images.len(),
                    self.data.judged,
                    match self.left_out(evaluated) {
                        0 => String::new(),
                        n => format!(", {n} unreadable ones left out"),
                    }
                ),
            ),
            ("config", Task::config(self)?.to_string()),
        ];
        // Of a drawn backbone there is no CRC.
        let said = said.into_iter().filter(|(_, value)| !value.is_empty());
        state.metadata = said.map(|(key, value)| (key.to_owned(), value)).collect();
        let size = EvalSize { resize_px: config.eval.short_px, crop_px: 0 };
        let input = Preprocessing {
            statistics: Some(Told::new(
                Statistics { mean: config.views.mean, std: config.views.std },
                "the run's",
            )),
            size: Some(Told::new(size, "as the run evaluates")),
        };
        input.write(&mut state.metadata);
        Ok(state)
    }

    /// Images that an evaluation could not read.
    pub(super) fn left_out(&self, evaluated: &Evaluated) -> usize {
        self.data.val.source.len() - evaluated.findings.images.len()
    }
}
