//! How right many heads are, counted as logits come.

use crate::EvalError;

/// What a head came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadScore {
    /// Per cent of images whose class comes first; of equal logits the class with the lower number comes first.
    pub top1: f64,
    /// Per cent of images whose class is among the first five. Absent with five classes or fewer.
    pub top5: Option<f64>,
    /// Mean cross-entropy.
    pub loss: f64,
}

/// Counts right answers of several heads, batch by batch.
#[derive(Debug, Clone)]
pub struct Scorer {
    classes: usize,
    images: usize,
    heads: Vec<Count>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    first: usize,
    among_five: usize,
    loss: f64,
    broken: bool,
}

impl Scorer {
    /// For so many heads of so many classes.
    pub fn new(heads: usize, classes: usize) -> Self {
        Self { classes, images: 0, heads: vec![Count::default(); heads] }
    }

    /// Adds logits, row-major `[labels, heads, classes]`. A label that is none of the classes counts as wrong and adds nothing to
    /// the loss.
    ///
    /// # Errors
    /// When the lengths do not fit.
    pub fn add(&mut self, logits: &[f32], labels: &[u32]) -> Result<(), EvalError> {
        let row = self.heads.len() * self.classes;
        if logits.len() != row * labels.len() || row == 0 {
            return Err(EvalError::shape("logits", format!("{} rows of {row}", labels.len()), logits.len()));
        }
        self.images += labels.len();
        for (image, label) in logits.chunks_exact(row).zip(labels) {
            for (count, own) in self.heads.iter_mut().zip(image.chunks_exact(self.classes)) {
                count.add(own, *label as usize);
            }
        }
        Ok(())
    }

    /// What each head came to; `None` for one whose logits are no numbers any more.
    pub fn scores(&self) -> Vec<Option<HeadScore>> {
        let share = |hits: usize| 100.0 * hits as f64 / self.images.max(1) as f64;
        let score = |count: &Count| {
            (!count.broken && self.images > 0).then(|| HeadScore {
                top1: share(count.first),
                top5: (self.classes > 5).then(|| share(count.among_five)),
                loss: count.loss / self.images as f64,
            })
        };
        self.heads.iter().map(score).collect()
    }
}

impl Count {
    fn add(&mut self, logits: &[f32], label: usize) {
        if logits.iter().any(|v| !v.is_finite()) {
            self.broken = true;
            return;
        }
        let Some(&own) = logits.get(label) else { return };
        let before = logits.iter().enumerate().filter(|(c, v)| **v > own || (**v == own && *c < label)).count();
        self.first += usize::from(before == 0);
        self.among_five += usize::from(before < 5);
        let most = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
        let sum: f64 = logits.iter().map(|v| (f64::from(*v) - most).exp()).sum();
        self.loss += sum.ln() + most - f64::from(own);
    }
}
