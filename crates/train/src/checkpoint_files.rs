//! The checkpoints of a run by their names: their order, and which of them stay.

use std::fs;
use std::path::{Path, PathBuf};

use crate::TrainError;
use crate::atomic::remove_if_there;

/// Folder of the checkpoints, within a run's.
pub(crate) const CHECKPOINTS: &str = "checkpoints";
/// Endings of checkpoints that nothing goes on from any more.
const ASIDE: [&str; 2] = [".damaged", ".collapsed"];

/// A checkpoint by its name: `epoch-0007.safetensors`, or `epoch-0007_step-000123.safetensors` within the next epoch.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CheckpointFile {
    epochs: usize,
    step_in_epoch: usize,
    /// The file.
    pub path: PathBuf,
}

impl CheckpointFile {
    /// Where the checkpoint after so many epochs, and so many steps more, goes in the run at `root`.
    pub fn path_in(root: &Path, epochs_done: usize, step_in_epoch: usize) -> PathBuf {
        let more = if step_in_epoch > 0 { format!("_step-{step_in_epoch:06}") } else { String::new() };
        root.join(CHECKPOINTS).join(format!("epoch-{epochs_done:04}{more}.safetensors"))
    }

    fn of(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_prefix("epoch-")?.strip_suffix(".safetensors")?;
        let (epochs, step) = name.split_once("_step-").unwrap_or((name, "0"));
        let (epochs, step_in_epoch) = (epochs.parse().ok()?, step.parse().ok()?);
        Some(Self { epochs, step_in_epoch, path })
    }

    /// Whether a run gave a file this name: a checkpoint, or one that was set aside.
    pub fn is_a_runs(name: &str) -> bool {
        let name = ASIDE.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
        Self::of(PathBuf::from(name)).is_some()
    }

    /// All of the run at `root`, oldest first.
    pub fn all(root: &Path) -> Result<Vec<Self>, TrainError> {
        let folder = root.join(CHECKPOINTS);
        let entries = fs::read_dir(&folder).map_err(|e| TrainError::io(&folder, "list the checkpoints", &e))?;
        let mut found: Vec<Self> = entries.filter_map(|e| Self::of(e.ok()?.path())).collect();
        found.sort();
        Ok(found)
    }

    /// Optimizer steps done when it was made.
    pub fn steps(&self, steps_per_epoch: usize) -> usize {
        self.epochs * steps_per_epoch + self.step_in_epoch
    }

    /// Gives it an ending nothing looks for: `damaged` or `collapsed`.
    pub fn set_aside(&self, why: &str) -> Result<(), TrainError> {
        let aside = self.path.with_extension(format!("safetensors.{why}"));
        fs::rename(&self.path, aside).map_err(|e| TrainError::io(&self.path, "rename the checkpoint", &e))
    }
}

/// Checkpoints of a run, oldest first.
pub(crate) fn checkpoints_in(root: &Path) -> Result<Vec<PathBuf>, TrainError> {
    Ok(CheckpointFile::all(root)?.into_iter().map(|c| c.path).collect())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunDir;

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
        fs::write(folder.path().join("checkpoints/notes.txt"), b"x").unwrap();
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
}
