//! What every command that trains has in common: its flags, its configuration, its folder, and how a run is shown.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, bail};
use clap::Args;
use ocelli::data::Understood;
use ocelli::data::files::set_max_pixels;
use ocelli::train::config::{TaskKind, changes, read_config, resolve_over};
use ocelli::train::device::Chosen;
use ocelli::train::{Event, Place, RunConfig, RunDir, Stored, Summary, Task, TrainError, Trainer};
use ocelli::world::Shared;
use serde_json::{Value, json};

use super::pixels;
use super::progress::Progress;
use super::ranks;
use super::report::Live;
use super::talk;
use super::{DeviceArgs, Failed, Interrupted};

/// Flags of a run.
#[derive(Args)]
pub struct RunArgs {
    /// Folder of images, folder or file of CIFAR records, or `scenes[:COUNT]` for the built-in ones. With --resume the
    /// run's own, unless it has moved
    #[arg(long, required_unless_present = "resume")]
    pub data: Option<String>,
    /// Folder of the run
    #[arg(long, required_unless_present = "dry_run")]
    pub out: Option<PathBuf>,
    /// Recipe by name (see `ocelli presets`)
    #[arg(long)]
    pub preset: Option<String>,
    /// TOML file over the preset
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// What was in it: a pipe can be read once
    #[arg(skip)]
    config_text: OnceCell<String>,
    /// Seed
    #[arg(long)]
    pub seed: Option<u64>,
    /// Set one value, such as optim.lr=0.001 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Continue the run in the folder from its newest checkpoint, as if it had never stopped: same weights, moments,
    /// schedules and data order
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
    /// Replace a run that is in the folder
    #[arg(long)]
    pub overwrite: bool,
    /// Print the plan (views, steps, schedules, and memory and time measured on three steps) and write nothing
    #[arg(long, conflicts_with_all = ["resume", "overwrite"])]
    pub dry_run: bool,
    /// Print JSON: the rows of metrics.jsonl as they are written, or with --dry-run the plan
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// A value as `--set` takes it. TOML quotes its strings, so that no name can be taken for a number.
pub fn quoted(key: &str, value: &str) -> String {
    format!("{key}={}", toml::Value::from(value))
}

impl RunArgs {
    /// Whether lines for people are printed.
    pub fn talks(&self) -> bool {
        talk::notes(self.json)
    }

    /// The processes of the run, where a launcher started several.
    ///
    /// # Errors
    /// When this build cannot share a run, or only looks at one.
    pub fn world(&self) -> anyhow::Result<Shared> {
        let world = ranks::open()?;
        if world.size() > 1 && self.dry_run {
            bail!(
                "--dry-run measures one process, found {} that a launcher started; leave the launcher out",
                world.size()
            );
        }
        Ok(world)
    }

    /// The folder. Only a dry run has none, and it looks at none.
    pub fn out(&self) -> PathBuf {
        self.out.clone().unwrap_or_default()
    }

    /// The run to go on with, where one is: it must be of this task.
    pub fn stored(&self, task: TaskKind) -> anyhow::Result<Option<Stored>> {
        if !self.resume {
            return Ok(None);
        }
        let stored = RunDir::stored(&self.out())?;
        stored.config.check_task(task).with_context(|| self.out().display().to_string())?;
        Ok(Some(stored))
    }

    /// The data set as it is named: here, or by the run that goes on.
    pub fn data(&self, stored: Option<&Stored>) -> anyhow::Result<String> {
        match &self.data {
            Some(data) => Ok(data.clone()),
            None => data_of(stored.and_then(|stored| stored.data.as_ref()), &self.out(), self.talks()),
        }
    }

    /// The file of --config: its name and text.
    pub fn file(&self) -> anyhow::Result<Option<(String, String)>> {
        let Some(path) = &self.config else { return Ok(None) };
        let text = match self.config_text.get() {
            Some(text) => text.clone(),
            None => {
                let text = read_config(path)?;
                self.config_text.get_or_init(|| text).clone()
            }
        };
        Ok(Some((path.display().to_string(), text)))
    }

    /// Sets the largest image that is read to what the configuration will say; `stored` is that of a run that goes on.
    pub fn limit_pixels(&self, stored: Option<u64>) -> anyhow::Result<()> {
        let file = self.file()?;
        pixels::before_opening(&self.sets, file.as_ref().map(|(_, text)| text.as_str()), stored);
        Ok(())
    }

    /// Single values: `own` of the command, then the seed, then those of --set.
    pub fn values(&self, own: impl IntoIterator<Item = String>) -> Vec<String> {
        let seed = self.seed.map(|seed| format!("seed={seed}"));
        own.into_iter().chain(seed).chain(pixels::as_value()).chain(self.sets.iter().cloned()).collect()
    }

    /// The whole configuration: a new one by `new` from file and values, or that of the run that goes on, unless a preset or a
    /// file is named again. What changed since the run began is said, or refused where it would make it another run.
    pub fn configuration(
        &self,
        stored: Option<&Stored>,
        own: Vec<String>,
        new: impl FnOnce(Option<(&str, &str)>, &[String]) -> anyhow::Result<RunConfig>,
    ) -> anyhow::Result<RunConfig> {
        let (file, sets) = (self.file()?, self.values(own));
        let file = file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
        let mut config = match stored {
            Some(stored) if self.preset.is_none() && file.is_none() => resolve_over(&stored.config, None, &sets)?,
            _ => new(file, &sets)?,
        };
        // A run that goes on has its parts already, unless its configuration is put together again.
        if stored.is_none_or(|stored| stored.config.accumulate > 1)
            && let Some(words) = config.spread_over(ranks::open()?.size())
            && self.talks()
        {
            println!("{words}");
        }
        if let Some(stored) = stored {
            if config.init_from == stored.config.init_from {
                config.init_from_path.clone_from(&stored.config.init_from_path);
            }
            self.check_changes(&stored.config, &config)?;
        }
        set_max_pixels(config.loader.max_pixels);
        Ok(config)
    }

    fn check_changes(&self, before: &RunConfig, after: &RunConfig) -> anyhow::Result<()> {
        let changes = changes(before, after)?;
        let line = |c: &ocelli::train::config::Change| format!("  {}: was {}, now {}", c.key, c.before, c.after);
        let refused: Vec<String> = changes.iter().filter(|c| !c.is_harmless).map(line).collect();
        if !refused.is_empty() {
            bail!(
                "a run can only go on with the configuration it began with; what changed:\n{}\nTo train on from its weights in \
                 another way, start a new run: {}",
                refused.join("\n"),
                anew(before.task, &self.out().display().to_string())
            );
        }
        if self.talks() && !changes.is_empty() {
            println!("changed since the run began:\n{}", changes.iter().map(line).collect::<Vec<_>>().join("\n"));
        }
        Ok(())
    }

    /// What to do with the folder.
    pub fn start(&self) -> Start {
        match (self.resume, self.overwrite) {
            (true, _) => Start::Resume,
            (false, true) => Start::Overwrite,
            (false, false) => Start::New,
        }
    }

    /// Says where it is computed and where one watches it.
    pub fn tell_device(&self, device: &Chosen) {
        if !self.talks() {
            return;
        }
        let out = self.out();
        println!("device: {} ({})", device.name, device.reason);
        println!(
            "watch it: {} in a browser, or tensorboard --logdir {}",
            out.join("report.html").display(),
            out.display()
        );
    }
}

/// Where the data lies that the run in the folder `out` is of. Said is (if `talks`) where it is not as it was named.
///
/// # Errors
/// When the folder does not say, or the data is not there; the message names --data.
pub fn data_of(stored: Option<&Place>, out: &Path, talks: bool) -> anyhow::Result<String> {
    let place = stored
        .with_context(|| format!("{}: the run does not say what its data was; give --data", out.display()))?;
    let found = place.find(out, "--data")?;
    if let (true, Some(note)) = (talks, &found.note) {
        println!("{note}");
    }
    Ok(found.name)
}

/// The command that begins a new run from weights.
pub fn anew(task: TaskKind, weights: &str) -> String {
    Trains::Task(task).anew(weights)
}

/// What trains, as messages name it.
#[derive(Debug, Clone, Copy)]
pub enum Trains {
    /// A command whose configuration is a run's.
    Task(TaskKind),
    /// `ocelli eval linear`.
    Linear,
    /// `ocelli finetune detection`.
    Detection,
    /// `ocelli finetune segmentation`.
    Segmentation,
}

impl Trains {
    /// The command that goes on with a run.
    pub fn command(self) -> &'static str {
        match self {
            Self::Task(task) => task.command(),
            Self::Linear => "eval linear",
            Self::Detection => "finetune detection",
            Self::Segmentation => "finetune segmentation",
        }
    }

    /// The command that begins a new run from the weights of a checkpoint. A probe's checkpoint has no backbone.
    pub fn anew(self, weights: &str) -> String {
        match self {
            Self::Task(TaskKind::Pretraining) => format!("ocelli pretrain --init-from {weights} --out NEW ..."),
            Self::Task(TaskKind::Classification) => {
                format!("ocelli finetune classification --weights {weights} --out NEW ...")
            }
            Self::Linear => "ocelli eval linear --weights WEIGHTS --rates RATES --out NEW ...".into(),
            // A checkpoint of theirs is no backbone alone.
            Self::Detection | Self::Segmentation => {
                format!("ocelli {} --weights WEIGHTS --out NEW ...", self.command())
            }
        }
    }
}

/// What a run is made of, beside its task.
pub struct Run<'a> {
    /// Every value resolved.
    pub config: &'a RunConfig,
    /// Where to compute.
    pub device: &'a Chosen,
    /// The data set as it was named.
    pub data: &'a str,
    /// What was made of data and weights, for the manifest.
    pub understood: Value,
    /// Print every row of the metrics.
    pub json: bool,
}

/// Says what was made of the data.
pub fn tell(understood: &Understood) {
    for line in understood.lines() {
        println!("{line}");
    }
}

/// What to do with a folder.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It must not have a run.
    New,
    /// A run in it is replaced.
    Overwrite,
    /// The run in it goes on.
    Resume,
}

/// What is trained and shown, whatever its configuration is made of.
pub struct Job<'a> {
    /// What trains.
    pub trains: Trains,
    /// Every value resolved.
    pub config: toml::Table,
    /// Where to compute.
    pub device: &'a Chosen,
    /// The data set as it was named.
    pub data: &'a str,
    /// What was made of data and weights, for the manifest.
    pub understood: Value,
    /// Print every row of the metrics.
    pub json: bool,
}

impl Run<'_> {
    /// As [`Job::train`].
    pub fn train<T: Task>(
        &self,
        trainer: Trainer<T>,
        out: &Path,
        start: Start,
        progress: &mut Progress,
    ) -> anyhow::Result<(Trainer<T>, Summary)> {
        let job = Job {
            trains: Trains::Task(self.config.task),
            config: toml::Table::try_from(self.config).context("cannot write the configuration")?,
            device: self.device,
            data: self.data,
            understood: self.understood.clone(),
            json: self.json,
        };
        job.train(trainer, out, start, progress)
    }
}

impl Job<'_> {
    /// Trains with everything written to `out`, and returns the trainer for a look at its networks. Ctrl-C and a request
    /// to terminate end it after the step, with a checkpoint; asked a second time it ends at once.
    pub fn train<T: Task>(
        &self,
        mut trainer: Trainer<T>,
        out: &Path,
        start: Start,
        progress: &mut Progress,
    ) -> anyhow::Result<(Trainer<T>, Summary)> {
        if !ranks::is_first() {
            return self.train_along(trainer, out, start);
        }
        // Before the folder is touched: the weights may not fit.
        if start != Start::Resume
            && let Some(words) = trainer.init()?
        {
            progress.note(&format!("starting from the {words}"));
        }
        let dir = match start {
            Start::New => RunDir::create(out, false)?,
            Start::Overwrite => RunDir::create(out, true)?,
            Start::Resume => RunDir::reopen(out)?,
        };
        let warnings = if start == Start::Resume { trainer.resume(&dir)? } else { Vec::new() };
        dir.write_description(&self.config, &self.device.name, self.data, self.understood.clone())?;
        stop_on_signals(&trainer.stop_flag())?;
        if start == Start::Resume && trainer.steps_done() == 0 {
            progress.note("no checkpoint to go on from; the run begins anew");
        }
        if self.json {
            println!(
                "{}",
                json!({ "event": "understood", "understood": self.understood, "device": self.device.name })
            );
        }
        let mut live = Live::open(out, progress);
        let mut listen = |event: &Event| -> Result<(), TrainError> {
            progress.show(event);
            if !matches!(event, Event::Tick { .. }) {
                let row = dir.log(event)?;
                if self.json {
                    println!("{row}");
                }
                live.show(&row, progress);
            }
            Ok(())
        };
        for message in warnings {
            listen(&Event::Warning { message })?;
        }
        match trainer.run(Some(&dir), &mut listen) {
            Ok(summary) if summary.stopped => {
                let (command, out) = (self.trains.command(), out.display());
                let how = format!(
                    "everything is saved; to go on exactly from here: ocelli {command} --resume --out {out}"
                );
                Err(Interrupted(how).into())
            }
            Ok(summary) => Ok((trainer, summary)),
            Err(error) => {
                let (trains, last) = (self.trains, dir.last_checkpoint()?);
                Err(Failed { trains, error, last, out: out.to_owned() }.into())
            }
        }
    }
}

impl Job<'_> {
    /// Trains as one of several processes that is not the first: nothing is written or said.
    fn train_along<T: Task>(
        &self,
        mut trainer: Trainer<T>,
        out: &Path,
        start: Start,
    ) -> anyhow::Result<(Trainer<T>, Summary)> {
        match start {
            Start::Resume => trainer.follow(out)?,
            Start::New | Start::Overwrite => {
                trainer.init()?;
            }
        }
        stop_on_signals(&trainer.stop_flag())?;
        match trainer.run(None, &mut |_| Ok(())) {
            Ok(summary) if summary.stopped => Err(Interrupted("stopped with the others".to_owned()).into()),
            Ok(summary) => Ok((trainer, summary)),
            Err(error) => Err(Failed { trains: self.trains, error, last: None, out: out.to_owned() }.into()),
        }
    }
}

/// The first Ctrl-C or request to terminate sets the flag, the second ends the process.
pub fn stop_on_signals(flag: &Arc<AtomicBool>) -> anyhow::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::flag::{register, register_conditional_shutdown};
    for signal in [SIGINT, SIGTERM] {
        // In this order: the flag is still unset when the first signal asks whether to end at once.
        register_conditional_shutdown(signal, i32::from(super::EXIT_INTERRUPTED), flag.clone())
            .and_then(|_| register(signal, flag.clone()))
            .context("cannot listen for Ctrl-C")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_quoted_value_is_what_it_was() {
        for value in ["e\u{301}te\u{301}.pth", r"C:\weights\a.pth", "a \"b\" 'c' = d", "two\nlines", "12", ""] {
            let table: toml::Table = super::quoted("v", value).parse().unwrap();
            assert_eq!(table["v"].as_str(), Some(value));
        }
    }
}
