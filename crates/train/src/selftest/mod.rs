//! The self-test of a device: every kernel against its reference. What fails is a row of the result, never the end of the test.
//!
//! ```
//! use burn::tensor::Device;
//! use ocelli_train::selftest::{cases, selftest};
//!
//! let device = Device::flex();
//! let gelu: Vec<_> = cases(&device).into_iter().filter(|case| case.kernel == "gelu").collect();
//! let rows = selftest(&device, &gelu, 0.0, &mut |_| ());
//! assert!(rows.iter().all(|row| row.outcome.is_right()));
//! ```

#[cfg(feature = "gpu")]
mod launched;
#[cfg(feature = "gpu")]
mod views;

use std::time::Instant;

use burn::tensor::{Device, Tensor};
use ocelli_kernels::selftest::Times;
pub use ocelli_kernels::selftest::{Case, Difference};

use crate::{TrainError, catch_panics};

/// What became of a case.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Every result beside what is right.
    Compared(Vec<Difference>),
    /// There was no result: what the device or its driver said.
    Failed(String),
    /// It was not tried, because the device was lost before.
    NotRun,
}

impl Outcome {
    /// Whether every result is right.
    pub fn is_right(&self) -> bool {
        self.worst().is_some_and(Difference::is_small)
    }

    /// The result that is the furthest away, by what it may be.
    pub fn worst(&self) -> Option<&Difference> {
        let Self::Compared(differences) = self else { return None };
        let excess = |d: &Difference| match d.tolerance {
            // What has to be exact.
            0.0 if d.largest == 0.0 => 0.0,
            tolerance => d.largest / tolerance,
        };
        differences.iter().max_by(|a, b| excess(a).total_cmp(&excess(b)))
    }
}

/// A case and what became of it.
#[derive(Debug, Clone)]
pub struct Row {
    /// The operation.
    pub kernel: &'static str,
    /// Sizes in words.
    pub shape: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The templates in `shaders/` that were launched for it; none on the CPU.
    pub launched: Vec<&'static str>,
    /// Seconds of this project's kernel, where it was timed.
    pub ours_s: Option<f64>,
    /// Seconds of burn's own, where there was time for it.
    pub stock_s: Option<f64>,
    /// Why it was not timed, where that failed.
    pub untimed: Option<String>,
}

impl Row {
    fn new(case: &Case, outcome: Outcome) -> Self {
        let (kernel, shape) = (case.kernel, case.shape.clone());
        Self { kernel, shape, outcome, launched: launched(), ours_s: None, stock_s: None, untimed: None }
    }
}

/// Where a self-test stands.
pub struct Progress<'a> {
    /// What is done.
    pub rows: &'a [Row],
    /// What begins now.
    pub now: &'a Case,
    /// Whether it is timed; else it is compared.
    pub is_timed: bool,
    /// Share of the whole that is done, 0 to 1.
    pub share: f64,
}

/// Every case there is for a device.
pub fn cases(device: &Device) -> Vec<Case> {
    let cases = ocelli_kernels::selftest::cases(device);
    #[cfg(feature = "gpu")]
    let cases = views::with(cases, device);
    cases
}

/// Compares all `cases`, then times them: beside burn's own kernels until `seconds` have passed since the beginning, alone after that;
/// with 0 seconds nothing is timed. `listen` is told before every step.
///
/// This project's kernels run where [`ocelli_kernels::set_mode`] says so.
pub fn selftest(device: &Device, cases: &[Case], seconds: f64, listen: &mut dyn FnMut(&Progress<'_>)) -> Vec<Row> {
    let (started, steps) = (Instant::now(), 2.0 * cases.len().max(1) as f64);
    let (mut rows, mut is_lost): (Vec<Row>, bool) = (Vec::new(), false);
    let _ = launched();
    for (i, now) in cases.iter().enumerate() {
        listen(&Progress { rows: &rows, now, is_timed: false, share: i as f64 / steps });
        let outcome = match is_lost {
            true => Outcome::NotRun,
            false => catch_panics(|| now.compare(device))
                .map_or_else(|error| Outcome::Failed(told(&error)), Outcome::Compared),
        };
        is_lost = is_lost || matches!(outcome, Outcome::Failed(_)) && !works(device);
        rows.push(Row::new(now, outcome));
    }
    for (i, now) in cases.iter().enumerate() {
        if seconds <= 0.0 || is_lost || !matches!(rows[i].outcome, Outcome::Compared(_)) {
            continue;
        }
        listen(&Progress { rows: &rows, now, is_timed: true, share: (cases.len() + i) as f64 / steps });
        let is_alone = started.elapsed().as_secs_f64() >= seconds;
        let found = catch_panics(|| match is_alone {
            true => (Some(now.time_ours(device)), None),
            false => {
                let Times { ours_s, stock_s } = now.time(device);
                (Some(ours_s), Some(stock_s))
            }
        });
        match found {
            Ok(times) => (rows[i].ours_s, rows[i].stock_s) = times,
            Err(error) => {
                rows[i].untimed = Some(told(&error));
                is_lost = !works(device);
            }
        }
    }
    rows
}

/// An error without the lines that say nothing.
fn told(error: &TrainError) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
    lines.join("\n")
}

/// Whether a device still computes.
fn works(device: &Device) -> bool {
    let sum = catch_panics(|| Tensor::<1>::ones([64], device).sum().try_into_data());
    sum.is_ok_and(|sum| sum.is_ok_and(|sum| sum.try_to_vec::<f32>().is_ok_and(|values| values == [64.0])))
}

/// The templates that were launched since this was asked last.
fn launched() -> Vec<&'static str> {
    #[cfg(feature = "gpu")]
    return launched::taken();
    #[cfg(not(feature = "gpu"))]
    Vec::new()
}

#[cfg(test)]
mod tests {
    use ocelli_kernels::selftest::{Parts, Side};

    use super::*;

    /// A case whose kernel gives 1 and `more`, or panics with these words.
    fn case(kernel: &'static str, more: f32, words: Option<&'static str>) -> Case {
        Case::new(kernel, "1", move |place| {
            let one = place.tensor(vec![1.0], [1]).inner();
            Box::new(move |side| match (side, words) {
                (Side::Kernel, Some(words)) => panic!("{words}"),
                (Side::Kernel, None) => Parts::within(1e-5).with("y", &(one.clone() + more)),
                (Side::Reference, _) => Parts::within(1e-5).with("y", &one),
            })
        })
    }

    #[test]
    fn what_is_wrong_or_fails_is_a_row_and_the_rest_is_tested() {
        let cases = [
            case("right", 0.0, None),
            case("wrong", 0.01, None),
            case("refused", 0.0, Some("Error while reading data: the device refused the pipeline")),
            case("right too", 0.0, None),
        ];
        let mut told = Vec::new();
        let mut listen = |p: &Progress<'_>| told.push((p.now.kernel, p.is_timed, p.rows.len()));
        let rows = selftest(&Device::flex(), &cases, 60.0, &mut listen);
        assert_eq!(rows.iter().map(|row| row.outcome.is_right()).collect::<Vec<_>>(), [true, false, false, true]);
        let worst = rows[1].outcome.worst().unwrap();
        assert!((worst.largest - 0.01).abs() < 1e-6 && worst.part == "y", "{worst:?}");
        assert!(
            matches!(&rows[2].outcome, Outcome::Failed(said) if said.contains("refused the pipeline")),
            "{rows:?}"
        );
        // What gives a result is timed, beside burn's; what gives none is not.
        let timed: Vec<bool> = rows.iter().map(|row| row.ours_s.is_some() && row.stock_s.is_some()).collect();
        assert_eq!(timed, [true, true, false, true]);
        assert_eq!(told[..2], [("right", false, 0), ("wrong", false, 1)]);
        assert_eq!(told.len(), 4 + 3);
        assert!(selftest(&Device::flex(), &cases, 0.0, &mut |_| ()).iter().all(|row| row.ours_s.is_none()));
    }

    #[test]
    fn what_has_to_be_exact_may_be() {
        let of = |largest| Outcome::Compared(vec![Difference { part: "indices", largest, tolerance: 0.0 }]);
        assert!(of(0.0).is_right() && !of(1e-9).is_right() && !of(f64::INFINITY).is_right());
        assert!(!Outcome::Compared(Vec::new()).is_right(), "nothing was compared");
        assert!(!Outcome::NotRun.is_right());
    }

    #[test]
    fn the_cpu_passes() {
        let device = Device::flex();
        let rows = selftest(&device, &cases(&device), 0.0, &mut |_| ());
        let wrong: Vec<&Row> = rows.iter().filter(|row| !row.outcome.is_right()).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(rows.len() > 40 && rows.iter().all(|row| row.launched.is_empty() && row.kernel != "views"));
    }
}
