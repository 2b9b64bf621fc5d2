//! Shows a run to a person: one bar, one line per epoch.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ocelli::train::{Declared, Event, Figures, KnnFigures, RunShape};

/// Listens to a run's events.
pub struct Progress {
    bar: ProgressBar,
    epochs: usize,
    declared: Option<Declared>,
    quiet: bool,
    /// Whether a step has been done.
    stepped: bool,
    started: Instant,
}

impl Progress {
    /// A bar on standard error where that is a terminal; lines on standard output unless `quiet`. Time counts from here.
    pub fn new(quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Self {
            bar: ProgressBar::with_draw_target(None, target),
            epochs: 0,
            declared: None,
            quiet,
            stepped: false,
            started: Instant::now(),
        }
    }

    /// Says something that is no event of the run.
    pub fn note(&self, text: &str) {
        self.line(text);
    }

    fn begin(&mut self, shape: &RunShape, step: usize) {
        let RunShape { images, epochs, steps_per_epoch, .. } = shape;
        (self.epochs, self.declared) = (*epochs, Some(shape.declared.clone()));
        self.line(&format!(
            "{images} images, {epochs} epochs of {steps_per_epoch} steps; backbone {:.2} M parameters, head {:.2} M",
            shape.backbone_parameters as f64 / 1e6,
            shape.head_parameters as f64 / 1e6
        ));
        if step == 0 {
            for note in &shape.declared.notes {
                self.line(note);
            }
        }
        self.bar.set_length((epochs * steps_per_epoch) as u64);
        let template = "{bar:28} {percent:>3}%  {msg}  ETA {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("━╸─"));
        }
        self.bar.set_position(step as u64);
        // Steps of an earlier process took none of this one's time.
        self.bar.reset_eta();
        self.bar.set_message("starting");
        self.bar.enable_steady_tick(Duration::from_millis(500));
    }

    /// The loss, and what else the task prints in a line: the figures that tell a healthy run from a collapsed one.
    fn told(&self, figures: &Figures) -> String {
        let loss = figures.get("loss").copied().unwrap_or(f64::NAN);
        let mut parts = vec![format!("loss {loss:.3}")];
        if let Some(declared) = &self.declared {
            let printed = |f: &ocelli::methods::Figure| f.printed(*figures.get(f.name)?, &declared.levels);
            parts.extend(declared.figures.iter().filter_map(printed));
        }
        parts.join("  ")
    }

    /// What an evaluation found.
    fn scores(&self, scores: &Figures) -> String {
        let declared = self.declared.iter().flat_map(|d| &d.scores);
        let printed = declared.filter_map(|f| f.printed(*scores.get(f.name)?, &[]));
        printed.map(|text| format!("  {text}")).collect()
    }

    fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        self.bar.suspend(|| println!("{text}"));
    }

    /// Shows one event.
    pub fn show(&mut self, event: &Event) {
        match event {
            Event::Started(shape) => self.begin(shape, 0),
            Event::Resumed { step, checkpoint, shape } => {
                self.line(&format!("going on from {checkpoint} after {step} steps"));
                self.begin(shape, *step);
            }
            Event::Baseline { raw_pixels, pixels, untrained } => self.line(&format!(
                "before training: k-NN of raw pixels ({pixels}) {}, of the untrained network {}",
                knn(raw_pixels),
                knn(untrained)
            )),
            Event::Tick { step } => {
                if !std::mem::replace(&mut self.stepped, true) {
                    self.line(&format!(
                        "first step {:.1} s after the start",
                        self.started.elapsed().as_secs_f64()
                    ));
                }
                self.bar.set_position(*step as u64);
            }
            Event::Step(f) => self.bar.set_message(format!(
                "epoch {}/{}  {:.0} img/s  {}  |g| {:.2}",
                f.epoch + 1,
                self.epochs,
                f.images_per_second,
                self.told(&f.figures),
                f.gradient_norm
            )),
            Event::Epoch(f) => self.line(&format!(
                "epoch {:>3}  {}  {:>5.1} s{}{}{}",
                f.epoch + 1,
                self.told(&f.figures),
                f.wall_s,
                f.cpu_s.map(|s| format!(" ({s:.1} CPU-s)")).unwrap_or_default(),
                f.knn.as_ref().map(|k| format!("  k-NN {}", knn(k))).unwrap_or_default(),
                self.scores(&f.scores)
            )),
            Event::Warning { message } => self.line(&format!("warning: {message}")),
            Event::Checkpoint { .. } => {}
            Event::Finished { wall_s, waited_s, best } => {
                self.bar.finish_and_clear();
                let best = best.as_ref();
                let best =
                    best.map(|b| format!("; best {} {:.1} % after epoch {}", b.what, b.accuracy, b.epoch + 1));
                self.line(&format!(
                    "trained in {}, {:.2} % of it waiting for checkpoints{}",
                    duration(*wall_s),
                    100.0 * waited_s / wall_s.max(1e-9),
                    best.unwrap_or_default()
                ));
            }
            Event::Stopped { step, .. } => {
                self.bar.finish_and_clear();
                self.line(&format!("stopped after {step} steps"));
            }
            // The error is told where it is handled.
            Event::Failed { .. } => self.bar.finish_and_clear(),
        }
    }
}

/// The accuracy people quote: k = 20 where it is there.
pub fn knn(figures: &KnnFigures) -> String {
    match figures.get(&20).or_else(|| figures.values().next()) {
        Some(accuracy) => format!("{accuracy:.1} %"),
        None => "none".into(),
    }
}

/// Seconds as people say them.
pub fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}
