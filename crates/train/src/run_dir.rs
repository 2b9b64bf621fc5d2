//! The folder of a run. Files appear whole: they are written under a temporary name and renamed. One process at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::atomic::{remove_if_there, write_atomically};
use crate::checkpoint::Checkpoint;
use crate::checkpoint_files::{CHECKPOINTS, CheckpointFile};
use crate::place::Place;
use crate::replace::{self, CONFIG, Found, MANIFEST, METRICS};
use crate::{RunConfig, TrainError};

mod manifest;

use manifest::{Manifest, Part};

/// A run's folder: `config.toml`, `manifest.json`, `metrics.jsonl`, `checkpoints/`. Locked while this exists.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    metrics: File,
    // The lock is gone with the handle, however the process ends.
    _lock: File,
}

/// What a run folder says of the run in it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Every value resolved.
    pub config: RunConfig,
    /// The data set, where the folder says.
    pub data: Option<Place>,
}

impl RunDir {
    /// Creates the folder, or takes one that has no run. What a killed process left half-removed is removed.
    ///
    /// # Errors
    /// When a run is there already and `overwrite` is false, when files are there that a run would write over and that are
    /// no run's, when another process trains into the folder, or when it cannot be written.
    pub fn create(root: &Path, overwrite: bool) -> Result<Self, TrainError> {
        // Before anything is written. What is half-removed is looked at again when the rest of it is gone.
        if !replace::is_unfinished(root) {
            check_free(root, overwrite)?;
        }
        fs::create_dir_all(root).map_err(|e| TrainError::io(root, "create the folder", &e))?;
        let lock = lock(root)?;
        replace::finish(root)?;
        check_free(root, overwrite)?;
        match replace::what_is_at(root) {
            Found::Run => replace::remove_run(root)?,
            // Of a start that was killed before it was a run.
            Found::Nothing | Found::Other(_) => remove_if_there(&root.join(MANIFEST))?,
        }
        Self::open(root, lock)
    }

    /// Takes the folder of a run to go on with it. What a killed process left half-written is removed.
    ///
    /// # Errors
    /// When there is no run, when another process trains into the folder, or when it cannot be written.
    pub fn reopen(root: &Path) -> Result<Self, TrainError> {
        stored_text(root)?;
        let lock = lock(root)?;
        replace::finish(root)?;
        Self::open(root, lock)
    }

    fn open(root: &Path, lock: File) -> Result<Self, TrainError> {
        let checkpoints = root.join(CHECKPOINTS);
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
        let (path, text) = stored_text(root)?;
        let mut config = crate::config::stored(&text, &path)?;
        // Not every run that goes on opens them: what does says that they are gone.
        let weights = Self::stored_weights(root, &config.init_from).find(root, "--init-from");
        let elsewhere = weights.ok().filter(|found| found.name != config.init_from);
        config.init_from_path = elsewhere.map(|found| found.name.into());
        Ok(Stored { config, data: Self::stored_data(root) })
    }

    /// The configuration of the run in the folder as text, with its path: of whatever task.
    ///
    /// # Errors
    /// When there is no run, or its configuration cannot be read.
    pub fn stored_config(root: &Path) -> Result<(String, String), TrainError> {
        stored_text(root)
    }

    /// The data set of the run in the folder, where the folder says.
    pub fn stored_data(root: &Path) -> Option<Place> {
        Manifest::read(root).map(|m| Place { named: m.data, path: m.data_path })
    }

    /// The weights that the run in the folder began from, which its configuration names so.
    pub fn stored_weights(root: &Path, named: &str) -> Place {
        Place { named: named.to_owned(), path: Manifest::read(root).and_then(|m| m.weights_path) }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Writes `config.toml` (every value resolved) and `manifest.json`. Beside the names of data and weights the manifest keeps where they
    /// lie: a relative name means nothing in another folder. `understood` says what was made of data and
    /// weights: layout, classes, normalisation, what was left out. Of a run that goes on, the manifest keeps when, with what
    /// and by which command it began, and lists the later parts; device, data and `understood` are those of the last part, where
    /// `weights` of null stand for those it began with.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_description(
        &self,
        config: &impl Serialize,
        device: &str,
        data: &str,
        mut understood: serde_json::Value,
    ) -> Result<(), TrainError> {
        let toml = toml::to_string_pretty(config).map_err(|e| TrainError::File {
            path: self.root.join(CONFIG),
            reason: format!("cannot write the configuration: {e}"),
        })?;
        let now = Part::now(device);
        // A new run has none: its folder was cleared.
        let mut manifest = match Manifest::read(&self.root) {
            Some(mut begun) => {
                begun.resumed.push(now);
                begun
            }
            None => Manifest::begun(now, &toml),
        };
        // A run that goes on may open no weights: what is known of those that it began with stays.
        if let (Some(begun), Some(now)) = (manifest.understood.get("weights"), understood.get_mut("weights"))
            && now.is_null()
        {
            *now = begun.clone();
        }
        (manifest.device, manifest.understood) = (device.into(), understood);
        manifest.take_data(data);
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
                    found.set_aside("damaged")?;
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
        CheckpointFile::path_in(&self.root, epochs_done, step_in_epoch)
    }

    /// Renames the checkpoints made after `steps` (with `steps_per_epoch`), so that nothing goes on from them.
    pub(crate) fn set_aside_after(&self, steps: usize, steps_per_epoch: usize) -> Result<(), TrainError> {
        for found in CheckpointFile::all(&self.root)? {
            if found.steps(steps_per_epoch) > steps {
                found.set_aside("collapsed")?;
            }
        }
        Ok(())
    }
}

/// Refuses a folder with something in it that must not be replaced.
fn check_free(root: &Path, overwrite: bool) -> Result<(), TrainError> {
    let reason = match replace::what_is_at(root) {
        Found::Run if !overwrite => {
            "there is a run here already; --overwrite replaces it, --resume goes on with it, or choose another --out"
                .to_owned()
        }
        Found::Other(name) => {
            format!("expected a folder without a run, found a {name} that no run wrote; choose another --out")
        }
        Found::Run | Found::Nothing => return Ok(()),
    };
    Err(TrainError::File { path: root.to_owned(), reason })
}

/// Path and text of the configuration.
fn stored_text(root: &Path) -> Result<(String, String), TrainError> {
    let path = root.join(CONFIG);
    match fs::read(&path) {
        Ok(bytes) => match crate::config::text_of(&bytes) {
            Ok(text) => Ok((path.display().to_string(), text)),
            Err(reason) => Err(TrainError::File { path, reason }),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(TrainError::File {
            path: root.to_owned(),
            reason: "there is no run here to go on with (no config.toml); start one without --resume".into(),
        }),
        Err(e) => Err(TrainError::io(&path, "read the configuration", &e)),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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

    /// A part of a run that opened no weights does not make them unknown.
    #[test]
    fn the_manifest_keeps_the_weights_it_began_with() {
        let folder = tempfile::tempdir().unwrap();
        let understood = |weights: serde_json::Value| serde_json::json!({ "train": 3, "weights": weights });
        for (weights, expected) in [("a".into(), "a"), (serde_json::Value::Null, "a"), ("b".into(), "b")] {
            let dir = RunDir::reopen(folder.path()).or_else(|_| RunDir::create(folder.path(), false)).unwrap();
            dir.write_description(&RunConfig::default(), "cpu", "photos", understood(weights)).unwrap();
            let told = Manifest::read(folder.path()).unwrap().understood;
            assert_eq!((&told["weights"], &told["train"]), (&expected.into(), &3.into()));
        }
    }

    /// The first start stays what it was; later ones are listed.
    #[test]
    fn the_manifest_remembers_how_the_run_began() {
        let folder = tempfile::tempdir().unwrap();
        let read = || -> serde_json::Value {
            serde_json::from_slice(&fs::read(folder.path().join(MANIFEST)).unwrap()).unwrap()
        };
        let dir = RunDir::create(folder.path(), false).unwrap();
        dir.write_description(&RunConfig::default(), "cpu", "photos", serde_json::json!({ "classes": 3 }))
            .unwrap();
        let begun = read();
        assert_eq!(begun["understood"]["classes"], 3);
        assert!(begun.get("resumed").is_none(), "{begun}");
        // As if it had begun long ago, with another command.
        let mut old = begun;
        (old["started_unix_s"], old["command"]) = (7.into(), serde_json::json!(["ocelli", "pretrain"]));
        fs::write(folder.path().join(MANIFEST), old.to_string()).unwrap();
        drop(dir);
        let dir = RunDir::reopen(folder.path()).unwrap();
        dir.write_description(&RunConfig::default(), "gpu", "moved", serde_json::Value::Null).unwrap();
        let now = read();
        assert_eq!((&now["started_unix_s"], &now["command"]), (&old["started_unix_s"], &old["command"]));
        assert_eq!((&now["device"], &now["data"]), (&"gpu".into(), &"moved".into()));
        assert_eq!(now["resumed"].as_array().unwrap().len(), 1);
        assert!(now["resumed"][0]["unix_s"].as_u64() > Some(7) && now["resumed"][0]["command"].is_array());
        let stored = RunDir::stored(folder.path()).unwrap();
        assert_eq!(stored.data, Some(Place { named: "moved".into(), path: None }));
        // Replaced it is another run.
        drop(dir);
        let dir = RunDir::create(folder.path(), true).unwrap();
        dir.write_description(&RunConfig::default(), "cpu", "photos", serde_json::Value::Null).unwrap();
        assert!(read().get("resumed").is_none() && read()["started_unix_s"].as_u64() > Some(7));
    }

    /// A path is kept as it was given and as it is found from anywhere.
    #[test]
    fn the_manifest_keeps_where_things_are() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::create_dir(at("photos")).unwrap();
        fs::write(at("a.pth"), "").unwrap();
        let run = folder.path().join("run");
        let config = RunConfig { init_from: at("a.pth"), ..RunConfig::default() };
        let dir = RunDir::create(&run, false).unwrap();
        dir.write_description(&config, "cpu", &at("photos"), serde_json::Value::Null).unwrap();
        let place = |name: &str| Place { named: at(name), path: Some(at(name)) };
        assert_eq!(RunDir::stored_data(&run), Some(place("photos")));
        assert_eq!(RunDir::stored_weights(&run, &at("a.pth")), place("a.pth"));
        // In the next part the weights may be gone; where they were stays.
        drop(dir);
        fs::remove_file(at("a.pth")).unwrap();
        let dir = RunDir::reopen(&run).unwrap();
        dir.write_description(&config, "cpu", &at("photos"), serde_json::Value::Null).unwrap();
        assert_eq!(RunDir::stored_data(&run), Some(place("photos")));
        dir.write_description(&config, "cpu", "scenes:64", serde_json::Value::Null).unwrap();
        assert_eq!(RunDir::stored_data(&run), Some(Place { named: "scenes:64".into(), path: None }));
        assert_eq!(RunDir::stored_weights(&run, &at("a.pth")), place("a.pth"));
        assert_eq!(RunDir::stored(&run).unwrap().config, config, "nothing of it is a part of the configuration");
        // A run of an earlier version says nothing.
        fs::write(run.join(MANIFEST), manifest_without_paths(&run)).unwrap();
        assert_eq!(RunDir::stored_data(&run).unwrap().path, None);
    }

    fn manifest_without_paths(run: &Path) -> String {
        let mut manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(run.join(MANIFEST)).unwrap()).unwrap();
        let fields = manifest.as_object_mut().unwrap();
        fields.retain(|key, _| !key.ends_with("_path"));
        manifest.to_string()
    }
}
