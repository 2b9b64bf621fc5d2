//! Ocelli in a browser: the crates of the native program behind a small interface for JavaScript.
//!
//! What is here runs in a dedicated worker (`web/ocelli/src/worker.ts`), which owns one `Engine`. Pixels and weights come in
//! as bytes, maps and features go out as typed arrays; decoding, fetching and drawing are the browser's. Everything that
//! reads from the device is asynchronous. Errors are JavaScript errors with a `code`.
#![cfg(target_arch = "wasm32")]

mod compare;
mod error;
mod features;
mod model;
mod open;
mod overlay;
mod picture;
mod session;
mod start;
mod traced;

pub use error::WebError;
pub use model::Model;
pub use open::{Engine, fault, scene};
pub use overlay::Overlay;
pub use session::Session;
pub use traced::TracedPicture;
