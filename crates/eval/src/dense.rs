//! Dense linear algebra in f64: products, Cholesky factors, and work spread over threads.
//!
//! Every job has a fixed size, whatever the number of threads, so results are the same bits for any number of
//! them.

mod cholesky;
mod parallel;
mod product;

pub use cholesky::Cholesky;
pub use parallel::{each, map};
pub use product::{Matrix, MatrixMut, add_product};
