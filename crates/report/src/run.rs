//! The folder of a run, as far as it can be read.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use toml::Table;

use crate::{History, ReportError};

/// A run as its folder tells it.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// The folder.
    pub dir: PathBuf,
    /// `config.toml`, where it is there and whole.
    pub config: Option<Table>,
    /// `manifest.json`, empty where it is not there or damaged.
    pub manifest: Map<String, Value>,
    /// `metrics.jsonl`.
    pub history: History,
    /// When `metrics.jsonl` was written last, seconds since 1970.
    pub modified_unix_s: Option<f64>,
    /// `checkpoints/`, by name.
    pub checkpoints: Vec<Checkpoint>,
}

/// A file of weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name within `checkpoints/`.
    pub name: String,
    /// Size.
    pub bytes: u64,
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// At work, or gone so recently that nobody can tell.
    Running,
    /// Ended as planned.
    Finished,
    /// Ended early, and said why.
    Stopped(String),
    /// Not ended, but silent for longer than it ever was. Holds the time of the last news, seconds since 1970.
    Silent(f64),
}

impl State {
    /// One word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Stopped(_) => "stopped",
            Self::Silent(_) => "no news",
        }
    }
}

impl Run {
    /// Reads a folder.
    ///
    /// # Errors
    /// When it holds no run, or its metrics cannot be read. Damaged files are read as far as they go.
    pub fn read(dir: &Path) -> Result<Self, ReportError> {
        if !is_run(dir) {
            let found = match fs::metadata(dir) {
                Ok(m) if m.is_dir() => "",
                Ok(_) => ", found a file",
                Err(_) => ", found nothing",
            };
            return Err(ReportError::NoRun { path: dir.to_owned(), found: found.into() });
        }
        let mut run = Self { dir: dir.to_owned(), ..Self::default() };
        run.read_description();
        let metrics = dir.join("metrics.jsonl");
        match fs::read(&metrics) {
            Ok(bytes) => run.history = History::parse(&bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(ReportError::io(&metrics, "read the metrics", &e)),
        }
        run.modified_unix_s = fs::metadata(&metrics).and_then(|m| m.modified()).ok().map(unix_s);
        run.list_checkpoints();
        Ok(run)
    }

    /// Reads `config.toml` and `manifest.json` again.
    pub(crate) fn read_description(&mut self) {
        let text = |name: &str| fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        self.config = text("config.toml").parse::<Table>().ok().filter(|t| !t.is_empty());
        self.manifest = serde_json::from_str(&text("manifest.json")).unwrap_or_default();
    }

    /// Looks which checkpoints are there now.
    pub(crate) fn list_checkpoints(&mut self) {
        let entries = fs::read_dir(self.dir.join("checkpoints")).into_iter().flatten().flatten();
        let files = entries.filter(|e| e.path().extension().is_some_and(|x| x == "safetensors"));
        self.checkpoints = files
            .map(|e| Checkpoint {
                name: e.file_name().to_string_lossy().into_owned(),
                bytes: e.metadata().map_or(0, |m| m.len()),
            })
            .collect();
        self.checkpoints.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// The folder's own name.
    pub fn name(&self) -> String {
        let named = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
        let absolute = || fs::canonicalize(&self.dir).ok().and_then(|p| named(&p));
        named(&self.dir).or_else(absolute).unwrap_or_else(|| self.dir.display().to_string())
    }

    /// A text of the manifest, such as `device` or `data`.
    pub fn said(&self, key: &str) -> Option<&str> {
        self.manifest.get(key)?.as_str()
    }

    /// A value of the configuration by its dotted key.
    pub fn setting(&self, key: &str) -> Option<&toml::Value> {
        let (path, leaf) = key.rsplit_once('.').map_or((None, key), |(path, leaf)| (Some(path), leaf));
        let mut table = self.config.as_ref()?;
        for part in path.into_iter().flat_map(|p| p.split('.')) {
            table = table.get(part)?.as_table()?;
        }
        table.get(leaf)
    }

    /// The method, such as `dino`.
    pub fn method(&self) -> &str {
        self.setting("method").and_then(toml::Value::as_str).unwrap_or("–")
    }

    /// The backbone, such as `vit-s/16`.
    pub fn arch(&self) -> &str {
        self.setting("arch").and_then(toml::Value::as_str).unwrap_or("–")
    }

    /// Epochs it is to have, where anything says so.
    pub fn epochs_planned(&self) -> Option<u64> {
        let started = self.history.started.map(|s| s.epochs).filter(|e| *e > 0);
        let configured = || self.setting("epochs").and_then(toml::Value::as_integer)?.try_into().ok();
        started.or_else(configured)
    }

    /// When it was started, seconds since 1970.
    pub fn started_unix_s(&self) -> Option<f64> {
        let first = self.history.steps.unix_s.first().copied();
        self.manifest.get("started_unix_s").and_then(Value::as_f64).or(first).filter(|t| t.is_finite() && *t > 0.0)
    }

    /// When it was heard of last, seconds since 1970.
    pub fn last_news_unix_s(&self) -> Option<f64> {
        self.history.last_unix_s.or(self.modified_unix_s)
    }

    /// How long the run may be silent before something is wrong, seconds: three times as long as it ever was, and
    /// five minutes at least.
    pub fn patience_s(&self) -> f64 {
        let times = &self.history.steps.unix_s;
        let gaps = times.windows(2).rev().take(200).map(|w| w[1] - w[0]).filter(|g| g.is_finite());
        (3.0 * gaps.fold(0.0, f64::max)).clamp(300.0, 86_400.0)
    }

    /// Where the run stands at `now`, seconds since 1970.
    pub fn state(&self, now: f64) -> State {
        if let Some(reason) = &self.history.stopped {
            return State::Stopped(reason.clone());
        }
        if self.history.finished.is_some() {
            return State::Finished;
        }
        match self.last_news_unix_s() {
            Some(last) if now - last > self.patience_s() => State::Silent(last),
            _ => State::Running,
        }
    }

    /// Time at work, seconds: by the rows' clocks, or by what epochs and run say of themselves.
    pub fn active_s(&self) -> f64 {
        let epochs: f64 =
            self.history.epochs.column("wall_s").into_iter().flatten().filter(|s| s.is_finite()).sum();
        match self.history.active_s {
            clocked if clocked > 0.0 => clocked,
            _ => self.history.finished.unwrap_or(0.0).max(epochs),
        }
    }

    /// Time still to go at the pace of the last epochs, seconds.
    pub fn remaining_s(&self) -> Option<f64> {
        let history = &self.history;
        let left = self.epochs_planned()? as f64 - history.epochs_done();
        if left <= 0.0 {
            return Some(0.0);
        }
        // The pace includes what happens between epochs, so it is taken over two epochs where there are as many.
        let rows = &history.steps;
        let last = rows.len().checked_sub(1)?;
        let back = (rows.steps[last] as f64 - 2.0 * history.steps_per_epoch()).max(0.0);
        let first = rows.steps.partition_point(|s| (*s as f64) < back);
        let epochs = (rows.steps[last] - rows.steps[first]) as f64 / history.steps_per_epoch();
        let seconds = rows.unix_s[last] - rows.unix_s[first];
        if epochs > 0.0 && seconds > 0.0 {
            return Some(left * seconds / epochs);
        }
        Some(left * history.epochs.last("wall_s")?)
    }

    /// Images per second: of each epoch as a whole, NaN where it does not say how long it took.
    pub fn images_per_second(&self) -> Vec<f64> {
        let batch = self.setting("batch_size").and_then(toml::Value::as_integer).map(|b| b as f64);
        let started = self.history.started.unwrap_or_default();
        let images = batch.map_or(started.images as f64, |b| b * self.history.steps_per_epoch());
        let walls = self.history.epochs.column("wall_s").unwrap_or_default();
        walls.iter().map(|s| if *s > 0.0 && images > 0.0 { images / s } else { f64::NAN }).collect()
    }

    /// Images per second over the last epoch, or the last steps.
    pub fn speed(&self) -> Option<f64> {
        let epochs = self.images_per_second();
        let newest = epochs.into_iter().rev().find(|v| v.is_finite());
        newest.or_else(|| self.history.steps.last("images_per_second"))
    }
}

/// True where there is a run in the folder, however little of it.
fn is_run(dir: &Path) -> bool {
    let has = |name: &str| dir.join(name).is_file();
    has("metrics.jsonl") || (has("config.toml") && has("manifest.json"))
}

/// The runs in `root` and in the folders below it (`depth` levels), by path. Folders that cannot be read, or are no
/// runs, are passed over.
pub fn find_runs(root: &Path, depth: usize) -> Vec<PathBuf> {
    if is_run(root) {
        return vec![root.to_owned()];
    }
    if depth == 0 {
        return Vec::new();
    }
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    // Links are not followed: they may lead anywhere, also back.
    let mut folders: Vec<PathBuf> =
        entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect();
    folders.sort();
    folders.iter().flat_map(|folder| find_runs(folder, depth - 1)).collect()
}

pub(crate) fn unix_s(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// Writes a file under a temporary name beside it and renames it: readers see the old one or the whole new one. It is
/// not synced to the disk; what shows a run can be made again.
///
/// # Errors
/// When it cannot be written; the temporary file is removed.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    ocelli_data::files::write_whole(path, bytes, false).map_err(|e| ReportError::io(path, "write the file", &e))
}
