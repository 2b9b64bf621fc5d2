//! `ocelli finetune detection`.

use anyhow::{Context as _, bail};
use clap::Args;
use ocelli::data::files::{BoxedSet, open_boxed};
use ocelli::models::{BackboneArch, BackboneConfig};
use ocelli::train::{Loaded, Trainer, weights_crc32};
use ocelli::transfer::detection::{DETECTION_FILE, DETECTOR_FILE, DetectionConfig, DetectionData, DetectionTask};
use serde_json::{Value, json};

use super::flags::TransferArgs;
use super::plan;
use crate::cli::opening;
use crate::cli::progress::Progress;
use crate::cli::run::{Job, Trains, tell};

/// Flags of `ocelli finetune detection`.
#[derive(Args)]
#[command(
    mut_arg("data", |arg| arg.help("Images with boxes: a folder of VOC, COCO or YOLO, or `scenes[:COUNT[:SIZE]]` for the built-in ones. With --resume the run's own, unless it has moved")),
    mut_arg("preset", |arg| arg.help("Recipe by name: voc-24k (the default, as published), small, overfit")),
    after_help = "Examples:\n  ocelli finetune detection --weights runs/dense --data scenes:400 --preset small --out runs/boxes\n  ocelli finetune detection --weights densecl_r50.pth --data VOCdevkit:test --preset voc-24k --out runs/voc\n  ocelli finetune detection --weights random:resnet-18 --data coco128 --preset small --iterations 500 --out runs/scratch\n  ocelli finetune detection --resume --out runs/voc\n\nValues come from --preset (voc-24k), then --config, then the other flags and --set, such as --set anchors.sizes_px=[8,16,32,64,128]. Then: ocelli detect IMAGE --weights OUT, ocelli eval detection --weights OUT --data DATA."
)]
pub struct DetectionArgs {
    #[command(flatten)]
    all: TransferArgs,
}

pub fn run(args: &DetectionArgs) -> anyhow::Result<()> {
    let args = &args.all;
    let (talks, out) = (args.run.talks(), args.run.out());
    let mut progress = Progress::new(!talks);
    let stored = args.stored()?.map(|(text, name)| DetectionConfig::parse(&text, &name)).transpose()?;
    let named = args.data()?;
    let BoxedSet { train, val, classes, understood } = open_boxed(&named)?;
    if talks {
        tell(&understood);
    }
    let found = understood.lines().join("; ");
    let data = DetectionData::of(&train, val.as_ref(), &classes).with_context(|| format!("{named} ({found})"))?;
    let device = args.run.device.open()?;
    let loaded = args.open(&device)?;
    if let (true, Some(loaded)) = (talks, &loaded) {
        println!("{}\nnormalisation: {}", loaded.description, loaded.statistics);
    }
    let config = configuration(args, stored, loaded.as_ref())?;
    let task = DetectionTask::new(&config, &device.device, loaded.as_ref(), &data)?;
    let understood = json!({
        "data": understood,
        "train": data.train.source.len(),
        "held_out": data.val.source.len(),
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
    let trainer = Trainer::of(task);
    if args.run.dry_run {
        return plan::show(&job, trainer, plan_of(&config, &data), None);
    }
    args.run.tell_device(&device);
    let (trainer, summary) = job.train(trainer, &out, args.run.start(), &mut progress)?;
    if talks {
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
    let base = DetectionConfig::resolve(args.run.preset.as_deref(), file, &[])?;
    let mut config = base.with(&args.values(fitted(args, &base)))?;
    let (BackboneConfig::ResNet(shape), Ok(BackboneArch::ResNet(arch))) =
        (&loaded.config, loaded.arch().parse::<BackboneArch>())
    else {
        bail!(
            "--weights: expected a ResNet, on whose fourth stage the detector stands; found {}",
            loaded.description
        );
    };
    (config.arch, config.stem) = (arch, shape.stem);
    (config.weights, config.weights_crc32) = (args.weights_name(), weights_crc32(&loaded.encoder)?);
    (config.views.mean, config.views.std) = (loaded.statistics.value.mean, loaded.statistics.value.std);
    config.check()?;
    Ok(config)
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
fn plan_of(config: &DetectionConfig, data: &DetectionData) -> Vec<(&'static str, String)> {
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
        every => {
            let (all, most) = (data.val.source.len(), config.eval.max_images);
            let images = if most == 0 { all } else { all.min(most) };
            format!(
                "every {every} steps on {images} held-out images of short side {} px{statistics}",
                config.eval.short_px
            )
        }
    };
    vec![
        ("classes", format!("{}: {}", data.classes.len(), data.classes.join(", "))),
        ("views", format!("whole images, short side {sizes} px, long side at most {} px", config.views.max_px)),
        ("steps", format!("{} of {} images{parts}", config.steps(), config.batch_size)),
        ("evaluated", evaluated),
    ]
}
