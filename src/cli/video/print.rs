//! Scores as lines and as JSON.

use std::time::Duration;

use ocelli::eval::segmentation::SequenceStatistics;
use serde_json::{Value, json};

use super::sequence::{ObjectScores, Outcome, Times};

impl Outcome {
    /// Means over its objects: J and F.
    fn means(&self) -> Option<(f64, f64)> {
        let n = self.objects.len();
        let mean = |of: fn(&ObjectScores) -> f64| self.objects.iter().map(of).sum::<f64>() / n as f64;
        (n > 0).then(|| (mean(|o| o.j.mean), mean(|o| o.f.mean)))
    }
}

/// One line for a sequence, and one more for each of several objects.
pub fn sequence(outcome: &Outcome) {
    let name = &outcome.name;
    match outcome.means() {
        None => println!("{name:<20} {} frames, not scored: no masks to compare with", outcome.frames),
        Some((j, f)) => {
            let objects = outcome.objects.len();
            println!(
                "{name:<20} {}   {objects} object{}, {} frames scored",
                figures(j, f),
                plural(objects),
                outcome.scored
            );
            for o in outcome.objects.iter().filter(|_| objects > 1) {
                println!("  {:<18} {}", format!("object {}", o.object), figures(o.j.mean, o.f.mean));
            }
        }
    }
    for object in &outcome.vanished {
        println!(
            "  warning: object {object} is smaller than a cell in the first frame, so it has no label to carry on"
        );
    }
}

fn figures(j: f64, f: f64) -> String {
    format!("J&F {:5.1}  J {:5.1}  F {:5.1}", 50.0 * (j + f), 100.0 * j, 100.0 * f)
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

/// The same as fields; shares from 0 to 1.
pub fn json(outcome: &Outcome) -> Value {
    let objects: Vec<Value> = outcome
        .objects
        .iter()
        .map(|o| json!({ "object": o.object, "J": o.j, "F": o.f, "J&F": (o.j.mean + o.f.mean) / 2.0 }))
        .collect();
    let means = outcome.means();
    json!({
        "name": outcome.name, "frames": outcome.frames, "scored_frames": outcome.scored,
        "width": outcome.size[0], "height": outcome.size[1],
        "network_width": outcome.network[0], "network_height": outcome.network[1],
        "objects": objects, "vanished": outcome.vanished,
        "J": means.map(|m| m.0), "F": means.map(|m| m.1), "J&F": means.map(|m| (m.0 + m.1) / 2.0),
        "seconds": seconds(&outcome.times),
    })
}

fn seconds(times: &Times) -> Value {
    let s = |time: Duration| time.as_secs_f64();
    json!({ "network": s(times.network), "propagation": s(times.propagation), "scoring": s(times.scoring) })
}

/// Figures over the objects of all sequences, as the benchmark has them.
pub struct Overall {
    scores: Option<(SequenceStatistics, SequenceStatistics)>,
    objects: usize,
    frames: usize,
    times: Times,
}

impl Overall {
    pub fn of(outcomes: &[Outcome]) -> anyhow::Result<Self> {
        let objects: Vec<&ObjectScores> = outcomes.iter().flat_map(|o| &o.objects).collect();
        let mean = |of: fn(&ObjectScores) -> SequenceStatistics| {
            SequenceStatistics::mean_of(&objects.iter().map(|o| of(o)).collect::<Vec<_>>())
        };
        let scores = if objects.is_empty() { None } else { Some((mean(|o| o.j)?, mean(|o| o.f)?)) };
        let mut times = Times::default();
        for outcome in outcomes {
            times.network += outcome.times.network;
            times.propagation += outcome.times.propagation;
            times.scoring += outcome.times.scoring;
        }
        let frames = outcomes.iter().map(|o| o.frames).sum();
        Ok(Self { scores, objects: objects.len(), frames, times })
    }

    pub fn print(&self) {
        if let Some((j, f)) = &self.scores {
            let (n, s) = (self.objects, plural(self.objects));
            println!("{:<20} {}   mean over {n} object{s}", "all", figures(j.mean, f.mean));
            let percent = |share: f64| 100.0 * share;
            println!(
                "{:<20} J recall {:.1}, decay {:.1}; F recall {:.1}, decay {:.1}",
                "",
                percent(j.recall),
                percent(j.decay),
                percent(f.recall),
                percent(f.decay)
            );
        }
        let a_frame = |time: Duration| time.as_secs_f64() / self.frames.max(1) as f64;
        let (network, propagation) = (a_frame(self.times.network), a_frame(self.times.propagation));
        println!(
            "network {network:.3} s a frame, propagation {propagation:.3} s ({:.0} % of it)",
            100.0 * propagation / network.max(f64::MIN_POSITIVE)
        );
    }

    pub fn json(&self) -> Value {
        let (j, f) = (self.scores.map(|s| s.0), self.scores.map(|s| s.1));
        json!({
            "objects": self.objects, "frames": self.frames, "J": j, "F": f,
            "J&F": self.scores.map(|(j, f)| (j.mean + f.mean) / 2.0), "seconds": seconds(&self.times),
        })
    }
}
