//! A pickle as data. The machine below follows the opcodes of protocols 0 to 5 and builds values; it imports
//! nothing, calls nothing and has no way to.

mod machine;
mod meaning;
mod text;
pub mod value;

pub use machine::{Reader, read, read_with};
use value::{Meaning, OverBudget};

/// What `module` and `name` mean; an error where the name is refused.
pub type Vocabulary = fn(module: &str, name: &str) -> Result<Meaning, ()>;

/// Why a pickle is not read.
#[derive(Debug)]
pub enum Fault {
    /// Broken, or asks for what is not supported.
    Bad(String),
    /// Names something that runs code.
    Code(String),
}

impl Fault {
    fn bad(reason: impl Into<String>) -> Self {
        Self::Bad(reason.into())
    }
}

impl From<OverBudget> for Fault {
    fn from(_: OverBudget) -> Self {
        Self::bad("it asks for far more memory than its size explains")
    }
}
