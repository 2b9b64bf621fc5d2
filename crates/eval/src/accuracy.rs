//! How often a classifier is right.
//!
//! ```
//! use ocelli_eval::accuracy::accuracy;
//!
//! // Two rows of logits over three classes; the second row prefers another class than its own.
//! let found = accuracy(&[0.1, 2.0, 0.3, 1.0, 0.0, 0.5], 3, &[1, 2])?;
//! assert_eq!((found.top1, found.top5), (50.0, None));
//! # Ok::<(), ocelli_eval::EvalError>(())
//! ```

use crate::EvalError;

/// Shares of right answers, per cent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accuracy {
    /// The right class comes first.
    pub top1: f64,
    /// It is among the first five. Absent with five classes or fewer, where it always is.
    pub top5: Option<f64>,
}

/// Accuracy of logits, row-major `[labels, classes]`. Of equal logits the class with the lower number comes first. A label
/// that is none of the classes counts as wrong.
///
/// # Errors
/// When there are no rows, the lengths do not fit, or a logit is not finite.
pub fn accuracy(logits: &[f32], classes: usize, labels: &[u32]) -> Result<Accuracy, EvalError> {
    if labels.is_empty() {
        return Err(EvalError::Empty { what: "the set to classify" });
    }
    if classes == 0 || logits.len() != classes * labels.len() {
        return Err(EvalError::Shape {
            what: "logits",
            expected: format!("{} rows of {classes}", labels.len()),
            found: format!("{} values", logits.len()),
        });
    }
    if logits.iter().any(|v| !v.is_finite()) {
        return Err(EvalError::NotFinite { what: "the logits", place: String::new() });
    }
    let within = |places: usize| {
        let is_right = |(row, label): (&[f32], &u32)| rank(row, *label as usize).is_some_and(|rank| rank < places);
        let right = logits.chunks_exact(classes).zip(labels).filter(|pair| is_right(*pair)).count();
        100.0 * right as f64 / labels.len() as f64
    };
    Ok(Accuracy { top1: within(1), top5: (classes > 5).then(|| within(5)) })
}

/// Classes that come before `label`; none where it is no class.
fn rank(row: &[f32], label: usize) -> Option<usize> {
    let own = *row.get(label)?;
    Some(row.iter().enumerate().filter(|(class, v)| **v > own || (**v == own && *class < label)).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_class_and_strangers_are_wrong() {
        let rows = [[0.0, 2.0, 1.0], [3.0, 3.0, 0.0], [3.0, 3.0, 0.0], [1.0, 0.0, 0.0]].concat();
        let found = accuracy(&rows, 3, &[1, 0, 1, 7]).unwrap();
        assert_eq!(found, Accuracy { top1: 50.0, top5: None });
        let row: Vec<f32> = (0..8).map(|i| i as f32).collect();
        let of = |label| accuracy(&row, 8, &[label]).unwrap();
        assert_eq!((of(7).top1, of(7).top5), (100.0, Some(100.0)));
        assert_eq!((of(3).top1, of(3).top5), (0.0, Some(100.0)));
        assert_eq!(of(2).top5, Some(0.0));
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        assert!(accuracy(&[], 3, &[]).is_err());
        assert!(accuracy(&[0.0; 5], 3, &[0, 1]).is_err());
        assert!(accuracy(&[0.0, f32::NAN], 2, &[0]).unwrap_err().to_string().contains("logits"));
    }
}
