//! Pre-training of a backbone by a method, as a task of the loop. k-NN of the backbone's features tells how it goes.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use ocelli_data::Source;
use ocelli_methods::{Figure, Method};
use ocelli_models::{AnyBackbone, Init};
use ocelli_world::{Alone, Shared};

use crate::config::TaskKind;
use crate::knn::{Features, Labelled, evaluation_bytes, knn_of_pixels};
use crate::steps::{MethodTask, Steps};
use crate::task::Scores;
use crate::{Event, KnnFigures, Pictures, RunConfig, TrainError};

/// Accuracy of the linear probe during a run, as rows and events name it.
const ONLINE: &str = "linear_online";

/// A run about to be trained.
pub struct Pretraining {
    steps: Steps,
    labelled: Option<Labelled>,
    /// The backbone as it was drawn or loaded, until the first evaluation.
    untrained: Option<AnyBackbone>,
    pictures: Pictures,
}

impl Pretraining {
    /// Builds networks, loader and schedules.
    ///
    /// # Errors
    /// As [`Steps::new`].
    pub fn new(
        config: &RunConfig,
        device: &Device,
        source: &Arc<dyn Source>,
        test: Option<&Arc<dyn Source>>,
    ) -> Result<Self, TrainError> {
        Self::new_in(Arc::new(Alone), config, device, source, test)
    }

    /// The same for one of several processes.
    ///
    /// # Errors
    /// As [`Steps::new_in`].
    pub fn new_in(
        world: Shared,
        config: &RunConfig,
        device: &Device,
        source: &Arc<dyn Source>,
        test: Option<&Arc<dyn Source>>,
    ) -> Result<Self, TrainError> {
        let steps = Steps::new_in(world, config, Self::KIND, device, source)?;
        Ok(Self {
            labelled: Labelled::of(source, test, &config.eval),
            // Drawn again: what is trained shares its running statistics with its clones.
            untrained: Some(steps.backbone().init(&mut Init::new(config.seed, device))?),
            pictures: Pictures::new(config, device, source, test),
            steps,
        })
    }

    /// The network one keeps, as it is now, without its head.
    ///
    /// # Errors
    /// As [`Steps::encoder`].
    pub fn encoder(&self) -> Result<AnyBackbone, TrainError> {
        self.steps.encoder()
    }

    /// The method in training.
    pub fn method(&self) -> &dyn Method {
        self.steps.method()
    }
}

impl MethodTask for Pretraining {
    const KIND: TaskKind = TaskKind::Pretraining;
    const NAME: &'static str = "pretraining";

    fn steps(&self) -> &Steps {
        &self.steps
    }

    fn steps_mut(&mut self) -> &mut Steps {
        &mut self.steps
    }

    fn scores(&self) -> Vec<Figure> {
        let online = Figure::new(
            ONLINE,
            "Linear accuracy along the way",
            "Top-1 of a linear classifier that is trained for 30 epochs on the features k-NN sees, the best of six rates. Healthy: up \
             with k-NN, some points above it. It says how the run goes; the figure that papers quote is `ocelli eval linear`'s.",
        );
        let wanted = self.labelled.is_some() && self.steps.config().eval.linear;
        if wanted { vec![online.bar_with("linear", 1.0, 1, " %")] } else { Vec::new() }
    }

    fn warnings(&self) -> Vec<String> {
        let config = self.steps.config();
        let measured = self.labelled.as_ref().filter(|_| config.eval.every_epochs > 0);
        [measured.map(Labelled::warnings).unwrap_or_default(), enlarged(self.steps.source(), config)].concat()
    }

    fn init(&mut self) -> Result<Option<String>, TrainError> {
        let Some((encoder, words)) = self.steps.start_from_weights()? else { return Ok(None) };
        self.untrained = Some(encoder);
        Ok(Some(words))
    }

    /// k-NN accuracy of the pixels and of the network before training. It comes with the first evaluation rather than
    /// before the first step, so that training starts at once however large the data set is.
    fn baseline(&mut self) -> Result<Option<Event>, TrainError> {
        let (Some(labelled), Some(untrained)) = (&self.labelled, self.untrained.take()) else { return Ok(None) };
        let (config, device) = (self.steps.config(), self.steps.device());
        let features = Features::of(self.steps.world().as_ref(), &untrained, labelled, config, device)?;
        let Some(features) = features else { return Ok(None) };
        let (raw_pixels, pixels) = knn_of_pixels(labelled, config, device)?;
        Ok(Some(Event::Baseline { raw_pixels, pixels, untrained: features.knn()? }))
    }

    fn skip_baseline(&mut self) {
        self.untrained = None;
    }

    fn evaluate(&mut self) -> Result<Scores, TrainError> {
        let Some(labelled) = &self.labelled else { return Ok(Scores::default()) };
        let (config, device) = (self.steps.config(), self.steps.device());
        let features = Features::of(self.steps.world().as_ref(), &self.encoder()?, labelled, config, device)?;
        let Some(mut features) = features else { return Ok(Scores::default()) };
        let linear = if config.eval.linear { features.linear(config.seed)? } else { None };
        let named = linear.map(|accuracy| (ONLINE, accuracy)).into_iter().collect();
        let bad = std::mem::take(&mut features.bad);
        let knn = features.knn()?;
        Ok(Scores { quoted: quoted(&knn), knn: Some(knn), named, bad })
    }

    fn evaluation_bytes(&self) -> usize {
        let (config, backbone) = (self.steps.config(), self.steps.backbone());
        self.labelled.as_ref().map_or(0, |l| evaluation_bytes(l, config, backbone))
    }

    fn draw(&self, folder: &Path, epochs_done: usize) -> Result<(), TrainError> {
        self.pictures.draw(&self.encoder()?, epochs_done, folder)
    }
}

/// Pictures that are looked at for their size.
const LOOKED_AT: usize = 3;

/// Whether every crop is larger than the pictures, which then are only enlarged.
fn enlarged(source: &Arc<dyn Source>, config: &RunConfig) -> Vec<String> {
    let (all, side) = (source.len(), config.views.global_size_px);
    let looked_at = LOOKED_AT.min(all);
    let images = (0..looked_at).filter_map(|i| source.load(i * all / looked_at).ok());
    let largest = images.map(|image| image.width.max(image.height) as usize).max();
    let largest = largest.filter(|largest| *largest < side);
    let line = |px| {
        format!(
            "views.global_size_px is {side} and the pictures have {px} px at most ({looked_at} of {all} looked at): crops are \
             enlarged, at the price of larger ones"
        )
    };
    largest.map(line).into_iter().collect()
}

/// The accuracy people quote: k = 20 where it is there.
fn quoted(knn: &KnnFigures) -> Option<(String, f64)> {
    let (k, accuracy) = knn.get_key_value(&20).or_else(|| knn.iter().next())?;
    Some((format!("k-NN (k = {k})"), *accuracy))
}
