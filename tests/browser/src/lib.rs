//! The methods' fixtures as a module for a browser: the page hands in the files and runs the tests by name.
//!
//! The tests are those of `tests/parity_methods`, word for word. They take the CPU's path, whose arithmetic has code of its own
//! for WebAssembly.
#![cfg(target_arch = "wasm32")]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

// The tests name the crates as the native program gathers them.
extern crate self as ocelli;
pub use ocelli_data as data;
pub use ocelli_kernels as kernels;
pub use ocelli_methods as methods;
pub use ocelli_models as models;

#[path = "../../parity_methods/mod.rs"]
mod parity_methods;
mod support;

use wasm_bindgen::prelude::*;

#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|info| error(&info.to_string())));
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console)]
    fn error(message: &str);
}

/// A fixture's file, `simclr_train.json` say.
#[wasm_bindgen]
pub fn add(file: &str, bytes: Vec<u8>) {
    support::FILES.with_borrow_mut(|files| files.insert(file.to_owned(), bytes));
}

/// The tests by name.
#[wasm_bindgen]
pub fn names() -> Vec<String> {
    parity_methods::TESTS.iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// Runs a test; what is wrong goes to the console, and the module ends.
#[wasm_bindgen]
pub fn run(name: &str) {
    let (_, test) = parity_methods::TESTS.iter().find(|(n, _)| *n == name).unwrap();
    test();
}
