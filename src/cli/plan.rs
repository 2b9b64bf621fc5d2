//! `--dry-run`: what a run would do, take and cost, from a few steps that are thrown away.

use ocelli::methods::schedule::LrSchedule;
use ocelli::train::device::Chosen;
use ocelli::train::memory::{Needs, gb, peak_resident};
use ocelli::train::{RunConfig, Task, Trainer};
use serde_json::{Map, Value, json};

use super::progress::duration;
use super::run::Run;

/// Steps measured after the first.
const MEASURED: usize = 3;

/// Refuses a run for which there is not enough memory before anything is built, and says what it would take.
///
/// # Errors
/// When there is not enough.
pub fn check_memory(run: &Run<'_>) -> anyhow::Result<()> {
    let (config, memory) = (run.config, run.device.memory);
    let needs = Needs::training(config);
    let Err(error) = memory.check_beside(&needs, memory.available()) else { return Ok(()) };
    if !run.json {
        let line = |name: &str, text: String| println!("  {name:<11}{text}");
        println!("plan (nothing is written, and nothing was built or measured: there is not enough memory)");
        let (recipe, parameters) = (config.recipe(), config.backbone().num_parameters() as f64 / 1e6);
        let method = format!("{} ({}) with {}", recipe.title, recipe.name, config.arch);
        line("method", format!("{method}: backbone {parameters:.2} M parameters"));
        line("device", format!("{} ({})", run.device.name, run.device.reason));
        line("views", views(config));
        line("memory", format!("{} at least, without head and momentum network: {}", gb(needs.bytes), needs.what));
    }
    Err(error.into())
}

/// What a task evaluates.
pub struct Evaluated {
    /// What is measured on what, or why nothing is.
    pub what: Result<String, String>,
    /// What takes the memory.
    pub takes: &'static str,
}

/// Prints the plan, as lines or as JSON; writes nothing.
pub fn show<T: Task>(run: &Run<'_>, mut trainer: Trainer<T>, evaluated: &Evaluated) -> anyhow::Result<()> {
    let config: &RunConfig = run.config;
    let (memory, available) = (run.device.memory, run.device.memory.available());
    let shape = trainer.shape();
    let steps = shape.steps_per_epoch * shape.epochs;
    let mut lines: Vec<(&str, String)> = Vec::new();
    let mut line = |name, text: String| {
        if !run.json {
            println!("  {name:<11}{text}");
        }
        lines.push((name, text));
    };

    if !run.json {
        println!("plan (nothing is written)");
    }
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
    for warning in &shape.declared.warnings {
        line("warning", warning.clone());
    }
    line("data", data(run, shape.images, evaluated));
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
    line("schedules", schedules(config, &trainer, shape.steps_per_epoch));

    let needs = Needs::training_with(config, trainer.state_bytes() as u64);
    if let Err(error) = memory.check_beside(&needs, available) {
        line("memory", format!("{} at least: {}", gb(needs.bytes), needs.what));
        return Err(error.into());
    }
    let measured = trainer.measure(MEASURED)?;
    let held = recipe.holds;
    let mut takes = format!("{} for parameters, gradients, moments, {held}", bytes(trainer.state_bytes() as f64));
    if let Some(used) = used_bytes(run.device) {
        takes += &format!(
            "; {} in all {}",
            bytes(used as f64),
            if run.device.is_cpu { "at its peak" } else { "reserved" }
        );
    }
    line("memory", takes);
    match trainer.evaluation_bytes() {
        0 => {}
        more => line("evaluation", format!("at most {} beside that, for {}", bytes(more as f64), evaluated.takes)),
    }
    let epoch_s = measured.step_s * shape.steps_per_epoch as f64;
    line(
        "time",
        format!(
            "{:.3} s a step ({} measured; the first took {:.1} s), {:.0} images/s; {} an epoch, {} in all, evaluation not \
             counted",
            measured.step_s,
            measured.times_s.len(),
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
    if run.json {
        let mut plan: Map<String, Value> =
            lines.iter().map(|(name, text)| ((*name).to_owned(), text.as_str().into())).collect();
        let numbers = json!({
            "task": shape.declared.task,
            "method": config.recipe().name,
            "arch": config.arch.to_string(),
            "images": shape.images,
            "epochs": shape.epochs,
            "steps_per_epoch": shape.steps_per_epoch,
            "batch_size": config.batch_size,
            "backbone_parameters": shape.backbone_parameters,
            "head_parameters": shape.head_parameters,
            "step_s": measured.step_s,
            "state_bytes": trainer.state_bytes(),
            "checkpoint_bytes": trainer.checkpoint_bytes(),
            "evaluation_bytes": trainer.evaluation_bytes(),
        });
        plan.insert("numbers".into(), numbers);
        // Lines of one name are one there.
        plan.insert("notes".into(), json!(shape.declared.notes));
        plan.insert("warnings".into(), json!(shape.declared.warnings));
        plan.insert("understood".into(), run.understood.clone());
        println!("{:#}", Value::Object(plan));
    }
    Ok(())
}

fn data(run: &Run<'_>, images: usize, evaluated: &Evaluated) -> String {
    let measured = match &evaluated.what {
        Ok(what) if run.config.eval.every_epochs > 0 => match run.config.eval.every_epochs {
            1 => format!("; {what}, after every epoch"),
            every => format!("; {what}, every {every} epochs"),
        },
        Ok(_) => "; labelled, but eval.every_epochs is 0".to_owned(),
        Err(why) => format!("; {why}"),
    };
    format!("{}: {images} images{measured}", run.data)
}

fn views(config: &RunConfig) -> String {
    let (plan, backbone) = (config.view_plan(), config.backbone());
    let groups = plan.groups().into_iter().enumerate().map(|(i, (size_px, range))| {
        let first = &plan.views[range.start];
        let cells = backbone.cells(size_px as usize);
        format!(
            "{}{} of {size_px} px ({} of the area, {cells} {})",
            range.len(),
            match (i, range.len()) {
                (0, 1) => " crop",
                (0, _) => " crops",
                _ => "",
            },
            share(first.scale),
            if backbone.cell_name() == "patch" { "patches" } else { "cells" }
        )
    });
    format!("{} of each image. {}", groups.collect::<Vec<_>>().join(" and "), config.recipe().views_about)
}

fn share([low, high]: [f32; 2]) -> String {
    format!("{:.0} to {:.0} %", 100.0 * low, 100.0 * high)
}

fn schedules<T: Task>(config: &RunConfig, trainer: &Trainer<T>, steps_per_epoch: usize) -> String {
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
pub fn used_bytes(device: &Chosen) -> Option<u64> {
    if !device.is_cpu {
        return device.device.memory_pool_usage().map(|m| m.bytes_reserved);
    }
    peak_resident()
}

/// Bytes as people say them.
pub fn bytes(n: f64) -> String {
    if n >= 1e9 { format!("{:.1} GB", n / 1e9) } else { format!("{:.0} MB", n / 1e6) }
}
