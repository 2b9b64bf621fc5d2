//! `ocelli pretrain --dry-run`: what a run would do, take and cost, from a few steps that are thrown away.

use ocelli::data::Source;
use ocelli::methods::schedule::LrSchedule;
use ocelli::train::memory::{Needs, gb, peak_resident};
use ocelli::train::{Labelled, Pretraining, RunConfig, Task as _, TrainError, Trainer};

use super::pretrain::Run;
use super::progress::duration;

/// Steps measured after the first.
const MEASURED: usize = 3;

/// Prints the plan; writes nothing.
pub fn show(run: &Run<'_>) -> anyhow::Result<()> {
    let (config, source): (&RunConfig, &dyn Source) = (run.config, run.source.as_ref());
    Pretraining::check(config, source.len())?;
    let memory = run.device.memory;
    let available = memory.available();
    if let Err(error) = memory.check_beside(&Needs::training(config), available) {
        return too_large(run, error);
    }
    let mut trainer = Trainer::new(config, &run.device.device, run.source, run.test)?;
    let shape = trainer.shape();
    println!("plan (nothing is written)");
    let recipe = config.recipe();
    line(
        "method",
        format!(
            "{} ({}) with {}: backbone {:.2} M parameters, head {:.2} M",
            recipe.title,
            recipe.name,
            config.arch,
            shape.backbone_parameters as f64 / 1e6,
            shape.head_parameters as f64 / 1e6
        ),
    );
    for note in &shape.declared.notes {
        line("note", note.clone());
    }
    known(run);
    line("schedules", schedules(config, &trainer, shape.steps_per_epoch));

    let needs = Needs::training_with(config, trainer.state_bytes() as u64);
    if let Err(error) = memory.check_beside(&needs, available) {
        line("memory", format!("{} at least: {}", gb(needs.bytes), needs.what));
        return Err(error.into());
    }
    let measured = trainer.measure(MEASURED)?;
    let held = recipe.holds;
    let mut takes = format!("{} for parameters, gradients, moments, {held}", bytes(trainer.state_bytes() as f64));
    if let Some(used) = used_bytes(run) {
        takes += &format!(
            "; {} in all {}",
            bytes(used as f64),
            if run.device.is_cpu { "at its peak" } else { "reserved" }
        );
    }
    line("memory", takes);
    match trainer.evaluation_bytes() {
        0 => {}
        more => line(
            "evaluation",
            format!("at most {} beside that, for k-NN of features and of small pixels", bytes(more as f64)),
        ),
    }
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

fn line(name: &str, text: String) {
    println!("  {name:<11}{text}");
}

/// What is known before anything is built.
fn known(run: &Run<'_>) {
    let config = run.config;
    line("data", data(run, run.source.as_ref()));
    line("device", format!("{} ({})", run.device.name, run.device.reason));
    line("views", views(config));
    let micro = if config.accumulate > 1 { format!(", in {} parts", config.accumulate) } else { String::new() };
    let an_epoch = run.source.len() / config.batch_size;
    line(
        "steps",
        format!(
            "{} images each{micro}; {an_epoch} an epoch, {} epochs, {} in all",
            config.batch_size,
            config.epochs,
            an_epoch * config.epochs
        ),
    );
}

/// The plan of a run for which there is not enough memory: what it would take, and nothing is built.
fn too_large(run: &Run<'_>, error: TrainError) -> anyhow::Result<()> {
    let config = run.config;
    println!("plan (nothing is written, and nothing was built or measured: there is not enough memory)");
    let recipe = config.recipe();
    line(
        "method",
        format!(
            "{} ({}) with {}: backbone {:.2} M parameters",
            recipe.title,
            recipe.name,
            config.arch,
            config.backbone().num_parameters() as f64 / 1e6
        ),
    );
    known(run);
    let needs = Needs::training(config);
    line("memory", format!("{} at least, without head and momentum network: {}", gb(needs.bytes), needs.what));
    Err(error.into())
}

fn data(run: &Run<'_>, source: &dyn Source) -> String {
    let measured = match Labelled::of(run.source, run.test, &run.config.eval) {
        Some(l) if run.config.eval.every_epochs > 0 => {
            format!(
                "; k-NN with {} held out, {} classes, every {} epochs",
                l.test.1.len(),
                l.classes,
                run.config.eval.every_epochs
            )
        }
        Some(_) => "; labelled, but eval.every_epochs is 0".to_owned(),
        None => match run.understood.why_no_knn() {
            Some(why) => format!("; {why}"),
            None => "; no k-NN during the run: too few labelled images".to_owned(),
        },
    };
    format!("{}: {} images{measured}", run.data, source.len())
}

fn views(config: &RunConfig) -> String {
    let (plan, backbone) = (config.view_plan(), config.backbone());
    let groups = plan.groups().into_iter().enumerate().map(|(i, (size_px, range))| {
        let first = &plan.views[range.start];
        let cells = backbone.cells(size_px as usize);
        format!(
            "{}{} of {size_px} px ({} of the area, {cells} {})",
            range.len(),
            if i == 0 { " crops" } else { "" },
            share(first.scale),
            if backbone.cell_name() == "patch" { "patches" } else { "cells" }
        )
    });
    format!("{} of each image. {}", groups.collect::<Vec<_>>().join(" and "), config.recipe().views_about)
}

fn share([low, high]: [f32; 2]) -> String {
    format!("{:.0} to {:.0} %", 100.0 * low, 100.0 * high)
}

fn schedules(config: &RunConfig, trainer: &Trainer, steps_per_epoch: usize) -> String {
    let o = &config.optim;
    let total = config.epochs * steps_per_epoch;
    let lr = LrSchedule::new(o, config.peak_lr(), steps_per_epoch, config.epochs);
    let momentum = trainer.task().rates(0).momentum;
    let last = trainer.task().rates(total.saturating_sub(1)).momentum;
    let momentum = match (momentum, last) {
        (Some(first), Some(last)) if (first - last).abs() > 1e-9 => format!("; momentum {first} to {last:.4}"),
        (Some(first), _) => format!("; momentum {first}"),
        _ => String::new(),
    };
    format!(
        "{}, lr {:.2e} after {} epochs of warm-up, {:.2e} at the end{}; weight decay {} to {}{momentum}",
        o.optimizer,
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
    peak_resident()
}

fn bytes(n: f64) -> String {
    if n >= 1e9 { format!("{:.1} GB", n / 1e9) } else { format!("{:.0} MB", n / 1e6) }
}
