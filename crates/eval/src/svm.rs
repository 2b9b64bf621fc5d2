//! Linear SVMs on frozen features, one for each class of a multi-label set: the VOC07 classification protocol.
//!
//! The protocol of Goyal et al. 2019 (*Scaling and Benchmarking Self-Supervised Visual Representation Learning*,
//! arXiv:1905.01235) as VISSL and OpenSelfSup publish it. For each class,
//!
//! ```text
//! min over v = (w, b)   ½·‖v‖² + Σ cᵢ·max(0, 1 − yᵢ·(w·xᵢ + b))²,      cᵢ = 2·C for positives, C for negatives
//! ```
//!
//! on features x / (‖x‖ + 10⁻⁵). The bias is regularised as any weight. C is the first of its list with the best
//! mean of uninterpolated average precision over three stratified folds; the SVM is then fitted to all training
//! images, and tested by the area under the monotone precision envelope. Images that show a class only as
//! difficult objects are negatives in training and left out in testing.
//!
//! The published code solves this by liblinear's dual solver, which stops short of the optimum where C is 100 or
//! more. Here it is the optimum itself.
//!
//! ```
//! use ocelli_eval::svm::{Labelled, SvmConfig, Target, svm};
//!
//! // Twelve images on a line; every other one shows the class and lies on the positive side.
//! let features: Vec<f32> = (0..12).flat_map(|i| [if i % 2 == 0 { 1.0 } else { -1.0 }, 0.1 * i as f32]).collect();
//! let targets: Vec<Target> =
//!     (0..12).map(|i| if i % 2 == 0 { Target::Present } else { Target::Absent }).collect();
//! let images = Labelled { features: &features, targets: &targets };
//! let config = SvmConfig { costs: vec![1.0], ..SvmConfig::default() };
//! let report = svm(images, images, 2, 1, &config, &mut |_, _| ())?;
//! assert!(report.map > 0.999 && report.not_converged == 0);
//! # Ok::<(), ocelli_eval::EvalError>(())
//! ```

mod folds;
mod kernel;
mod path;
mod problem;
mod rows;
#[cfg(test)]
mod tests;

use crate::EvalError;
use crate::average_precision::{Curve, average_precision};
use folds::stratified_folds;
use kernel::Kernel;
use path::{Path, solve};
use problem::Problem;
use rows::Rows;

/// Whether an image shows a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// It does not.
    #[default]
    Absent,
    /// It does.
    Present,
    /// It does, but only as instances too difficult to count: a negative in training, left out in testing.
    Ignored,
}

/// The costs OpenSelfSup and DenseCL try, in their order: 1, 10, 100, then ½⁴ to ½¹⁹.
pub fn openselfsup_costs() -> Vec<f64> {
    [1.0, 10.0, 100.0].into_iter().chain((4..20).map(|power| 0.5f64.powi(power))).collect()
}

/// The costs VISSL tries.
pub const VISSL_COSTS: [f64; 11] = [0.01, 0.1, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 50.0, 100.0, 1000.0];

/// Settings. The defaults are those of OpenSelfSup.
#[derive(Clone, Debug, PartialEq)]
pub struct SvmConfig {
    /// Costs to choose from, each above 0. Of equally good ones the first is taken.
    pub costs: Vec<f64>,
    /// Folds of the cross-validation, at least 2.
    pub folds: usize,
    /// What an error on a positive costs, in errors on negatives.
    pub positive_weight: f64,
    /// Largest error of a weight vector, by its norm.
    pub tolerance: f64,
    /// Threads. Results do not depend on them.
    pub threads: usize,
}

impl Default for SvmConfig {
    fn default() -> Self {
        Self { costs: openselfsup_costs(), folds: 3, positive_weight: 2.0, tolerance: 1e-7, threads: 1 }
    }
}

impl SvmConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`EvalError::Empty`] without any cost, [`EvalError::Setting`] for a value outside its range.
    pub fn validate(&self) -> Result<(), EvalError> {
        if self.costs.is_empty() {
            return Err(EvalError::Empty { what: "the list of costs" });
        }
        let is_positive = |v: f64| v.is_finite() && v > 0.0;
        if let Some(cost) = self.costs.iter().find(|c| !is_positive(**c)) {
            return Err(EvalError::setting("a cost", "a finite number above 0", cost));
        }
        if self.folds < 2 {
            return Err(EvalError::setting("folds", "at least 2", self.folds));
        }
        for (name, value) in [("positive_weight", self.positive_weight), ("tolerance", self.tolerance)] {
            if !is_positive(value) {
                return Err(EvalError::setting(name, "a finite number above 0", value));
            }
        }
        Ok(())
    }
}

/// Features and what their images show.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// `[images, dim]`.
    pub features: &'a [f32],
    /// `[images, classes]`.
    pub targets: &'a [Target],
}

impl Labelled<'_> {
    /// Images that have a class for a positive, and for a negative: in training (`true`), or in testing.
    fn counts(&self, class: usize, classes: usize, training: bool) -> (usize, usize) {
        let of = self.targets.iter().skip(class).step_by(classes);
        of.fold((0, 0), |(positives, negatives), target| match target {
            Target::Present => (positives + 1, negatives),
            Target::Ignored if !training => (positives, negatives),
            Target::Absent | Target::Ignored => (positives, negatives + 1),
        })
    }
}

/// One class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassResult {
    /// Mean average precision over the folds, for every cost in the order of the configuration.
    pub cv_ap: Vec<f64>,
    /// The cost with the best.
    pub cost: f64,
    /// Weights of the SVM fitted to all training images, the bias last, `[dim + 1]`.
    pub weights: Vec<f64>,
    /// Decision values of the test images.
    pub decisions: Vec<f64>,
    /// Average precision on the test images, from 0 to 1.
    pub ap: f64,
    /// Share of positives among the test images that count: the average precision of chance.
    pub chance: f64,
}

/// Results of one evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct SvmReport {
    /// One for each class.
    pub classes: Vec<ClassResult>,
    /// Mean average precision over the classes, from 0 to 1.
    pub map: f64,
    /// SVMs that did not reach their optimum within many steps; none in any run so far.
    pub not_converged: usize,
}

/// Why a class cannot be evaluated with so many folds, where it cannot.
///
/// `targets` are `[images, classes]`.
pub fn unusable(train: &[Target], test: &[Target], class: usize, classes: usize, folds: usize) -> Option<String> {
    let of = |targets, training| Labelled { features: &[], targets }.counts(class, classes, training);
    let (positives, negatives) = of(train, true);
    let images = |n: usize| if n == 1 { "1 training image".to_owned() } else { format!("{n} training images") };
    if positives < folds {
        return Some(format!("{} show it; {folds} folds need {folds}", images(positives)));
    }
    if negatives < folds {
        return Some(format!("{} do not show it; {folds} folds need {folds}", images(negatives)));
    }
    (of(test, false).0 == 0).then(|| "no test image shows it".to_owned())
}

/// Runs the protocol on `classes` classes. `progress` hears now and then how many SVMs of how many are done.
///
/// # Errors
/// Bad settings, empty sets, shapes that do not fit, features that are not finite, or a class that [`unusable`]
/// says something of.
pub fn svm(
    train: Labelled<'_>,
    test: Labelled<'_>,
    dim: usize,
    classes: usize,
    config: &SvmConfig,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<SvmReport, EvalError> {
    config.validate()?;
    if classes == 0 {
        return Err(EvalError::Empty { what: "the set of classes" });
    }
    let rows = Rows::new(train.features, dim, "the training features")?;
    let test_rows = Rows::new(test.features, dim, "the test features")?;
    for (what, targets, rows) in
        [("training targets", train.targets, rows.len()), ("test targets", test.targets, test_rows.len())]
    {
        if targets.len() != rows * classes {
            return Err(EvalError::shape(what, format!("{rows} rows of {classes}"), targets.len()));
        }
    }
    for class in 0..classes {
        if let Some(why) = unusable(train.targets, test.targets, class, classes, config.folds) {
            return Err(EvalError::setting(
                "a class",
                "one that can be learnt and tested",
                format!("one of which {why}"),
            ));
        }
    }
    let positives: Vec<Vec<bool>> = (0..classes)
        .map(|class| train.targets.iter().skip(class).step_by(classes).map(|t| *t == Target::Present).collect())
        .collect();
    let kernel = Kernel::of(&rows, config.threads);
    let total = classes * (config.folds * config.costs.len() + 1);
    let (cv_ap, cv_open) = cross_validated(&kernel, &positives, config, &mut |done, _| progress(done, total))?;
    let costs: Vec<f64> = cv_ap.iter().map(|ap| config.costs[first_maximum(ap)]).collect();
    let fitted =
        fit(&kernel, &rows, &positives, &costs, config, &mut |done, all| progress(total - all + done, total));
    let (weights, fit_open) = fitted;
    let decisions = test_rows.decisions(&weights, config.threads);
    let mut results = Vec::with_capacity(classes);
    for (class, ((cv_ap, cost), (weights, decisions))) in
        cv_ap.into_iter().zip(costs).zip(weights.into_iter().zip(decisions)).enumerate()
    {
        let targets = test.targets.iter().skip(class).step_by(classes);
        let counted = decisions.iter().zip(targets).filter(|(_, t)| **t != Target::Ignored);
        let (scores, relevant): (Vec<f64>, Vec<bool>) = counted.map(|(d, t)| (*d, *t == Target::Present)).unzip();
        let ap = average_precision(&scores, &relevant, Curve::Envelope)?;
        let (shown, not_shown) = test.counts(class, classes, false);
        let chance = shown as f64 / (shown + not_shown) as f64;
        results.push(ClassResult { cv_ap, cost, weights, decisions, ap, chance });
    }
    let map = results.iter().map(|r| r.ap).sum::<f64>() / classes as f64;
    Ok(SvmReport { classes: results, map, not_converged: cv_open + fit_open })
}

fn first_maximum(values: &[f64]) -> usize {
    let mut best = 0;
    for (at, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = at;
        }
    }
    best
}

/// What errors cost on each row, in units of C.
fn weights_of(positive: &[bool], positive_weight: f64) -> Vec<f64> {
    positive.iter().map(|p| if *p { positive_weight } else { 1.0 }).collect()
}

/// Mean average precision over the folds, `[classes][costs]`, and how many SVMs did not reach their optimum.
fn cross_validated(
    kernel: &Kernel,
    positives: &[Vec<bool>],
    config: &SvmConfig,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Vec<Vec<f64>>, usize), EvalError> {
    let mut order: Vec<usize> = (0..config.costs.len()).collect();
    order.sort_by(|a, b| config.costs[*a].total_cmp(&config.costs[*b]));
    let ascending: Vec<f64> = order.iter().map(|i| config.costs[*i]).collect();
    let folds: Vec<Vec<usize>> = positives.iter().map(|p| stratified_folds(p, config.folds)).collect();
    let mut paths: Vec<Path<Result<f64, EvalError>>> = Vec::with_capacity(positives.len() * config.folds);
    for (positive, fold_of) in positives.iter().zip(&folds) {
        for fold in 0..config.folds {
            let mut weight = weights_of(positive, config.positive_weight);
            weight.iter_mut().zip(fold_of).filter(|(_, f)| **f == fold).for_each(|(w, _)| *w = 0.0);
            paths.push(Path::new(Problem::new(positive, &weight, config.tolerance), ascending.clone()));
        }
    }
    let held_out_ap = |path: usize, problem: &Problem| {
        let (class, fold) = (path / config.folds, path % config.folds);
        let held_out = (0..kernel.len()).filter(|i| folds[class][*i] == fold);
        let (scores, relevant): (Vec<f64>, Vec<bool>) =
            held_out.map(|i| (problem.f[i], positives[class][i])).unzip();
        average_precision(&scores, &relevant, Curve::Uninterpolated)
    };
    solve(kernel, &mut paths, config.threads, held_out_ap, progress);
    let not_converged = paths.iter().map(|p| p.not_converged).sum();
    let mut means = vec![vec![0.0; config.costs.len()]; positives.len()];
    for (at, path) in paths.into_iter().enumerate() {
        for (place, ap) in order.iter().zip(path.found) {
            means[at / config.folds][*place] += ap? / config.folds as f64;
        }
    }
    Ok((means, not_converged))
}

/// Weights `[dim + 1]` of each class on all rows at its cost, and how many did not reach their optimum.
fn fit(
    kernel: &Kernel,
    rows: &Rows<'_>,
    positives: &[Vec<bool>],
    costs: &[f64],
    config: &SvmConfig,
    progress: &mut dyn FnMut(usize, usize),
) -> (Vec<Vec<f64>>, usize) {
    let path = |(positive, cost): (&Vec<bool>, &f64)| {
        let weight = weights_of(positive, config.positive_weight);
        Path::new(Problem::new(positive, &weight, config.tolerance), vec![*cost])
    };
    let mut paths: Vec<Path<()>> = positives.iter().zip(costs).map(path).collect();
    solve(kernel, &mut paths, config.threads, |_, _| (), progress);
    let betas: Vec<&[f64]> = paths.iter().map(|p| p.problem.beta.as_slice()).collect();
    (rows.combined(&betas, config.threads), paths.iter().map(|p| p.not_converged).sum())
}
