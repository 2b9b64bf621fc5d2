//! Keeps what shows a run up to date while the run goes.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use toml::Table;

use crate::run::{unix_s, write_file};
use crate::{ReportError, Run, report_html, tensorboard};

/// Time between two reports while nothing special happens.
const PAUSE: Duration = Duration::from_secs(10);
/// A report waits so many times as long as the one before took: well below 1 % of the run go into reports.
const SHARE: u32 = 300;

/// Listens to a run and keeps `report.html` and `tensorboard/` in its folder.
///
/// Its errors are no reason to stop a run: the caller says them once and goes on, and later calls try again.
#[derive(Debug)]
pub struct Reporter {
    run: Run,
    defaults: Option<Table>,
    events: EventFile,
    written: Option<Instant>,
    took: Duration,
}

impl Reporter {
    /// Takes up a run whose folder has its `config.toml` and `manifest.json`, new or resumed. The event file is made
    /// anew from `metrics.jsonl`, so that steps a killed process did are there once. `defaults` are the values that
    /// `config.toml` is compared with in the report.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn open(dir: &Path, defaults: Option<Table>) -> Result<Self, ReportError> {
        let run = Run::read(dir)?;
        let events = EventFile::create(&run)?;
        Ok(Self { run, defaults, events, written: None, took: Duration::ZERO })
    }

    /// Takes in one event, as it is written to `metrics.jsonl`; an event without `unix_s` happened now.
    ///
    /// # Errors
    /// When report or event file cannot be written.
    pub fn event(&mut self, event: &Value) -> Result<(), ReportError> {
        let kind = event["event"].as_str().unwrap_or_default();
        if kind == "tick" {
            return Ok(());
        }
        let now = unix_s(SystemTime::now());
        match event["unix_s"].is_number() {
            true => self.run.history.push(event),
            false => {
                let mut timed = event.clone();
                if let Some(fields) = timed.as_object_mut() {
                    fields.insert("unix_s".into(), now.into());
                }
                self.run.history.push(&timed);
            }
        }
        let history = &self.run.history;
        let records = match kind {
            // The pictures of the beginning are there by the first step.
            "step" => history.steps.len().checked_sub(1).map(|row| tensorboard::step(&self.run, row)),
            "epoch" => history.epochs.len().checked_sub(1).map(|row| tensorboard::epoch(&self.run, row)),
            "baseline" => Some(tensorboard::baseline(&self.run)),
            _ => None,
        };
        let appended = records.map_or(Ok(()), |records| self.events.append(&self.run, &records));
        appended.and(self.report(kind, now))
    }

    /// The report, where it is time for one.
    fn report(&mut self, kind: &str, now: f64) -> Result<(), ReportError> {
        let last = matches!(kind, "finished" | "stopped" | "failed" | "error" | "interrupted");
        let pause = match kind {
            "started" | "resumed" | "epoch" | "baseline" | "warning" => self.took * SHARE,
            _ => PAUSE.max(self.took * SHARE),
        };
        if !last && self.written.is_some_and(|at| at.elapsed() < pause) {
            return Ok(());
        }
        let started = Instant::now();
        self.run.list_checkpoints();
        let html = report_html(&self.run, self.defaults.as_ref(), now);
        let written = write_file(&self.run.dir.join("report.html"), html.as_bytes());
        (self.written, self.took) = (Some(Instant::now()), started.elapsed());
        written
    }
}

/// Makes a run's TensorBoard event file anew from its other files, in place of those that are there, and says where it
/// is. Not for a run that goes on: that one keeps its file itself.
///
/// # Errors
/// When the folder cannot be written.
pub fn rebuild_tensorboard(run: &Run) -> Result<PathBuf, ReportError> {
    EventFile::create(run).map(|file| file.path)
}

/// The growing event file.
#[derive(Debug)]
struct EventFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    views_written: bool,
}

impl EventFile {
    /// Replaces the event files that were written here before.
    fn create(run: &Run) -> Result<Self, ReportError> {
        let folder = run.dir.join("tensorboard");
        fs::create_dir_all(&folder).map_err(|e| ReportError::io(&folder, "create the folder", &e))?;
        let now = unix_s(SystemTime::now()) as u64;
        let path = folder.join(format!("events.out.tfevents.{now}.ocelli"));
        let content = tensorboard::event_file(run);
        write_file(&path, &content)?;
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = name.starts_with("events.out.tfevents.") && name.ends_with(".ocelli");
            if ours && entry.path() != path {
                fs::remove_file(entry.path())
                    .map_err(|e| ReportError::io(&entry.path(), "remove the old event file", &e))?;
            }
        }
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(|e| ReportError::io(&path, "open the file", &e))?;
        let views_written = !run.history.steps.is_empty();
        Ok(Self { path, file, bytes: content.len() as u64, views_written })
    }

    /// Appends whole records; what a full disk leaves of them is taken back, or everything after it would be lost.
    fn append(&mut self, run: &Run, records: &[u8]) -> Result<(), ReportError> {
        if !self.views_written {
            self.views_written = true;
            self.append(run, &tensorboard::views(run))?;
        }
        match self.file.write_all(records) {
            Ok(()) => {
                self.bytes += records.len() as u64;
                Ok(())
            }
            Err(e) => {
                let _ = self.file.set_len(self.bytes);
                Err(ReportError::io(&self.path, "append to the event file", &e))
            }
        }
    }
}
