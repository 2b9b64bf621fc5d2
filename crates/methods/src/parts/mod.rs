//! What several methods are made of.

pub mod infonce;
pub mod matching;
pub mod ntxent;
mod projected;
mod scalars;
mod shuffle;

pub use projected::Projected;
pub use scalars::feature_std;
pub(crate) use scalars::scalar;
pub(crate) use shuffle::Shuffle;
