//! What is held out of a data set that has no part of its own for it.

use ocelli_methods::MethodError;

/// Every so many images one is held out.
const EVERY: usize = 10;

/// A part to learn from and one to be tested on: every tenth image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EveryTenth {
    /// Numbers of the images that are learnt from.
    pub train: Vec<usize>,
    /// Numbers of those that are held out.
    pub held_out: Vec<usize>,
}

impl EveryTenth {
    /// Splits so many images; `what` is what they are called.
    ///
    /// # Errors
    /// When there are too few to hold any out.
    pub fn of(images: usize, what: &str) -> Result<Self, MethodError> {
        let (held_out, train): (Vec<usize>, Vec<usize>) = (0..images).partition(|i| i % EVERY == EVERY - 1);
        if held_out.is_empty() {
            return Err(MethodError::Value {
                key: "data",
                expected: format!("a held-out part (val), or {EVERY} {what} or more"),
                found: format!("{images} {what} and no held-out part"),
            });
        }
        Ok(Self { train, held_out })
    }

    /// The same as a sentence.
    pub fn note(&self) -> String {
        let (held_out, all) = (self.held_out.len(), self.train.len() + self.held_out.len());
        format!("no held-out part has labels: every tenth image is held out, {held_out} of {all}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tenth_is_held_out_and_nine_are_too_few() {
        let parts = EveryTenth::of(29, "images").unwrap();
        assert_eq!((parts.train.len(), &parts.held_out[..]), (27, &[9, 19][..]));
        assert!(parts.note().ends_with("2 of 29"), "{}", parts.note());
        let message = EveryTenth::of(9, "labelled images").unwrap_err().to_string();
        assert!(message.contains("held-out part (val), or 10 labelled images"), "{message}");
    }
}
