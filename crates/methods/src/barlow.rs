//! Barlow Twins: redundancy reduction (Zbontar et al. 2021, <https://arxiv.org/abs/2103.03230>).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ocelli_data::{DinoViews, ViewPlan};
use ocelli_kernels::together;
use ocelli_models::mlp::{LastNorm, LinearInit, MlpConfig, RowNorm};
use ocelli_models::weights::StateDict;
use ocelli_models::{AnyBackbone, Backbone, BackboneKind, Init, Mode};
use serde::{Deserialize, Serialize};

use crate::ViewSettings;
use crate::figure::{CONSTANT_FEATURES, Condition, FEATURE_STD, Figure, Level, Sign, loss};
use crate::held::Trained;
use crate::method::{Batch, LossOutput, Method, MethodError, Network, StepClock, Update, check_value};
use crate::moco;
use crate::optim::Group;
use crate::parts::{Projected, feature_std};
use crate::recipe::{Facts, Key, Needs, Range, Recipe, Sections, check_keys, no_notes, presets};

/// Barlow Twins' own constants; defaults are the published recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BarlowConfig {
    /// Width of the projector's first two layers (8,192).
    pub hidden_dim: usize,
    /// Width of the embeddings (8,192).
    pub out_dim: usize,
    /// λ: weight of the redundancy term (0.0051).
    pub lambda: f64,
    /// Multiplies the loss (1).
    pub loss_scale: f64,
}

impl Default for BarlowConfig {
    fn default() -> Self {
        Self { hidden_dim: 8192, out_dim: 8192, lambda: 0.0051, loss_scale: 1.0 }
    }
}

/// The redundancy term where all components of the embeddings tell the same.
const REDUNDANT: &str = "components - 1";

const FIGURES: &[Figure] = &[
    loss(
        "Both terms, the second weighted by λ, summed over the components. Healthy: down, fast at first; how good the features are \
         it does not say.",
    ),
    Figure::new(
        "diagonal",
        "Invariance",
        "Mean of (1 - c)² over the components, c the correlation of a component in two views: 0 where the views agree, 1 where they \
         have nothing in common. Healthy: down within the first epochs, then slowly.",
    )
    .from_zero()
    .bar("diag", 3)
    .headline(),
    Figure::new(
        "off_diagonal",
        "Redundancy",
        "Squared correlations of different components, for each component the sum over all others. Healthy: down to a few times \
         components / batch, which chance alone gives. At components - 1 all of them tell the same.",
    )
    .from_zero()
    .level(REDUNDANT)
    .bar("off", 2),
    FEATURE_STD,
];

const SIGNS: &[Sign] = &[
    CONSTANT_FEATURES,
    Sign::new(
        "unrelated_views",
        "the embeddings of an image's two views have nothing in common",
        "a lower optim.lr, a longer optim.warmup_epochs, a smaller barlow.lambda, a larger views.global_scale",
        // 1 is chance; c = 0.05 on average gives 0.9, and a network as it is drawn has more.
        &[Condition::above("diagonal", 0.9)],
    ),
    Sign::new(
        "redundant",
        "all components of the embeddings tell the same",
        "a larger barlow.lambda, a lower optim.lr, a larger batch_size",
        // Chance gives 1 / (batch - 1) of the level: a third with the 4 images that are the least.
        &[Condition::above("off_diagonal", 0.8).of(REDUNDANT)],
    ),
];

const fn key(name: &'static str, meaning: &'static str, source: &'static str, range: Range) -> Key {
    Key { name, meaning, source, range }
}

const KEYS: &[Key] = &[
    key(
        "barlow.hidden_dim",
        "width of the projector's first two layers",
        "Barlow Twins",
        Range::Count(1, 1_000_000),
    ),
    key("barlow.out_dim", "width of the embeddings", "Barlow Twins", Range::Count(2, 1_000_000)),
    key("barlow.lambda", "weight of the redundancy term", "Barlow Twins", Range::AtLeastZero),
    key(
        "barlow.loss_scale",
        "multiplies the loss, which moves biases and normalisations alone in lars",
        "1; 0.024 with optim.lr_factor_1d = 1 in the released run",
        Range::Positive,
    ),
];

/// What Barlow Twins declares.
pub const BARLOW: Recipe = Recipe {
    name: "barlow",
    title: "Barlow Twins",
    paper: "Zbontar et al. 2021, https://arxiv.org/abs/2103.03230",
    defaults: r#"
arch = "resnet-50"
epochs = 1000
batch_size = 2048
drop_path = 0.0
[resnet]
zero_init_residual = true
[views]
global_scale = [0.08, 1.0]
local_crops = 0
[optim]
optimizer = "lars"
lr = 0.2
# 0.0048 for biases and normalisations.
lr_factor_1d = 0.024
# A thousandth of the peak, 1.6.
min_lr = 0.0016
warmup_epochs = 10
warmup = "open"
weight_decay = 1e-6
weight_decay_end = 1e-6
clip_grad = 0.0
"#,
    sections: || Sections::default().with("barlow", &BarlowConfig::default()),
    keys: KEYS,
    presets: presets![
        "barlow-r50-1000": "Barlow Twins ResNet-50, 1000 epochs, batch 2048 (published: linear 73.2, k-NN 66.0)",
        "barlow-laptop": "Barlow Twins, a narrow ResNet-18 on 64 px views, on a CPU",
    ],
    figures: FIGURES,
    signs: SIGNS,
    backbones: &[BackboneKind::Vit, BackboneKind::ResNet],
    published_for: "resnet-50",
    needs: Needs { labels: false, indices: false, places: false, whole_batch: true, coupled: true },
    holds: "nothing else",
    views,
    views_about: "The network sees one after the other; each component of the embeddings is to agree, and to tell what no other \
                  does.",
    check,
    notes: no_notes,
    build,
};

/// BYOL's two views on 8-bit levels: the first always blurred, the second seldom blurred and sometimes solarized. They are DINO's
/// global ones.
fn views(v: &ViewSettings) -> ViewPlan {
    let mut plan = ViewPlan::dino(DinoViews {
        global_size_px: v.global_size_px as u32,
        global_scale: v.global_scale,
        local_crops: 0,
        blur_sigma: v.blur_sigma(),
        ..DinoViews::default()
    });
    for (i, view) in plan.views.iter_mut().enumerate() {
        view.title = format!("view {}", i + 1);
    }
    ViewPlan { mean: v.mean, std: v.std, ..plan }
}

fn check(facts: &Facts<'_>) -> Result<(), MethodError> {
    moco::check_two_views(facts)?;
    let images = facts.batch_size / facts.accumulate.max(1);
    let expected = "4 images or more in each part of a batch, over which components are correlated";
    check_value(images >= 4, "batch_size", expected, images)
}

fn build(facts: &Facts<'_>, seed: u64, device: &Device) -> Result<Box<dyn Method>, MethodError> {
    let net = |init: &mut Init| facts.backbone.init(init);
    Ok(Box::new(Barlow::<AnyBackbone>::new(&facts.own.get("barlow")?, net, seed, device)?))
}

/// Backbone, projector, and the normalisation of the embeddings: `backbone.*`, `projector.*`, `bn.*`.
#[derive(Module, Debug)]
struct BarlowNet<B: Module> {
    op_projected: Projected<B>,
    bn: RowNorm,
}

/// A network whose embeddings of two views agree in every component, no two of which tell the same.
pub struct Barlow<B: Backbone = AnyBackbone> {
    config: BarlowConfig,
    net: Trained<BarlowNet<B>>,
}

impl<B: Backbone> Barlow<B> {
    /// A network drawn from `seed`. `build` draws a backbone; `device` is the plain device, the parameters are tracked.
    ///
    /// # Errors
    /// When a value is out of range, or the backbone cannot be built.
    pub fn new<E: Into<MethodError>>(
        config: &BarlowConfig,
        build: impl Fn(&mut Init) -> Result<B, E>,
        seed: u64,
        device: &Device,
    ) -> Result<Self, MethodError> {
        check_keys(KEYS, &Sections::default().with("barlow", config)?)?;
        let projector = |dim| MlpConfig {
            widths: vec![dim, config.hidden_dim, config.hidden_dim, config.out_dim],
            norm: true,
            bias: false,
            last_bias: false,
            last_norm: LastNorm::None,
            how: LinearInit::Default,
        };
        let (op_projected, mut init) = Projected::drawn(build, projector, seed, device)?;
        let bn = RowNorm::new(config.out_dim, false, false, &mut init);
        Ok(Self { config: config.clone(), net: Trained::new(BarlowNet { op_projected, bn }) })
    }

    /// One view of every image: `[images, 3, side, side]` to embeddings `[images, out]`, not normalised, and the backbone's
    /// features `[images, dim]`.
    pub fn embed(&self, view: Tensor<4>, mode: Mode) -> (Tensor<2>, Tensor<2>) {
        self.net.net().op_projected.forward(view.autodiff(), mode)
    }

    /// Embeddings with mean 0 and variance 1 over the batch in every component.
    pub fn normalise(&self, embeddings: Tensor<2>, mode: Mode) -> Tensor<2> {
        self.net.net().bn.forward(embeddings, mode)
    }
}

/// aᵀb over the number of rows: the correlations of normalised embeddings `[batch, dim]`, `[dim, dim]`.
pub fn cross_correlation(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let batch = a.dims()[0].max(1) as f64;
    a.transpose().matmul(b) / batch
}

/// The terms of two views' normalised embeddings, `[1]` each.
pub struct BarlowTerms {
    /// Σ (1 − cᵢᵢ)².
    pub diagonal: Tensor<1>,
    /// Σ cᵢⱼ² over i ≠ j.
    pub off_diagonal: Tensor<1>,
}

/// Both terms of the loss (equation 1) for the [cross-correlation](cross_correlation) c of `[batch, dim]` and `[batch, dim]`.
///
/// Σ cᵢⱼ² is the squared norm of aᵀb, which is Σ (aaᵀ)(bbᵀ): where there are fewer images than components, the matrix of dim²
/// entries is never made.
pub fn barlow_terms(a: Tensor<2>, b: Tensor<2>) -> BarlowTerms {
    let [batch, dim] = a.dims();
    let images = batch.max(1) as f64;
    let own = (a.clone() * b.clone()).sum_dim(0) / images;
    let all = if batch < dim {
        let among = |x: Tensor<2>| x.clone().matmul(x.transpose());
        (among(a) * among(b)).sum_dim(1).sum() / (images * images)
    } else {
        cross_correlation(a, b).powi_scalar(2).sum_dim(1).sum()
    };
    let diagonal = (own.clone().neg() + 1.0).powi_scalar(2).sum();
    BarlowTerms { diagonal, off_diagonal: all - own.powi_scalar(2).sum() }
}

impl<B: Backbone> Method for Barlow<B> {
    fn figures(&self) -> &'static [Figure] {
        FIGURES
    }

    fn network(&self) -> &dyn Network {
        self.net.net()
    }

    fn update(&mut self, update: Update<'_>) {
        self.net.update(update, &|_| Group::default());
    }

    fn loss(&mut self, batch: &Batch, clock: &StepClock) -> LossOutput {
        let mode = Mode::Train { seed: clock.step_seed() };
        let ((a, features), (b, _)) = (self.embed(batch.view(0), mode), self.embed(batch.view(1), mode));
        let (a, b) = (self.normalise(a, mode), self.normalise(b, mode));
        let terms = barlow_terms(together::gather(a), together::gather(b));
        let components = self.config.out_dim as f64;
        let loss =
            (terms.diagonal.clone() + terms.off_diagonal.clone() * self.config.lambda) * self.config.loss_scale;
        let scalars = vec![
            ("loss", loss.clone().inner()),
            ("diagonal", terms.diagonal.inner() / components),
            ("off_diagonal", terms.off_diagonal.inner() / components),
            ("feature_std", feature_std(features.inner())),
        ];
        LossOutput { loss, scalars }
    }

    fn levels(&self) -> Vec<Level> {
        vec![Level::new(REDUNDANT, self.config.out_dim as f64 - 1.0)]
    }

    fn start_from(&mut self, backbone: &StateDict) -> Result<(), MethodError> {
        self.net.change(|net| Ok(BarlowNet { op_projected: net.op_projected.with_backbone(backbone)?, ..net }))
    }

    fn state(&self) -> Result<StateDict, MethodError> {
        self.net.state()
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), MethodError> {
        self.net.load(state)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::matching::Draw;

    /// The terms in double precision, entry by entry.
    fn reference(a: &[f64], b: &[f64], dim: usize) -> [f64; 2] {
        let batch = a.len() / dim;
        let (mut diagonal, mut off) = (0.0, 0.0);
        for i in 0..dim {
            for j in 0..dim {
                let c = (0..batch).map(|n| a[n * dim + i] * b[n * dim + j]).sum::<f64>() / batch as f64;
                if i == j { diagonal += (1.0 - c).powi(2) } else { off += c * c }
            }
        }
        [diagonal, off]
    }

    #[test]
    fn both_ways_give_the_terms_of_double_precision_and_their_gradients() {
        let device = Device::flex();
        for (seed, batch, dim) in [(1, 4, 9), (2, 9, 4), (3, 6, 6), (4, 2, 3)] {
            let mut draw = Draw(seed);
            let mut values = || -> Vec<f64> {
                (0..batch * dim).map(|_| draw.below(1 << 20) as f64 / (1 << 18) as f64 - 2.0).collect()
            };
            let (a, b) = (values(), values());
            let tensor = |x: &[f64]| {
                let x: Vec<f32> = x.iter().map(|v| *v as f32).collect();
                Tensor::<2>::from_data(TensorData::new(x, [batch, dim]), &device).autodiff()
            };
            let raw = tensor(&a).require_grad();
            let found = barlow_terms(raw.clone(), tensor(&b));
            for (term, expected) in [&found.diagonal, &found.off_diagonal].into_iter().zip(reference(&a, &b, dim))
            {
                let term = f64::from(term.clone().into_scalar::<f32>());
                assert!((term - expected).abs() <= 1e-5 * expected.abs() + 1e-5, "{seed}: {term} {expected}");
            }
            let loss = found.diagonal + found.off_diagonal * 0.3;
            let gradient = raw.grad(&loss.backward()).unwrap().into_data().try_to_vec::<f32>().unwrap();
            let largest = gradient.iter().fold(0f32, |most, g| most.max(g.abs()));
            for (i, found) in gradient.iter().enumerate() {
                let moved = |by: f64| {
                    let mut a = a.clone();
                    a[i] += by;
                    let [diagonal, off] = reference(&a, &b, dim);
                    diagonal + 0.3 * off
                };
                let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let apart = (f64::from(*found) - expected).abs();
                assert!(apart <= 1e-3 * f64::from(largest), "{seed}, gradient {i}: {found} {expected}");
            }
        }
    }

    /// BYOL's: blur 1 and 0.1, solarize 0 and 0.2.
    #[test]
    fn views_are_asymmetric() {
        let plan = views(&ViewSettings { global_scale: [0.08, 1.0], ..ViewSettings::default() });
        plan.validate().unwrap();
        let seen: Vec<_> = plan
            .views
            .iter()
            .map(|v| (v.title.as_str(), v.blur.unwrap().prob, v.solarize_prob, v.scale))
            .collect();
        assert_eq!(seen, [("view 1", 1.0, 0.0, [0.08, 1.0]), ("view 2", 0.1, 0.2, [0.08, 1.0])]);
        assert!(plan.gpu_ready());
    }
}
