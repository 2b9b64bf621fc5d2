//! Self-supervised methods: what is trained, what follows it, and the loss between them.
//!
//! A [`Method`] owns the network it trains and whatever follows that network (a momentum teacher, a centre, queues).
//! Given views and the clock it returns a loss and named figures; after the optimizer's step it moves its followers.
//! Nothing here touches files, threads or clocks.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod densecl;
mod dino;
mod ema;
pub mod infonce;
pub mod matching;
mod method;
mod moco;
mod names;
pub mod optim;
mod pair;
mod queue;
pub mod schedule;

pub use densecl::{DenseCl, DenseClConfig, DenseClHead, DenseClNet, DenseClOutputs, dense_loss};
pub use dino::{Dino, DinoConfig, DinoNet};
pub use ema::ema_update;
pub use matching::{Matching, ViewBox};
pub use method::{LossOutput, Method, MethodError, StepClock};
pub use moco::{Moco, MocoConfig, MocoNet};
pub use queue::{KeyQueue, check_queue};
