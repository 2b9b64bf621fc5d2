//! `ocelli finetune classification`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use ocelli::data::{DataSet, open_data_beside};
use ocelli::models::weights::preprocessing::{EvalSize, Preprocessing, Told};
use ocelli::models::{BackboneConfig, ResNetConfig};
use ocelli::train::config::{TaskKind, resolve, resolve_over};
use ocelli::train::device::Chosen;
use ocelli::train::{CLASSIFIER_FILE, Classification, ClassifiedData, Loaded, Loading, Trainer};
use serde_json::{Value, json};

use crate::cli::opening::{self, NormaliseArgs, SizeArgs};
use crate::cli::plan::{self, Evaluated};
use crate::cli::progress::Progress;
use crate::cli::run::{Run, RunArgs, quoted, tell};

/// Flags of `ocelli finetune classification`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli finetune classification --weights runs/first --data flowers --out runs/flowers\n  ocelli finetune classification --weights dino_deitsmall16_pretrain.pth --data flowers --out runs/flowers --epochs 50 --set supervised.layer_decay=0.75\n  ocelli finetune classification --weights random:resnet-50 --data flowers --out runs/scratch\n\nThe folder flowers holds a folder for each class, or train and val with such folders. Without val, every tenth image is held out. Later values replace earlier ones: --preset (finetune), which is fitted to weights and data, --config, then the other flags and --set."
)]
pub struct ClassificationArgs {
    #[command(flatten)]
    run: RunArgs,
    /// The backbone to start from: a run folder, a checkpoint, a .safetensors or .pth file (see `ocelli weights`);
    /// `random:vit-s/16` and `random:resnet-50` start from nothing
    #[arg(long, required_unless_present = "resume", conflicts_with = "resume")]
    weights: Option<PathBuf>,
    /// Number of epochs
    #[arg(long)]
    epochs: Option<usize>,
    #[command(flatten)]
    size: SizeArgs,
    #[command(flatten)]
    normalise: NormaliseArgs,
    /// Number of attention heads, if the weights do not say
    #[arg(long)]
    heads: Option<usize>,
}

const TASK: TaskKind = TaskKind::Classification;

pub fn run(args: &ClassificationArgs) -> anyhow::Result<()> {
    let world = args.run.world()?;
    let mut progress = Progress::new(!args.run.talks());
    let stored = args.run.stored(TASK)?;
    ensure!(stored.is_none() || args.run.preset.is_none(), "--preset: a run that goes on keeps its own");
    args.run.limit_pixels(stored.as_ref().map(|run| run.config.loader.max_pixels))?;
    let named = args.run.data(stored.as_ref())?;
    let DataSet { train, val, understood } = open_data_beside(&named, args.run.out.as_deref())?;
    if args.run.talks() {
        tell(&understood);
    }
    let found = understood.lines().join("; ");
    let data = ClassifiedData::of(&train, val.as_ref()).with_context(|| format!("{named} ({found})"))?;
    if args.run.talks() {
        data.notes.iter().for_each(|note| println!("{note}"));
    }
    let device = args.run.device.open()?;
    let weights = args.weights.as_deref().map(|path| open(args, path, &device)).transpose()?;
    if let (true, Some(weights)) = (args.run.talks(), &weights) {
        println!("normalisation: {}; size: {}", weights.statistics, weights.size);
    }
    let given = weights.as_ref().zip(args.weights.as_deref());
    let mut own = given.map(|(weights, path)| of_weights(weights, path)).transpose()?.unwrap_or_default();
    own.extend(args.epochs.map(|epochs| format!("epochs={epochs}")));
    let config = args.run.configuration(stored.as_ref(), own, |file, sets| {
        if let Some(stored) = &stored {
            return Ok(resolve_over(&stored.config, file, sets)?);
        }
        let preset = args.run.preset.as_deref().unwrap_or("finetune");
        let fitted = fitted(weights.as_ref(), &data, args.run.preset.is_some());
        Ok(resolve_over(&resolve(Some(preset), None, &fitted)?, file, sets)?)
    })?;
    config.check_task(TASK)?;
    let understood = json!({
        "data": understood,
        "train": data.train.len(),
        "held_out": data.val.len(),
        "classes": data.classes,
        "notes": data.notes,
        "weights": weights.as_ref().map_or(Value::Null, |w| opening::fields(w, &w.size)),
    });
    let run = Run { config: &config, device: &device, data: &named, understood, json: args.run.json };
    if args.run.dry_run {
        plan::check_memory(&run)?;
    }
    let task = Classification::new_in(world, &config, &device.device, &data)?;
    let (held_out, classes) = (task.held_out(), data.classes.len());
    let mut trainer = Trainer::of(task);
    if args.run.dry_run {
        // What the weights are is a part of the plan: they may not fit.
        trainer.init()?;
        let what = Ok(format!("top-1 accuracy on {held_out} held out, {classes} classes"));
        return plan::show(&run, trainer, &Evaluated { what, takes: "the logits and a copy of the network" });
    }
    args.run.tell_device(&device);
    let out = args.run.out();
    let (_, summary) = run.train(trainer, &out, args.run.start(), &mut progress)?;
    if args.run.talks() {
        match &summary.best {
            Some(best) => println!(
                "weights: {} (after epoch {}, {} {:.1} %)",
                out.join(CLASSIFIER_FILE).display(),
                best.epoch + 1,
                best.what,
                best.accuracy
            ),
            None => println!("weights: {}", out.join("checkpoints").display()),
        }
    }
    Ok(())
}

/// The weights, looked at for their shape and what they want done to their pictures.
fn open(args: &ClassificationArgs, path: &Path, device: &Chosen) -> anyhow::Result<Loaded> {
    let given = Preprocessing { size: args.size.given(), ..args.normalise.given()? };
    let mut weights = Loading { heads: args.heads, given, ..Loading::default() }.open(path, &device.device)?;
    args.size.apply(&mut weights.size);
    Ok(weights)
}

/// What the weights decide whatever a preset or file says: the backbone.
fn of_weights(weights: &Loaded, path: &Path) -> anyhow::Result<Vec<String>> {
    let mut sets = vec![quoted("arch", &weights.arch())];
    // An empty name stands for drawn weights: no other may become one.
    let name = path.to_str().with_context(|| {
        format!("--weights {}: expected a name in UTF-8, found other bytes; rename it", path.display())
    })?;
    sets.push(quoted("init_from", if name.starts_with("random:") { "" } else { name }));
    if let BackboneConfig::ResNet(ResNetConfig { stem, .. }) = &weights.config {
        sets.push(format!("resnet.stem={}", json!(stem)));
    }
    Ok(sets)
}

/// The preset fitted to weights and data: normalisation and size are the weights'; batches are small where there are few
/// images, and epochs are as many as make some ten thousand steps, unless somebody chose a preset.
fn fitted(weights: Option<&Loaded>, data: &ClassifiedData, is_chosen: bool) -> Vec<String> {
    let mut sets = vec![quoted("task", &TASK.to_string())];
    if let Some(weights) = weights {
        let Told { value: EvalSize { resize_px, crop_px }, .. } = weights.size;
        let side = if crop_px > 0 { crop_px } else { weights.image_side_px() };
        let statistics = &weights.statistics.value;
        let list = |values: [f32; 3]| format!("[{:?}, {:?}, {:?}]", values[0], values[1], values[2]);
        sets.extend([
            quoted("arch", &weights.arch()),
            format!("views.global_size_px={side}"),
            format!("views.mean={}", list(statistics.mean)),
            format!("views.std={}", list(statistics.std)),
            format!("eval.resize_px={resize_px}"),
            format!("eval.crop_px={crop_px}"),
        ]);
    }
    if !is_chosen {
        let (epochs, batch) = schedule_for(data.train.len());
        sets.extend([format!("epochs={epochs}"), format!("batch_size={batch}")]);
    }
    sets
}

/// Steps of a fine-tuning, about.
const STEPS: usize = 10_000;

/// Epochs and batch size for so many images: a power of two up to 64 that makes eight steps an epoch or more, and 30 to 200
/// epochs.
fn schedule_for(images: usize) -> (usize, usize) {
    let batch = [64, 32, 16, 8, 4, 2].into_iter().find(|batch| 8 * batch <= images).unwrap_or(2);
    let steps_per_epoch = (images / batch).max(1);
    ((STEPS / steps_per_epoch).clamp(30, 200), batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_suit_the_data() {
        for (images, expected) in
            [(1_281_167, (30, 64)), (9_469, (68, 64)), (512, (200, 64)), (200, (200, 16)), (3, (200, 2))]
        {
            assert_eq!(schedule_for(images), expected, "{images}");
        }
    }
}
