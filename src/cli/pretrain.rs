//! `ocelli pretrain`.

use clap::Args;
use ocelli::data::{DataSet, open_data_beside};
use ocelli::models::BackboneKind;
use ocelli::train::config::{TaskKind, resolve};
use ocelli::train::{Labelled, RunConfig, Stored, Trainer};
use serde_json::json;

use super::plan::{self, Evaluated};
use super::progress::Progress;
use super::run::{Run, RunArgs, quoted, tell};

/// Pre-train a network on a folder of images
///
/// It needs no labels. Where there are labels, they only measure: k-NN accuracy during the run.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli pretrain --data photos --out runs/first --preset laptop\n  ocelli pretrain --method dino --arch vit-s/16 --data imagenet --out runs/s16 --set epochs=300 --set optim.lr=0.0005\n  ocelli pretrain --method densecl --arch resnet50 --data imagenet --out runs/densecl\n\nLater values replace earlier ones: the method's defaults (the published ones), --preset, --config, then --method, --arch, --epochs and --set."
)]
pub struct PretrainArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Method by name (see `ocelli presets`)
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(methods()))]
    method: Option<String>,
    /// Backbone: vit-ti/16, vit-s/16, vit-s/8, vit-b/16, vit-b/8, or WIDTHxDEPTHxHEADS as in vit-96x6x3/4, with -reg4 four
    /// registers as in vit-s/14-reg4; resnet18, 34, 50, 101, 152, 200, with xN times the channels as in resnet-50x2, or cN of
    /// them in the first stage as in resnet-18c16
    #[arg(long)]
    arch: Option<String>,
    /// Number of epochs
    #[arg(long)]
    epochs: Option<usize>,
    /// Start a new run from the backbone of a run, a checkpoint, a .safetensors or a .pth file. Head, schedules and
    /// everything else start from the beginning. To continue a run, use --resume
    #[arg(long, value_name = "WEIGHTS", conflicts_with = "resume")]
    init_from: Option<String>,
}

/// Names of all methods.
fn methods() -> Vec<&'static str> {
    ocelli::methods::METHODS.iter().map(|recipe| recipe.name).collect()
}

const TASK: TaskKind = TaskKind::Pretraining;

pub fn run(args: &PretrainArgs) -> anyhow::Result<()> {
    let world = args.run.world()?;
    let mut progress = Progress::new(!args.run.talks());
    let stored = args.run.stored(TASK)?;
    let config = configuration(args, stored.as_ref())?;
    let data = args.run.data(stored.as_ref())?;
    let DataSet { train: source, val: test, understood } = open_data_beside(&data, args.run.out.as_deref())?;
    let why_no_knn = understood.why_no_knn();
    if args.run.talks() {
        tell(&understood);
        if let (true, Some(why)) = (config.eval.every_epochs > 0, &why_no_knn) {
            println!("{why}");
        }
    }
    let device = args.run.device.open()?;
    let run = Run {
        config: &config,
        device: &device,
        data: &data,
        understood: json!({ "data": understood }),
        json: args.run.json,
    };
    if args.run.dry_run {
        plan::check_memory(&run)?;
    }
    let trainer = Trainer::new_in(world, &config, &device.device, &source, test.as_ref())?;
    if args.run.dry_run {
        let what = match Labelled::of(&source, test.as_ref(), &config.eval) {
            Some(l) => Ok(format!("k-NN with {} held out, {} classes", l.test.1.len(), l.classes)),
            None => {
                Err(why_no_knn.unwrap_or_else(|| "no k-NN during the run: too few labelled images".to_owned()))
            }
        };
        return plan::show(&run, trainer, &Evaluated { what, takes: "k-NN of features and of small pixels" });
    }
    args.run.tell_device(&device);
    let out = args.run.out();
    run.train(trainer, &out, args.run.start(), &mut progress)?;
    if args.run.talks() {
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
    let given = [("method", &args.method), ("arch", &args.arch), ("init_from", &args.init_from)];
    let own = given.into_iter().filter_map(|(key, value)| Some(quoted(key, value.as_ref()?)));
    let own = own.chain(args.epochs.map(|epochs| format!("epochs={epochs}")));
    let config = args
        .run
        .configuration(stored, own.collect(), |file, sets| Ok(resolve(args.run.preset.as_deref(), file, sets)?))?;
    config.check_task(TASK)?;
    Ok(config)
}
