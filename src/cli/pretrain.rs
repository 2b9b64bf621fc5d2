//! `ocelli pretrain`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, bail};
use clap::Args;
use ocelli::data::{Source, Split, open_source, open_split};
use ocelli::models::BackboneKind;
use ocelli::train::config::{changes, resolve, resolve_over};
use ocelli::train::device::Chosen;
use ocelli::train::{Event, RunConfig, RunDir, Stored, Summary, TrainError, Trainer};

use super::progress::Progress;
use super::report::Live;
use super::{DeviceArgs, Failed, plan};

/// Pre-train a network on images, with or without labels (labels only measure: k-NN during the run).
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli pretrain --data photos --out runs/first --preset laptop\n  ocelli pretrain --method dino --arch vit-s/16 --data imagenet --out runs/s16 --set epochs=300 --set optim.lr=0.0005\n  ocelli pretrain --method densecl --arch resnet50 --data imagenet --out runs/densecl\n\nValues come from the method's defaults (the published ones), then --preset, then --config, then --method, --arch, --epochs and --set."
)]
pub struct PretrainArgs {
    /// Folder of images, folder or file of CIFAR records, or `scenes[:COUNT]` for the built-in ones. With --resume the
    /// run's own, unless it has moved
    #[arg(long, required_unless_present = "resume")]
    data: Option<String>,
    /// Folder of the run
    #[arg(long, required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Recipe by name (see `ocelli presets`)
    #[arg(long)]
    preset: Option<String>,
    /// TOML file over the preset
    #[arg(long)]
    config: Option<PathBuf>,
    /// Method by name (see `ocelli presets`)
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(methods()))]
    method: Option<String>,
    /// Backbone: vit-ti/16, vit-s/16, vit-s/8, vit-b/16, vit-b/8, or WIDTHxDEPTHxHEADS as in vit-96x6x3/4; resnet18, 34, 50,
    /// 101, 152, 200, with xN times the channels as in resnet-50x2, or cN of them in the first stage as in resnet-18c16
    #[arg(long)]
    arch: Option<String>,
    /// Epochs
    #[arg(long)]
    epochs: Option<usize>,
    /// Seed
    #[arg(long)]
    seed: Option<u64>,
    /// One value, such as optim.lr=0.001 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Start a new run from the backbone in a run, checkpoint, .safetensors or .pth file; head, schedules and everything
    /// else begin anew. Not --resume, which goes on with a run as if it had never stopped
    #[arg(long, value_name = "WEIGHTS", conflicts_with = "resume")]
    init_from: Option<String>,
    /// Go on with the run in the folder from its newest checkpoint, as if it had never stopped: same weights, moments,
    /// schedules, data order
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Replace a run that is in the folder
    #[arg(long)]
    overwrite: bool,
    /// Print the plan (views, steps, schedules, and memory and time measured on three steps) and write nothing
    #[arg(long, conflicts_with_all = ["resume", "overwrite"])]
    dry_run: bool,
    /// No bar, no lines
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Names of all methods.
fn methods() -> Vec<&'static str> {
    ocelli::methods::METHODS.iter().map(|recipe| recipe.name).collect()
}

pub fn run(args: &PretrainArgs) -> anyhow::Result<()> {
    let mut progress = Progress::new(args.quiet);
    // Only a dry run has no folder, and it looks at none.
    let out = args.out.clone().unwrap_or_default();
    let stored = if args.resume { Some(RunDir::stored(&out)?) } else { None };
    let config = configuration(args, stored.as_ref())?;
    let data = args.data.clone().or_else(|| stored.as_ref()?.data.clone());
    let Some(data) = data else { bail!("{}: the run does not say what its data was; give --data", out.display()) };
    let source = open_source(&data)?;
    let test = open_split(&data, Split::Val)?;
    let device = args.device.open()?;
    let run = Run { config: &config, device: &device, data: &data, source: &source, test: test.as_ref() };
    if args.dry_run {
        return plan::show(&run);
    }
    if !args.quiet {
        println!("device: {} ({})", device.name, device.reason);
        println!(
            "watch it: {} in a browser, or tensorboard --logdir {}",
            out.join("report.html").display(),
            out.display()
        );
    }
    let start = match (args.resume, args.overwrite) {
        (true, _) => Start::Resume,
        (false, true) => Start::Overwrite,
        (false, false) => Start::New,
    };
    let (_, summary) = run.train(&out, start, &mut progress)?;
    if summary.stopped {
        return Err(super::Interrupted { out }.into());
    }
    if !args.quiet {
        println!("weights: {}", out.join("checkpoints").display());
        let look = match config.arch.kind() {
            BackboneKind::Vit => "attention",
            BackboneKind::ResNet => "match",
        };
        println!("look at them: ocelli {look} IMAGE --weights {}", out.display());
    }
    Ok(())
}

/// The whole configuration. A run that goes on keeps its own, unless a preset or a file is named again.
fn configuration(args: &PretrainArgs, stored: Option<&Stored>) -> anyhow::Result<RunConfig> {
    let file = match &args.config {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the configuration {}", path.display()))?;
            Some((path.display().to_string(), text))
        }
    };
    // TOML quotes its strings, so that no name can be taken for a number.
    let quote = |key: &str, value: &Option<String>| value.as_ref().map(|v| format!("{key}={v:?}"));
    let mut sets: Vec<String> = [
        quote("method", &args.method),
        quote("arch", &args.arch),
        quote("init_from", &args.init_from),
        args.epochs.map(|e| format!("epochs={e}")),
        args.seed.map(|s| format!("seed={s}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    sets.extend(args.sets.iter().cloned());
    let file = file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let config = match stored {
        Some(stored) if args.preset.is_none() && file.is_none() => resolve_over(&stored.config, &sets)?,
        _ => resolve(args.preset.as_deref(), file, &sets)?,
    };
    if let Some(stored) = stored {
        check_changes(&stored.config, &config, args.quiet)?;
    }
    Ok(config)
}

/// Says what changed since the run began; refuses what would make it another run.
fn check_changes(before: &RunConfig, after: &RunConfig, quiet: bool) -> anyhow::Result<()> {
    let changes = changes(before, after)?;
    let line = |c: &ocelli::train::config::Change| format!("  {}: was {}, now {}", c.key, c.before, c.after);
    let refused: Vec<String> = changes.iter().filter(|c| !c.is_harmless).map(line).collect();
    if !refused.is_empty() {
        bail!(
            "a run can only go on with the configuration it began with; what changed:\n{}\nTo train on from its \
             weights in another way, start a new run with --init-from",
            refused.join("\n")
        );
    }
    if !quiet && !changes.is_empty() {
        println!("changed since the run began:\n{}", changes.iter().map(line).collect::<Vec<_>>().join("\n"));
    }
    Ok(())
}

/// What a run is made of.
pub struct Run<'a> {
    /// Every value resolved.
    pub config: &'a RunConfig,
    /// Where to compute.
    pub device: &'a Chosen,
    /// The data set as it was named.
    pub data: &'a str,
    /// Training images.
    pub source: &'a Arc<dyn Source>,
    /// Held-out images.
    pub test: Option<&'a Arc<dyn Source>>,
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

impl Run<'_> {
    /// Trains with everything written to `out`, and returns the trainer for a look at its networks. Ctrl-C and a request
    /// to terminate end it after the step, with a checkpoint; asked a second time it ends at once.
    pub fn train(&self, out: &Path, start: Start, progress: &mut Progress) -> anyhow::Result<(Trainer, Summary)> {
        let mut trainer = Trainer::new(self.config, &self.device.device, self.source, self.test)?;
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
        dir.write_description(self.config, &self.device.name, self.data, serde_json::Value::Null)?;
        stop_on_signals(&trainer.stop_flag())?;
        if start == Start::Resume && trainer.steps_done() == 0 {
            progress.note("no checkpoint to go on from; the run begins anew");
        }
        let mut live = Live::open(out, progress);
        let mut listen = |event: &Event| -> Result<(), TrainError> {
            progress.show(event);
            if !matches!(event, Event::Tick { .. }) {
                live.show(&dir.log(event)?, progress);
            }
            Ok(())
        };
        for message in warnings {
            listen(&Event::Warning { message })?;
        }
        match trainer.run(Some(&dir), &mut listen) {
            Ok(summary) => Ok((trainer, summary)),
            Err(error) => Err(Failed { error, last: dir.last_checkpoint()?, out: out.to_owned() }.into()),
        }
    }
}

/// The first Ctrl-C or request to terminate sets the flag, the second ends the process.
fn stop_on_signals(flag: &Arc<AtomicBool>) -> anyhow::Result<()> {
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
