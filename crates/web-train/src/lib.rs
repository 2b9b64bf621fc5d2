//! The module that trains, and looks with what it trains: fetched when a page asks for training.
//!
//! A `Session` takes the steps of the native trainer, by any method that a Vision Transformer can have without labels. All of
//! `ocelli_web` is in this module as well, so that what is in training can be looked at where it lies.
#![cfg(target_arch = "wasm32")]

mod config;
mod session;
mod start;

pub use ocelli_web::*;
pub use session::Session;
