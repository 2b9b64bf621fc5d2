//! Self-supervised methods: what is trained, what follows it, and the loss between them.
//!
//! A [`Recipe`] declares a method: its configuration, figures, views, presets. A [`Method`] is one in training: it owns the
//! network it trains and whatever is kept between steps (a momentum teacher, a centre, queues). Given views and the clock it
//! returns a loss and named figures; [`train_step`] takes one optimizer step of any of them.
//! Nothing here touches files, threads or clocks.
//!
//! A new method is a file here and a line in [`METHODS`].
//!
//! | module | what is in it |
//! |---|---|
//! | [`optim`] | AdamW, SGD, LARS and LARC |
//! | [`schedule`] | learning rates, momenta and temperatures over a run |
//!
//! The methods themselves are at the top, each with its configuration. VICReg takes a step here:
//!
//! ```
//! use burn::tensor::Device;
//! use ocelli_methods::optim::{OptimConfig, Optimizer, StepRates};
//! use ocelli_methods::{Batch, Method, MethodError, StepClock, Vicreg, VicregConfig, train_step};
//! use ocelli_models::{Arch, Init};
//!
//! let device = Device::flex();
//! let vit = "vit-12x1x2/4".parse::<Arch>()?.config(8, 0.0);
//! let config = VicregConfig { dim: 16, ..VicregConfig::default() };
//! let mut method = Vicreg::new(&config, |init: &mut Init| vit.init(init), 1, &device)?;
//!
//! // Two views of eight images, one view after the other.
//! let views = Init::new(2, &device).uniform([16, 3, 8, 8], 1.0).val();
//! let batch = Batch::of_views(vec![views], 8);
//!
//! let optim = OptimConfig::default();
//! let mut optimizer = Optimizer::new(&optim);
//! let clock = StepClock { epoch: 0, iteration: 0, micro_batch: 0, momentum: 0.0, seed: 0 };
//! let rates = StepRates { lr: 1e-3, weight_decay: 0.04, clip: 3.0 };
//! let figures = train_step(&mut method, (&mut optimizer, &optim), &[batch], clock, &rates);
//!
//! // A value for each of the method's figures, then two norms of the gradients.
//! assert_eq!(figures.dims(), [method.figures().len() + 2]);
//! # Ok::<(), MethodError>(())
//! ```
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
    Batch, Bound, LossOutput, Method, MethodError, Network, StepClock, Update, backbone_of, count, num_values,
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
pub use step::{Ranks, sum_of, train_step, train_step_in};
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
