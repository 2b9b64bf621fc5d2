//! What a run told of itself: the rows of `metrics.jsonl`, one event at a time.
//!
//! A resumed run goes on in the same file. Steps that a killed process had done after its last checkpoint are then
//! done again, so a row that goes back in time takes everything from there on with it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::declared::{Declared, Level};

/// Figures over time: a table whose columns are named as the figures are in `metrics.jsonl`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// Optimizer step of each row, counted over the whole run, from 0.
    pub steps: Vec<u64>,
    /// Epoch of each row, from 0.
    pub epochs: Vec<u64>,
    /// Seconds since 1970 at which each row was written; NaN where the run did not say.
    pub unix_s: Vec<f64>,
    columns: BTreeMap<String, Vec<f64>>,
}

impl Rows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// True without any row.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The values of a figure, one per row; NaN where a row lacks it.
    pub fn column(&self, name: &str) -> Option<&[f64]> {
        self.columns.get(name).map(Vec::as_slice)
    }

    /// Every figure by name.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &[f64])> {
        self.columns.iter().map(|(name, values)| (name.as_str(), values.as_slice()))
    }

    /// The newest value of a figure that is a number.
    pub fn last(&self, name: &str) -> Option<f64> {
        self.column(name)?.iter().rev().copied().find(|v| v.is_finite())
    }

    fn push(&mut self, step: u64, epoch: u64, unix_s: f64, figures: BTreeMap<String, f64>) {
        let len = self.len();
        for (name, value) in figures {
            let column = self.columns.entry(name).or_default();
            column.resize(len, f64::NAN);
            column.push(value);
        }
        for column in self.columns.values_mut() {
            column.resize(len + 1, f64::NAN);
        }
        self.steps.push(step);
        self.epochs.push(epoch);
        self.unix_s.push(unix_s);
    }

    fn truncate(&mut self, len: usize) {
        self.steps.truncate(len);
        self.epochs.truncate(len);
        self.unix_s.truncate(len);
        for column in self.columns.values_mut() {
            column.truncate(len);
        }
    }
}

/// How large the run is, from its first row.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Started {
    /// Training images.
    pub images: u64,
    /// Optimizer steps per epoch.
    pub steps_per_epoch: u64,
    /// Epochs it is to have.
    pub epochs: u64,
    /// Parameters of the backbone.
    pub backbone_parameters: u64,
    /// Parameters of the head.
    pub head_parameters: u64,
}

/// k-NN accuracies before training, per cent by number of neighbours.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Baseline {
    /// Of the pixels themselves.
    pub raw_pixels: BTreeMap<u64, f64>,
    /// Of the untrained network.
    pub untrained: BTreeMap<u64, f64>,
}

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    /// The run began.
    Started,
    /// It went on after a stop.
    Resumed,
    /// Something a person should know.
    Warning,
    /// It ended before it should.
    Stopped,
    /// It ended as planned.
    Finished,
    /// An event of a newer version.
    Other,
}

/// An entry of the run's diary.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// Seconds since 1970, where the run said.
    pub unix_s: Option<f64>,
    /// What kind.
    pub kind: NoteKind,
    /// In words.
    pub text: String,
}

/// Everything a run told of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// The size of the run.
    pub started: Option<Started>,
    /// What it says of its figures.
    pub declared: Declared,
    /// Signs that the newest epoch shows, by name.
    pub signs: Vec<String>,
    /// k-NN before training.
    pub baseline: Option<Baseline>,
    /// Figures of some steps each, averaged.
    pub steps: Rows,
    /// Figures of each epoch.
    pub epochs: Rows,
    /// The diary, oldest first; long runs keep the first and the newest of their warnings.
    pub notes: Vec<Note>,
    /// Wall time in seconds, once finished.
    pub finished: Option<f64>,
    /// Why it stopped early, if it said so.
    pub stopped: Option<String>,
    /// When the newest row was written, seconds since 1970.
    pub last_unix_s: Option<f64>,
    /// Time the run was at work, in seconds: gaps before a resumption do not count.
    pub active_s: f64,
    /// Lines that were no events.
    pub damaged_lines: usize,
}

/// Diary entries kept at most.
const NOTES: usize = 200;

impl History {
    /// Reads the lines of `metrics.jsonl`. Damaged lines are counted and passed over.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut history = Self::default();
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            match serde_json::from_slice::<Value>(line) {
                Ok(row) => history.push(&row),
                Err(_) => {
                    history.damaged_lines += 1;
                    if let Some(row) = end_of(line) {
                        history.push(&row);
                    }
                }
            }
        }
        history
    }

    /// Takes in one event.
    pub fn push(&mut self, event: &Value) {
        let (Some(fields), Some(kind)) = (event.as_object(), event["event"].as_str()) else {
            self.damaged_lines += 1;
            return;
        };
        let unix_s = event["unix_s"].as_f64().filter(|t| t.is_finite() && *t > 0.0);
        self.clock(unix_s, kind == "started" || kind == "resumed");
        let note = |kind, text: String| Note { unix_s, kind, text };
        match kind {
            "tick" | "checkpoint" => {}
            "started" => {
                let kind = match self.started.is_some() {
                    true => NoteKind::Resumed,
                    false => NoteKind::Started,
                };
                self.started = Some(started(fields));
                self.declare(fields);
                (self.finished, self.stopped) = (None, None);
                self.note(note(kind, if kind == NoteKind::Started { "started" } else { "resumed" }.into()));
            }
            "resumed" => {
                self.declare(fields);
                (self.finished, self.stopped) = (None, None);
                let text = words(fields).map_or_else(|| "resumed".into(), |w| format!("resumed: {w}"));
                self.note(note(NoteKind::Resumed, text));
            }
            "baseline" => {
                self.baseline = Some(Baseline {
                    raw_pixels: accuracies(&event["raw_pixels"]),
                    untrained: accuracies(&event["untrained"]),
                });
            }
            "step" => self.step(fields, unix_s),
            "epoch" => self.epoch(fields, unix_s),
            "warning" => self.note(note(NoteKind::Warning, words(fields).unwrap_or_default())),
            "stopped" | "failed" | "error" | "interrupted" => {
                let reason = words(fields).unwrap_or_else(|| kind.to_owned());
                self.stopped = Some(reason.clone());
                self.note(note(NoteKind::Stopped, reason));
            }
            "finished" => {
                self.finished = Some(event["wall_s"].as_f64().unwrap_or(self.active_s));
                self.note(note(NoteKind::Finished, "finished".into()));
            }
            other => {
                let text = words(fields).map_or_else(|| other.to_owned(), |w| format!("{other}: {w}"));
                self.note(note(NoteKind::Other, text));
            }
        }
    }

    /// Takes in what the run, or somebody who knows its method, says of its figures. Runs of earlier versions said one level
    /// alone, the entropy of guessing.
    pub fn declare(&mut self, fields: &Map<String, Value>) {
        let said = Declared::read(fields);
        if !said.figures.is_empty() {
            let levels = std::mem::take(&mut self.declared.levels);
            self.declared = said;
            if let (true, Some(known)) = (self.declared.levels.is_empty(), levels.first()) {
                let mut names: Vec<&String> =
                    self.declared.figures.iter().filter_map(|f| f.level.as_ref()).collect();
                names.dedup();
                self.declared.levels =
                    names.into_iter().map(|name| Level { name: name.clone(), value: known.value }).collect();
            }
        } else if let Some(value) = fields.get("uniform_entropy").and_then(Value::as_f64).filter(|v| v.is_finite())
        {
            self.declared.levels = vec![Level { name: "uniform".into(), value }];
        }
    }

    /// Optimizer steps per epoch: as the run said, or as its rows suggest.
    pub fn steps_per_epoch(&self) -> f64 {
        match self.started {
            Some(s) if s.steps_per_epoch > 0 => s.steps_per_epoch as f64,
            _ => {
                let pairs = self.steps.steps.iter().zip(&self.steps.epochs);
                pairs.map(|(s, e)| (*s as f64 + 1.0) / (*e as f64 + 1.0)).fold(1.0, f64::max).ceil()
            }
        }
    }

    /// Epochs done, with the running one's share.
    pub fn epochs_done(&self) -> f64 {
        let whole = self.epochs.epochs.last().map_or(0.0, |e| *e as f64 + 1.0);
        let steps = self.steps.steps.last().map_or(0.0, |s| (*s as f64 + 1.0) / self.steps_per_epoch());
        whole.max(steps)
    }

    /// The number of neighbours whose accuracy people quote: 20 where it is there.
    pub fn quoted_k(&self) -> Option<u64> {
        let ks: Vec<u64> =
            self.epochs.columns().filter_map(|(name, _)| name.strip_prefix("knn_")?.parse().ok()).collect();
        if ks.contains(&20) { Some(20) } else { ks.into_iter().min() }
    }

    /// The best k-NN accuracy: (epochs done, per cent).
    pub fn best_knn(&self) -> Option<(u64, f64)> {
        self.best(&format!("knn_{}", self.quoted_k()?))
    }

    /// The best value of a figure of epochs: (epochs done, value).
    pub fn best(&self, name: &str) -> Option<(u64, f64)> {
        let column = self.epochs.column(name)?;
        let rows = self.epochs.epochs.iter().zip(column).filter(|(_, v)| v.is_finite());
        rows.max_by(|a, b| a.1.total_cmp(b.1)).map(|(epoch, v)| (epoch.saturating_add(1), *v))
    }

    fn clock(&mut self, unix_s: Option<f64>, begins: bool) {
        let Some(now) = unix_s else { return };
        if let Some(before) = self.last_unix_s
            && !begins
        {
            self.active_s += (now - before).max(0.0);
        }
        self.last_unix_s = Some(now);
    }

    fn note(&mut self, note: Note) {
        if self.notes.len() >= NOTES {
            self.notes.remove(NOTES / 2);
        }
        self.notes.push(note);
    }

    fn step(&mut self, fields: &Map<String, Value>, unix_s: Option<f64>) {
        let (Some(step), epoch) = (natural(fields, "step"), natural(fields, "epoch").unwrap_or(0)) else {
            self.damaged_lines += 1;
            return;
        };
        self.steps.truncate(self.steps.steps.partition_point(|s| *s < step));
        self.epochs.truncate(self.epochs.epochs.partition_point(|e| *e < epoch));
        (self.finished, self.stopped) = (None, None);
        self.steps.push(step, epoch, unix_s.unwrap_or(f64::NAN), figures(fields));
    }

    fn epoch(&mut self, fields: &Map<String, Value>, unix_s: Option<f64>) {
        let Some(epoch) = natural(fields, "epoch") else {
            self.damaged_lines += 1;
            return;
        };
        self.epochs.truncate(self.epochs.epochs.partition_point(|e| *e < epoch));
        self.signs = fields
            .get("signs")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        let end = ((epoch as f64 + 1.0) * self.steps_per_epoch()) as u64;
        let mut figures = figures(fields);
        for (k, accuracy) in fields.get("knn").map(accuracies).unwrap_or_default() {
            figures.insert(format!("knn_{k}"), accuracy);
        }
        self.epochs.push(end.saturating_sub(1), epoch, unix_s.unwrap_or(f64::NAN), figures);
    }
}

/// The whole row at the end of a damaged line: a killed process leaves half a line, and the next one goes on there.
fn end_of(line: &[u8]) -> Option<Value> {
    const LONGEST: usize = 1 << 16;
    let starts = line.iter().enumerate().skip(1).filter(|(_, b)| **b == b'{').map(|(at, _)| at);
    let mut tails = starts.filter(|_| line.len() < LONGEST);
    tails.find_map(|at| serde_json::from_slice::<Value>(&line[at..]).ok()).filter(|row| row["event"].is_string())
}

fn natural(fields: &Map<String, Value>, key: &str) -> Option<u64> {
    fields.get(key)?.as_u64()
}

fn started(fields: &Map<String, Value>) -> Started {
    let number = |key| natural(fields, key).unwrap_or(0);
    Started {
        images: number("images"),
        steps_per_epoch: number("steps_per_epoch"),
        epochs: number("epochs"),
        backbone_parameters: number("backbone_parameters"),
        head_parameters: number("head_parameters"),
    }
}

/// Every number of a row but those that place it. A figure that was not finite was written as null.
fn figures(fields: &Map<String, Value>) -> BTreeMap<String, f64> {
    let placed = ["step", "epoch", "unix_s"];
    let figures = fields.iter().filter(|(name, _)| !placed.contains(&name.as_str()));
    figures.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect()
}

fn accuracies(value: &Value) -> BTreeMap<u64, f64> {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(k, v)| Some((k.parse().ok()?, v.as_f64()?))).collect()
}

/// What an event says in words.
fn words(fields: &Map<String, Value>) -> Option<String> {
    ["message", "reason", "from", "file"].iter().find_map(|key| fields.get(*key)?.as_str().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn history(rows: &[Value]) -> History {
        let mut history = History::default();
        rows.iter().for_each(|row| history.push(row));
        history
    }

    #[test]
    fn a_resumed_run_forgets_the_steps_it_does_again() {
        let start = json!({"event": "started", "steps_per_epoch": 10, "epochs": 3, "unix_s": 100.0});
        let step = |s: u64, loss: f64, t: f64| json!({"event": "step", "step": s, "epoch": s / 10, "loss": loss, "unix_s": t});
        let epoch = |e: u64, loss: f64| json!({"event": "epoch", "epoch": e, "loss": loss});
        let history = history(&[
            start.clone(),
            step(4, 5.0, 101.0),
            step(9, 4.0, 102.0),
            epoch(0, 4.5),
            step(14, 3.0, 103.0),
            step(19, 2.0, 104.0),
            epoch(1, 2.5),
            start,
            step(14, 3.5, 1001.0),
        ]);
        assert_eq!(history.steps.steps, [4, 9, 14]);
        assert_eq!(history.steps.column("loss").unwrap(), [5.0, 4.0, 3.5]);
        assert_eq!(history.epochs.epochs, [0]);
        assert_eq!(history.epochs.steps, [9]);
        assert_eq!(history.active_s, 4.0 + 901.0, "the new start counts from its own row");
        assert_eq!(history.notes.last().unwrap().kind, NoteKind::Resumed);
        assert_eq!(history.epochs_done(), 1.5);
    }

    #[test]
    fn columns_stay_as_long_as_the_rows() {
        let history = history(&[
            json!({"event": "step", "step": 0, "epoch": 0, "loss": 1.0}),
            json!({"event": "step", "step": 1, "epoch": 0, "loss": null, "queue": 3}),
            json!({"event": "epoch", "epoch": 0, "loss": 1.0, "knn": {"10": 40.0, "20": 41.5}}),
        ]);
        let loss = history.steps.column("loss").unwrap();
        assert!(loss[0] == 1.0 && loss[1].is_nan());
        assert!(history.steps.column("queue").unwrap()[0].is_nan());
        assert_eq!(history.steps.last("loss"), Some(1.0));
        assert_eq!(history.best_knn(), Some((1, 41.5)));
    }

    #[test]
    fn a_row_after_half_a_row_counts() {
        let text = b"{\"event\":\"epoch\",\"epoch\":0,\"knn\":{\"10\":1},\"lo{\"event\":\"step\",\"step\":7,\"epoch\":0,\"loss\":2.5}\n";
        let history = History::parse(text);
        assert_eq!((history.damaged_lines, history.steps.last("loss")), (1, Some(2.5)));
        assert!(history.epochs.is_empty());
    }

    #[test]
    fn odd_lines_are_counted_not_fatal() {
        let text = b"{\"event\":\"step\",\"step\":18446744073709551615,\"epoch\":18446744073709551615,\"loss\":1}\n\
            [1,2]\n{\"event\":5}\nnull\n\xff\xfe\n{\"event\":\"epoch\",\"epoch\":-1}\n{\"event\":\"step\"}\n\
            {\"event\":\"epoch\",\"epoch\":18446744073709551615,\"knn\":[1]}\n{\"event\":\"started\",\"epochs\":\"x\"}\n\
            {\"event\":\"warning\"}\n{\"event\":\"new\",\"message\":\"m\"}\n{\"event\":\"step\",\"step\":3,\"lo";
        let history = History::parse(text);
        assert_eq!(history.damaged_lines, 7);
        assert_eq!(history.notes.last().unwrap().text, "new: m");
        assert!(history.epochs_done().is_finite());
    }
}
