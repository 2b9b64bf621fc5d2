//! What fine-tuned detection and segmentation have in common: flags, and where a run begins.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use clap::Args;
use ocelli::train::device::Chosen;
use ocelli::train::{Loaded, RunDir};

use crate::cli::opening::BackboneArgs;
use crate::cli::run::{RunArgs, data_of};

/// Flags of a fine-tuning that counts optimizer steps.
#[derive(Args)]
pub struct TransferArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// The backbone to start from: a run folder, a checkpoint, a .safetensors or .pth file (see `ocelli weights`);
    /// `random:resnet-50` starts from nothing
    #[arg(long, required_unless_present = "resume", conflicts_with = "resume")]
    pub weights: Option<PathBuf>,
    /// Number of optimizer steps. What the recipe does at certain steps moves in proportion
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    pub iterations: Option<usize>,
    /// Images per step
    #[arg(long, value_name = "N", conflicts_with = "resume")]
    pub batch_size: Option<usize>,
    #[command(flatten)]
    pub backbone: BackboneArgs,
}

impl TransferArgs {
    /// The configuration of the run to go on with, where one is: its text, and the name of its file.
    pub fn stored(&self) -> anyhow::Result<Option<(String, String)>> {
        if !self.run.resume {
            return Ok(None);
        }
        for (flag, is_there) in [("--preset", self.run.preset.is_some()), ("--config", self.run.config.is_some())]
        {
            ensure!(!is_there, "{flag}: a run that goes on keeps its own");
        }
        if let Some(flag) = self.backbone.named().first() {
            bail!("{flag}: a run that goes on keeps its own");
        }
        let (path, text) = RunDir::stored_config(&self.run.out())?;
        Ok(Some((text, path)))
    }

    /// The data set as it is named: here, or by the run that goes on.
    pub fn data(&self) -> anyhow::Result<String> {
        if let Some(data) = &self.run.data {
            return Ok(data.clone());
        }
        let out = self.run.out();
        let stored = if self.run.resume { RunDir::stored_data(&out) } else { None };
        data_of(stored.as_ref(), &out, self.run.talks())
    }

    /// Where the weights lie that the run to go on with began from, which its configuration names so; as they are named where they are
    /// gone, for whoever opens them to say so.
    pub fn weights_of_run(&self, named: &str) -> PathBuf {
        let out = self.run.out();
        let found = RunDir::stored_weights(&out, named).find(&out, "--weights");
        found.map_or_else(|_| named.into(), |found| found.name.into())
    }

    /// The backbone to start from; of a run that goes on there is none.
    pub fn open(&self, device: &Chosen) -> anyhow::Result<Option<Loaded>> {
        self.weights.as_deref().map(|path| self.backbone.open(path, &device.device)).transpose()
    }

    /// The weights as they are named.
    pub fn weights_name(&self) -> String {
        self.weights.as_deref().map(Path::display).map(|path| path.to_string()).unwrap_or_default()
    }

    /// Single values: those of the flags, `fitted` to them, then those of --set.
    pub fn values(&self, fitted: Vec<String>) -> Vec<String> {
        let flags = [("iterations", self.iterations), ("batch_size", self.batch_size)];
        let flags = flags.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?)));
        self.run.values(flags.chain(fitted))
    }
}
