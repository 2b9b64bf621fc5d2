//! Which charts a run has, what belongs in them, and what healthy looks like.

use crate::Run;
use crate::chart::{Chart, Curve, Level, Stroke};
use crate::declared::Figure;
use crate::text::number;

/// What the loop tells of every task, after the task's own figures.
fn common(runs: &[&Run]) -> Vec<Figure> {
    let figure = |name: &str, title: &str, from_zero: bool, healthy: &str| Figure {
        name: name.into(),
        title: title.into(),
        healthy: healthy.into(),
        from_zero,
        times: 1.0,
        ..Figure::default()
    };
    let constant = |key: &str| {
        let of = |r: &&Run| r.history.steps.column(key).is_none_or(|c| c.windows(2).all(|w| w[0] == w[1]));
        runs.iter().all(of)
    };
    vec![
        figure(
            "lr",
            "Learning rate",
            true,
            "As the configuration schedules it: a linear warm-up where there is one, then down.",
        ),
        figure(
            "weight_decay",
            "Weight decay",
            true,
            if constant("weight_decay") {
                "Level, as configured."
            } else {
                "From optim.weight_decay to optim.weight_decay_end along half a cosine."
            },
        ),
        figure(
            "momentum",
            "Momentum of what follows the network",
            false,
            if constant("momentum") {
                "Level, as configured."
            } else {
                "Up to 1: what follows changes ever more slowly."
            },
        ),
        figure(
            "images_per_second",
            "Images per second",
            true,
            "Healthy: level. Dips are other work on the machine, a steady fall is a disk or a device that throttles.",
        ),
    ]
}

/// Figures of which an epoch has the value at its end, not a mean.
fn is_at_end(name: &str) -> bool {
    matches!(name, "lr" | "weight_decay" | "momentum")
}

/// What the runs declare, the first who does wins, and how evaluations went: (before the common charts, all names).
fn declared(runs: &[&Run]) -> (Vec<Figure>, Vec<Figure>) {
    let mut figures: Vec<Figure> = Vec::new();
    let mut scores: Vec<Figure> = Vec::new();
    for run in runs {
        let declared = &run.history.declared;
        for (from, to) in [(&declared.figures, &mut figures), (&declared.scores, &mut scores)] {
            for figure in from {
                if !to.iter().any(|f| f.name == figure.name) {
                    to.push(figure.clone());
                }
            }
        }
    }
    (figures, scores)
}

/// The figures' charts, then k-NN and scores, then what the loop tells.
fn charts_of(runs: &[&Run]) -> Vec<Chart> {
    let (figures, scores) = declared(runs);
    let mut charts: Vec<Chart> = figures.iter().map(|f| of_figure(runs, f)).collect();
    charts.push(knn(runs));
    charts.extend(scores.iter().map(|f| of_score(runs, f)));
    charts.extend(common(runs).iter().map(|f| of_figure(runs, f)));
    charts
}

/// The charts of one run, without those that have no data.
pub fn of_run(run: &Run) -> Vec<Chart> {
    let mut charts = charts_of(&[run]);
    charts.insert(charts.len() - 1, gradients(run));
    charts.extend(others(run));
    shown(charts)
}

/// The same charts with one colour per run.
pub fn of_runs(runs: &[&Run]) -> Vec<Chart> {
    shown(charts_of(runs))
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

fn of_figure(runs: &[&Run], figure: &Figure) -> Chart {
    let mut chart = Chart {
        title: figure.title.clone(),
        healthy: figure.healthy.clone(),
        x_title: "epochs",
        from_zero: figure.from_zero,
        ..Chart::default()
    };
    for (colour, run) in runs.iter().enumerate() {
        let name = |what: &str| if runs.len() > 1 { run.name() } else { what.to_owned() };
        let computed = run.images_per_second();
        let at_end = is_at_end(&figure.name);
        let values = match figure.name.as_str() {
            "images_per_second" => &computed,
            key => run.history.epochs.column(key).unwrap_or_default(),
        };
        let means = epochs(run, values, if at_end { 1.0 } else { 0.5 });
        let rows = steps(run, &figure.name);
        let (smooth, whole) = (at_end, if at_end { "end of epoch" } else { "mean of epoch" });
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
    if let Some(name) = &figure.level {
        let mut values: Vec<f64> =
            runs.iter().filter_map(|r| r.history.declared.level(name)).map(|l| l.value).collect();
        values.sort_by(f64::total_cmp);
        values.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
        chart.levels = values.into_iter().map(|value| Level { name: format!("{name} ="), value }).collect();
    }
    chart
}

/// What an evaluation tells: one value an epoch, at its end.
fn of_score(runs: &[&Run], figure: &Figure) -> Chart {
    let curve = |(colour, run): (usize, &&Run)| {
        let values = run.history.epochs.column(&figure.name)?;
        let mut points = epochs(run, values, 1.0);
        points.retain(|p| p.1.is_finite());
        let name = if runs.len() > 1 { run.name() } else { figure.title.clone() };
        Some(Curve { name, colour, stroke: Stroke::Bold, points })
    };
    Chart {
        title: figure.title.clone(),
        unit: if figure.is_per_cent() { " %" } else { "" },
        healthy: figure.healthy.clone(),
        x_title: "epochs",
        curves: runs.iter().enumerate().filter_map(curve).collect(),
        ..Chart::default()
    }
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
    let known = ["gradient_norm", "max_parameter_gradient_norm", "wall_s", "cpu_s", "memory_bytes"];
    let (mut figures, scores) = declared(&[run]);
    figures.extend(scores);
    figures.extend(common(&[run]));
    let unknown = |name: &&str| !known.contains(name) && !figures.iter().any(|f| f.name == *name);
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
