//! Average precision: how far up the relevant items of a ranking stand.
//!
//! Items are taken by descending score; those of one score come together, so their order does not matter. After n
//! groups, precision Pₙ is the share of items so far that are relevant, recall Rₙ the share of relevant items that
//! have come.
//!
//! ```
//! use ocelli_eval::average_precision::{Curve, average_precision};
//!
//! // The first and the third of the ranking are relevant: (1/1 + 2/3) / 2.
//! let ap = average_precision(&[0.9, 0.8, 0.7], &[true, false, true], Curve::Uninterpolated)?;
//! assert!((ap - 5.0 / 6.0).abs() < 1e-12);
//! # Ok::<(), ocelli_eval::EvalError>(())
//! ```

use crate::EvalError;

/// How precision is taken between the points of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// `Σ (Rₙ − Rₙ₋₁)·Pₙ`, as scikit-learn's `average_precision_score` has it.
    Uninterpolated,
    /// The area below the curve made monotone, where precision at a recall is the best at that recall or a higher
    /// one: PASCAL VOC's since 2010, over all points (not the eleven of VOC 2007).
    Envelope,
}

/// Average precision of scores, one for each item, from 0 to 1.
///
/// # Errors
/// When nothing is relevant, lengths differ, or a score is not finite.
pub fn average_precision(scores: &[f64], relevant: &[bool], curve: Curve) -> Result<f64, EvalError> {
    if scores.len() != relevant.len() {
        return Err(EvalError::shape("relevance of items", scores.len(), relevant.len()));
    }
    if let Some(at) = scores.iter().position(|s| !s.is_finite()) {
        return Err(EvalError::NotFinite { what: "the scores", place: format!(" at item {at}") });
    }
    let total = relevant.iter().filter(|r| **r).count();
    if total == 0 {
        return Err(EvalError::Empty { what: "the set of relevant items" });
    }
    let mut points = points(scores, relevant, total);
    if curve == Curve::Envelope {
        let mut best = 0.0f64;
        for point in points.iter_mut().rev() {
            best = best.max(point.precision);
            point.precision = best;
        }
    }
    let mut reached = 0.0;
    let mut area = 0.0;
    for Point { recall, precision } in points {
        area += (recall - reached) * precision;
        reached = recall;
    }
    Ok(area)
}

#[derive(Clone, Copy)]
struct Point {
    recall: f64,
    precision: f64,
}

/// The curve's points, by rising recall.
fn points(scores: &[f64], relevant: &[bool], total: usize) -> Vec<Point> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut found = 0usize;
    let mut points = Vec::new();
    for (place, &item) in order.iter().enumerate() {
        found += usize::from(relevant[item]);
        let is_last_of_its_score = order.get(place + 1).is_none_or(|next| scores[*next] < scores[item]);
        if is_last_of_its_score {
            points
                .push(Point { recall: found as f64 / total as f64, precision: found as f64 / (place + 1) as f64 });
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(scores: &[f64], relevant: &[u8], curve: Curve) -> f64 {
        average_precision(scores, &relevant.iter().map(|r| *r == 1).collect::<Vec<_>>(), curve).unwrap()
    }

    #[test]
    fn both_curves_by_hand() {
        // Precisions at the relevant items: 1, 1/2 (fourth place), 3/5.
        let (scores, relevant) = ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [1, 0, 0, 1, 1, 0]);
        let plain = of(&scores, &relevant, Curve::Uninterpolated);
        assert!((plain - (1.0 + 0.5 + 0.6) / 3.0).abs() < 1e-15);
        let envelope = of(&scores, &relevant, Curve::Envelope);
        assert!((envelope - (1.0 + 0.6 + 0.6) / 3.0).abs() < 1e-15);
    }

    #[test]
    fn equal_scores_come_together_whatever_their_order() {
        for relevant in [[1, 0, 0, 0], [0, 0, 0, 1]] {
            assert_eq!(of(&[0.5; 4], &relevant, Curve::Uninterpolated), 0.25);
            assert_eq!(of(&[0.5; 4], &relevant, Curve::Envelope), 0.25);
        }
        // Both zeros are one score.
        assert_eq!(of(&[0.0, -0.0], &[0, 1], Curve::Uninterpolated), 0.5);
    }

    #[test]
    fn what_has_no_average_precision_is_refused() {
        let message = |scores: &[f64], relevant: &[bool]| {
            average_precision(scores, relevant, Curve::Envelope).unwrap_err().to_string()
        };
        assert!(message(&[1.0, 2.0], &[false, false]).contains("relevant"));
        assert!(message(&[1.0], &[true, false]).contains("expected 1, found 2"));
        assert!(message(&[1.0, f64::NAN], &[true, false]).contains("item 1"));
    }
}
