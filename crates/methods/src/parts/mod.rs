//! What several methods are made of.

pub mod infonce;
pub mod matching;
mod scalars;
mod shuffle;

pub use scalars::feature_std;
pub(crate) use scalars::scalar;
pub(crate) use shuffle::Shuffle;
