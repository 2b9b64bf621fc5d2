//! Fine-tuning: a backbone and a linear classifier on its features, trained together on labelled images, as a task of the
//! loop (the protocol of DeiT, which DINO transfers by). Top-1 accuracy on held-out images tells how it goes.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use ocelli_data::{Source, Subset};
use ocelli_eval::accuracy::accuracy;
use ocelli_methods::{Classifier, Figure, MethodError};
use ocelli_models::weights::preprocessing::{EvalSize, Preprocessing, Statistics, Told};
use ocelli_models::weights::{ModuleState as _, StateDict, write_safetensors};
use ocelli_models::{AnyBackbone, BackboneKind, Mode};
use ocelli_world::{Alone, Shared};

use crate::atomic::write_atomically;
use crate::config::{ConfigError, TaskKind, table_of};
use crate::event::Best;
use crate::features::{eval_transform, rows_and_bad, thin};
pub use crate::replace::CLASSIFIER as CLASSIFIER_FILE;
use crate::sharded::rows_in;
use crate::steps::{MethodTask, Steps, classes_of};
use crate::task::Scores;
use crate::{EveryTenth, Pictures, RunConfig, TrainError};

/// Labelled images to learn from and others to classify.
#[derive(Clone)]
pub struct ClassifiedData {
    /// What is learnt from; every image has a label.
    pub train: Arc<dyn Source>,
    /// What is classified after an epoch; every image has a label.
    pub val: Arc<dyn Source>,
    /// The classes that are learnt, in the order of their numbers.
    pub classes: Vec<String>,
    /// What a person should know of them.
    pub notes: Vec<String>,
}

impl ClassifiedData {
    /// The labelled images of a data set. Where no part of it is held out and labelled, every tenth image is.
    ///
    /// # Errors
    /// When there are fewer than two classes, or too few images to hold any out.
    pub fn of(source: &Arc<dyn Source>, val: Option<&Arc<dyn Source>>) -> Result<Self, TrainError> {
        let train = Subset::labelled(source);
        let count = classes_of(train.as_ref());
        if count < 2 {
            return Err(MethodError::Labels { method: "fine-tuning", classes: count }.into());
        }
        let name = |class: usize| source.class_names().get(class).cloned().unwrap_or_else(|| class.to_string());
        let classes = (0..count).map(name).collect();
        let mut notes = Vec::new();
        let val = val.map(Subset::labelled).filter(|val| !val.is_empty());
        let (train, val) = match val {
            Some(val) => (train, val),
            None => {
                let parts = EveryTenth::of(train.len(), "labelled images")?;
                notes.push(parts.note());
                let part = |indices| -> Arc<dyn Source> { Arc::new(Subset::new(train.clone(), indices)) };
                (part(parts.train), part(parts.held_out))
            }
        };
        let strangers = (0..val.len()).filter(|i| val.label(*i).is_some_and(|l| l as usize >= count)).count();
        if strangers > 0 {
            notes.push(format!(
                "{strangers} held-out images are of classes that nothing is learnt of: they count as wrong"
            ));
        }
        Ok(Self { train, val, classes, notes })
    }
}

/// The method whose network is a classifier.
const METHOD: &str = "supervised";
/// Top-1 accuracy, as it is named in rows and events.
const TOP1: &str = "top1_val";
/// Top-5 accuracy.
const TOP5: &str = "top5_val";

/// A fine-tuning about to be done.
pub struct Classification {
    steps: Steps,
    classes: Vec<String>,
    /// The images that are classified.
    held_out: (Arc<dyn Source>, Vec<usize>),
    pictures: Pictures,
}

impl Classification {
    /// Builds network, loader and schedules.
    ///
    /// # Errors
    /// As [`Steps::new`], and for another method than supervised training.
    pub fn new(config: &RunConfig, device: &Device, data: &ClassifiedData) -> Result<Self, TrainError> {
        Self::new_in(Arc::new(Alone), config, device, data)
    }

    /// The same for one of several processes.
    ///
    /// # Errors
    /// As [`Classification::new`] and [`Steps::new_in`].
    pub fn new_in(
        world: Shared,
        config: &RunConfig,
        device: &Device,
        data: &ClassifiedData,
    ) -> Result<Self, TrainError> {
        let found = config.recipe().name;
        if found != METHOD {
            let expected = format!("\"{METHOD}\", by which a classifier is trained");
            return Err(ConfigError::Value { key: "method", expected, found: format!("\"{found}\"") }.into());
        }
        let steps = Steps::new_in(world, config, Self::KIND, device, &data.train)?;
        Ok(Self {
            classes: data.classes.clone(),
            held_out: (data.val.clone(), thin((0..data.val.len()).collect(), config.eval.max_test)),
            pictures: Pictures::new(config, device, &data.train, Some(&data.val)),
            steps,
        })
    }

    /// Backbone and head as they are now, on the plain device.
    ///
    /// # Errors
    /// When they cannot be built anew, which a run that could be made does not meet.
    pub fn classifier(&self) -> Result<Classifier<AnyBackbone>, TrainError> {
        let values = self.steps.method().network().parameters();
        Ok(Classifier::with_values(self.steps.backbone(), self.classes.len(), values, self.steps.device())?)
    }

    /// Images that are classified after an epoch.
    pub fn held_out(&self) -> usize {
        self.held_out.1.len()
    }

    fn classes_as_json(&self) -> String {
        serde_json::to_string(&self.classes).unwrap_or_default()
    }

    /// The classifier in timm's names (`head`) or torchvision's (`fc`), with what is known of it.
    fn weights(&self, best: &Best) -> Result<StateDict, TrainError> {
        let (config, net) = (self.steps.config(), self.classifier()?);
        let head = match self.steps.backbone().kind() {
            BackboneKind::Vit => "head.",
            BackboneKind::ResNet => "fc.",
        };
        let mut state = StateDict::default();
        state.add_module("", &net)?;
        for (name, _) in &mut state.tensors {
            if let Some(own) = name.strip_prefix("backbone.") {
                *name = own.to_owned();
            } else if let Some(own) = name.strip_prefix("head.") {
                *name = format!("{head}{own}");
            }
        }
        let said = [
            ("format", "pt".to_owned()),
            ("producer", concat!("ocelli ", env!("CARGO_PKG_VERSION")).to_owned()),
            ("arch", config.arch.to_string()),
            ("image_size_px", config.views.global_size_px.to_string()),
            ("classes", self.classes_as_json()),
            ("epochs_done", (best.epoch + 1).to_string()),
            ("accuracy", format!("{} {:.2} % of {} held-out images", best.what, best.accuracy, self.held_out())),
            ("config", table_of(config)?.to_string()),
        ];
        state.metadata = said.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let statistics = Statistics { mean: config.views.mean, std: config.views.std };
        let size = EvalSize { resize_px: config.eval.resize_px, crop_px: config.eval.crop_px };
        let input = Preprocessing {
            statistics: Some(Told::new(statistics, "the run's")),
            size: Some(Told::new(size, "as the run evaluates")),
        };
        input.write(&mut state.metadata);
        Ok(state)
    }
}

impl MethodTask for Classification {
    const KIND: TaskKind = TaskKind::Classification;
    const NAME: &'static str = "classification";

    fn steps(&self) -> &Steps {
        &self.steps
    }

    fn steps_mut(&mut self) -> &mut Steps {
        &mut self.steps
    }

    fn scores(&self) -> Vec<Figure> {
        let top1 = Figure::new(
            TOP1,
            "Top-1 accuracy",
            "Share of held-out images whose class comes first, by resize and centre crop. Healthy: up, fast at first. Level or \
             falling while the loss falls: the network learns its training images by heart.",
        );
        let top5 =
            Figure::new(TOP5, "Top-5 accuracy", "Share of held-out images whose class is among the first five.");
        let mut all = vec![top1.bar_with("held-out top-1", 1.0, 1, " %")];
        if self.classes.len() > 5 {
            all.push(top5.bar_with("top-5", 1.0, 1, " %"));
        }
        all
    }

    fn describes(&self) -> Vec<(&'static str, String)> {
        vec![("classes", self.classes_as_json())]
    }

    fn evaluate(&mut self) -> Result<Scores, TrainError> {
        let (config, net) = (self.steps.config(), self.classifier()?);
        let (device, transform) = (self.steps.device(), eval_transform(config));
        let logits = |images| net.forward(images, Mode::Eval).0;
        let found = rows_in(self.steps.world().as_ref(), &self.held_out, device, |part| {
            rows_and_bad(part, transform, config, device, logits)
        })?;
        let Some((logits, labels, bad)) = found else { return Ok(Scores::default()) };
        let logits = logits
            .into_data()
            .try_to_vec::<f32>()
            .map_err(|e| TrainError::Device(format!("cannot read the logits back: {e:?}")))?;
        let found = accuracy(&logits, self.classes.len(), &labels)?;
        let named = [(TOP1, Some(found.top1)), (TOP5, found.top5)];
        Ok(Scores {
            named: named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
            quoted: Some(("top-1".to_owned(), found.top1)),
            bad,
            ..Scores::default()
        })
    }

    fn keep(&self, folder: &Path, best: &Best) -> Result<(), TrainError> {
        write_atomically(&folder.join(CLASSIFIER_FILE), &write_safetensors(&self.weights(best)?)?)
    }

    fn evaluation_bytes(&self) -> usize {
        let config = self.steps.config();
        let side = if config.eval.crop_px > 0 { config.eval.crop_px } else { config.views.global_size_px };
        let batch = config.eval.batch_size * self.steps.backbone().activations(side);
        // Rows are gathered once more when they become one tensor. Beside them there is a copy of the network.
        let network: usize =
            self.steps.method().network().parameters().iter().map(|p| p.shape.num_elements()).sum();
        4 * (2 * self.held_out() * self.classes.len() + batch + network)
    }

    fn draw(&self, folder: &Path, epochs_done: usize) -> Result<(), TrainError> {
        self.pictures.draw(&self.steps.encoder()?, epochs_done, folder)
    }
}

#[cfg(test)]
mod tests {
    use ocelli_data::{SceneConfig, SceneSource};

    use super::*;

    fn scenes(count: usize) -> Arc<dyn Source> {
        Arc::new(SceneSource::new(SceneConfig { count, size_px: 32, ..SceneConfig::default() }).unwrap())
    }

    #[test]
    fn what_is_not_held_out_by_the_data_is_held_out_here() {
        let all = scenes(40);
        let data = ClassifiedData::of(&all, None).unwrap();
        assert_eq!((data.train.len(), data.val.len()), (36, 4));
        let names = |s: &Arc<dyn Source>| (0..s.len()).map(|i| s.name(i)).collect::<Vec<_>>();
        assert!(names(&data.val).iter().all(|name| !names(&data.train).contains(name)));
        assert!(data.notes[0].contains("every tenth image"), "{:?}", data.notes);
        let given = ClassifiedData::of(&all, Some(&scenes(7))).unwrap();
        assert_eq!((given.train.len(), given.val.len(), given.notes.len()), (40, 7, 0));
        assert_eq!(given.classes, all.class_names());
        let few: Arc<dyn Source> = Arc::new(Subset::new(all.clone(), (0..9).collect()));
        assert!(ClassifiedData::of(&few, None).err().unwrap().to_string().contains("held-out part"));
        let one: Arc<dyn Source> =
            Arc::new(Subset::new(all.clone(), (0..40).filter(|i| all.label(*i) == Some(0)).collect()));
        assert!(ClassifiedData::of(&one, None).err().unwrap().to_string().contains("one class"));
    }
}
