//! What each method's training step costs on the CPU: one backbone, one batch, steps of all methods in turns, the median of each
//! beside MoCo v2's. Views are made before and are not counted.
//!
//!     cargo run --release --example steps -- docs/steps.md
//!     cargo run --release --example steps -- steps.md --arch resnet-18c16 --rounds 3 --methods moco,byol
//!
//! Methods pass different numbers of views through their networks, so the last column is the one to compare: the time for a
//! pixel that passes, with a pass backwards counted as two forwards.
#![allow(clippy::print_stderr)]

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, bail};
use burn::tensor::{Device, Tensor};
use ocelli::methods::optim::{Optimizer, StepRates};
use ocelli::methods::{Batch, Method, StepClock, train_step};
use ocelli::models::Init;
use ocelli::train::{RunConfig, config, write_atomically};

/// Images of a batch, and side of the usual view, pixels.
const IMAGES: usize = 64;
const SIDE_PX: usize = 64;

/// Which views pass without a gradient: instead of one with it, and beside it through a second network.
struct Passes {
    preset: &'static str,
    instead: &'static [usize],
    beside: &'static [usize],
    /// What its preset must have changed for the common backbone.
    sets: &'static [&'static str],
}

const fn passes(preset: &'static str, instead: &'static [usize], beside: &'static [usize]) -> Passes {
    Passes { preset, instead, beside, sets: &[] }
}

/// MoCo v2 first: the others are compared with it.
const METHODS: [Passes; 12] = [
    passes("moco-laptop", &[1], &[]),
    passes("densecl-laptop", &[1], &[]),
    passes("simclr-laptop", &[], &[]),
    passes("barlow-laptop", &[], &[]),
    passes("vicreg-laptop", &[], &[]),
    passes("byol-laptop", &[], &[0, 1]),
    passes("supervised-laptop", &[], &[]),
    Passes { sets: &["views.local_size_px=32"], ..passes("infomin-laptop", &[1], &[]) },
    Passes { sets: &["views.local_size_px=32"], ..passes("swav-laptop", &[], &[]) },
    Passes { sets: &["views.local_size_px=32"], ..passes("deepcluster-laptop", &[], &[]) },
    // The last maps of its teacher must have five cells a side.
    Passes { sets: &["views.global_size_px=96", "views.local_size_px=64"], ..passes("obow-laptop", &[0], &[]) },
    Passes { sets: &["views.local_size_px=32"], ..passes("laptop", &[], &[0, 1]) },
];

struct Args {
    out: PathBuf,
    arch: String,
    rounds: usize,
    methods: Option<Vec<String>>,
}

impl Args {
    fn read() -> anyhow::Result<Self> {
        let mut args = std::env::args().skip(1);
        let out = args.next().context("expected: FILE.md [--arch NAME] [--rounds N] [--methods A,B]")?.into();
        let mut read = Self { out, arch: "resnet-18".into(), rounds: 5, methods: None };
        while let Some(flag) = args.next() {
            let value = args.next().with_context(|| format!("{flag} wants a value"))?;
            match flag.as_str() {
                "--arch" => read.arch = value,
                "--rounds" => read.rounds = value.parse().context("--rounds wants a number")?,
                "--methods" => read.methods = Some(value.split(',').map(str::to_owned).collect()),
                other => bail!("expected --arch, --rounds or --methods, found {other}"),
            }
        }
        Ok(read)
    }

    fn names(&self, method: &str) -> bool {
        self.methods.as_ref().is_none_or(|named| method == "moco" || named.iter().any(|name| name == method))
    }
}

/// A method ready for its next step.
struct Stepping {
    title: &'static str,
    config: RunConfig,
    method: Box<dyn Method>,
    optimizer: Optimizer,
    batch: Batch,
    /// Pixels of an image that pass forwards, a pass backwards counted as two.
    pixels: f64,
    steps: usize,
    times_s: Vec<f64>,
}

impl Stepping {
    fn new(passes: &Passes, arch: &str, device: &Device) -> anyhow::Result<Self> {
        let common = [
            format!("arch={arch}"),
            "resnet.stem=imagenet".into(),
            format!("batch_size={IMAGES}"),
            format!("views.global_size_px={SIDE_PX}"),
        ];
        let sets: Vec<String> = common.into_iter().chain(passes.sets.iter().map(|&set| set.to_owned())).collect();
        let config = config::resolve(Some(passes.preset), None, &sets)?;
        let (recipe, backbone) = (config.recipe(), config.backbone());
        let classes = 10;
        let facts = config.facts(&backbone, Some(100 * IMAGES), Some(classes));
        recipe.check(&facts)?;
        let method = (recipe.build)(&facts, config.seed, device)?;
        let plan = config.view_plan();
        let mut init = Init::new(1, device);
        let mut noise =
            |views: usize, side: u32| init.uniform([views * IMAGES, 3, side as usize, side as usize], 1.0).val();
        let views: Vec<Tensor<4>> = plan.groups().iter().map(|(side, range)| noise(range.len(), *side)).collect();
        let batch = Batch {
            labels: (0..IMAGES).map(|i| recipe.needs.labels.then_some((i % classes) as u32)).collect(),
            indices: (0..IMAGES).collect(),
            ..Batch::of_views(views, IMAGES)
        };
        let forwards = |view| match (passes.instead.contains(&view), passes.beside.contains(&view)) {
            (true, _) => 1.0,
            (false, false) => 3.0,
            (false, true) => 4.0,
        };
        let pixels = plan.views.iter().enumerate().map(|(i, view)| forwards(i) * f64::from(view.size_px).powi(2));
        let mut stepping = Self {
            title: recipe.title,
            optimizer: Optimizer::new(&config.optim),
            pixels: pixels.sum(),
            steps: 0,
            times_s: Vec::new(),
            config,
            method,
            batch,
        };
        if stepping.method.wants_pass() {
            stepping.method.see(&stepping.batch, &stepping.clock());
        }
        stepping.method.begin_epoch(0);
        Ok(stepping)
    }

    const fn clock(&self) -> StepClock {
        StepClock { epoch: 0, iteration: self.steps, micro_batch: 0, momentum: 0.99, seed: 0 }
    }

    /// Seconds of a step.
    fn step(&mut self) -> anyhow::Result<f64> {
        let started = Instant::now();
        let clock = self.clock();
        let rates = StepRates { lr: 1e-4, weight_decay: 1e-4, clip: self.config.optim.clip_grad };
        let optimizer = (&mut self.optimizer, &self.config.optim);
        let figures =
            train_step(self.method.as_mut(), optimizer, std::slice::from_ref(&self.batch), clock, &rates);
        let figures = figures.into_data().try_to_vec::<f32>().map_err(|e| anyhow::anyhow!("{e:?}"))?;
        anyhow::ensure!(figures.iter().all(|v| v.is_finite()), "{}: {figures:?}", self.title);
        self.steps += 1;
        Ok(started.elapsed().as_secs_f64())
    }
}

/// Threads that compute.
fn threads() -> usize {
    let asked = std::env::var("RAYON_NUM_THREADS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn table(all: &[Stepping], args: &Args) -> String {
    let mut text = format!(
        "# What a step costs\n\n{} at {SIDE_PX} px, {IMAGES} images a batch, on the CPU with {} threads; {} steps of each method in \
         turns, medians of each\nturn's ratio to MoCo v2's step. Views are made before and not counted. \"Passes\" are the pixels \
         that pass through networks, beside\nMoCo v2's, a pass backwards counted as two forwards. \"For a pixel\" is time divided \
         by passes: what a method adds to its network.\n\n    cargo run --release --example steps -- docs/steps.md\n\n\
         | Method | Views | Passes | Time | For a pixel |\n|---|---|---|---|---|\n",
        args.arch,
        threads(),
        args.rounds,
    );
    let first = &all[0];
    for stepping in all {
        let groups = stepping.config.view_plan().groups();
        let views: Vec<String> = groups.iter().map(|(side, range)| format!("{} of {side}", range.len())).collect();
        let ratios: Vec<f64> = stepping.times_s.iter().zip(&first.times_s).map(|(own, moco)| own / moco).collect();
        let (time, passes) = (median(&ratios), stepping.pixels / first.pixels);
        text += &format!(
            "| {} | {} px | {passes:.2} | {time:.2} | {:.2} |\n",
            stepping.title,
            views.join(", "),
            time / passes
        );
    }
    text
}

fn main() -> anyhow::Result<()> {
    let args = Args::read()?;
    let device = Device::flex();
    let mut all = Vec::new();
    for passes in &METHODS {
        let name = config::resolve(Some(passes.preset), None, &[])?.recipe().name;
        if args.names(name) {
            all.push(Stepping::new(passes, &args.arch, &device).with_context(|| name.to_owned())?);
        }
    }
    // The first step makes what later ones use again.
    for stepping in &mut all {
        let first_s = stepping.step()?;
        eprintln!("{}: first step {first_s:.2} s", stepping.title);
    }
    for round in 1..=args.rounds {
        for stepping in &mut all {
            let step_s = stepping.step()?;
            stepping.times_s.push(step_s);
        }
        eprintln!("round {round} of {}", args.rounds);
    }
    let text = table(&all, &args);
    print!("{text}");
    Ok(write_atomically(&args.out, text.as_bytes())?)
}
