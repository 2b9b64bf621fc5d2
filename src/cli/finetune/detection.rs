//! `ocelli finetune detection`.

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use ocelli::data::files::{BoxedSet, open_boxed, set_max_pixels};
use ocelli::models::weights::preprocessing::Statistics;
use ocelli::models::{BackboneArch, BackboneConfig};
use ocelli::train::{Loaded, Trainer, resolve_weights, weights_crc32};
use ocelli::transfer::detection::{DETECTION_FILE, DETECTOR_FILE, DetectionConfig, DetectionData, DetectionTask};
use serde_json::{Value, json};

use super::flags::TransferArgs;
use super::plan;
use crate::cli::opening;
use crate::cli::progress::Progress;
use crate::cli::run::{Job, Trains, quoted, tell};

/// Flags of `ocelli finetune detection`.
#[derive(Args)]
#[command(
    mut_arg("data", |arg| arg.help("Images with boxes: a folder of VOC, COCO or YOLO, or `scenes[:COUNT[:SIZE]]` for the built-in ones. With --resume the run's own, unless it has moved")),
    mut_arg("heads", |arg| arg.hide(true)),
    mut_arg("preset", |arg| arg.help("Recipe by name: voc-24k (the default, as published), small, overfit")),
    after_help = "Examples:\n  ocelli finetune detection --weights runs/dense --data scenes:400 --preset small --out runs/boxes\n  ocelli finetune detection --weights densecl_r50.pth --data VOCdevkit:test --preset voc-24k --out runs/voc\n  ocelli finetune detection --weights random:resnet-18 --data coco128 --preset small --iterations 500 --out runs/scratch\n  ocelli finetune detection --resume --out runs/voc\n\nThe held-out part is val, else test; of PASCAL VOC test where there is a list of it, else val. :test or :val after the name of the data chooses one. If the data has neither, every tenth image is held out. Later values replace earlier ones: --preset (voc-24k), the weights (architecture, normalisation), --config, then the other flags and --set, such as --set anchors.sizes_px=[8,16,32,64,128]. Next: ocelli detect IMAGE --weights OUT, ocelli eval detection --weights OUT --data DATA."
)]
pub struct DetectionArgs {
    #[command(flatten)]
    all: TransferArgs,
}

pub fn run(args: &DetectionArgs) -> anyhow::Result<()> {
    let args = &args.all;
    let (talks, out) = (args.run.talks(), args.run.out());
    ensure!(
        args.backbone.heads.is_none(),
        "--heads: expected no heads, a Vision Transformer's, for a detector stands on a ResNet"
    );
    let mut progress = Progress::new(!talks);
    let stored = args.stored()?.map(|(text, name)| DetectionConfig::parse(&text, &name)).transpose()?;
    args.run.limit_pixels(stored.as_ref().map(|config| config.loader.max_pixels))?;
    let named = args.data()?;
    let BoxedSet { train, val, classes, understood } = open_boxed(&named)?;
    if talks {
        tell(&understood);
    }
    let found = understood.lines().join("; ");
    let data = DetectionData::of(&train, val.as_ref(), &classes).with_context(|| format!("{named} ({found})"))?;
    let device = args.run.device.open()?;
    let loaded = args.open(&device)?;
    let mut config = configuration(args, stored, loaded.as_ref())?;
    set_max_pixels(config.loader.max_pixels);
    if args.run.resume {
        config.weights_path = Some(args.weights_of_run(&config.weights));
    }
    if let (true, Some(loaded)) = (talks, &loaded) {
        let used = Statistics { mean: config.views.mean, std: config.views.std };
        let told = if used == loaded.statistics.value {
            loaded.statistics.to_string()
        } else {
            format!("{used} (--config or --set)")
        };
        println!("{}\nnormalisation: {told}", loaded.description);
    }
    let mut task = DetectionTask::new(&config, &device.device, loaded.as_ref(), &data)?;
    if args.run.resume && resolve_weights(&out).is_err() {
        // Before the folder is touched.
        task.begin_again().with_context(|| {
            format!(
                "{}: the run has no checkpoint to go on from, and not the weights it began from",
                out.display()
            )
        })?;
    }
    let held_out = task.data().val.source.len();
    let understood = json!({
        "data": understood,
        "train": data.train.source.len(),
        "held_out": held_out,
        "classes": data.classes,
        "notes": data.notes,
        "weights": loaded.as_ref().map_or(Value::Null, |l| opening::fields(l, &l.size)),
    });
    let job = Job {
        trains: Trains::Detection,
        config: config.table()?,
        device: &device,
        data: &named,
        understood,
        json: args.run.json,
    };
    let needs = task.needs();
    let trainer = Trainer::of(task);
    if args.run.dry_run {
        return plan::show(&job, trainer, plan_of(&config, &data, held_out), Some(needs));
    }
    args.run.tell_device(&device);
    let (trainer, summary) = job.train(trainer, &out, args.run.start(), &mut progress)?;
    if talks {
        let scored = trainer.task().summary().map_or(held_out, |summary| summary.images);
        if scored < held_out {
            println!(
                "warning: the figures are of {scored} of {held_out} {} images; the others cannot be read",
                data.judged
            );
        }
        if let Some(best) = &summary.best {
            let steps = (best.epoch + 1) * trainer.steps_per_epoch();
            let (file, table) = (out.join(DETECTOR_FILE), out.join(DETECTION_FILE));
            println!("detector: {} ({} {:.1} % after {steps} steps)", file.display(), best.what, best.accuracy);
            println!("class by class: {} and {}", table.display(), out.join("report.html").display());
            println!("use it: ocelli detect IMAGE --weights {}", out.display());
        } else {
            println!("weights: {}", out.join("checkpoints").display());
        }
    }
    Ok(())
}

/// Every value resolved: a new detector's, for these weights, or that of the run that goes on.
fn configuration(
    args: &TransferArgs,
    stored: Option<DetectionConfig>,
    loaded: Option<&Loaded>,
) -> anyhow::Result<DetectionConfig> {
    if let Some(stored) = stored {
        let config = stored.with(&args.values(Vec::new()))?;
        config.check()?;
        return Ok(config);
    }
    let Some(loaded) = loaded else { bail!("--weights: expected the backbone to start from") };
    let file = args.run.file()?;
    let file = file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let preset = DetectionConfig::resolve(args.run.preset.as_deref(), None, &[])?;
    let (BackboneConfig::ResNet(shape), Ok(BackboneArch::ResNet(arch))) =
        (&loaded.config, loaded.arch().parse::<BackboneArch>())
    else {
        bail!("--weights: expected a ResNet: the detector uses its fourth stage; found {}", loaded.description);
    };
    // What the weights say lies over the preset and below what a person says.
    let statistics = &loaded.statistics.value;
    let its_own = vec![quoted("arch", &arch.to_string()), format!("stem={}", json!(shape.stem))];
    let weights = [its_own, normalisation(statistics)].concat();
    let mut base = preset.with(&weights)?;
    if let Some(file) = file {
        base = base.with_file(file)?;
    }
    let flags = args.backbone.statistics()?.as_ref().map(normalisation).unwrap_or_default();
    let mut config = base.with(&args.values([flags, fitted(args, &base)].concat()))?;
    for (key, own, now) in [
        ("arch", arch.to_string(), config.arch.to_string()),
        ("stem", json!(shape.stem).to_string(), json!(config.stem).to_string()),
    ] {
        ensure!(
            own == now,
            "{key}: expected {own}, which the weights have ({}), found {now} in --config or --set",
            loaded.description
        );
    }
    config.weights = args.weights_name();
    // Drawn weights are the run's seed's, not these.
    let is_drawn = config.weights.starts_with("random:");
    config.weights_crc32 = if is_drawn { String::new() } else { weights_crc32(&loaded.encoder)? };
    config.check()?;
    Ok(config)
}

/// A normalisation as values of the configuration.
fn normalisation(statistics: &Statistics) -> Vec<String> {
    let of = |key: &str, values: [f32; 3]| format!("views.{key}={values:?}");
    vec![of("mean", statistics.mean), of("std", statistics.std)]
}

/// With another number of steps, what the recipe does after so many of them is moved along.
fn fitted(args: &TransferArgs, base: &DetectionConfig) -> Vec<String> {
    let Some(iterations) = args.iterations else { return Vec::new() };
    let moved = |at: usize| (at as f64 * iterations as f64 / base.iterations.max(1) as f64).round() as usize;
    // Rising, also where a run is so short that two would fall together.
    let mut milestones: Vec<usize> = base.optim.milestones.iter().map(|at| moved(*at)).collect();
    milestones.dedup();
    let warmup = base.optim.warmup_iterations.min(iterations / 4);
    let every = match base.eval.every_iterations {
        0 => 0,
        every => moved(every).max(1),
    };
    vec![
        format!("optim.milestones={milestones:?}"),
        format!("optim.warmup_iterations={warmup}"),
        format!("eval.every_iterations={every}"),
    ]
}

/// What the plan says of it.
fn plan_of(config: &DetectionConfig, data: &DetectionData, held_out: usize) -> Vec<(&'static str, String)> {
    let (classes, judged) = (&data.classes, data.judged);
    let parts = if config.accumulate > 1 { format!(", in {} parts", config.accumulate) } else { String::new() };
    let short = &config.views.short_px;
    let sizes = match (short.iter().min(), short.iter().max()) {
        (Some(low), Some(high)) if low < high => format!("{low} to {high}"),
        (Some(one), _) => one.to_string(),
        _ => "none".into(),
    };
    let statistics = match config.eval.precise_bn_batches {
        0 => String::new(),
        batches => format!(", norms with the statistics of {batches} batches"),
    };
    let evaluated = match config.eval.every_iterations {
        0 => "never".to_owned(),
        _ => {
            let (_, every) = config.spans();
            format!(
                "every {every} steps on {held_out} {judged} images of short side {} px{statistics}",
                config.eval.short_px
            )
        }
    };
    vec![
        ("classes", format!("{}: {}", classes.len(), classes.join(", "))),
        ("views", format!("whole images, short side {sizes} px, long side at most {} px", config.views.max_px)),
        ("steps", format!("{} of {} images{parts}", config.steps(), config.batch_size)),
        ("evaluated", evaluated),
    ]
}
