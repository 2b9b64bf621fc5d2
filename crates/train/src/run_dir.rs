//! The folder of a run. Files appear whole: they are written under a temporary name and renamed.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{RunConfig, TrainError};

/// A run's folder: `config.toml`, `manifest.json`, `metrics.jsonl`, `checkpoints/`.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    metrics: File,
}

/// What the run was made with.
#[derive(Debug, Serialize)]
struct Manifest<'a> {
    ocelli: &'a str,
    burn: &'a str,
    os: &'a str,
    arch: &'a str,
    device: &'a str,
    data: &'a str,
    started_unix_s: u64,
    command: Vec<String>,
}

impl RunDir {
    /// Creates the folder, or takes an empty one.
    ///
    /// # Errors
    /// When a run is there already and `overwrite` is false, or the folder cannot be written.
    pub fn create(root: &Path, overwrite: bool) -> Result<Self, TrainError> {
        if root.join("config.toml").exists() || root.join("metrics.jsonl").exists() {
            if !overwrite {
                return Err(TrainError::File {
                    path: root.to_owned(),
                    reason: "there is a run here already; choose another --out, or --overwrite to replace it"
                        .into(),
                });
            }
            for name in ["config.toml", "manifest.json", "metrics.jsonl", "report.html"] {
                remove_if_there(&root.join(name))?;
            }
            for name in ["checkpoints", "pictures", "tensorboard"] {
                let folder = root.join(name);
                if folder.exists() {
                    fs::remove_dir_all(&folder)
                        .map_err(|e| TrainError::io(&folder, "remove the old folder", &e))?;
                }
            }
        }
        let checkpoints = root.join("checkpoints");
        fs::create_dir_all(&checkpoints).map_err(|e| TrainError::io(&checkpoints, "create the folder", &e))?;
        let path = root.join("metrics.jsonl");
        let metrics = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|e| TrainError::io(&path, "open for writing", &e))?;
        Ok(Self { root: root.to_owned(), metrics })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Writes `config.toml` (every value resolved) and `manifest.json`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_description(&self, config: &RunConfig, device: &str, data: &str) -> Result<(), TrainError> {
        let toml = toml::to_string_pretty(config).map_err(|e| TrainError::File {
            path: self.root.join("config.toml"),
            reason: format!("cannot write the configuration: {e}"),
        })?;
        write_atomically(&self.root.join("config.toml"), toml.as_bytes())?;
        let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let manifest = Manifest {
            ocelli: env!("CARGO_PKG_VERSION"),
            burn: "0.22.1",
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            device,
            data,
            started_unix_s: started.map_or(0, |d| d.as_secs()),
            command: std::env::args().collect(),
        };
        let json = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
        write_atomically(&self.root.join("manifest.json"), &json)
    }

    /// Appends one line to `metrics.jsonl`.
    ///
    /// # Errors
    /// When it cannot be written (a full disk).
    pub fn log<T: Serialize>(&self, row: &T) -> Result<(), TrainError> {
        let mut line = serde_json::to_vec(row).unwrap_or_default();
        line.push(b'\n');
        let path = self.root.join("metrics.jsonl");
        (&self.metrics).write_all(&line).map_err(|e| TrainError::io(path, "write the metrics", &e))
    }

    /// Where the checkpoint of a finished epoch goes.
    pub fn checkpoint_path(&self, epochs_done: usize) -> PathBuf {
        self.root.join("checkpoints").join(format!("epoch-{epochs_done:04}.safetensors"))
    }

    /// Removes all but the newest `keep` checkpoints.
    ///
    /// # Errors
    /// When the folder cannot be read or a file not removed.
    pub fn prune_checkpoints(&self, keep: usize) -> Result<(), TrainError> {
        let mut all = checkpoints_in(&self.root)?;
        let extra = all.len().saturating_sub(keep);
        for path in all.drain(..extra) {
            remove_if_there(&path)?;
        }
        Ok(())
    }
}

/// Checkpoints of a run, oldest first.
pub(crate) fn checkpoints_in(root: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let folder = root.join("checkpoints");
    let entries = fs::read_dir(&folder).map_err(|e| TrainError::io(&folder, "list the checkpoints", &e))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    paths.sort();
    Ok(paths)
}

/// Writes a file under a temporary name beside it, syncs, and renames: readers see the old file or the whole new one.
///
/// # Errors
/// When it cannot be written; the temporary file is removed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".ocelli-").tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(|e| TrainError::io(path, "write the file", &e))
}

fn remove_if_there(path: &Path) -> Result<(), TrainError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(TrainError::io(path, "remove the old file", &e)),
    }
}
