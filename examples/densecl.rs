//! Dense contrast, side by side: a network at random, MoCo v2, and DenseCL with each way of matching, the same budget for
//! all, each evaluated by k-NN and by how often its cells find each other (PCK). Writes OUT/table.md:
//!
//!     cargo run --release --example densecl -- imagenette-128 runs/densecl
//!     cargo run --release --example densecl -- scenes:2000:64 runs/scenes steps=300
//!     cargo run --release --example densecl -- cost network=resnet-50 size=96 batch=8    # a step of either, taking turns
//!
//! The loop is written out: views with their places, a loss, gradients, SGD on a cosine, what follows the step. Every run
//! ends as a file in MoCo's or DenseCL's published layout, and one that is there is not trained again: `only=moco` trains
//! a single row. The loss rises until the queue has turned over once.
#![allow(clippy::print_stderr)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use burn::tensor::{Distribution, Tensor};
use ocelli::data::{
    DataError, Image, Loader, LoaderConfig, MocoViews, Source, Split, ViewPlan, open_source, open_split,
};
use ocelli::eval::correspondence::Pck;
use ocelli::methods::optim::{OptimConfig, Optimizer, OptimizerKind, StepRates};
use ocelli::methods::schedule::Cosine;
use ocelli::methods::{
    Batch, DenseCl, DenseClConfig, Matching, Method, Moco, MocoConfig, StepClock, check_queue, train_step,
};
use ocelli::models::weights::{ModuleState as _, StateDict, write_safetensors};
use ocelli::models::{Backbone as _, Init, Mode, ResNet, ResNetArch, ResNetConfig, ResNetError, Stem};
use ocelli::train::device::{DeviceChoice, open};
use ocelli::train::{Labelled, Loading, RunConfig, correspondence, knn_of, to_tensor, write_atomically};

/// The rows of the table after the first; `None` is MoCo v2.
const ROWS: [(&str, &str, Option<Matching>); 5] = [
    ("moco", "MoCo v2", None),
    ("densecl-backbone", "DenseCL, max-sim on backbone features F", Some(Matching::Backbone)),
    ("densecl-head", "DenseCL, max-sim on head features Θ", Some(Matching::Head)),
    ("densecl-random", "DenseCL, random matching", Some(Matching::Random)),
    ("densecl-geometric", "DenseCL, geometric matching", Some(Matching::Geometric)),
];

/// Pixels of a cell with the stem for small images.
const CELL_PX: usize = 8;

/// What is the same for every row; `KEY=VALUE` arguments change it.
struct Budget {
    network: String,
    steps: usize,
    batch: usize,
    size: u32,
    images: usize,
    queue: usize,
    momentum: f64,
    lr: f64,
    decay: f64,
    seed: u64,
    queries: usize,
    pairs: usize,
    only: String,
}

impl Budget {
    fn parse(args: &[String]) -> anyhow::Result<Self> {
        let mut budget = Self {
            network: "resnet-18c8".into(),
            steps: 400,
            batch: 16,
            size: 48,
            images: 1600,
            queue: 256,
            momentum: 0.995,
            lr: 0.03,
            decay: 1e-4,
            seed: 0,
            queries: 500,
            pairs: 150,
            only: String::new(),
        };
        for arg in args {
            let (key, value) = arg.split_once('=').with_context(|| format!("expected KEY=VALUE, found {arg}"))?;
            let number = || value.parse::<usize>().with_context(|| format!("{key}: expected a number"));
            let float = || value.parse::<f64>().with_context(|| format!("{key}: expected a number"));
            match key {
                "network" => budget.network = value.into(),
                "steps" => budget.steps = number()?,
                "batch" => budget.batch = number()?,
                "size" => budget.size = number()? as u32,
                "images" => budget.images = number()?,
                "queue" => budget.queue = number()?,
                "momentum" => budget.momentum = float()?,
                "lr" => budget.lr = float()?,
                "decay" => budget.decay = float()?,
                "seed" => budget.seed = number()? as u64,
                "queries" => budget.queries = number()?,
                "pairs" => budget.pairs = number()?,
                "only" => budget.only = value.into(),
                _ => bail!(
                    "{key}: expected network, steps, batch, size, images, queue, momentum, lr, decay, seed, queries, pairs or only"
                ),
            }
        }
        Ok(budget)
    }

    /// A 3×3 stem: maps of 6×6 cells from 48 px, as 7×7 from 224.
    fn resnet(&self) -> Result<ResNetConfig, ResNetError> {
        Ok(ResNetConfig { stem: Stem::Cifar, norm_groups: 2, ..self.network.parse::<ResNetArch>()?.into() })
    }

    fn views(&self) -> ViewPlan {
        ViewPlan::moco(MocoViews { size_px: self.size, blur_sigma: Some([0.1, 1.0]), ..MocoViews::default() })
    }

    /// Networks are evaluated at the size they were trained at.
    fn run_config(&self) -> RunConfig {
        let mut config = RunConfig::default();
        (config.eval.resize_px, config.eval.crop_px) = (self.size as usize, self.size as usize);
        (config.eval.max_train, config.eval.max_test) = (0, 0);
        config
    }
}

/// Evenly spaced images of a source.
struct Subset(Arc<dyn Source>, Vec<usize>);

impl Subset {
    fn of(source: Arc<dyn Source>, limit: usize) -> Self {
        let count = limit.min(source.len());
        let indices = (0..count).map(|i| i * source.len() / count).collect();
        Self(source, indices)
    }
}

impl Source for Subset {
    fn len(&self) -> usize {
        self.1.len()
    }
    fn load(&self, index: usize) -> Result<Image, DataError> {
        self.0.load(self.1[index])
    }
    fn label(&self, index: usize) -> Option<u32> {
        self.0.label(self.1[index])
    }
    fn name(&self, index: usize) -> String {
        self.0.name(self.1[index])
    }
    fn class_names(&self) -> &[String] {
        self.0.class_names()
    }
}

/// Trains and writes the encoders to `path`.
fn train(method: &mut dyn Method, budget: &Budget, source: &Arc<dyn Source>, path: &Path) -> anyhow::Result<()> {
    let device = open(DeviceChoice::Cpu)?.device;
    let loader_config = LoaderConfig { batch_size: budget.batch, seed: budget.seed, ..LoaderConfig::default() };
    let loader = Loader::new(source.clone(), budget.views(), loader_config)?;
    let lr = Cosine::new(budget.lr, 0.0, budget.steps);
    let optim = sgd();
    let mut optimizer = Optimizer::new(&optim);
    let (mut step, mut epoch, started) = (0, 0, Instant::now());
    while step < budget.steps {
        for batch in loader.epoch(epoch, 0).take(budget.steps - step) {
            let batch = batch?;
            let clock = StepClock { epoch, iteration: step, micro_batch: 0, momentum: 0.0, seed: budget.seed };
            let rates = StepRates { lr: lr.at(step), weight_decay: budget.decay, clip: 0.0 };
            let places = batch.places.iter().map(|p| p.iter().map(Into::into).collect()).collect();
            let views = vec![to_tensor(&batch.groups[0], &device)];
            let micro = [Batch { places, ..Batch::of_views(views, budget.batch) }];
            let figures = train_step(method, (&mut optimizer, &optim), &micro, clock, &rates);
            step += 1;
            if step.is_multiple_of(50) || step == budget.steps {
                let mut line =
                    format!("{:<20} step {step:>5}", path.file_stem().unwrap_or_default().to_string_lossy());
                let values = figures.into_data().try_to_vec::<f32>().unwrap_or_default();
                for (figure, value) in method.figures().iter().zip(values) {
                    let _ = write!(line, "  {} {value:.3}", figure.name);
                }
                eprintln!("{line}  {:.0} ms a step", started.elapsed().as_secs_f64() * 1e3 / step as f64);
            }
        }
        epoch += 1;
    }
    Ok(write_atomically(path, &write_safetensors(&method.state()?)?)?)
}

/// The file of a row, trained now if it is not there.
fn trained(
    name: &str,
    matching: Option<Matching>,
    budget: &Budget,
    source: &Arc<dyn Source>,
    out: &Path,
) -> anyhow::Result<PathBuf> {
    let path = out.join(format!("{name}.safetensors"));
    if path.exists() {
        return Ok(path);
    }
    let device = open(DeviceChoice::Cpu)?.device;
    let resnet = budget.resnet()?;
    let build = |init: &mut Init| -> Result<ResNet, ResNetError> { resnet.init(init) };
    let contrast = MocoConfig { queue: budget.queue, momentum: budget.momentum, ..MocoConfig::default() };
    match matching {
        None => train(&mut Moco::new(&contrast, build, budget.seed, &device)?, budget, source, &path)?,
        Some(matching) => {
            let config = DenseClConfig { contrast, matching, ..DenseClConfig::default() };
            train(&mut DenseCl::new(&config, build, budget.seed, &device)?, budget, source, &path)?;
        }
    }
    Ok(path)
}

/// One step of a method on random views; seconds.
fn timed(
    method: &mut dyn Method,
    optimizer: (&mut Optimizer, &OptimConfig),
    views: &Tensor<4>,
    batch: usize,
    step: usize,
) -> f64 {
    let started = Instant::now();
    let clock = StepClock { epoch: 0, iteration: step, micro_batch: 0, momentum: 0.0, seed: 0 };
    let rates = StepRates { lr: 1e-4, weight_decay: 1e-4, clip: 0.0 };
    let batch = [Batch::of_views(vec![views.clone()], batch)];
    train_step(method, optimizer, &batch, clock, &rates);
    started.elapsed().as_secs_f64()
}

/// Plain SGD on everything.
fn sgd() -> OptimConfig {
    let optimizer = OptimizerKind::Sgd;
    OptimConfig { optimizer, decay_all: true, clip_grad: 0.0, ..OptimConfig::default() }
}

/// What DenseCL costs over MoCo v2: steps of either on the CPU, taking turns, the median of each.
fn cost(budget: &Budget, rounds: usize) -> anyhow::Result<()> {
    let device = open(DeviceChoice::Cpu)?.device;
    let resnet = ResNetConfig::from(budget.network.parse::<ResNetArch>()?);
    let build = |init: &mut Init| -> Result<ResNet, ResNetError> { resnet.init(init) };
    let contrast = MocoConfig { queue: budget.queue, ..MocoConfig::default() };
    let config = DenseClConfig { contrast: contrast.clone(), ..DenseClConfig::default() };
    let mut moco = Moco::new(&contrast, build, 0, &device)?;
    let mut dense = DenseCl::new(&config, build, 0, &device)?;
    let optim = sgd();
    let (mut moco_sgd, mut dense_sgd) = (Optimizer::new(&optim), Optimizer::new(&optim));
    let mut times = [Vec::new(), Vec::new()];
    let side = budget.size as usize;
    let views = Tensor::random([2 * budget.batch, 3, side, side], Distribution::Default, &device);
    for round in 0..=rounds {
        let found = [
            timed(&mut moco, (&mut moco_sgd, &optim), &views, budget.batch, round),
            timed(&mut dense, (&mut dense_sgd, &optim), &views, budget.batch, round),
        ];
        eprintln!("round {round}: MoCo v2 {:.2} s, DenseCL {:.2} s", found[0], found[1]);
        // The first has everything that is done once.
        if round > 0 {
            times.iter_mut().zip(found).for_each(|(all, s)| all.push(s));
        }
    }
    let [moco, dense] = times.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    });
    println!(
        "{}, {} images of {side} px, queue {}: MoCo v2 {moco:.2} s a step, DenseCL {dense:.2} s, {:.3} times as much \
         (medians of {rounds})",
        budget.network,
        budget.batch,
        budget.queue,
        dense / moco
    );
    Ok(())
}

/// The pixels of every cell as its features, `[1, 3, side, side]` to `[1, 3·cell², rows, columns]`: what colour and texture alone
/// find.
fn pixels_of_cells(image: Tensor<4>) -> Tensor<4> {
    let [_, _, side, _] = image.dims();
    let (cells, px) = (side / CELL_PX, CELL_PX);
    let apart = image.reshape([3, cells, px, cells, px]).permute([0, 2, 4, 1, 3]);
    apart.reshape([1, 3 * px * px, cells, cells])
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some((_, rest)) = args.split_first().filter(|(first, _)| *first == "cost") {
        return cost(&Budget::parse(rest)?, 5);
    }
    let [data, out, rest @ ..] = &args[..] else { bail!("expected DATA OUT [KEY=VALUE …]") };
    let (budget, out) = (Budget::parse(rest)?, Path::new(out));
    std::fs::create_dir_all(out)?;
    let source: Arc<dyn Source> = Arc::new(Subset::of(open_source(data)?, budget.images));
    let test = open_split(data, Split::Val)?;
    let test = test.map(|test| Arc::new(Subset::of(test, budget.queries)) as Arc<dyn Source>);
    check_queue(budget.queue, budget.batch, source.len())?;
    let device = open(DeviceChoice::Cpu)?.device;

    let random = out.join("random.safetensors");
    let mut state = StateDict::default();
    state.add_module("", &budget.resnet()?.init(&mut Init::new(budget.seed, &device))?)?;
    write_atomically(&random, &write_safetensors(&state)?)?;
    let mut rows = vec![("random initialisation", random)];
    for (name, words, matching) in ROWS {
        if budget.only.is_empty() || budget.only == name {
            rows.push((words, trained(name, matching, &budget, &source, out)?));
        }
    }

    let config = budget.run_config();
    let labelled = Labelled::of(&source, test.as_ref(), &config.eval);
    let shown = Subset::of(test.unwrap_or_else(|| source.clone()), budget.pairs);
    let all: Vec<usize> = (0..shown.len()).collect();
    let mut table = String::from("| | k-NN (k = 20) | PCK within 1 cell | within 2 cells |\n|---|---|---|---|\n");
    let line = |table: &mut String, words: &str, knn: &str, pck: &Pck| {
        let [one, two] = [pck.within_1, pck.within_2].map(|n| Pck::percent(n as f64, pck.cells));
        let _ = writeln!(table, "| {words} | {knn} | {one:.1} % | {two:.1} % |");
    };
    let views = budget.views();
    // What needs no network: nothing, and the pixels of a cell.
    let pck = correspondence(pixels_of_cells, (&shown, &all), &views, 0, &device, |_| ())?;
    let [one, two] = [pck.chance_1, pck.chance_2].map(|part| Pck::percent(part, pck.cells));
    let _ = writeln!(table, "| guessing | | {one:.1} % | {two:.1} % |");
    line(&mut table, "the pixels of a cell", "", &pck);
    for (words, path) in rows {
        let net = Loading::default().open(&path, &device)?;
        let knn = labelled.as_ref().map(|l| knn_of(&net.encoder, l, &config, &device)).transpose()?;
        let knn = knn.and_then(|k| k.get(&20).map(|v| format!("{v:.1} %"))).unwrap_or_default();
        let pck = correspondence(
            |x| net.encoder.feature_map(x, Mode::Eval),
            (&shown, &all),
            &views,
            0,
            &device,
            |_| (),
        )?;
        line(&mut table, words, &knn, &pck);
    }
    print!("{table}");
    Ok(write_atomically(&out.join("table.md"), table.as_bytes())?)
}
