//! `ocelli pretrain --dry-run`: what a run would do, take and cost, from a few steps that are thrown away.

use ocelli::data::Source;
use ocelli::methods::schedule::LrSchedule;
use ocelli::train::config::{BackboneArch, MethodKind, OptimizerKind};
use ocelli::train::{Labelled, RunConfig, Trainer};

use super::pretrain::Run;
use super::progress::duration;

/// Steps measured after the first.
const MEASURED: usize = 3;

/// Prints the plan; writes nothing.
pub fn show(run: &Run<'_>) -> anyhow::Result<()> {
    let (config, source): (&RunConfig, &dyn Source) = (run.config, run.source.as_ref());
    let mut trainer = Trainer::new(config, &run.device.device, run.source, run.test)?;
    let shape = trainer.shape();
    let steps = shape.steps_per_epoch * shape.epochs;
    let line = |name: &str, text: String| println!("  {name:<11}{text}");

    println!("plan (nothing is written)");
    line(
        "method",
        format!(
            "{} with {}: backbone {:.2} M parameters, head {:.2} M{}",
            config.method,
            config.arch,
            shape.backbone_parameters as f64 / 1e6,
            shape.head_parameters as f64 / 1e6,
            match config.method {
                MethodKind::Dino => format!(" with {} prototypes", config.dino.head.out_dim),
                MethodKind::Moco => String::new(),
                MethodKind::DenseCl => format!(", cells matched by {}", matching(config)),
            }
        ),
    );
    if shape.queue_steps > 0 {
        line(
            "queue",
            format!(
                "{} keys, turned over once in {} steps (until then the loss rises)",
                config.moco.queue, shape.queue_steps
            ),
        );
    }
    line("data", data(run, source));
    line("device", format!("{} ({})", run.device.name, run.device.reason));
    line("views", views(config));
    let micro = if config.accumulate > 1 { format!(", in {} parts", config.accumulate) } else { String::new() };
    line(
        "steps",
        format!(
            "{} images each{micro}; {} an epoch, {} epochs, {steps} in all",
            config.batch_size, shape.steps_per_epoch, shape.epochs
        ),
    );
    line("schedules", schedules(config, shape.steps_per_epoch));

    let measured = trainer.measure(MEASURED)?;
    let followers = if config.method.has_queue() { ", key encoder and queues" } else { " and teacher" };
    let mut memory =
        format!("{} for parameters, gradients, moments{followers}", bytes(trainer.state_bytes() as f64));
    if let Some(used) = used_bytes(run) {
        memory += &format!(
            "; {} in all {}",
            bytes(used as f64),
            if run.device.is_cpu { "at its peak" } else { "reserved" }
        );
    }
    line("memory", memory);
    let epoch_s = measured.step_s * shape.steps_per_epoch as f64;
    line(
        "time",
        format!(
            "{:.3} s a step ({} measured; the first took {:.1} s), {:.0} images/s; {} an epoch, {} in all, evaluation not \
             counted",
            measured.step_s,
            measured.steps,
            measured.first_s,
            config.batch_size as f64 / measured.step_s.max(1e-9),
            duration(epoch_s),
            duration(epoch_s * shape.epochs as f64)
        ),
    );
    let kept = match config.log.keep_every_epochs {
        0 => String::new(),
        every => format!(" and every {every}th"),
    };
    line(
        "disk",
        format!(
            "{} a checkpoint; the newest {}{kept} are kept",
            bytes(trainer.checkpoint_bytes() as f64),
            config.log.keep_checkpoints
        ),
    );
    Ok(())
}

fn data(run: &Run<'_>, source: &dyn Source) -> String {
    let measured = match Labelled::of(run.source, run.test, &run.config.eval) {
        Some(l) if run.config.eval.every_epochs > 0 => {
            format!(
                "; k-NN of {} of {} classes every {} epochs",
                l.test.1.len(),
                l.classes,
                run.config.eval.every_epochs
            )
        }
        Some(_) => "; labelled, but eval.every_epochs is 0".to_owned(),
        None => "; no labels, so no k-NN during the run".to_owned(),
    };
    format!("{}: {} images{measured}", run.data, source.len())
}

fn views(config: &RunConfig) -> String {
    let v = &config.views;
    let cell = config.cell_px();
    let cells = |side: usize| match &config.arch {
        BackboneArch::Vit(_) => format!("{} patches", (side / cell).pow(2)),
        BackboneArch::ResNet(_) => format!("{} cells", side.div_ceil(cell).pow(2)),
    };
    let global = format!(
        "2 crops of {} px ({} of the area, {})",
        v.global_size_px,
        share(v.global_scale),
        cells(v.global_size_px)
    );
    if config.method.has_queue() {
        return format!("{global} of each image, a query and a key");
    }
    format!(
        "{global} and {} of {} px ({}, {}) of each image",
        v.local_crops,
        v.local_size_px,
        share(v.local_scale),
        cells(v.local_size_px)
    )
}

fn matching(config: &RunConfig) -> &'static str {
    use ocelli::methods::Matching;
    match config.densecl.matching {
        Matching::Backbone => "the backbone's features",
        Matching::Head => "the dense head's outputs",
        Matching::Random => "chance",
        Matching::Geometric => "place",
    }
}

fn share([low, high]: [f32; 2]) -> String {
    format!("{:.0} to {:.0} %", 100.0 * low, 100.0 * high)
}

fn schedules(config: &RunConfig, steps_per_epoch: usize) -> String {
    let o = &config.optim;
    let total = config.epochs * steps_per_epoch;
    let lr = LrSchedule::new(o, config.peak_lr(), steps_per_epoch, config.epochs);
    let name = match o.optimizer {
        OptimizerKind::AdamW => "AdamW",
        OptimizerKind::Sgd => "SGD",
        OptimizerKind::Lars => "LARS",
        OptimizerKind::Larc => "LARC",
    };
    let momentum = match config.method {
        MethodKind::Dino => format!("teacher momentum {} to 1", config.dino.teacher_momentum),
        _ => format!("momentum of the key encoder {}", config.moco.momentum),
    };
    format!(
        "{name}, lr {:.2e} after {} epochs of warm-up, {:.2e} at the end{}; weight decay {} to {}; {momentum}",
        config.peak_lr(),
        o.warmup_epochs,
        lr.at(total.saturating_sub(1)),
        if o.lr_by_epoch { ", moved once an epoch" } else { "" },
        o.weight_decay,
        o.weight_decay_end,
    )
}

/// What the device holds, or on the CPU the largest resident set of this process so far, where it can be told.
fn used_bytes(run: &Run<'_>) -> Option<u64> {
    if !run.device.is_cpu {
        return run.device.device.memory_pool_usage().map(|m| m.bytes_reserved);
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kb| kb * 1024)
}

fn bytes(n: f64) -> String {
    if n >= 1e9 { format!("{:.1} GB", n / 1e9) } else { format!("{:.0} MB", n / 1e6) }
}
