//! Self-supervised methods: what is trained, what follows it, and the loss between them.
//!
//! A [`Recipe`] declares a method: its configuration, figures, views, presets. A [`Method`] is one in training: it owns the
//! network it trains and whatever is kept between steps (a momentum teacher, a centre, queues). Given views and the clock it
//! returns a loss and named figures; [`train_step`] takes one optimizer step of any of them.
//! Nothing here touches files, threads or clocks.
//!
//! A new method is a file here and a line in [`METHODS`].
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod densecl;
mod dino;
mod figure;
mod held;
mod method;
mod moco;
mod names;
pub mod optim;
mod parts;
mod recipe;
pub mod schedule;
mod step;
mod supervised;
mod vicreg;
mod views;

pub use densecl::{DenseCl, DenseClConfig, DenseClHead, DenseClNet, DenseClOutputs, dense_loss};
pub use dino::{Dino, DinoConfig, DinoNet};
pub use figure::{Bar, Condition, Figure, Level, Sign};
pub use held::{KeyQueue, check_queue, ema_update};
pub use method::{
    Batch, LossOutput, Method, MethodError, Network, StepClock, Update, backbone_of, count, num_values,
};
pub use moco::{Moco, MocoConfig, MocoNet};
pub use parts::matching::Matching;
pub use parts::{feature_std, infonce, matching, mix_images, mix_targets, soft_cross_entropy};
pub use recipe::{Facts, Key, Needs, Preset, Range, Recipe, Sections};
pub use step::train_step;
pub use supervised::{Classifier, Supervised, SupervisedConfig};
pub use views::ViewSettings;

/// Every method, in the order of lists.
pub const METHODS: &[&Recipe] =
    &[&dino::DINO, &moco::MOCO, &densecl::DENSECL, &vicreg::VICREG, &supervised::SUPERVISED];

/// The recipe of a method by name.
pub fn recipe(name: &str) -> Option<&'static Recipe> {
    METHODS.iter().copied().find(|r| r.name == name)
}
