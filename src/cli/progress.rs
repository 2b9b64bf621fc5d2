//! Shows a run to a person: one bar, one line per epoch.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ocelli::train::{Event, Figures, KnnFigures, RunShape};

/// Listens to a run's events.
pub struct Progress {
    bar: ProgressBar,
    epochs: usize,
    uniform_entropy: f64,
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
            uniform_entropy: 0.0,
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
        (self.epochs, self.uniform_entropy) = (*epochs, shape.uniform_entropy);
        self.line(&format!(
            "{images} images, {epochs} epochs of {steps_per_epoch} steps; backbone {:.2} M parameters, head {:.2} M",
            shape.backbone_parameters as f64 / 1e6,
            shape.head_parameters as f64 / 1e6
        ));
        if shape.queue_steps > 0 && step < shape.queue_steps {
            self.line(&format!(
                "the loss rises until the queue has turned over once ({} steps): random entries give way to real keys",
                shape.queue_steps
            ));
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

    /// The figures that tell a healthy run of this method from a collapsed one.
    fn of_method(&self, figures: &Figures, entropy: &str) -> String {
        let of = |name: &str| figures.get(name).copied();
        if let Some(h) = of("teacher_entropy") {
            let kl = of("kl").unwrap_or_default();
            return format!("{entropy} {h:.2} of {:.2}  KL {kl:.3}", self.uniform_entropy);
        }
        let losses = match (of("loss_global"), of("loss_dense")) {
            (Some(global), Some(dense)) => format!("(global {global:.3}, dense {dense:.3}) "),
            _ => String::new(),
        };
        let percent = |name: &str| 100.0 * of(name).unwrap_or_default();
        let dense = of("top1_dense").map(|v| format!(", cells {:.1} %", 100.0 * v)).unwrap_or_default();
        format!(
            "{losses}of {:.2}  top-1 {:.1} %{dense}  queue {:.0} % full, {:.0} steps old",
            self.uniform_entropy,
            percent("top1"),
            percent("queue_fill"),
            of("queue_age").unwrap_or_default()
        )
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
            Event::Baseline { raw_pixels, untrained } => self.line(&format!(
                "before training: k-NN of raw pixels {}, of the untrained network {}",
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
                "epoch {}/{}  {:.0} img/s  loss {:.3}  {}  std {:.2}  |g| {:.2}",
                f.epoch + 1,
                self.epochs,
                f.images_per_second,
                f.loss,
                self.of_method(&f.of_method, "H"),
                f.feature_std,
                f.gradient_norm
            )),
            Event::Epoch(f) => self.line(&format!(
                "epoch {:>3}  loss {:.3}  {}  std {:.2}  {:>5.1} s{}{}",
                f.epoch + 1,
                f.loss,
                self.of_method(&f.of_method, "entropy"),
                f.feature_std,
                f.wall_s,
                f.cpu_s.map(|s| format!(" ({s:.1} CPU-s)")).unwrap_or_default(),
                f.knn.as_ref().map(|k| format!("  k-NN {}", knn(k))).unwrap_or_default()
            )),
            Event::Warning { message } => self.line(&format!("warning: {message}")),
            Event::Checkpoint { .. } => {}
            Event::Finished { wall_s, waited_s, best } => {
                self.bar.finish_and_clear();
                let best = best.map(|b| format!("; best k-NN {:.1} % after epoch {}", b.accuracy, b.epoch + 1));
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
