//! The figures of a run as its method declares them: what they are called, what healthy looks like, how a bar prints them,
//! and which of their values are signs that nothing is learnt any more.

use std::collections::BTreeMap;

use serde::Serialize;

/// A figure that every step tells.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure {
    /// Its name in rows and events.
    pub name: &'static str,
    /// The name in words, as a chart's title.
    pub title: &'static str,
    /// What healthy looks like.
    pub healthy: &'static str,
    /// Whether its chart begins at 0.
    pub from_zero: bool,
    /// The name of the [level](Level) it is drawn and printed with.
    pub level: Option<&'static str>,
    /// How a progress bar prints it, where it does.
    pub bar: Option<Bar>,
    /// Whether it is among the few that head a report.
    pub headline: bool,
}

/// How a value is printed in a line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bar {
    /// Before the value.
    pub label: &'static str,
    /// After it.
    pub unit: &'static str,
    /// The value is multiplied by this: 100 for per cent.
    pub times: f64,
    /// Digits after the point.
    pub digits: usize,
}

impl Figure {
    /// A figure with a chart; the rest by the functions below.
    pub const fn new(name: &'static str, title: &'static str, healthy: &'static str) -> Self {
        Self { name, title, healthy, from_zero: false, level: None, bar: None, headline: false }
    }

    /// Its chart begins at 0.
    pub const fn from_zero(mut self) -> Self {
        self.from_zero = true;
        self
    }

    /// Drawn and printed with a level.
    pub const fn level(mut self, name: &'static str) -> Self {
        self.level = Some(name);
        self
    }

    /// Printed in the progress bar as `label 1.23`.
    pub const fn bar(mut self, label: &'static str, digits: usize) -> Self {
        self.bar = Some(Bar { label, unit: "", times: 1.0, digits });
        self
    }

    /// Printed in the progress bar as `label 12.3 unit`, multiplied by `times`.
    pub const fn bar_with(mut self, label: &'static str, times: f64, digits: usize, unit: &'static str) -> Self {
        self.bar = Some(Bar { label, unit, times, digits });
        self
    }

    /// Heads the report.
    pub const fn headline(mut self) -> Self {
        self.headline = true;
        self
    }

    /// The value as the bar prints it, with its level where it has one; `None` for figures that are not printed.
    pub fn printed(&self, value: f64, levels: &[Level]) -> Option<String> {
        let bar = self.bar.as_ref()?;
        let level = self.level.and_then(|name| levels.iter().find(|l| l.name == name));
        let of = level.map(|l| format!(" of {:.2}", l.value * bar.times)).unwrap_or_default();
        let space = if bar.label.is_empty() { "" } else { " " };
        Some(format!("{}{space}{:.*}{of}{}", bar.label, bar.digits, value * bar.times, bar.unit))
    }
}

/// The loss, whose sentence is the method's.
pub const fn loss(healthy: &'static str) -> Figure {
    Figure::new("loss", "Loss", healthy)
}

/// The spread of the features over the batch (see [`crate::feature_std`]).
pub const FEATURE_STD: Figure = Figure::new(
    "feature_std",
    "Spread of the features",
    "How far the features of a batch lie apart, 1 for features spread over the sphere. Healthy: level or rising after the \
     first epochs. Falling towards 0 means that all images get the same feature.",
)
.from_zero()
.bar("std", 2)
.headline();

/// A value that means something by itself: the entropy of guessing, say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Level {
    /// What it is, as in `ln K`.
    pub name: &'static str,
    /// Its value in this run.
    pub value: f64,
}

impl Level {
    /// A level of a run.
    pub fn new(name: &'static str, value: f64) -> Self {
        Self { name, value }
    }
}

/// A sign that a run learns nothing any more. All of its conditions hold together; where a figure is missing, nothing is
/// judged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sign {
    /// A short name, kept in checkpoints.
    pub name: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What usually helps.
    pub remedies: &'static str,
    /// What one sees.
    pub when: &'static [Condition],
}

/// A figure above or below a value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Condition {
    /// The figure.
    pub figure: &'static str,
    /// Above the value; otherwise below it.
    pub above: bool,
    /// The value, in units of `level` where there is one.
    pub value: f64,
    /// A level's name.
    pub level: Option<&'static str>,
}

impl Condition {
    /// The figure is below a value.
    pub const fn below(figure: &'static str, value: f64) -> Self {
        Self { figure, above: false, value, level: None }
    }

    /// The figure is above a value.
    pub const fn above(figure: &'static str, value: f64) -> Self {
        Self { figure, above: true, value, level: None }
    }

    /// The value counts in units of a level.
    pub const fn of(mut self, level: &'static str) -> Self {
        self.level = Some(level);
        self
    }

    /// Whether it holds, where figure and level are there and are numbers.
    fn holds(&self, figures: &BTreeMap<&'static str, f64>, levels: &[Level]) -> Option<bool> {
        let figure = figures.get(self.figure).copied().filter(|v| v.is_finite())?;
        let unit = match self.level {
            None => 1.0,
            Some(name) => levels.iter().find(|l| l.name == name)?.value,
        };
        let value = self.value * unit;
        Some(if self.above { figure > value } else { figure < value })
    }
}

impl Sign {
    /// A sign of a method.
    pub const fn new(
        name: &'static str,
        meaning: &'static str,
        remedies: &'static str,
        when: &'static [Condition],
    ) -> Self {
        Self { name, meaning, remedies, when }
    }

    /// Whether a row shows it.
    pub fn is_seen(&self, figures: &BTreeMap<&'static str, f64>, levels: &[Level]) -> bool {
        !self.when.is_empty() && self.when.iter().all(|c| c.holds(figures, levels) == Some(true))
    }
}

/// Features that are the same for every image. Healthy spreads are 0.1 and more.
pub const CONSTANT_FEATURES: Sign = Sign::new(
    "constant_features",
    "the backbone gives every image the same features",
    "a lower optim.lr, a longer optim.warmup_epochs, a smaller optim.weight_decay_end, a smaller optim.clip_grad, a larger \
     batch_size",
    &[Condition::below("feature_std", 0.01)],
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_not_judged() {
        let levels = [Level::new("ln K", 10.0)];
        let row = |pairs: &[(&'static str, f64)]| pairs.iter().copied().collect();
        assert!(CONSTANT_FEATURES.is_seen(&row(&[("feature_std", 0.001)]), &levels));
        assert!(!CONSTANT_FEATURES.is_seen(&row(&[]), &levels), "a missing figure is no figure of 0");
        assert!(!CONSTANT_FEATURES.is_seen(&row(&[("feature_std", f64::NAN)]), &levels));
        const LOW: &[Condition] = &[Condition::below("loss", 0.04).of("ln K"), Condition::above("x", 1.0)];
        let low = Sign::new("low", "", "", LOW);
        assert!(low.is_seen(&row(&[("loss", 0.3), ("x", 2.0)]), &levels));
        assert!(!low.is_seen(&row(&[("loss", 0.5), ("x", 2.0)]), &levels));
        assert!(!low.is_seen(&row(&[("loss", 0.3)]), &levels), "both conditions count");
        assert!(!low.is_seen(&row(&[("loss", 0.3), ("x", 2.0)]), &[]), "nor is a missing level judged");
    }

    #[test]
    fn figures_are_printed_as_declared() {
        let entropy = Figure::new("h", "", "").level("ln K").bar("H", 2);
        assert_eq!(entropy.printed(1.234, &[Level::new("ln K", 6.93)]).unwrap(), "H 1.23 of 6.93");
        assert_eq!(entropy.printed(1.234, &[]).unwrap(), "H 1.23");
        let share = Figure::new("q", "", "").bar_with("queue", 100.0, 0, " % full");
        assert_eq!(share.printed(0.5, &[]).unwrap(), "queue 50 % full");
        assert_eq!(Figure::new("q", "", "").printed(0.5, &[]), None);
    }
}
