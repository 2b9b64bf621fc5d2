//! The module that looks: what `import 'ocelli'` costs. Everything in it is `ocelli_web`'s.
#![cfg(target_arch = "wasm32")]

pub use ocelli_web::*;
