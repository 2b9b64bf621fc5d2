//! Round numbers along an axis.

use crate::text::number;

/// An axis from `low` to `high`, with labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    pub low: f64,
    pub high: f64,
    pub ticks: Vec<(f64, String)>,
}

/// An axis around finite `low..=high` with about `count` ticks. `whole` keeps ticks on whole numbers; `snug` ends the
/// axis where the values end, otherwise it ends on ticks.
pub fn axis(low: f64, high: f64, count: usize, whole: bool, snug: bool) -> Axis {
    let (mut low, mut high) = (low.max(-1e300), high.min(1e300));
    // Beyond what f64 can tell apart there is nothing to divide; one value gets some room around it.
    if high - low <= 1e-9 * low.abs().max(high.abs()) {
        let room = if low == 0.0 { 1.0 } else { low.abs() * 0.05 };
        (low, high) = (low - room, high + room);
    }
    let mut step = nice((high - low) / count.max(1) as f64);
    if whole {
        step = step.max(1.0);
    }
    if !snug {
        (low, high) = ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step);
    }
    let first = (low / step - 1e-9).ceil();
    let n = (((high / step + 1e-9).floor() - first).max(0.0) as usize).min(100);
    let decimals = (-(step * 1.0001).log10().floor()).max(0.0) as usize + usize::from(is_quarter(step));
    let label = |value: f64| {
        let largest = low.abs().max(high.abs());
        if largest >= 1e6 || decimals > 5 || (largest < 1e-2 && decimals > 4) {
            return number(value);
        }
        format!("{value:.decimals$}")
    };
    let ticks = (0..=n).map(|i| (first + i as f64) * step).map(|v| if v == 0.0 { 0.0 } else { v });
    Axis { low, high, ticks: ticks.map(|v| (v, label(v))).collect() }
}

/// The same for values given as powers of ten: whole powers where there are several, else 1, 2 and 5 times one.
pub fn log_axis(low: f64, high: f64) -> Axis {
    let (low, high) = (low.max(-300.0), high.min(300.0));
    let room = ((high - low) * 0.05).max(0.05);
    let (low, high) = (low - room, high + room);
    let decades = high - low;
    let powers = low.floor() as i32..=high.ceil() as i32;
    let mantissas: &[f64] = match decades {
        d if d < 1.5 => &[1.0, 2.0, 5.0],
        d if d < 3.2 => &[1.0, 3.0],
        _ => &[1.0],
    };
    let every = (decades / 6.0).ceil().max(1.0) as i32;
    let ticks = powers.filter(|p| p % every == 0).flat_map(|p| mantissas.iter().map(move |m| m * 10f64.powi(p)));
    let inside = ticks.map(|v| (v.log10(), number(v))).filter(|(at, _)| (low..=high).contains(at));
    Axis { low, high, ticks: inside.collect() }
}

fn is_quarter(step: f64) -> bool {
    let mantissa = step / 10f64.powf(step.log10().floor());
    (mantissa - 2.5).abs() < 1e-6
}

/// The nearest of 1, 2, 2.5 and 5 times a power of ten that is not much below `rough`.
fn nice(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let mantissa = rough / power;
    let rounded = [1.0, 2.0, 2.5, 5.0].into_iter().find(|m| mantissa <= m * 1.1).unwrap_or(10.0);
    rounded * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64, whole: bool, snug: bool) -> Vec<String> {
        axis(low, high, 5, whole, snug).ticks.into_iter().map(|(_, l)| l).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(0.0, 1.0, false, false), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(0.0, 3.0, true, true), ["0", "1", "2", "3"]);
        assert_eq!(labels(0.99, 1.0, false, false), ["0.990", "0.992", "0.994", "0.996", "0.998", "1.000"]);
        assert_eq!(labels(0.0, 0.0004, false, false), ["0.0000", "0.0001", "0.0002", "0.0003", "0.0004"]);
        assert_eq!(labels(0.0, 1.2, false, false), ["0.00", "0.25", "0.50", "0.75", "1.00", "1.25"]);
    }

    #[test]
    fn powers_of_ten() {
        let labels = |low: f64, high: f64| -> Vec<String> {
            log_axis(low.log10(), high.log10()).ticks.into_iter().map(|(_, l)| l).collect()
        };
        assert_eq!(labels(0.08, 50.0), ["0.1", "0.3", "1", "3", "10", "30"]);
        assert_eq!(labels(3.0, 30.0), ["5", "10", "20"]);
        assert!((3..=8).contains(&labels(1e-30, 1e30).len()));
    }

    #[test]
    fn any_range_gives_an_axis() {
        for (low, high) in [(5.0, 5.0), (0.0, 0.0), (-1e308, 1e308), (1e-300, 2e-300), (-3.0, -3.0), (0.0, 1e19)] {
            for whole in [false, true] {
                let axis = axis(low, high, 5, whole, true);
                assert!(axis.low < axis.high && axis.low.is_finite() && axis.ticks.len() <= 101, "{axis:?}");
            }
        }
    }
}
