//! The Python module `ocelli`: features and attention of images by any weights that the command line reads, and the figures
//! of runs, as numpy arrays.
//!
//! Everything is the command line's own code; here is only what Python sees. Types and texts for people are in `ocelli.pyi`.
//! Building it needs no Python, and one wheel is for all versions from 3.9 on: `cargo xtask wheel`.

mod arrays;
mod error;
mod model;
mod run;

/// Self-supervised vision models: features and attention maps of images, as numpy arrays.
///
/// `ocelli.load(path)` opens weights, `ocelli.Run(path)` reads what a run wrote.
#[pyo3::pymodule(name = "ocelli")]
mod module {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::error::OcelliError;
    #[pymodule_export]
    use crate::model::{Model, load};
    #[pymodule_export]
    use crate::run::Run;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::error::quieten_panics();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
