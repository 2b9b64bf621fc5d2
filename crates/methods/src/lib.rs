//! Self-supervised methods: what is trained, what follows it, and the loss between them.
//!
//! A [`Recipe`] declares a method: its configuration, figures, views, presets. A [`Method`] is one in training: it owns the
//! network it trains and whatever is kept between steps (a momentum teacher, a centre, queues). Given views and the clock it
//! returns a loss and named figures; [`train_step`] takes one optimizer step of any of them.
//! Nothing here touches files, threads or clocks.
//!
//! A new method is a file here and a line in [`METHODS`].
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod barlow;
mod byol;
mod deepcluster;
mod densecl;
mod dino;
mod figure;
mod held;
mod infomin;
mod method;
mod moco;
mod names;
mod obow;
pub mod optim;
mod parts;
mod published;
mod recipe;
pub mod schedule;
mod simclr;
mod step;
mod supervised;
mod swav;
mod vicreg;
mod views;

pub use barlow::{Barlow, BarlowConfig, BarlowTerms, barlow_terms, cross_correlation};
pub use byol::{Byol, ByolConfig, ByolNet, ByolOutputs, byol_loss};
pub use deepcluster::{DeepCluster, DeepClusterConfig, DeepClusterTerms, Epoch, deepcluster_terms};
pub use densecl::{DenseCl, DenseClConfig, DenseClHead, DenseClNet, DenseClOutputs, dense_loss};
pub use dino::{Dino, DinoConfig, DinoNet};
pub use figure::{Bar, CONSTANT_FEATURES, Condition, Figure, Level, Sign};
pub use held::{Draw, EmbeddingQueue, KeyQueue, Vocabulary, check_queue, ema_update};
pub use infomin::{InfoMin, InfoMinConfig, InfoMinNet, JigsawHead, jigsaw_order};
pub use method::{
    Batch, LossOutput, Method, MethodError, Network, StepClock, Update, backbone_of, count, num_values,
};
pub use moco::{Moco, MocoConfig, MocoNet, MomentumSchedule};
pub use obow::{BowPredictor, Cells, Obow, ObowConfig, ObowNet};
pub use parts::matching::Matching;
pub use parts::{
    Codes, bow, feature_std, infonce, kmeans, matching, mix_images, mix_targets, ntxent, sinkhorn,
    soft_cross_entropy, swav_loss,
};
pub use published::{
    PUBLISHED, PUBLISHED_ARCHS, PublishedArch, PublishedRow, PublishedTable, published_arch, published_rows,
};
pub use recipe::{Facts, Key, Needs, Preset, Range, Recipe, Sections};
pub use simclr::{Simclr, SimclrConfig};
pub use step::train_step;
pub use supervised::{Classifier, Supervised, SupervisedConfig};
pub use swav::{Swav, SwavConfig, SwavNet, SwavOutputs};
pub use vicreg::{Vicreg, VicregConfig};
pub use views::ViewSettings;

/// Every method, in the order of lists.
pub const METHODS: &[&Recipe] = &[
    &dino::DINO,
    &moco::MOCO,
    &densecl::DENSECL,
    &simclr::SIMCLR,
    &infomin::INFOMIN,
    &barlow::BARLOW,
    &vicreg::VICREG,
    &byol::BYOL,
    &obow::OBOW,
    &deepcluster::DEEPCLUSTER,
    &swav::SWAV,
    &supervised::SUPERVISED,
];

/// The recipe of a method by name.
pub fn recipe(name: &str) -> Option<&'static Recipe> {
    METHODS.iter().copied().find(|r| r.name == name)
}
