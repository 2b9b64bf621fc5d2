//! `--dry-run` of a detector or a segmentation: what it would do, take and cost, from a few steps that are thrown away.

use ocelli::train::memory::{Needs, gb};
use ocelli::train::{Task, Trainer};
use serde_json::{Map, Value, json};

use crate::cli::plan::{bytes, used_bytes};
use crate::cli::progress::duration;
use crate::cli::run::Job;

/// Steps measured after the first.
const MEASURED: usize = 3;

/// Prints the plan, as lines or as JSON; writes nothing. `own` is what the task says of itself: a word, and the rest of the line;
/// `needs` what it takes, where it knows more than parameters, gradients and moments.
pub fn show<T: Task>(
    job: &Job<'_>,
    mut trainer: Trainer<T>,
    own: Vec<(&'static str, String)>,
    needs: Option<Needs>,
) -> anyhow::Result<()> {
    let (shape, memory) = (trainer.shape(), job.device.memory);
    let available = memory.available();
    let steps = shape.steps_per_epoch * shape.epochs;
    let batch = trainer.task().cadence().batch_size;
    let mut lines: Vec<(&str, String)> = Vec::new();
    let mut line = |name, text: String| {
        if !job.json {
            println!("  {name:<11}{text}");
        }
        lines.push((name, text));
    };
    if !job.json {
        println!("plan (nothing is written)");
    }
    let millions = |n: usize| format!("{:.2} M", n as f64 / 1e6);
    line(
        "network",
        format!(
            "{}: backbone {} parameters, heads {}",
            shape.declared.title,
            millions(shape.backbone_parameters),
            millions(shape.head_parameters)
        ),
    );
    for note in &shape.declared.notes {
        line("note", note.clone());
    }
    for warning in &shape.declared.warnings {
        line("warning", warning.clone());
    }
    line("data", format!("{}: {} images", job.data, shape.images));
    line("device", format!("{} ({})", job.device.name, job.device.reason));
    own.into_iter().for_each(|(name, text)| line(name, text));
    let (first, last) = (trainer.task().rates(0), trainer.task().rates(steps.saturating_sub(1)));
    line(
        "schedules",
        format!(
            "learning rate {:.2e} at the first step, {:.2e} at the last; weight decay {}",
            first.lr, last.lr, first.weight_decay
        ),
    );
    let needs = needs.unwrap_or_else(|| Needs {
        bytes: trainer.state_bytes() as u64,
        what: format!("{} for parameters, gradients and moments", gb(trainer.state_bytes() as u64)),
        remedy: "take a smaller backbone",
    });
    if let Err(error) = memory.check_beside(&needs, available) {
        line("memory", format!("{} at least: {}", gb(needs.bytes), needs.what));
        return Err(error.into());
    }
    let measured = trainer.measure(MEASURED)?;
    let used = used_bytes(job.device).map(|used| {
        let where_to = if job.device.is_cpu { "at its peak" } else { "reserved" };
        format!("; {} in all {where_to}", bytes(used as f64))
    });
    line("memory", format!("{}{}", needs.what, used.unwrap_or_default()));
    line(
        "time",
        format!(
            "{:.3} s a step ({} measured; the first took {:.1} s), {:.1} images/s; {} in all, evaluation not counted",
            measured.step_s,
            measured.times_s.len(),
            measured.first_s,
            batch as f64 / measured.step_s.max(1e-9),
            duration(measured.step_s * steps as f64)
        ),
    );
    line("disk", format!("{} a checkpoint", bytes(trainer.checkpoint_bytes() as f64)));
    if job.json {
        let mut plan: Map<String, Value> =
            lines.iter().map(|(name, text)| ((*name).to_owned(), text.as_str().into())).collect();
        let numbers = json!({
            "task": shape.declared.task,
            "images": shape.images,
            "steps": steps,
            "steps_per_epoch": shape.steps_per_epoch,
            "epochs": shape.epochs,
            "batch_size": batch,
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
        plan.insert("understood".into(), job.understood.clone());
        plan.insert("config".into(), serde_json::to_value(&job.config).unwrap_or_default());
        println!("{:#}", Value::Object(plan));
    }
    Ok(())
}
