//! `ocelli compare`: every method with one budget on one set of images.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};
use clap::Args;
use ocelli::data::{DataSet, open_data};
use ocelli::methods::{METHODS, Recipe};
use ocelli::report::{Run, State};
use ocelli::train::RunConfig;
use ocelli::train::config::{Change, changes, resolve, stored};

use super::pixels;
use super::report::now;
use super::run::{quoted, stop_on_signals};
use super::table::{self, Format};
use super::talk;
use super::{EXIT_INTERRUPTED, EXIT_RUN_FAILED, Interrupted};

/// Train every method on your images with the same budget, and compare them in a table
///
/// The table has k-NN accuracy beside that of the untrained network and of the raw pixels, time and memory. Each
/// method trains by its recipe for a laptop, for the same number of epochs. Finished runs are kept: the same command
/// continues where it stopped.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli compare --data photos\n  ocelli compare --data photos --methods simclr,byol,dino --epochs 10\n  ocelli compare --data imagenette-128 --again 4 --table docs/table.md"
)]
pub struct CompareArgs {
    /// Labelled images: a folder with train/ and val/, a folder of class folders, CIFAR records, or `scenes[:COUNT]`
    #[arg(long)]
    data: String,
    /// Folder of the runs, one for each method
    #[arg(long, default_value = "runs/compare")]
    out: PathBuf,
    /// Methods, with commas between them (default: all)
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(METHODS.iter().map(|m| m.name)))]
    methods: Vec<String>,
    /// Backbone of all (default: each recipe's own, narrow ResNets of 18 layers and a tiny ViT); methods that cannot have it are left out
    #[arg(long)]
    arch: Option<String>,
    /// Number of epochs, the same for all
    #[arg(long, default_value_t = 20)]
    epochs: usize,
    /// Seed, the same for all
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of the best methods to train again, with the next seed
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    again: usize,
    /// Set one value for all, such as eval.every_epochs=10 (repeatable)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// The table besides OUT/table.md and OUT/table.html: a name that ends in .md, .json or .html
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Print what would be trained, and train nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the table as JSON; the runs train without bars
    #[arg(long)]
    json: bool,
    /// auto, gpu, gpu:N (see `ocelli devices`) or cpu
    #[arg(long, default_value = "auto", value_parser = super::parse_device)]
    device: ocelli::train::device::DeviceChoice,
}

/// One run.
struct Job {
    recipe: &'static Recipe,
    preset: &'static str,
    config: RunConfig,
    out: PathBuf,
}

/// How a run came out.
#[derive(PartialEq)]
enum Came {
    /// To its end, now or before.
    Done,
    /// It went wrong by itself: collapsed, or not finite.
    Wrong,
}

pub fn run(args: &CompareArgs) -> anyhow::Result<()> {
    if let Some(table) = &args.table {
        Format::of_file(table)?;
    }
    let DataSet { understood, .. } = open_data(&args.data)?;
    if let Some(why) = understood.why_no_knn() {
        bail!("{}: expected labelled images, whose classes neighbours are to tell; {why}", args.data);
    }
    let mut jobs = Vec::new();
    for recipe in METHODS.iter().filter(|m| args.methods.is_empty() || args.methods.iter().any(|n| n == m.name)) {
        match job(args, recipe, args.seed) {
            Ok(job) => jobs.push(job),
            // One method's refusal of the backbone is no reason not to train the others.
            Err(error) if args.methods.is_empty() => args.say(&format!("left out: {}: {error:#}", recipe.title)),
            Err(error) => return Err(error),
        }
    }
    if args.dry_run {
        for job in &jobs {
            println!("{:<26} {:<20} {}", job.recipe.title, job.preset, job.out.display());
        }
        return Ok(());
    }
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signals(&stop)?;
    let count = jobs.len();
    let mut done = Vec::new();
    for (i, job) in jobs.into_iter().enumerate() {
        args.say(&format!("\n{} of {count}: {}, {}", i + 1, job.recipe.title, job.out.display()));
        if train(args, &job, &stop)? == Came::Done {
            done.push(job);
        }
    }
    let best = best(&done, args.again);
    for (i, recipe) in best.iter().enumerate() {
        let job = job(args, recipe, args.seed + 1)?;
        args.say(&format!("\nagain, {} of {}: {}, {}", i + 1, best.len(), recipe.title, job.out.display()));
        train(args, &job, &stop)?;
    }
    let runs = std::slice::from_ref(&args.out);
    for file in [args.out.join("table.md"), args.out.join("table.html")].iter().chain(&args.table) {
        table::write(runs, None, Some(file), None)?;
    }
    table::write(runs, Some(if args.json { Format::Json } else { Format::Text }), None, None)?;
    args.say(&format!("\nthe same to sort, in a browser: {}", args.out.join("table.html").display()));
    Ok(())
}

impl CompareArgs {
    /// Tells a person.
    fn say(&self, text: &str) {
        if talk::notes(self.json) {
            println!("{text}");
        }
    }

    /// What all runs are told, beside their recipe.
    fn values(&self, seed: u64) -> Vec<String> {
        let arch = self.arch.iter().map(|arch| quoted("arch", arch));
        let budget = [format!("epochs={}", self.epochs), format!("seed={seed}")];
        arch.chain(budget).chain(pixels::as_value()).chain(self.sets.iter().cloned()).collect()
    }
}

/// The run of a method.
fn job(args: &CompareArgs, recipe: &'static Recipe, seed: u64) -> anyhow::Result<Job> {
    let preset = recipe.presets.iter().find(|p| p.name.ends_with("laptop"));
    let preset = preset.with_context(|| format!("{} has no recipe for a laptop", recipe.title))?.name;
    let config = resolve(Some(preset), None, &args.values(seed))?;
    let name = if seed == args.seed { recipe.name.to_owned() } else { format!("{}-seed{seed}", recipe.name) };
    Ok(Job { recipe, preset, config, out: args.out.join(name) })
}

/// Trains in a process of its own, so that one run leaves no memory to the next.
fn train(args: &CompareArgs, job: &Job, stop: &AtomicBool) -> anyhow::Result<Came> {
    let interrupted = || {
        Interrupted(
            "everything is saved; the same command goes on from here, and keeps what is finished".to_owned(),
        )
    };
    if stop.load(Ordering::Relaxed) {
        return Err(interrupted().into());
    }
    let known = if job.out.exists() { Some(Run::read(&job.out)?) } else { None };
    if let Some(run) = &known {
        check_same(args, run, job)?;
        if run.state(now()) == State::Finished {
            args.say("finished before");
            return Ok(Came::Done);
        }
    }
    let program = std::env::current_exe().context("cannot find the program that is running")?;
    let mut child = Command::new(program);
    child.arg("pretrain").arg("--out").arg(&job.out).arg("--device").arg(args.device.to_string());
    if known.is_some() {
        child.arg("--resume");
    } else {
        child.args(["--data", &args.data, "--preset", job.preset]);
        args.values(job.config.seed).iter().for_each(|value| {
            child.args(["--set", value]);
        });
    }
    if !talk::notes(args.json) {
        child.arg("--quiet");
    }
    let status = child.status().context("cannot start a run")?;
    let code = status.code().unwrap_or(i32::from(EXIT_INTERRUPTED));
    match code {
        0 => Ok(Came::Done),
        code if code == i32::from(EXIT_INTERRUPTED) => Err(interrupted().into()),
        code if code == i32::from(EXIT_RUN_FAILED) => Ok(Came::Wrong),
        _ => bail!("{}: the run could not be trained, for the reason above", job.recipe.title),
    }
}

/// Refuses a run of another budget: the table would compare what cannot be compared.
fn check_same(args: &CompareArgs, run: &Run, job: &Job) -> anyhow::Result<()> {
    match run.said("data") {
        Some(data) if data == args.data => {}
        found => bail!(
            "{}: expected a run on {}, found one on {}; choose another --out, or move the run away",
            job.out.display(),
            args.data,
            found.unwrap_or("data it does not name")
        ),
    }
    let path = job.out.join("config.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let has = stored(&text, &path.display().to_string())?;
    match changes(&has, &job.config)?.into_iter().find(|change| !change.is_harmless) {
        None => Ok(()),
        Some(Change { key, before, after, .. }) => bail!(
            "{}: expected a run with {key} = {after} as asked for now, found {before}; choose another --out, or move the run away",
            job.out.display()
        ),
    }
}

/// The methods of the best runs by k-NN, best first. One that learns from labels is none of them.
fn best(done: &[Job], count: usize) -> Vec<&'static Recipe> {
    let knn = |job: &Job| {
        let run = Run::read(&job.out).ok()?;
        run.history.epochs.last(&format!("knn_{}", run.history.quoted_k()?))
    };
    let unlabelled = done.iter().filter(|job| !job.recipe.needs.labels);
    let mut all: Vec<_> = unlabelled.filter_map(|job| Some((knn(job)?, job.recipe))).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    all.into_iter().take(count).map(|(_, recipe)| recipe).collect()
}
