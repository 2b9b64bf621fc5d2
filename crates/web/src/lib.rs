//! Ocelli in a browser: the crates of the native program behind a small interface for JavaScript.
//!
//! Two modules are made of it: `ocelli-web-look` has this crate alone, `ocelli-web-train` adds training. Each runs in dedicated
//! workers (`web/ocelli/src/worker.ts`) that own one `Engine`. Pixels and weights come in as bytes, maps and features go out as
//! typed arrays; decoding, fetching and drawing are the browser's. Everything that reads from the device is asynchronous. Errors
//! are JavaScript errors with a `code`.
#![cfg(target_arch = "wasm32")]

mod compare;
mod error;
mod features;
mod model;
mod open;
mod overlay;
mod picture;
mod traced;

pub use error::WebError;
pub use model::{Model, Network, backbone_of};
pub use open::{Engine, fault, scene};
pub use overlay::Overlay;
pub use picture::from_rgba;
pub use traced::{TracedPicture, read};
