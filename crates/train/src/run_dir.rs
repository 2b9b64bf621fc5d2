//! The folder of a run. Files appear whole: they are written under a temporary name and renamed. One process at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::{RunConfig, TrainError};

/// A run's folder: `config.toml`, `manifest.json`, `metrics.jsonl`, `checkpoints/`. Locked while this exists.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    metrics: File,
    // The lock is gone with the handle, however the process ends.
    _lock: File,
}

/// What the run was made with.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    ocelli: String,
    burn: String,
    os: String,
    arch: String,
    device: String,
    data: String,
    started_unix_s: u64,
    command: Vec<String>,
}

/// What a run folder says of the run in it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Every value resolved.
    pub config: RunConfig,
    /// The data set as it was named, where the folder says.
    pub data: Option<String>,
}

const METRICS: &str = "metrics.jsonl";
const CONFIG: &str = "config.toml";
const MANIFEST: &str = "manifest.json";
/// What earlier versions of a run leave behind, beside `checkpoints`.
const REPLACED: [&str; 4] = [CONFIG, MANIFEST, METRICS, "report.html"];
const REPLACED_FOLDERS: [&str; 3] = ["checkpoints", "pictures", "tensorboard"];
/// Start of the names of files that are not whole yet.
const TEMPORARY: &str = ".ocelli-";

impl RunDir {
    /// Creates the folder, or takes an empty one.
    ///
    /// # Errors
    /// When a run is there already and `overwrite` is false, when another process trains into the folder, or when it
    /// cannot be written.
    pub fn create(root: &Path, overwrite: bool) -> Result<Self, TrainError> {
        let is_run = root.join(CONFIG).exists() || root.join(METRICS).exists();
        if is_run && !overwrite {
            return Err(TrainError::File {
                path: root.to_owned(),
                reason:
                    "there is a run here already; --resume to go on with it, --overwrite to replace it, or choose \
                         another --out"
                        .into(),
            });
        }
        fs::create_dir_all(root).map_err(|e| TrainError::io(root, "create the folder", &e))?;
        let lock = lock(root)?;
        if is_run {
            for name in REPLACED {
                remove_if_there(&root.join(name))?;
            }
            for name in REPLACED_FOLDERS {
                let folder = root.join(name);
                if folder.exists() {
                    fs::remove_dir_all(&folder)
                        .map_err(|e| TrainError::io(&folder, "remove the old run's", &e))?;
                }
            }
        }
        Self::open(root, lock)
    }

    /// Takes the folder of a run to go on with it. What a killed process left half-written is removed.
    ///
    /// # Errors
    /// When there is no run, when another process trains into the folder, or when it cannot be written.
    pub fn reopen(root: &Path) -> Result<Self, TrainError> {
        Self::stored(root)?;
        let dir = Self::open(root, lock(root)?)?;
        for folder in [root.to_owned(), dir.checkpoints()] {
            let entries = fs::read_dir(&folder).map_err(|e| TrainError::io(&folder, "list the folder", &e))?;
            for entry in entries.filter_map(Result::ok) {
                if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                    remove_if_there(&entry.path())?;
                }
            }
        }
        Ok(dir)
    }

    fn open(root: &Path, lock: File) -> Result<Self, TrainError> {
        let checkpoints = root.join("checkpoints");
        fs::create_dir_all(&checkpoints).map_err(|e| TrainError::io(&checkpoints, "create the folder", &e))?;
        let path = root.join(METRICS);
        let metrics = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(&path)
            .map_err(|e| TrainError::io(&path, "open for writing", &e))?;
        Ok(Self { root: root.to_owned(), metrics, _lock: lock })
    }

    /// What the folder says of the run in it.
    ///
    /// # Errors
    /// When there is no run, or its configuration cannot be read.
    pub fn stored(root: &Path) -> Result<Stored, TrainError> {
        let path = root.join(CONFIG);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(TrainError::File {
                    path: root.to_owned(),
                    reason: "there is no run here to go on with (no config.toml); start one without --resume"
                        .into(),
                });
            }
            Err(e) => return Err(TrainError::io(&path, "read the configuration", &e)),
        };
        let config = crate::config::stored(&text, &path.display().to_string())?;
        let manifest = fs::read(root.join(MANIFEST)).ok();
        let manifest: Option<Manifest> = manifest.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Ok(Stored { config, data: manifest.map(|m| m.data) })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// Writes `config.toml` (every value resolved) and `manifest.json`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_description(&self, config: &RunConfig, device: &str, data: &str) -> Result<(), TrainError> {
        let toml = toml::to_string_pretty(config).map_err(|e| TrainError::File {
            path: self.root.join(CONFIG),
            reason: format!("cannot write the configuration: {e}"),
        })?;
        let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let manifest = Manifest {
            ocelli: env!("CARGO_PKG_VERSION").into(),
            burn: "0.22.1".into(),
            os: std::env::consts::OS.into(),
            arch: std::env::consts::ARCH.into(),
            device: device.into(),
            data: data.into(),
            started_unix_s: started.map_or(0, |d| d.as_secs()),
            command: std::env::args().collect(),
        };
        let json = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
        write_atomically(&self.root.join(MANIFEST), &json)?;
        // Last: a folder with a configuration is a run, and has everything a run has.
        write_atomically(&self.root.join(CONFIG), toml.as_bytes())
    }

    /// Appends one line to `metrics.jsonl`, with the time in a field `unix_s`; returns the row as written.
    ///
    /// # Errors
    /// When it cannot be written (a full disk).
    pub fn log<T: Serialize>(&self, row: &T) -> Result<serde_json::Value, TrainError> {
        let mut row = serde_json::to_value(row).unwrap_or_default();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        if let (Some(fields), Ok(now)) = (row.as_object_mut(), now) {
            fields.insert("unix_s".into(), (now.as_millis() as f64 / 1e3).into());
        }
        let mut line = row.to_string().into_bytes();
        line.push(b'\n');
        let path = self.root.join(METRICS);
        (&self.metrics).write_all(&line).map_err(|e| TrainError::io(path, "write the metrics", &e))?;
        Ok(row)
    }

    /// Length of `metrics.jsonl`.
    pub(crate) fn metrics_bytes(&self) -> u64 {
        self.metrics.metadata().map_or(0, |m| m.len())
    }

    /// The open metrics, to be synced before a checkpoint that counts on them.
    pub(crate) fn metrics_file(&self) -> Option<File> {
        self.metrics.try_clone().ok()
    }

    /// Cuts `metrics.jsonl` back to `bytes`, or to its last whole line before that.
    pub(crate) fn rewind_metrics(&self, bytes: u64) -> Result<(), TrainError> {
        let path = self.root.join(METRICS);
        let io = |e: std::io::Error| TrainError::io(&path, "cut back the metrics", &e);
        let mut kept = Vec::new();
        (&self.metrics).seek(SeekFrom::Start(0)).map_err(io)?;
        (&self.metrics).take(bytes).read_to_end(&mut kept).map_err(io)?;
        let end = kept.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        self.metrics.set_len(end as u64).map_err(io)
    }

    /// The newest checkpoint that is whole, with its name. Damaged ones are set aside and described in `warnings`.
    pub(crate) fn newest_checkpoint(
        &self,
        warnings: &mut Vec<String>,
    ) -> Result<Option<(String, Checkpoint)>, TrainError> {
        for found in CheckpointFile::all(&self.root)?.into_iter().rev() {
            match Checkpoint::read(&found.path) {
                Ok(checkpoint) => return Ok(Some((self.relative(&found.path), checkpoint))),
                Err(error) => {
                    warnings.push(format!("{error}; trying the one before"));
                    rename_aside(&found.path, "damaged")?;
                }
            }
        }
        Ok(None)
    }

    /// The newest checkpoint's name, where there is one.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn last_checkpoint(&self) -> Result<Option<String>, TrainError> {
        Ok(CheckpointFile::all(&self.root)?.last().map(|c| self.relative(&c.path)))
    }

    /// A path as people see it from within the run.
    pub(crate) fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    /// Where the checkpoint after so many epochs, and so many steps more, goes.
    pub(crate) fn checkpoint_path(&self, epochs_done: usize, step_in_epoch: usize) -> PathBuf {
        let more = if step_in_epoch > 0 { format!("_step-{step_in_epoch:06}") } else { String::new() };
        self.checkpoints().join(format!("epoch-{epochs_done:04}{more}.safetensors"))
    }

    /// Renames the checkpoints made after `steps` (with `steps_per_epoch`), so that nothing goes on from them.
    pub(crate) fn set_aside_after(&self, steps: usize, steps_per_epoch: usize) -> Result<(), TrainError> {
        for found in CheckpointFile::all(&self.root)? {
            if found.steps(steps_per_epoch) > steps {
                rename_aside(&found.path, "collapsed")?;
            }
        }
        Ok(())
    }
}

/// Which checkpoints stay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep {
    /// So many of the newest.
    pub newest: usize,
    /// Every one whose epochs are a multiple of this; 0 is none.
    pub every_epochs: usize,
    /// The newest within these steps, while the run looks unhealthy.
    pub healthy_until: Option<usize>,
    /// Optimizer steps per epoch.
    pub steps_per_epoch: usize,
}

/// Removes the checkpoints of the run in `root` that need not stay.
pub(crate) fn prune(root: &Path, keep: Keep) -> Result<(), TrainError> {
    let all = CheckpointFile::all(root)?;
    let newest_of = |epochs_only: bool| -> Vec<&CheckpointFile> {
        all.iter().rev().filter(|c| !epochs_only || c.step_in_epoch == 0).take(keep.newest).collect()
    };
    let (newest, newest_epochs) = (newest_of(false), newest_of(true));
    let healthy = keep.healthy_until.and_then(|h| all.iter().rfind(|c| c.steps(keep.steps_per_epoch) <= h));
    for file in &all {
        let periodic = keep.every_epochs > 0
            && file.step_in_epoch == 0
            && file.epochs > 0
            && file.epochs.is_multiple_of(keep.every_epochs);
        let stays = periodic || newest.contains(&file) || newest_epochs.contains(&file) || healthy == Some(file);
        if !stays {
            remove_if_there(&file.path)?;
        }
    }
    Ok(())
}

/// A checkpoint by its name: `epoch-0007.safetensors`, or `epoch-0007_step-000123.safetensors` within the next epoch.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CheckpointFile {
    epochs: usize,
    step_in_epoch: usize,
    path: PathBuf,
}

impl CheckpointFile {
    fn of(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_prefix("epoch-")?.strip_suffix(".safetensors")?;
        let (epochs, step) = name.split_once("_step-").unwrap_or((name, "0"));
        let (epochs, step_in_epoch) = (epochs.parse().ok()?, step.parse().ok()?);
        Some(Self { epochs, step_in_epoch, path })
    }

    /// All of a run, oldest first.
    fn all(root: &Path) -> Result<Vec<Self>, TrainError> {
        let folder = root.join("checkpoints");
        let entries = fs::read_dir(&folder).map_err(|e| TrainError::io(&folder, "list the checkpoints", &e))?;
        let mut found: Vec<Self> = entries.filter_map(|e| Self::of(e.ok()?.path())).collect();
        found.sort();
        Ok(found)
    }

    fn steps(&self, steps_per_epoch: usize) -> usize {
        self.epochs * steps_per_epoch + self.step_in_epoch
    }
}

/// Checkpoints of a run, oldest first.
pub(crate) fn checkpoints_in(root: &Path) -> Result<Vec<PathBuf>, TrainError> {
    Ok(CheckpointFile::all(root)?.into_iter().map(|c| c.path).collect())
}

/// Takes the folder for this process alone.
fn lock(root: &Path) -> Result<File, TrainError> {
    let path = root.join(".lock");
    let options = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = options.map_err(|e| TrainError::io(root, "write into the folder", &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TrainError::File {
            path: root.to_owned(),
            reason: "another process is training into this folder; wait for it, stop it, or choose another --out"
                .into(),
        }),
        Err(TryLockError::Error(e)) => Err(TrainError::io(root, "lock the folder", &e)),
    }
}

/// Writes a file under a temporary name beside it, syncs, and renames: readers see the old file or the whole new one.
///
/// # Errors
/// When it cannot be written; the temporary file is removed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file = temporary_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(|e| TrainError::io(path, "write the file", &e))
}

/// A file under a name that shows it is not whole yet, readable by whoever may read what the user writes.
pub(crate) fn temporary_in(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    #[cfg(unix)]
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    // Less the user's mask.
    #[cfg(unix)]
    builder.permissions(permissions);
    builder.tempfile_in(folder)
}

/// Gives a checkpoint an ending nothing looks for.
fn rename_aside(path: &Path, why: &str) -> Result<(), TrainError> {
    let aside = path.with_extension(format!("safetensors.{why}"));
    fs::rename(path, aside).map_err(|e| TrainError::io(path, "rename the checkpoint", &e))
}

fn remove_if_there(path: &Path) -> Result<(), TrainError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(TrainError::io(path, "remove the old file", &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_checkpoints_go_and_the_ones_to_fall_back_on_stay() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::create(folder.path(), false).unwrap();
        let names = || -> Vec<String> {
            checkpoints_in(folder.path())
                .unwrap()
                .iter()
                .map(|p| p.file_stem().unwrap().to_str().unwrap().replace("epoch-", "").replace("_step-", "+"))
                .collect()
        };
        for (epochs, step) in [(1, 0), (2, 0), (2, 7), (10, 0), (11, 0), (11, 3), (11, 12), (9999, 0), (10000, 0)]
        {
            fs::write(dir.checkpoint_path(epochs, step), b"x").unwrap();
        }
        fs::write(dir.checkpoints().join("notes.txt"), b"x").unwrap();
        let keep = Keep { newest: 2, every_epochs: 10, healthy_until: Some(2 * 20 + 8), steps_per_epoch: 20 };
        fs::remove_file(dir.checkpoint_path(9999, 0)).unwrap();
        fs::remove_file(dir.checkpoint_path(10000, 0)).unwrap();
        prune(folder.path(), keep).unwrap();
        assert_eq!(names(), ["0002+000007", "0010", "0011", "0011+000003", "0011+000012"]);
        dir.set_aside_after(220, 20).unwrap();
        assert_eq!(dir.last_checkpoint().unwrap().as_deref(), Some("checkpoints/epoch-0011.safetensors"));
        assert_eq!(names(), ["0002+000007", "0010", "0011"]);
        prune(folder.path(), Keep { newest: 1, every_epochs: 0, healthy_until: None, ..keep }).unwrap();
        assert_eq!(names(), ["0011"]);
    }

    #[test]
    fn the_metrics_are_cut_at_a_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::create(folder.path(), false).unwrap();
        let text = || fs::read_to_string(folder.path().join(METRICS)).unwrap();
        for i in 0..3 {
            dir.log(&serde_json::json!({ "i": i })).unwrap();
        }
        let whole = text();
        let two = whole.match_indices('\n').nth(1).unwrap().0 as u64 + 1;
        dir.rewind_metrics(two).unwrap();
        assert_eq!(text(), whole[..two as usize]);
        dir.log(&serde_json::json!({ "i": 7 })).unwrap();
        assert!(text().starts_with(&whole[..two as usize]) && text().lines().count() == 3);
        // A line that was cut off by a lost power supply.
        dir.rewind_metrics(two - 3).unwrap();
        assert_eq!(text().lines().count(), 1);
        dir.rewind_metrics(1 << 40).unwrap();
        assert_eq!(text().lines().count(), 1);
    }

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunDir::create(folder.path(), false).unwrap();
        let message = RunDir::create(folder.path(), true).unwrap_err().to_string();
        assert!(message.contains("another process"), "{message}");
        drop(first);
        RunDir::create(folder.path(), true).unwrap();
    }
}
