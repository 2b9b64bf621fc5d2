//! Errors of Ocelli as Python's, with the words that the command line has.

use std::path::Path;

use ocelli::report::ReportError;
use ocelli::train::{TrainError, catch_panics, record_panics};
use pyo3::exceptions::{PyException, PyFileNotFoundError, PyValueError};
use pyo3::{PyErr, PyResult, create_exception};

create_exception!(
    ocelli,
    OcelliError,
    PyException,
    "The device failed or has not enough memory, or there is a fault in Ocelli. Wrong arguments and files are a ValueError."
);

/// What a panic says comes with the exception; without a backtrace wanted, it is not printed as well.
pub fn quieten_panics() {
    if std::env::var_os("RUST_BACKTRACE").is_none_or(|value| value == "0") {
        std::panic::set_hook(Box::new(|_| ()));
    }
    record_panics();
}

/// Runs work that computes, apart from Python. A panic inside becomes an exception that tells a device that gave up from a
/// fault of ours.
pub fn computing<T>(work: impl FnOnce() -> Result<T, TrainError>) -> PyResult<T> {
    catch_panics(work).flatten().map_err(of_train)
}

/// Wrong input is a `ValueError`, everything else an `OcelliError`.
// As `map_err` gives it.
#[allow(clippy::needless_pass_by_value)]
pub fn of_train(error: TrainError) -> PyErr {
    let text = error.to_string();
    match error {
        TrainError::Config(_)
        | TrainError::Data(_)
        | TrainError::Method(_)
        | TrainError::Backbone(_)
        | TrainError::Vit(_)
        | TrainError::Weights(_)
        | TrainError::Eval(_)
        | TrainError::File { .. }
        | TrainError::TooFewImages { .. } => PyValueError::new_err(text),
        TrainError::NotFinite { .. }
        | TrainError::Collapsed { .. }
        | TrainError::OutOfMemory { .. }
        | TrainError::DoesNotFit { .. }
        | TrainError::TooLarge { .. }
        | TrainError::DeviceLost { .. }
        | TrainError::Device(_)
        | TrainError::Fault { .. } => OcelliError::new_err(text),
    }
}

/// The error of a path that somebody gave: a `FileNotFoundError` where there is nothing.
pub fn of_weights(path: &Path, error: TrainError) -> PyErr {
    let name = path.to_string_lossy();
    let is_file = !["random:", "hf:"].iter().any(|start| name.starts_with(start));
    match error {
        TrainError::File { .. } if is_file && !path.exists() => PyFileNotFoundError::new_err(error.to_string()),
        error => of_train(error),
    }
}

/// The same of a run's folder.
pub fn of_run(path: &Path, error: &ReportError) -> PyErr {
    match path.exists() {
        true => PyValueError::new_err(error.to_string()),
        false => PyFileNotFoundError::new_err(error.to_string()),
    }
}
