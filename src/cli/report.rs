//! `ocelli report`, and the report of a run that goes on.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::bail;
use clap::Args;
use ocelli::methods::recipe;
use ocelli::report::{Reporter, Run, State, rebuild_tensorboard, report_html};
use ocelli::train::{Event, RunConfig};

use super::outputs;
use super::progress::Progress;

/// Write the report of a run: one HTML file with its curves and pictures
///
/// The file can be read without a network. A run keeps its report up to date while it trains. This command makes the
/// report again from the run's files, also for runs of older versions.
#[derive(Args)]
#[command(after_help = "Examples:\n  ocelli report runs/first\n  ocelli report runs/first --out first.html")]
pub struct ReportArgs {
    /// Folder of the run
    run: PathBuf,
    /// The file (default: report.html in the run's folder)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also make the TensorBoard event file again
    #[arg(long)]
    tensorboard: bool,
}

pub fn run(args: &ReportArgs) -> anyhow::Result<()> {
    let mut run = Run::read(&args.run)?;
    declare(&mut run);
    let path = args.out.clone().unwrap_or_else(|| args.run.join("report.html"));
    let html = report_html(&run, defaults(run.method()).as_ref(), now());
    write_page(&path, &html)?;
    println!("report: {}", path.display());
    if args.tensorboard {
        if run.state(now()) == State::Running {
            bail!("--tensorboard: the run may still go on, and keeps its event file itself");
        }
        println!("TensorBoard: {}", rebuild_tensorboard(&run)?.display());
    }
    Ok(())
}

/// Writes a page, but not over a file that is none of ours.
pub fn write_page(path: &Path, html: &str) -> anyhow::Result<()> {
    match std::fs::read(path) {
        Ok(there) if !there.starts_with(&html.as_bytes()[..html.len().min(90)]) => {
            bail!("{}: expected a new file or an older report, found another file", path.display());
        }
        Err(e) if path.exists() => bail!("{}: expected a file that can be replaced: {e}", path.display()),
        _ => {}
    }
    outputs::write(path, html.as_bytes())
}

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// What a run's configuration is compared with.
fn defaults(method: &str) -> Option<toml::Table> {
    toml::Table::try_from(RunConfig::of(method.parse().ok()?).ok()?).ok()
}

/// What is known of the figures of a run that does not say it itself, as those of earlier versions.
pub fn declare(run: &mut Run) {
    if !run.history.declared.figures.is_empty() {
        return;
    }
    let Some(recipe) = recipe(run.method()) else { return };
    let known = serde_json::json!({
        "title": recipe.title, "figures": recipe.figures, "signs": recipe.signs, "views_about": recipe.views_about,
    });
    if let Some(fields) = known.as_object() {
        run.history.declare(fields);
    }
}

/// Keeps report and TensorBoard file of a run up to date. Whatever goes wrong with them is said once and stops nothing.
pub struct Live {
    reporter: Option<Reporter>,
    warned: bool,
}

impl Live {
    /// Takes up a run's folder, which has its description already.
    pub fn open(dir: &Path, progress: &mut Progress) -> Self {
        let mut live = Self { reporter: None, warned: false };
        let method = Run::read(dir).map_or_else(|_| String::new(), |run| run.method().to_owned());
        match Reporter::open(dir, defaults(&method)) {
            Ok(reporter) => live.reporter = Some(reporter),
            Err(e) => live.warn(&e, progress),
        }
        live
    }

    /// Shows one event, as its row in the metrics.
    pub fn show(&mut self, row: &serde_json::Value, progress: &mut Progress) {
        let Some(reporter) = &mut self.reporter else { return };
        if let Err(e) = reporter.event(row) {
            self.warn(&e, progress);
        }
    }

    fn warn(&mut self, error: &ocelli::report::ReportError, progress: &mut Progress) {
        if !std::mem::replace(&mut self.warned, true) {
            progress.show(&Event::Warning { message: format!("the run goes on without its report: {error}") });
        }
    }
}
