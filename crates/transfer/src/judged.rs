//! Which images an evaluation looks at.

use std::fmt;
use std::sync::Arc;

use ocelli_data::Source;

/// Which images figures are of. Those of the training images say what a network has learnt by heart, and nothing about others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Judged {
    /// Images that training does not see.
    #[default]
    HeldOut,
    /// The training images themselves, as `DATA:train` asks.
    Training,
}

impl Judged {
    /// What is evaluated, where it may be the very source that is learnt from.
    pub fn of(train: &Arc<dyn Source>, val: &Arc<dyn Source>) -> Self {
        if Arc::ptr_eq(train, val) { Self::Training } else { Self::HeldOut }
    }

    /// What a person should know of such figures.
    pub(crate) fn note(self) -> Option<String> {
        (self == Self::Training).then(|| {
            "the training images are evaluated: the figures say what the network learns by heart, and nothing about other images"
                .to_owned()
        })
    }
}

/// "held-out" or "training", as in "16 training images".
impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HeldOut => "held-out",
            Self::Training => "training",
        })
    }
}
