//! What goes wrong, for JavaScript: an `Error` whose `code` programs can rely on and whose message is for people.

use js_sys::Reflect;
use ocelli_data::DataError;
use ocelli_eval::EvalError;
use ocelli_models::VitError;
use ocelli_models::weights::WeightsError;
use wasm_bindgen::JsValue;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// Weights that cannot be read, or are of another network.
    #[error("{0}")]
    Weights(String),
    /// A picture that cannot be used.
    #[error("{0}")]
    Image(String),
    /// An argument out of range.
    #[error("{what}: expected {expected}, found {found}")]
    Argument {
        /// Which.
        what: &'static str,
        /// What is allowed.
        expected: String,
        /// What was given.
        found: String,
    },
    /// The device gave up, or there is none.
    #[error("{0}")]
    Device(String),
}

impl WebError {
    /// A value of `what` that is not what was `expected`.
    pub fn argument(what: &'static str, expected: impl ToString, found: impl ToString) -> Self {
        Self::Argument { what, expected: expected.to_string(), found: found.to_string() }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Weights(_) => "weights",
            Self::Image(_) => "image",
            Self::Argument { .. } => "argument",
            Self::Device(_) => "device",
        }
    }
}

impl From<WebError> for JsValue {
    fn from(error: WebError) -> Self {
        let value = js_sys::Error::new(&error.to_string());
        // A fresh error object takes any property.
        let _ = Reflect::set(&value, &"code".into(), &error.code().into());
        value.into()
    }
}

impl From<WeightsError> for WebError {
    fn from(error: WeightsError) -> Self {
        Self::Weights(error.to_string())
    }
}

impl From<VitError> for WebError {
    fn from(error: VitError) -> Self {
        Self::Weights(error.to_string())
    }
}

impl From<DataError> for WebError {
    fn from(error: DataError) -> Self {
        Self::Image(error.to_string())
    }
}

impl From<EvalError> for WebError {
    fn from(error: EvalError) -> Self {
        Self::Device(format!("the network's output cannot be shown: {error}"))
    }
}
