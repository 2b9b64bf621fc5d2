//! Which charts a run has, what belongs in them, and what healthy looks like.

use crate::Run;
use crate::chart::{Chart, Curve, Level, Stroke};
use crate::sections::is_contrastive;
use crate::text::number;

/// A figure with a chart of its own.
struct Figure {
    /// Its name in `metrics.jsonl`.
    key: &'static str,
    title: &'static str,
    unit: &'static str,
    from_zero: bool,
    /// Whether an epoch's value is that of its end; otherwise it is a mean, drawn in the middle.
    at_end: bool,
    healthy: &'static str,
}

const fn figure(
    key: &'static str,
    title: &'static str,
    from_zero: bool,
    at_end: bool,
    healthy: &'static str,
) -> Figure {
    Figure { key, title, unit: "", from_zero, at_end, healthy }
}

/// The charts of figures that rows have under one name, in the page's order. k-NN comes after the first four.
const FIGURES: [Figure; 15] = [
    figure(
        "loss",
        "Loss",
        false,
        false,
        "Teacher entropy plus KL. Healthy: often up at first, while the teacher spreads over its prototypes, then slowly \
         down. Stuck at ln K or fallen to 0 it has learnt nothing; how good the features are it does not say.",
    ),
    figure(
        "teacher_entropy",
        "Teacher entropy",
        true,
        false,
        "Healthy: up towards ln K at first, then slowly down, well above 0. On ln K for good, the teacher tells no image \
         from another; at 0 it puts all of them into one prototype.",
    ),
    figure(
        "kl",
        "KL divergence, teacher to student",
        true,
        false,
        "The part of the loss the student can lower. Healthy: down at first, then clearly above 0, often rising again; at 0 \
         the teacher has nothing left to teach.",
    ),
    figure(
        "feature_std",
        "Spread of the features",
        true,
        false,
        "Healthy: about 1. Falling towards 0 means that all images get the same feature.",
    ),
    figure(
        "loss_global",
        "Global loss",
        false,
        false,
        "Contrast of the pooled features. Healthy: up until the queue holds real keys, then slowly down, below ln(queue + 1).",
    ),
    figure(
        "loss_dense",
        "Dense loss",
        false,
        false,
        "Contrast of the cells. Healthy: as the global loss; it need not fall as far, as cells of one image look alike.",
    ),
    figure(
        "top1",
        "Queries whose own key comes first",
        true,
        false,
        "Share of queries nearer to their own key than to every key of the queue. Healthy: high while the queue is random, down \
         as real keys come in, then rising. All of them within an epoch or two is a leak through the batch's statistics.",
    ),
    figure(
        "top1_dense",
        "Cells whose matched key comes first",
        true,
        false,
        "The same of the cells, against the image-level keys. Healthy: as above.",
    ),
    figure(
        "matched",
        "Cells with a match",
        true,
        false,
        "1 but for geometric matching, where views overlap in part: level, about a half.",
    ),
    figure(
        "queue_fill",
        "Queue filled",
        true,
        false,
        "Share of the queue that holds keys, not random vectors. Healthy: a straight line up to 1; until then the loss rises.",
    ),
    figure(
        "queue_age",
        "Age of the keys, steps",
        true,
        false,
        "Healthy: up to half of queue / batch, then level. The key encoder must change little within that time.",
    ),
    figure("lr", "Learning rate", true, true, "A linear warm-up, then half a cosine down to optim.min_lr."),
    figure("weight_decay", "Weight decay", true, true, "Half a cosine up to optim.weight_decay_end."),
    figure(
        "momentum",
        "Momentum of the teacher or key encoder",
        false,
        true,
        "Half a cosine up to 1: the teacher changes ever more slowly.",
    ),
    figure(
        "images_per_second",
        "Images per second",
        true,
        false,
        "Healthy: level. Dips are other work on the machine, a steady fall is a disk or a device that throttles.",
    ),
];

/// The charts of one run, without those that have no data.
pub fn of_run(run: &Run) -> Vec<Chart> {
    let mut charts: Vec<Chart> = FIGURES.iter().map(|f| of_figure(&[run], f)).collect();
    charts.insert(4, knn(&[run]));
    charts.insert(charts.len() - 1, gradients(run));
    charts.extend(others(run));
    shown(charts)
}

/// The same charts with one colour per run.
pub fn of_runs(runs: &[&Run]) -> Vec<Chart> {
    let mut charts: Vec<Chart> = FIGURES.iter().map(|f| of_figure(runs, f)).collect();
    charts.insert(4, knn(runs));
    shown(charts)
}

/// Those with something to draw, all as wide as the widest.
fn shown(mut charts: Vec<Chart>) -> Vec<Chart> {
    charts.retain(|c| !c.is_empty());
    let last = charts.iter().map(Chart::last).fold(0.0, f64::max);
    charts.iter_mut().for_each(|c| c.x_last = last);
    charts
}

fn steps(run: &Run, key: &str) -> Vec<(f64, f64)> {
    let (rows, per_epoch) = (&run.history.steps, run.history.steps_per_epoch());
    let values = rows.column(key).unwrap_or_default();
    rows.steps.iter().zip(values).map(|(s, v)| ((*s as f64 + 1.0) / per_epoch, *v)).collect()
}

fn epochs(run: &Run, values: &[f64], offset: f64) -> Vec<(f64, f64)> {
    run.history.epochs.epochs.iter().zip(values).map(|(e, v)| (*e as f64 + offset, *v)).collect()
}

/// What healthy looks like where that depends on the method.
fn healthy(runs: &[&Run], figure: &Figure) -> &'static str {
    if !runs.iter().all(|r| is_contrastive(r)) {
        return figure.healthy;
    }
    match figure.key {
        "loss" => {
            "Healthy: it rises until the queue has turned over once, as random entries give way to real keys, and then falls \
             slowly. Stuck at ln(queue + 1) it has learnt nothing; how good the features are it does not say."
        }
        "lr" => "Half a cosine down to optim.min_lr, after a warm-up where there is one.",
        "weight_decay" => "Level in the published recipes.",
        "momentum" => "Of the key encoder: level.",
        _ => figure.healthy,
    }
}

fn of_figure(runs: &[&Run], figure: &Figure) -> Chart {
    let mut chart = Chart {
        title: figure.title.into(),
        unit: figure.unit,
        healthy: healthy(runs, figure).into(),
        x_title: "epochs",
        from_zero: figure.from_zero,
        ..Chart::default()
    };
    for (colour, run) in runs.iter().enumerate() {
        let name = |what: &str| if runs.len() > 1 { run.name() } else { what.to_owned() };
        let computed = run.images_per_second();
        let values = match figure.key {
            "images_per_second" => &computed,
            key => run.history.epochs.column(key).unwrap_or_default(),
        };
        let means = epochs(run, values, if figure.at_end { 1.0 } else { 0.5 });
        let rows = steps(run, figure.key);
        let (smooth, whole) = (figure.at_end, if figure.at_end { "end of epoch" } else { "mean of epoch" });
        // A schedule has no noise to average; and of many runs only one line each can be told apart.
        let only_rows = smooth || means.len() < 2;
        if !rows.is_empty() && (only_rows || runs.len() <= 3) {
            let stroke = if only_rows { Stroke::Plain } else { Stroke::Thin };
            chart.curves.push(Curve { name: name("steps"), colour, stroke, points: rows.clone() });
        }
        if rows.is_empty() || !only_rows {
            chart.curves.push(Curve { name: name(whole), colour, stroke: Stroke::Bold, points: means });
        }
    }
    let contrast = matches!(figure.key, "loss" | "loss_global") && runs.iter().all(|r| is_contrastive(r));
    if contrast || figure.key == "teacher_entropy" {
        let started = runs.iter().filter_map(|r| r.history.started).map(|s| s.uniform_entropy);
        let mut uniform: Vec<f64> = started.filter(|v| v.is_finite()).collect();
        uniform.sort_by(f64::total_cmp);
        uniform.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
        chart.levels = uniform
            .into_iter()
            .map(|value| Level { name: if contrast { "ln(queue + 1) =" } else { "ln K =" }.into(), value })
            .collect();
    }
    chart
}

/// k-NN accuracy, from the untrained network on.
fn knn(runs: &[&Run]) -> Chart {
    let k = runs.iter().find_map(|r| r.history.quoted_k()).unwrap_or(20);
    let mut chart = Chart {
        title: format!("k-NN accuracy (k = {k})"),
        unit: " %",
        healthy:
            "Healthy: above both lines and rising; epochs that fall back are no worry, a fall that goes on is."
                .into(),
        x_title: "epochs",
        ..Chart::default()
    };
    for (colour, run) in runs.iter().enumerate() {
        let Some(values) = run.history.epochs.column(&format!("knn_{k}")) else { continue };
        let mut points = epochs(run, values, 1.0);
        points.retain(|p| p.1.is_finite());
        let baseline = run.history.baseline.clone().unwrap_or_default();
        if let Some(untrained) = baseline.untrained.get(&k) {
            points.insert(0, (0.0, *untrained));
        }
        let name = if runs.len() > 1 { run.name() } else { format!("k = {k}") };
        chart.curves.push(Curve { name, colour, stroke: Stroke::Bold, points });
    }
    // A line is a line for all: runs on other data have others, and then there is none.
    let baselines: Vec<_> = runs.iter().filter_map(|r| r.history.baseline.as_ref()).collect();
    for (name, untrained) in [("raw pixels", false), ("untrained", true)] {
        let values = baselines.iter().map(|b| if untrained { &b.untrained } else { &b.raw_pixels });
        let values: Vec<f64> = values.filter_map(|v| v.get(&k).copied()).filter(|v| v.is_finite()).collect();
        if let Some(value) = values.first().copied().filter(|v| values.iter().all(|w| (w - v).abs() < 1e-9)) {
            chart.levels.push(Level { name: name.into(), value });
        }
    }
    if let Some((epoch, best)) = runs.first().filter(|_| runs.len() == 1).and_then(|r| r.history.best_knn()) {
        chart.healthy = format!("Best {} % after epoch {epoch}. {}", number(best), chart.healthy);
    }
    chart
}

/// Means over the epochs of points that rows of steps gave, where epochs themselves say nothing.
fn means(run: &Run, points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut sums: Vec<(u64, f64, f64)> = Vec::new();
    let rows = run.history.steps.epochs.iter().zip(points).filter(|(_, p)| p.1.is_finite());
    for (epoch, (_, value)) in rows {
        match sums.last_mut() {
            Some((last, sum, n)) if last == epoch => (*sum, *n) = (*sum + value, *n + 1.0),
            _ => sums.push((*epoch, *value, 1.0)),
        }
    }
    sums.into_iter().map(|(epoch, sum, n)| (epoch as f64 + 0.5, sum / n)).collect()
}

/// Norms before clipping, and where clipping begins.
fn gradients(run: &Run) -> Chart {
    let all = steps(run, "gradient_norm");
    let highest = all.iter().map(|p| p.1).fold(0.0, f64::max);
    let largest = steps(run, "max_parameter_gradient_norm");
    let mut curves = Vec::new();
    for (colour, name, points) in [(1, "largest of one parameter", largest), (0, "all together", all)] {
        let (means, name) = (means(run, &points), name.to_owned());
        if means.len() > 1 {
            curves.push(Curve { name: format!("{name}, epoch"), colour, stroke: Stroke::Bold, points: means });
        }
        curves.push(Curve { name, colour, stroke: Stroke::Thin, points });
    }
    let clip = run.setting("optim.clip_grad").and_then(toml::Value::as_float).filter(|c| *c > 0.0);
    // A limit far above everything would press the curves to the floor.
    let clip = clip.filter(|c| *c <= highest * 3.0);
    Chart {
        title: "Gradient norm before clipping".into(),
        healthy: "Healthy: high in the first steps, then level or slowly changing, single spikes apart. Blue: all parameters \
                  together; orange: the largest of one parameter in any step, which is what clipping looks at. Logarithmic."
            .into(),
        curves,
        levels: clip.into_iter().map(|value| Level { name: "clipped from".into(), value }).collect(),
        x_title: "epochs",
        logarithmic: true,
        ..Chart::default()
    }
}

/// Figures this version knows no more of than their names.
fn others(run: &Run) -> Vec<Chart> {
    let known = ["gradient_norm", "max_parameter_gradient_norm", "wall_s", "cpu_s"];
    let unknown = |name: &&str| !known.contains(name) && !FIGURES.iter().any(|f| f.key == *name);
    let names = run.history.steps.columns().map(|(name, _)| name).filter(unknown).take(24);
    let chart = |name: &str| {
        let stroke = if run.history.epochs.column(name).is_some() { Stroke::Thin } else { Stroke::Plain };
        let means = epochs(run, run.history.epochs.column(name).unwrap_or_default(), 0.5);
        Chart {
            title: name.replace('_', " "),
            x_title: "epochs",
            curves: vec![
                Curve { name: "steps".into(), colour: 0, stroke, points: steps(run, name) },
                Curve { name: "mean of epoch".into(), colour: 0, stroke: Stroke::Bold, points: means },
            ],
            ..Chart::default()
        }
    };
    names.map(chart).collect()
}
