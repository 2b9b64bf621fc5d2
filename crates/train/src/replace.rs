//! A run gives way to a new one in the same folder: whole, or not at all.
//!
//! The old run's files move one by one into a folder of their own, which is then removed. The configuration moves first:
//! until then the old run is whole, and from then on there is no run. A killed process may leave anything in between;
//! [`finish`] does the rest before a folder is used again, so that no new run ever meets an old one's checkpoints.

use std::fs;
use std::path::{Path, PathBuf};

use ocelli_data::files::TEMPORARY;

use crate::TrainError;
use crate::atomic::{remove_half_written, remove_if_there};
use crate::checkpoint_files::{CHECKPOINTS, CheckpointFile};

/// The figures, a row a line.
pub(crate) const METRICS: &str = "metrics.jsonl";
/// Every value of the configuration.
pub(crate) const CONFIG: &str = "config.toml";
/// With what, on what and when.
pub(crate) const MANIFEST: &str = "manifest.json";
const REPORT: &str = "report.html";
/// The best classifier of a fine-tuning.
pub const CLASSIFIER: &str = "classifier.safetensors";
/// The best head of a linear probe.
pub const HEAD: &str = "head.safetensors";
/// The same as DINO's evaluation saves and loads it.
pub const HEAD_PTH: &str = "head.pth";
/// The best network of a fine-tuned detection or segmentation, and what it came to.
const TRANSFERRED: [&str; 4] =
    ["detector.safetensors", "detection.json", "segmenter.safetensors", "segmentation.json"];
/// A run's own files at the top of its folder, beside [`TRANSFERRED`]; the configuration comes first. The last two are the demo's.
const FILES: [&str; 9] =
    [CONFIG, METRICS, MANIFEST, REPORT, CLASSIFIER, HEAD, HEAD_PTH, "attention-untrained.png", "attention.png"];
const PICTURES: &str = "pictures";
const TENSORBOARD: &str = "tensorboard";
const FOLDERS: [&str; 3] = [CHECKPOINTS, PICTURES, TENSORBOARD];
/// Start of the name of the folder an old run moves into.
const REPLACED: &str = ".ocelli-replaced-";

/// What a folder holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No run, nor a file in the place of one of its files; at most what a start left that was killed at once.
    Nothing,
    /// A run, or what is left of one.
    Run,
    /// No run, but a file of this name, which a run would write over.
    Other(&'static str),
}

/// Looks for a run at `root`.
pub(crate) fn what_is_at(root: &Path) -> Found {
    let manifest: Option<serde_json::Value> =
        fs::read(root.join(MANIFEST)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let is_described = manifest.is_some_and(|m| m.get("ocelli").is_some());
    let has_rows = fs::metadata(root.join(METRICS)).is_ok_and(|m| m.len() > 0);
    let has_checkpoints = || CheckpointFile::all(root).is_ok_and(|all| !all.is_empty());
    if has_rows || (is_described && root.join(CONFIG).exists()) || has_checkpoints() {
        return Found::Run;
    }
    let other = [CONFIG, REPORT, CLASSIFIER, HEAD, HEAD_PTH, MANIFEST]
        .into_iter()
        .chain(TRANSFERRED)
        .filter(|name| *name != MANIFEST || !is_described);
    other.into_iter().find(|name| root.join(name).exists()).map_or(Found::Nothing, Found::Other)
}

/// Removes the run at `root`. What is not a run's stays.
///
/// # Errors
/// When a file cannot be moved or removed; the next [`finish`] goes on.
pub(crate) fn remove_run(root: &Path) -> Result<(), TrainError> {
    remove_run_in_steps(root, &mut || Ok(()))
}

/// Removes what killed processes left at `root`: half-written files, and the rest of a run that was being replaced.
///
/// # Errors
/// When a file cannot be moved or removed.
pub(crate) fn finish(root: &Path) -> Result<(), TrainError> {
    finish_in_steps(root, &mut || Ok(()))
}

/// Whether a run at `root` was being replaced when the process ended.
pub(crate) fn is_unfinished(root: &Path) -> bool {
    !asides(root).is_empty()
}

/// Called before every change on the disk; an error ends the work as a kill would.
type Step<'a> = &'a mut dyn FnMut() -> Result<(), TrainError>;

fn remove_run_in_steps(root: &Path, step: Step<'_>) -> Result<(), TrainError> {
    step()?;
    let aside = tempfile::Builder::new().prefix(REPLACED).tempdir_in(root);
    // Kept: if moving a file fails, the next process needs to know how far this one came.
    let aside = aside.map_err(|e| TrainError::io(root, "write into the folder", &e))?.keep();
    move_run(root, &aside, step)?;
    remove_aside(&aside, step)
}

fn finish_in_steps(root: &Path, step: Step<'_>) -> Result<(), TrainError> {
    for aside in asides(root) {
        let has_begun = fs::read_dir(&aside).is_ok_and(|mut entries| entries.next().is_some());
        // With a configuration there is a run that nobody began to replace.
        if has_begun && !root.join(CONFIG).exists() {
            move_run(root, &aside, step)?;
        }
        remove_aside(&aside, step)?;
    }
    remove_half_written(root)?;
    FOLDERS.iter().try_for_each(|folder| remove_half_written(&root.join(folder)))
}

fn move_run(root: &Path, aside: &Path, step: Step<'_>) -> Result<(), TrainError> {
    let taken = fs::read_dir(aside).map_or(0, Iterator::count);
    for (i, path) in files_of_run(root).iter().enumerate() {
        step()?;
        match fs::rename(path, aside.join(format!("{:06}", taken + i))) {
            Ok(()) => {}
            // The checkpoints may be a link to a larger disk.
            Err(e) if e.kind() == std::io::ErrorKind::CrossesDevices => remove_if_there(path)?,
            Err(e) => return Err(TrainError::io(path, "move the old run's file", &e)),
        }
    }
    Ok(())
}

fn remove_aside(aside: &Path, step: Step<'_>) -> Result<(), TrainError> {
    let failed = |e: &std::io::Error| TrainError::io(aside, "remove the old run", e);
    let entries = fs::read_dir(aside).map_err(|e| failed(&e))?;
    for entry in entries.filter_map(Result::ok) {
        step()?;
        remove_if_there(&entry.path())?;
    }
    step()?;
    fs::remove_dir(aside).map_err(|e| failed(&e))
}

/// Where old runs were moved to.
fn asides(root: &Path) -> Vec<PathBuf> {
    names_in(root).into_iter().filter(|name| name.starts_with(REPLACED)).map(|name| root.join(name)).collect()
}

/// All files at `root` that a run wrote; the configuration first.
fn files_of_run(root: &Path) -> Vec<PathBuf> {
    let names = FILES.iter().chain(&TRANSFERRED);
    let mut files: Vec<PathBuf> = names.map(|name| root.join(name)).filter(|path| path.is_file()).collect();
    for folder in FOLDERS {
        let is_a_runs = |name: &String| {
            name.starts_with(TEMPORARY)
                || match folder {
                    CHECKPOINTS => CheckpointFile::is_a_runs(name),
                    PICTURES => name.ends_with(".png"),
                    _ => name.starts_with("events.out.tfevents.") && name.ends_with(".ocelli"),
                }
        };
        let path = root.join(folder);
        files
            .extend(names_in(&path).iter().filter(|n| is_a_runs(n)).map(|n| path.join(n)).filter(|p| p.is_file()));
    }
    files
}

/// Names in a folder, in order; none where there is no folder.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunDir;

    const OLD: [&str; 10] = [
        "config.toml",
        "metrics.jsonl",
        "manifest.json",
        "report.html",
        "detection.json",
        "checkpoints/epoch-0001.safetensors",
        "checkpoints/epoch-0002_step-000007.safetensors",
        "checkpoints/epoch-0002.safetensors.damaged",
        "pictures/views.png",
        "tensorboard/events.out.tfevents.1.ocelli",
    ];
    const USERS: [&str; 4] = ["notes.txt", "checkpoints/best.safetensors", "pictures/notes.txt", "photos/a.png"];

    /// A folder with a run and files of the user's.
    fn old_run() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in OLD.iter().chain(&USERS) {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "old").unwrap();
        }
        let config = toml::to_string(&crate::RunConfig::default()).unwrap();
        fs::write(folder.path().join(CONFIG), config).unwrap();
        folder
    }

    fn there(root: &Path, names: &[&str]) -> usize {
        names.iter().filter(|name| root.join(name).exists()).count()
    }

    /// Ends after so many changes on the disk.
    fn killed_after(mut changes: usize) -> impl FnMut() -> Result<(), TrainError> {
        move || {
            changes = changes.checked_sub(1).ok_or_else(|| TrainError::Device("killed".into()))?;
            Ok(())
        }
    }

    fn assert_new(root: &Path, when: &str) {
        let dir = RunDir::create(root, false).unwrap_or_else(|e| panic!("{when}: {e}"));
        assert!(dir.newest_checkpoint(&mut Vec::new()).unwrap().is_none(), "{when}: an old run's checkpoint");
        assert_eq!(there(root, &OLD), 1, "{when}: only the metrics, which are new");
        assert_eq!(fs::read(root.join(METRICS)).unwrap(), b"", "{when}");
        assert_eq!(there(root, &USERS), USERS.len(), "{when}: what is the user's stays");
        for folder in [".", "checkpoints", "pictures", "tensorboard"] {
            let left: Vec<_> = names_in(&root.join(folder)).into_iter().filter(|n| n.starts_with(".oc")).collect();
            assert_eq!(left, Vec::<String>::new(), "{when}: in {folder}");
        }
    }

    /// Killed before every single change: the old run is whole, or there is nothing a new one could take for its own.
    #[test]
    fn killed_at_any_point_the_old_run_is_whole_or_gone() {
        let (mut whole, mut gone, mut kill) = (0, 0, 0);
        loop {
            let folder = old_run();
            let root = folder.path();
            let is_done = remove_run_in_steps(root, &mut killed_after(kill)).is_ok();
            let when = format!("killed after {kill} changes");
            if root.join(CONFIG).exists() {
                assert_eq!(there(root, &OLD), OLD.len(), "{when}: the old run is whole");
                assert!(RunDir::create(root, false).unwrap_err().to_string().contains("a run here already"));
                RunDir::reopen(root).unwrap();
                assert_eq!(there(root, &OLD), OLD.len(), "{when}: and stays so");
                whole += 1;
            } else {
                assert!(RunDir::reopen(root).unwrap_err().to_string().contains("no run here"), "{when}");
                // The clean-up may be killed as well.
                let again = finish_in_steps(root, &mut killed_after(kill / 2));
                assert_new(root, &format!("{when}, {again:?}"));
                gone += 1;
            }
            if is_done {
                break;
            }
            kill += 1;
        }
        assert_eq!(whole, 2, "before the folder, and before the configuration");
        assert_eq!(gone, 2 * OLD.len() + 1);
    }

    /// As earlier versions left it: the configuration was removed, the checkpoints were not yet.
    #[test]
    fn checkpoints_without_a_configuration_are_an_old_run() {
        let folder = old_run();
        for name in [CONFIG, MANIFEST, METRICS] {
            fs::remove_file(folder.path().join(name)).unwrap();
        }
        let message = RunDir::create(folder.path(), false).unwrap_err().to_string();
        assert!(message.contains("--overwrite"), "{message}");
        drop(RunDir::create(folder.path(), true).unwrap());
        assert_eq!(there(folder.path(), &["checkpoints/epoch-0001.safetensors"]), 0);
    }

    #[test]
    fn a_run_is_replaced_and_nothing_else() {
        let folder = old_run();
        drop(RunDir::create(folder.path(), true).unwrap());
        fs::remove_file(folder.path().join(METRICS)).unwrap();
        assert_new(folder.path(), "replaced");
    }

    /// A web site, say, or another program's configuration: --overwrite is for runs.
    #[test]
    fn files_that_are_no_runs_are_refused() {
        for name in [CONFIG, MANIFEST, REPORT] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(name), "{}").unwrap();
            for overwrite in [false, true] {
                let message = RunDir::create(folder.path(), overwrite).unwrap_err().to_string();
                assert!(message.contains(name) && message.contains("--out"), "{message}");
            }
            assert_eq!(fs::read(folder.path().join(name)).unwrap(), b"{}");
        }
    }

    /// Someone copied a run into the folder of one whose removal was cut short.
    #[test]
    fn a_run_that_came_later_stays() {
        let folder = old_run();
        let aside = folder.path().join(format!("{REPLACED}1"));
        fs::create_dir(&aside).unwrap();
        fs::write(aside.join("000000"), "older").unwrap();
        RunDir::reopen(folder.path()).unwrap();
        assert_eq!(there(folder.path(), &OLD), OLD.len());
        assert!(!aside.exists());
    }
}
