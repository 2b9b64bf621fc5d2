//! What methods keep between steps: each saves, loads and weighs itself.

mod ema;
mod followed;
mod key_queue;
mod trained;
mod vocabulary;

pub use ema::ema_update;
pub(crate) use followed::{Followed, append, renamed};
pub use key_queue::{KeyQueue, check_queue};
pub(crate) use trained::Trained;
pub use vocabulary::Vocabulary;
