//! A run made visible, from the files in its folder alone: `config.toml`, `manifest.json`, `metrics.jsonl`,
//! `checkpoints/`, `pictures/`, and of fine-tuned networks `detection.json` and `segmentation.json`.
//!
//! * [`Run`]: what the folder says; damaged and half-written files are read as far as they go.
//! * [`report_html`]: one self-contained page per run. [`compare_html`]: several runs' curves in one page.
//! * [`Table`]: runs as rows beside what is published, as text, Markdown, JSON and a page that sorts.
//! * [`duplicates_html`], [`map_html`]: near-duplicates of a folder, and its features as a map, in a page each.
//! * [`tensorboard`]: the same figures as TensorBoard event files.
//! * [`Reporter`]: keeps report and event file up to date while a run goes.
//!
//! No tensors here, and no drawing beyond SVG: the crate can show a run on a machine that could not train it.
//!
//! ```
//! use ocelli_report::{Run, report_html};
//!
//! let folder = tempfile::tempdir()?;
//! let row = r#"{"event": "step", "step": 3, "epoch": 0, "loss": 4.5}"#;
//! std::fs::write(folder.path().join("metrics.jsonl"), format!("{row}\n"))?;
//! let run = Run::read(folder.path())?;
//! let page = report_html(&run, None, 0.0);
//! assert!(page.starts_with("<!doctype html>") && page.contains("</html>"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod chart;
mod compare;
mod curves;
mod declared;
mod duplicates;
mod error;
mod history;
mod map;
mod page;
mod pictures;
mod reporter;
mod run;
mod sections;
mod table;
pub mod tensorboard;
pub mod text;
mod thumbnail;
mod ticks;
mod transfer;

pub use compare::{Difference, compare_html, differences, figures};
pub use declared::{Declared, Figure, Level, Sign};
pub use duplicates::{Duplicate, DuplicatesPage, duplicates_html};
pub use error::ReportError;
pub use history::{Baseline, History, Note, NoteKind, Rows, Started};
pub use map::{MapPage, MapPoint, map_html};
pub use page::report_html;
pub use reporter::{Reporter, rebuild_tensorboard};
pub use run::{Checkpoint, Run, State, find_runs};
pub use table::{Published, Table, TableRow};
pub use thumbnail::Thumbnail;
