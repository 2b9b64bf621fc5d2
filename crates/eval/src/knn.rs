//! The weighted k-nearest-neighbour classifier of the DINO evaluation.
//!
//! After Wu et al. 2018, *Unsupervised Feature Learning via Non-Parametric Instance Discrimination*
//! (arXiv:1805.01978, §3.4), with the settings of Caron et al. 2021, *Emerging Properties in Self-Supervised Vision
//! Transformers* (arXiv:2104.14294). Features are L2-normalised, similarity is the dot product, and each of the k most
//! similar training rows votes for its class:
//!
//! ```text
//! votes[c] = Σ over neighbours i of class c  exp(similarity_i / temperature)
//! ```
//!
//! The search (module [`neighbours`]) is separate from the vote, so one search serves every k and temperature.

pub mod neighbours;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::EvalError;
pub use neighbours::{Neighbours, Selection, find_neighbours_async, l2_normalise};

/// Below this, `exp(1 / temperature)` leaves the range of an f64.
const MIN_TEMPERATURE: f64 = 0.002;

/// Settings of the classifier. The defaults are those of the DINO evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KnnConfig {
    /// Numbers of neighbours to report, each at least 1. One larger than the training set uses the whole set.
    pub ks: Vec<usize>,
    /// Temperature of the vote, at least 0.002.
    pub temperature: f64,
    /// Test rows of a similarity tile. Bounds memory; does not change the result.
    pub test_chunk: usize,
    /// Training rows of a similarity tile. Bounds memory; does not change the result.
    pub train_chunk: usize,
    /// Divide every feature row by its L2 norm first. Turn off only for rows that already have unit length.
    pub normalise: bool,
    /// Where the nearest rows of a tile are picked out.
    pub selection: Selection,
}

impl Default for KnnConfig {
    fn default() -> Self {
        Self {
            ks: vec![10, 20, 100, 200],
            temperature: 0.07,
            test_chunk: 512,
            train_chunk: 8192,
            normalise: true,
            selection: Selection::Auto,
        }
    }
}

impl KnnConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`EvalError::Empty`] without any k, [`EvalError::Setting`] for a value outside its range.
    pub fn validate(&self) -> Result<(), EvalError> {
        if self.ks.is_empty() {
            return Err(EvalError::Empty { what: "the list of k" });
        }
        for (name, value) in [
            ("ks", self.ks.iter().copied().min().unwrap_or(0)),
            ("test_chunk", self.test_chunk),
            ("train_chunk", self.train_chunk),
        ] {
            if value == 0 {
                return Err(EvalError::setting(name, "at least 1", value));
            }
        }
        check_temperature(self.temperature)
    }
}

fn check_temperature(temperature: f64) -> Result<(), EvalError> {
    if temperature.is_finite() && temperature >= MIN_TEMPERATURE {
        Ok(())
    } else {
        Err(EvalError::setting("temperature", "a finite number of at least 0.002", temperature))
    }
}

/// Accuracy with one number of neighbours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnnResult {
    /// The k that was asked for.
    pub k: usize,
    /// The neighbours that voted: `min(k, training rows)`.
    pub neighbours: usize,
    /// Percentage of test rows whose class has the most votes.
    pub top1: f64,
    /// Percentage of test rows whose class is among the five with the most votes. `None` with five classes or fewer,
    /// or fewer than five neighbours, where the figure would say nothing. A class without votes never counts.
    pub top5: Option<f64>,
    /// Predicted class of every test row, `[test]`.
    pub predictions: Vec<u32>,
}

/// Accuracies of one evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnnReport {
    /// One result per asked k, in the order asked.
    pub results: Vec<KnnResult>,
    /// Temperature of the vote.
    pub temperature: f64,
    /// Rows of the training set.
    pub train_rows: usize,
    /// Rows of the test set.
    pub test_rows: usize,
    /// Number of classes.
    pub classes: usize,
}

impl KnnReport {
    /// The result for the asked `k`.
    pub fn get(&self, k: usize) -> Option<&KnnResult> {
        self.results.iter().find(|result| result.k == k)
    }
}

/// Runs the classifier and waits for it. Not for the browser, which cannot wait: use [`knn_async`] there.
///
/// # Errors
/// As [`knn_async`].
#[cfg(not(target_family = "wasm"))]
pub fn knn(
    train_features: Tensor<2>,
    train_labels: &[u32],
    test_features: Tensor<2>,
    test_labels: &[u32],
    classes: usize,
    config: &KnnConfig,
) -> Result<KnnReport, EvalError> {
    burn::tensor::read_sync(knn_async(train_features, train_labels, test_features, test_labels, classes, config))
}

/// Classifies every test row by its neighbours in the training set.
///
/// Shapes: features `[train, dim]` and `[test, dim]`, labels `[train]` and `[test]`, each below `classes`. Memory
/// beyond the features is one `[test_chunk, train_chunk]` tile and the neighbours found, `[test, max k]`.
///
/// # Errors
/// Bad settings, empty sets, shapes or labels that do not fit, features that are not finite, a failing device.
pub async fn knn_async(
    train_features: Tensor<2>,
    train_labels: &[u32],
    test_features: Tensor<2>,
    test_labels: &[u32],
    classes: usize,
    config: &KnnConfig,
) -> Result<KnnReport, EvalError> {
    config.validate()?;
    // Before the search: a wrong label should not cost a long run first.
    check_labels("train", train_labels, train_features.dims()[0], classes)?;
    check_labels("test", test_labels, test_features.dims()[0], classes)?;
    let k_max = config.ks.iter().copied().max().unwrap_or(1);
    let found = find_neighbours_async(train_features, test_features, k_max, config).await?;
    classify(&found, train_labels, test_labels, classes, &config.ks, config.temperature)
}

/// Turns neighbours into predictions and accuracies for every k of `ks`.
///
/// A tie of votes goes to the lowest class.
///
/// # Errors
/// [`EvalError::Shape`] or [`EvalError::Label`] for labels that do not fit, [`EvalError::Setting`] for a k of 0, a k
/// beyond the neighbours that were searched, or a temperature out of range.
pub fn classify(
    found: &Neighbours,
    train_labels: &[u32],
    test_labels: &[u32],
    classes: usize,
    ks: &[usize],
    temperature: f64,
) -> Result<KnnReport, EvalError> {
    check_temperature(temperature)?;
    check_labels("train", train_labels, found.train_rows(), classes)?;
    check_labels("test", test_labels, found.rows(), classes)?;
    let mut results = Vec::with_capacity(ks.len());
    for &asked in ks {
        let k = asked.min(found.train_rows());
        if k == 0 || k > found.k() {
            return Err(EvalError::setting(
                "k",
                "at least 1 and at most the number of neighbours searched",
                asked,
            ));
        }
        let with_top5 = classes > 5 && k >= 5;
        let mut predictions = Vec::with_capacity(found.rows());
        let (mut hits1, mut hits5) = (0usize, 0usize);
        for (row, &label) in test_labels.iter().enumerate() {
            let votes = found.votes(row, k, train_labels, classes, temperature);
            let best = argmax(&votes);
            hits1 += usize::from(best == label as usize);
            hits5 += usize::from(rank(&votes, label as usize).is_some_and(|rank| rank < 5));
            predictions.push(best as u32);
        }
        let percent = |hits: usize| 100.0 * hits as f64 / test_labels.len() as f64;
        results.push(KnnResult {
            k: asked,
            neighbours: k,
            top1: percent(hits1),
            top5: with_top5.then(|| percent(hits5)),
            predictions,
        });
    }
    Ok(KnnReport { results, temperature, train_rows: found.train_rows(), test_rows: found.rows(), classes })
}

fn check_labels(set: &'static str, labels: &[u32], rows: usize, classes: usize) -> Result<(), EvalError> {
    if labels.len() != rows {
        let what = if set == "train" { "train labels" } else { "test labels" };
        return Err(EvalError::shape(what, format!("{rows}, one per feature row"), labels.len()));
    }
    match labels.iter().enumerate().find(|(_, label)| **label as usize >= classes) {
        Some((row, &label)) => Err(EvalError::Label { set, row, label, classes }),
        None => Ok(()),
    }
}

/// Index of the largest value; the first of equals.
fn argmax(values: &[f64]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

/// Position of `class` when classes are ordered by votes, the lowest class first among equals. `None` without votes.
fn rank(votes: &[f64], class: usize) -> Option<usize> {
    let own = votes[class];
    (own > 0.0).then(|| {
        votes.iter().enumerate().filter(|(other, vote)| **vote > own || (**vote == own && *other < class)).count()
    })
}

#[cfg(test)]
mod tests;
