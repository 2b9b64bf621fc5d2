//! The one error type of the crate.

use thiserror::Error;

/// What can go wrong in an evaluation. Messages say what was expected and what was found.
#[derive(Debug, Error)]
pub enum EvalError {
    /// A set that must not be empty is empty.
    #[error("{what} is empty")]
    Empty {
        /// The set, in words.
        what: &'static str,
    },
    /// A length or a shape does not fit the rest of the input.
    #[error("{what}: expected {expected}, found {found}")]
    Shape {
        /// The value with the wrong shape, in words.
        what: &'static str,
        /// The shape that would have fitted.
        expected: String,
        /// The shape that came.
        found: String,
    },
    /// A setting lies outside its range.
    #[error("{name} must be {expected}, found {found}")]
    Setting {
        /// The setting's name.
        name: &'static str,
        /// The range, in words.
        expected: &'static str,
        /// The value that came.
        found: String,
    },
    /// A label is not below the number of classes.
    #[error("{set} label {label} at row {row} is not below the number of classes, {classes}")]
    Label {
        /// Which set of labels: `train` or `test`.
        set: &'static str,
        /// Position in the set.
        row: usize,
        /// The offending label.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// A value is NaN or infinite where arithmetic needs finite numbers.
    #[error("{what} holds a value that is not finite (NaN or infinity){place}")]
    NotFinite {
        /// The values, in words.
        what: &'static str,
        /// Where, if known: starts with a space, or is empty.
        place: String,
    },
    /// The device could not run the work or give the result back.
    #[error("the device failed while {during}: {reason}")]
    Device {
        /// What was being computed.
        during: &'static str,
        /// The device's own message.
        reason: String,
    },
    /// JSON metadata could not be written.
    #[error("metadata could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl EvalError {
    /// A [`EvalError::Shape`] from anything that can be printed.
    #[allow(clippy::needless_pass_by_value, reason = "callers hand over numbers and fresh strings alike")]
    pub(crate) fn shape(what: &'static str, expected: impl ToString, found: impl ToString) -> Self {
        Self::Shape { what, expected: expected.to_string(), found: found.to_string() }
    }

    /// A [`EvalError::Setting`] from anything that can be printed.
    #[allow(clippy::needless_pass_by_value, reason = "callers hand over numbers and fresh strings alike")]
    pub(crate) fn setting(name: &'static str, expected: &'static str, found: impl ToString) -> Self {
        Self::Setting { name, expected, found: found.to_string() }
    }
}
