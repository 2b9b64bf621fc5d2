//! Checkpoints: one safetensors file with everything a run holds.
//!
//! Beside the tensors the file says what they are, where the run stood, and a checksum of all of it. It is written by a
//! thread of its own, from a copy of the values, while training goes on.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::thread::JoinHandle;

use ocelli_data::files::BadFile;
use ocelli_models::weights::{HostTensor, StateDict, read_safetensors};
use safetensors::tensor::{Dtype, View};
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::atomic::temporary_in;
use crate::averages::Averages;
use crate::config::ViewsOn;
use crate::event::Best;
use crate::fence::of_panic;
use crate::watch::Watch;

const FORMAT: &str = "ocelli-checkpoint-2";

/// Where a run stands between two steps: what is neither tensor nor configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Epochs finished.
    pub epochs_done: usize,
    /// Optimizer steps done of the epoch after those.
    pub step_in_epoch: usize,
    /// Figures of that epoch so far.
    pub epoch_means: Averages,
    /// Figures since the last row of the metrics.
    pub row_means: Averages,
    /// Wall time of that epoch so far, seconds.
    pub epoch_wall_s: f64,
    /// Processor time of that epoch so far, seconds.
    pub epoch_cpu_s: f64,
    /// Wall time of the whole run so far, seconds.
    pub wall_s: f64,
    /// Of which training waited for checkpoints, seconds.
    #[serde(default)]
    pub waited_s: f64,
    /// Best accuracy so far.
    pub best: Option<Best>,
    /// Whether pixels and untrained network have been evaluated.
    pub baseline_done: bool,
    /// Signs of collapse.
    pub watch: Watch,
    /// Unreadable images found so far.
    pub bad: BTreeMap<usize, BadFile>,
    /// Length of `metrics.jsonl`; what comes after it belongs to steps that will be done again.
    pub metrics_bytes: u64,
    /// Number of training images.
    pub images: usize,
    /// CRC-32 of their names.
    pub names_crc32: u32,
    /// Where the views were rendered, whatever `loader.views` left open: `cpu` or `gpu`. Older checkpoints do not say.
    #[serde(default)]
    pub views: Option<ViewsOn>,
}

/// A run at one moment, in host memory.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    /// The task's configuration, as TOML.
    pub config: String,
    /// What else the file says of the network in it.
    pub describes: Vec<(&'static str, String)>,
    /// Epochs trained.
    pub epochs_done: usize,
    /// Optimizer steps done.
    pub steps_done: usize,
    /// Where the run stands.
    pub position: Position,
    /// Networks, moments, centre.
    pub state: StateDict,
}

impl Checkpoint {
    /// Writes the file under a temporary name, syncs, and renames it.
    ///
    /// # Errors
    /// When a value is not finite, or the file cannot be written; an older file of the same name stays.
    pub fn write(mut self, path: &Path) -> Result<(), TrainError> {
        if self.state.tensors.iter().any(|(_, t)| t.values.iter().any(|v| !v.is_finite())) {
            return Err(TrainError::NotFinite { what: "the weights", value: f32::NAN, step: self.steps_done });
        }
        let failed =
            |reason: String| TrainError::File { path: path.to_owned(), reason: format!("cannot write: {reason}") };
        let own = std::mem::take(&mut self.describes);
        let metadata = [
            ("format", FORMAT.to_owned()),
            ("epochs_done", self.epochs_done.to_string()),
            ("steps_done", self.steps_done.to_string()),
            ("config", std::mem::take(&mut self.config)),
            ("position", serde_json::to_string(&self.position).map_err(|e| failed(e.to_string()))?),
        ];
        self.state.metadata = own.into_iter().chain(metadata).map(|(k, v)| (k.to_owned(), v)).collect();
        let sum = checksum(&self.state);
        self.state.metadata.insert(CHECKSUM.to_owned(), sum);

        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        let io = |e: &std::io::Error| TrainError::io(path, "write the checkpoint (those before it are intact)", e);
        let file = temporary_in(folder).map_err(|e| io(&e))?;
        let tensors = self.state.tensors.iter().map(|(n, t)| (n.as_str(), Bytes(t)));
        let metadata: HashMap<String, String> = self.state.metadata.clone().into_iter().collect();
        safetensors::serialize_to_file(tensors, Some(metadata), file.path()).map_err(|e| match e {
            safetensors::SafeTensorError::IoError(e) => io(&e),
            e => failed(e.to_string()),
        })?;
        file.as_file().sync_all().map_err(|e| io(&e))?;
        file.persist(path).map_err(|e| io(&e.error))?;
        Ok(())
    }

    /// Reads a checkpoint and checks that it is whole.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or was written by a version whose checkpoints cannot be continued.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let bytes = fs::read(path).map_err(|e| TrainError::io(path, "read the checkpoint", &e))?;
        let wrong = |reason: String| TrainError::File { path: path.to_owned(), reason };
        let state = read_safetensors(&bytes).map_err(|e| wrong(format!("damaged checkpoint: {e}")))?;
        drop(bytes);
        let said = |key: &str| state.metadata.get(key).map(String::as_str).unwrap_or_default();
        if said("format") != FORMAT {
            return Err(wrong(format!("expected a checkpoint of format {FORMAT}, found \"{}\"", said("format"))));
        }
        if said(CHECKSUM) != checksum(&state) {
            return Err(wrong("damaged checkpoint: the checksum does not fit the contents".into()));
        }
        let bad = |key: &str, e: String| wrong(format!("damaged checkpoint: {key}: {e}"));
        let position = serde_json::from_str(said("position")).map_err(|e| bad("position", e.to_string()))?;
        let number = |key: &str| said(key).parse().map_err(|e: std::num::ParseIntError| bad(key, e.to_string()));
        let (epochs_done, steps_done) = (number("epochs_done")?, number("steps_done")?);
        let config = said("config").to_owned();
        Ok(Self { config, describes: Vec::new(), epochs_done, steps_done, position, state })
    }
}

const CHECKSUM: &str = "checksum_crc32";

/// CRC-32 over names, shapes and values of the tensors and everything the file says of itself.
pub(crate) fn checksum(state: &StateDict) -> String {
    let mut hasher = crc32fast::Hasher::new();
    for (key, value) in state.metadata.iter().filter(|(k, _)| *k != CHECKSUM) {
        hasher.update(format!("{key}={value}\n").as_bytes());
    }
    // By name: the order in a file is the format's own.
    let mut tensors: Vec<_> = state.tensors.iter().collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, tensor) in tensors {
        hasher.update(format!("{name} {:?}\n", tensor.shape).as_bytes());
        hasher.update(bytemuck::cast_slice(&tensor.values));
    }
    format!("{:08x}", hasher.finalize())
}

/// A tensor's values as the file wants them, without a copy.
struct Bytes<'a>(&'a HostTensor);

impl View for Bytes<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.0.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        // The format is little-endian, as is every machine wgpu runs on.
        Cow::Borrowed(bytemuck::cast_slice(&self.0.values))
    }
    fn data_len(&self) -> usize {
        4 * self.0.values.len()
    }
}

/// A checkpoint that is on the disk.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Written {
    /// The file, relative to the run.
    pub file: String,
    /// How long training waited for it, seconds.
    pub waited_s: f64,
}

/// Writes files on a thread of its own, one at a time.
#[derive(Default)]
pub(crate) struct Writer {
    running: Option<(Written, JoinHandle<Result<(), TrainError>>)>,
}

impl Writer {
    /// Starts `job`, which writes `what`. The one before must have been waited for.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        &mut self,
        what: Written,
        job: impl FnOnce() -> Result<(), TrainError> + Send + 'static,
    ) -> Result<(), TrainError> {
        let spawned = std::thread::Builder::new().name("ocelli-checkpoint".into()).spawn(job);
        let spawned = spawned.map_err(|e| TrainError::Device(format!("cannot start a thread: {e}")))?;
        self.running = Some((what, spawned));
        Ok(())
    }

    /// What has been written since the last time, without waiting.
    ///
    /// # Errors
    /// What went wrong with it.
    pub fn poll(&mut self) -> Result<Option<Written>, TrainError> {
        match &self.running {
            Some((_, job)) if job.is_finished() => self.finish(),
            _ => Ok(None),
        }
    }

    /// Waits for the job; what it wrote, where there was one.
    ///
    /// # Errors
    /// What went wrong with it.
    pub fn finish(&mut self) -> Result<Option<Written>, TrainError> {
        let Some((what, job)) = self.running.take() else { return Ok(None) };
        match job.join() {
            Ok(result) => result.map(|()| Some(what)),
            Err(panic) => Err(of_panic(panic.as_ref())),
        }
    }
}

impl Drop for Writer {
    /// A file being written when a run fails for another reason is still finished.
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DeviceChoice, open};
    use crate::{RunDir, Trainer};

    /// The word `auto` is the same on a machine with a GPU and on one without; what it rendered is not.
    #[test]
    fn a_run_whose_views_came_from_a_gpu_does_not_go_on_without_one() {
        let sets =
            ["arch=vit-32x1x2/8", "batch_size=8", "epochs=1", "dino.head.out_dim=64", "eval.every_epochs=0"];
        let config = crate::config::resolve(Some("demo"), None, &sets.map(str::to_owned)).unwrap();
        let source = ocelli_data::open_source("scenes:8").unwrap();
        let device = open(DeviceChoice::Cpu).unwrap().device;
        let folder = tempfile::tempdir().unwrap();
        let trainer = || Trainer::new(&config, &device, &source, None).unwrap();
        let dir = RunDir::create(folder.path(), false).unwrap();
        dir.write_description(&config, "cpu", "scenes:8", serde_json::Value::Null).unwrap();
        trainer().run(Some(&dir), &mut |_| Ok(())).unwrap();
        let (name, checkpoint) = dir.newest_checkpoint(&mut Vec::new()).unwrap().unwrap();
        assert_eq!(checkpoint.position.views, Some(ViewsOn::Cpu), "what `auto` came to is written down");
        trainer().resume(&dir).unwrap();

        let with = |views| {
            let mut other = checkpoint.clone();
            other.position.views = views;
            other.write(&folder.path().join(&name)).unwrap();
            trainer().resume(&dir)
        };
        let message = with(Some(ViewsOn::Gpu)).unwrap_err().to_string();
        for words in ["loader.views", "on the gpu", "on the cpu", "--set loader.views=gpu"] {
            assert!(message.contains(words), "expected \"{words}\" in: {message}");
        }
        with(None).expect("checkpoints of earlier versions do not say");
    }
}
