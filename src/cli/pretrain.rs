//! `ocelli pretrain`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use ocelli::data::{Source, Split, open_source, open_split};
use ocelli::train::config::resolve;
use ocelli::train::device::Chosen;
use ocelli::train::{Event, RunConfig, RunDir, TrainError, Trainer};

use super::DeviceArgs;
use super::progress::Progress;
use super::report::Live;

/// Pre-train a network on images, with or without labels (labels only measure: k-NN during the run).
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli pretrain --data photos --out runs/first --preset laptop\n  ocelli pretrain --method dino --arch vit-s/16 --data imagenet --out runs/s16 --set epochs=300 --set optim.lr=0.0005\n\nValues come from the defaults (the published ones), then --preset, then --config, then --method, --arch, --epochs and --set."
)]
pub struct PretrainArgs {
    /// Folder of images, folder or file of CIFAR records, or `scenes[:COUNT]` for the built-in ones
    #[arg(long)]
    data: String,
    /// Folder of the run
    #[arg(long)]
    out: PathBuf,
    /// Recipe by name (see `ocelli presets`)
    #[arg(long)]
    preset: Option<String>,
    /// TOML file over the preset
    #[arg(long)]
    config: Option<PathBuf>,
    /// Method: dino
    #[arg(long)]
    method: Option<String>,
    /// Backbone: vit-ti/16, vit-s/16, vit-s/8, vit-b/16, vit-b/8, or WIDTHxDEPTHxHEADS as in vit-96x6x3/4
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
    /// Replace a run that is in the folder
    #[arg(long)]
    overwrite: bool,
    /// No bar, no lines
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &PretrainArgs) -> anyhow::Result<()> {
    let mut progress = Progress::new(args.quiet);
    let config = configuration(args)?;
    let source = open_source(&args.data)?;
    let test = open_split(&args.data, Split::Val)?;
    let device = args.device.open()?;
    if !args.quiet {
        println!("device: {} ({})", device.name, device.reason);
        println!(
            "watch it: {} in a browser, or tensorboard --logdir {}",
            args.out.join("report.html").display(),
            args.out.display()
        );
    }
    train(&config, &device, &args.data, &source, test.as_ref(), (&args.out, args.overwrite), &mut progress)?;
    if !args.quiet {
        println!("weights: {}", args.out.join("checkpoints").display());
        println!("look at them: ocelli attention IMAGE --weights {}", args.out.display());
    }
    Ok(())
}

fn configuration(args: &PretrainArgs) -> anyhow::Result<RunConfig> {
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
        args.epochs.map(|e| format!("epochs={e}")),
        args.seed.map(|s| format!("seed={s}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    sets.extend(args.sets.iter().cloned());
    let file = file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    Ok(resolve(args.preset.as_deref(), file, &sets)?)
}

/// Trains with everything written to the run folder, and returns the trainer for a look at its networks.
pub fn train(
    config: &RunConfig,
    device: &Chosen,
    data: &str,
    source: &Arc<dyn Source>,
    test: Option<&Arc<dyn Source>>,
    (out, overwrite): (&std::path::Path, bool),
    progress: &mut Progress,
) -> anyhow::Result<Trainer> {
    let mut trainer = Trainer::new(config, &device.device, source, test)?;
    let dir = RunDir::create(out, overwrite)?;
    dir.write_description(config, &device.name, data)?;
    let mut live = Live::open(out, progress);
    let mut listen = |event: &Event| -> Result<(), TrainError> {
        progress.show(event);
        match event {
            Event::Tick { .. } => Ok(()),
            event => {
                dir.log(event)?;
                live.show(event, progress);
                Ok(())
            }
        }
    };
    let ended = trainer.run(Some(&dir), &mut listen);
    if let Err(e) = &ended {
        live.stopped(&dir, &e.to_string());
    }
    ended?;
    Ok(trainer)
}
