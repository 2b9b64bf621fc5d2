//! VICReg: variance, invariance, covariance (Bardes et al. 2022, <https://arxiv.org/abs/2105.04906>).

use burn::tensor::{Device, Tensor};
use ocelli_data::ViewPlan;
use ocelli_kernels::together;
use ocelli_models::mlp::{LastNorm, LinearInit, MlpConfig};
use ocelli_models::weights::StateDict;
use ocelli_models::{AnyBackbone, Backbone, BackboneKind, Init, Mode};
use serde::{Deserialize, Serialize};

use crate::ViewSettings;
use crate::figure::{CONSTANT_FEATURES, FEATURE_STD, Figure, loss};
use crate::held::Trained;
use crate::method::{Batch, LossOutput, Method, MethodError, Network, StepClock, Update};
use crate::moco;
use crate::optim::Group;
use crate::parts::{Projected, feature_std};
use crate::recipe::{Facts, Key, Needs, Range, Recipe, Sections, check_keys, no_notes, presets};

/// VICReg's own constants; defaults are the published recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VicregConfig {
    /// Width of all three layers of the expander (8,192).
    pub dim: usize,
    /// Weight of the variance term (25).
    pub variance: f64,
    /// Weight of the invariance term (25).
    pub invariance: f64,
    /// Weight of the covariance term (1).
    pub covariance: f64,
}

impl Default for VicregConfig {
    fn default() -> Self {
        Self { dim: 8192, variance: 25.0, invariance: 25.0, covariance: 1.0 }
    }
}

/// Standard deviations below this are pushed up.
const TARGET_STD: f64 = 1.0;
/// Below the root of the variance.
const EPSILON: f64 = 1e-4;

const FIGURES: &[Figure] = &[
    loss("The three terms, weighted. Healthy: down, fast at first; how good the features are it does not say."),
    Figure::new(
        "invariance",
        "Invariance",
        "Mean squared distance of two views' embeddings. Healthy: level or slowly down; at 0 with variance at 1 all images \
         have one embedding.",
    )
    .from_zero()
    .bar("inv", 3),
    Figure::new(
        "variance",
        "Variance",
        "By how much the embeddings' standard deviations are below 1, the mean of both views. Healthy: towards 0. Stuck near 1, \
         the embeddings are all the same.",
    )
    .from_zero()
    .bar("var", 3)
    .headline(),
    Figure::new(
        "covariance",
        "Covariance",
        "Squared covariances of different components over their number. Healthy: up at first, as variance falls, then down.",
    )
    .from_zero()
    .bar("cov", 3),
    FEATURE_STD,
];

const fn key(name: &'static str, meaning: &'static str, range: Range) -> Key {
    Key { name, meaning, source: "VICReg", range }
}

const KEYS: &[Key] = &[
    key("vicreg.dim", "width of the expander's three layers", Range::Count(2, 1_000_000)),
    key("vicreg.variance", "weight of the variance term", Range::AtLeastZero),
    key("vicreg.invariance", "weight of the invariance term", Range::AtLeastZero),
    key("vicreg.covariance", "weight of the covariance term", Range::AtLeastZero),
];

/// What VICReg declares.
pub const VICREG: Recipe = Recipe {
    name: "vicreg",
    title: "VICReg",
    paper: "Bardes et al. 2022, https://arxiv.org/abs/2105.04906",
    defaults: r#"
arch = "resnet-50"
epochs = 100
batch_size = 2048
drop_path = 0.0
[views]
global_scale = [0.08, 1.0]
local_crops = 0
[optim]
optimizer = "lars"
lr = 0.2
min_lr = 0.002
warmup_epochs = 10
warmup = "open"
weight_decay = 1e-6
weight_decay_end = 1e-6
clip_grad = 0.0
"#,
    sections: || Sections::default().with("vicreg", &VicregConfig::default()),
    keys: KEYS,
    presets: presets![
        "vicreg-laptop": "VICReg, a narrow ResNet-18 on 64 px views, on a CPU",
    ],
    figures: FIGURES,
    signs: &[CONSTANT_FEATURES],
    backbones: &[BackboneKind::Vit, BackboneKind::ResNet],
    published_for: "resnet-50",
    needs: Needs { labels: false, indices: false, places: false, whole_batch: true, coupled: true },
    holds: "nothing else",
    views,
    views_about: "The network sees both; their embeddings are to agree.",
    check,
    notes: no_notes,
    build,
};

/// Two views alike.
fn views(settings: &ViewSettings) -> ViewPlan {
    let mut plan = moco::views(settings);
    for (i, view) in plan.views.iter_mut().enumerate() {
        view.title = format!("view {}", i + 1);
    }
    plan
}

fn check(facts: &Facts<'_>) -> Result<(), MethodError> {
    moco::check_two_views(facts)?;
    let images = facts.batch_size / facts.accumulate.max(1);
    let expected = "2 images or more in each part of a batch, whose variance is looked at";
    crate::method::check_value(images >= 2, "batch_size", expected, images)
}

fn build(facts: &Facts<'_>, seed: u64, device: &Device) -> Result<Box<dyn Method>, MethodError> {
    let net = |init: &mut Init| facts.backbone.init(init);
    Ok(Box::new(Vicreg::<AnyBackbone>::new(&facts.own.get("vicreg")?, net, seed, device)?))
}

/// A network whose embeddings of two views agree, vary over the batch and have components that do not tell the same.
pub struct Vicreg<B: Backbone = AnyBackbone> {
    config: VicregConfig,
    net: Trained<Projected<B>>,
}

impl<B: Backbone> Vicreg<B> {
    /// A network drawn from `seed`. `build` draws a backbone; `device` is the plain device, the parameters are tracked.
    ///
    /// # Errors
    /// When a value is out of range, or the backbone cannot be built.
    pub fn new<E: Into<MethodError>>(
        config: &VicregConfig,
        build: impl Fn(&mut Init) -> Result<B, E>,
        seed: u64,
        device: &Device,
    ) -> Result<Self, MethodError> {
        check_keys(KEYS, &Sections::default().with("vicreg", config)?)?;
        let expander = |dim| MlpConfig {
            widths: vec![dim, config.dim, config.dim, config.dim],
            norm: true,
            bias: true,
            last_bias: false,
            last_norm: LastNorm::None,
            how: LinearInit::Default,
        };
        let (net, _) = Projected::drawn(build, expander, seed, device)?;
        Ok(Self { config: config.clone(), net: Trained::new(net) })
    }
}

/// The terms of two views' embeddings `[batch, dim]`, `[1]` each.
pub struct VicregTerms {
    /// Mean squared distance.
    pub invariance: Tensor<1>,
    /// Mean over the components of max(0, 1 − σ), the mean of both views; σ² has batch − 1 below and 1e-4 added.
    pub variance: Tensor<1>,
    /// Squares of the covariances off the diagonal over the number of components, summed over both views.
    pub covariance: Tensor<1>,
}

/// The three terms of VICReg's loss (Bardes et al. 2022, equations 1 to 5), as its published code weighs them: the variance
/// term is halved.
pub fn vicreg_terms(a: Tensor<2>, b: Tensor<2>) -> VicregTerms {
    let [batch, dim] = a.dims();
    let invariance = (a.clone() - b.clone()).powi_scalar(2).mean();
    let spread = |x: Tensor<2>| {
        let centred = x.clone() - x.mean_dim(0);
        let below = (batch.max(2) - 1) as f64;
        let variance = centred.clone().powi_scalar(2).sum_dim(0) / below;
        let hinge = ((variance.clone() + EPSILON).sqrt().neg() + TARGET_STD).clamp_min(0.0).mean();
        let covariance = centred.clone().transpose().matmul(centred) / below;
        let off = (covariance.powi_scalar(2).sum() - variance.powi_scalar(2).sum()) / dim as f64;
        (hinge, off)
    };
    let ((hinge_a, off_a), (hinge_b, off_b)) = (spread(a), spread(b));
    VicregTerms { invariance, variance: (hinge_a + hinge_b) / 2.0, covariance: off_a + off_b }
}

impl<B: Backbone> Method for Vicreg<B> {
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
        let embed = |view: usize| self.net.net().forward(batch.view(view).autodiff(), mode);
        let ((a, features), (b, _)) = (embed(0), embed(1));
        let terms = vicreg_terms(together::gather(a), together::gather(b));
        let loss = terms.invariance.clone() * self.config.invariance
            + terms.variance.clone() * self.config.variance
            + terms.covariance.clone() * self.config.covariance;
        let scalars = vec![
            ("loss", loss.clone().inner()),
            ("invariance", terms.invariance.inner()),
            ("variance", terms.variance.inner()),
            ("covariance", terms.covariance.inner()),
            ("feature_std", feature_std(features.inner())),
        ];
        LossOutput { loss, scalars }
    }

    fn start_from(&mut self, backbone: &StateDict) -> Result<(), MethodError> {
        self.net.change(|net| net.with_backbone(backbone))
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

    /// The terms in double precision, component by component.
    fn reference(a: &[Vec<f64>], b: &[Vec<f64>]) -> [f64; 3] {
        let (n, d) = (a.len(), a[0].len());
        let squares = a.iter().flatten().zip(b.iter().flatten()).map(|(x, y)| (x - y).powi(2));
        let invariance = squares.sum::<f64>() / (n * d) as f64;
        let (mut variance, mut covariance) = (0.0, 0.0);
        for view in [a, b] {
            let mean: Vec<f64> = (0..d).map(|j| view.iter().map(|r| r[j]).sum::<f64>() / n as f64).collect();
            for j in 0..d {
                for k in 0..d {
                    let c = view.iter().map(|r| (r[j] - mean[j]) * (r[k] - mean[k])).sum::<f64>() / (n - 1) as f64;
                    match j == k {
                        true => variance += (1.0 - (c + 1e-4).sqrt()).max(0.0) / d as f64 / 2.0,
                        false => covariance += c * c / d as f64,
                    }
                }
            }
        }
        [invariance, variance, covariance]
    }

    fn embeddings(seed: u64, n: usize, d: usize, scale: f64) -> Vec<Vec<f64>> {
        let mut draw = crate::matching::Draw(seed);
        let mut number = || scale * (draw.below(1 << 20) as f64 / (1 << 19) as f64 - 1.0);
        (0..n).map(|_| (0..d).map(|_| number()).collect()).collect()
    }

    fn tensor(rows: &[Vec<f64>], device: &Device) -> Tensor<2> {
        let values: Vec<f32> = rows.iter().flatten().map(|v| *v as f32).collect();
        Tensor::from_data(TensorData::new(values, [rows.len(), rows[0].len()]), device)
    }

    #[test]
    fn the_terms_are_those_of_double_precision_and_so_are_their_gradients() {
        let device = Device::flex();
        for (seed, n, d, scale) in [(1, 5, 3, 0.7), (2, 16, 8, 2.5), (3, 2, 4, 1.0)] {
            let (a, b) = (embeddings(seed, n, d, scale), embeddings(seed + 100, n, d, scale));
            let weights = [25.0, 25.0, 1.0];
            let total = |a: &[Vec<f64>]| reference(a, &b).iter().zip(weights).map(|(t, w)| t * w).sum::<f64>();
            let x = tensor(&a, &device).autodiff().require_grad();
            let found = vicreg_terms(x.clone(), tensor(&b, &device).autodiff());
            let terms = [&found.invariance, &found.variance, &found.covariance];
            for (term, expected) in terms.into_iter().zip(reference(&a, &b)) {
                let term = f64::from(term.clone().into_scalar::<f32>());
                assert!((term - expected).abs() <= 1e-5 * expected.abs() + 1e-6, "{term} {expected}");
            }
            let loss = found.invariance * weights[0] + found.variance * weights[1] + found.covariance * weights[2];
            let gradient = x.grad(&loss.backward()).unwrap().into_data().try_to_vec::<f32>().unwrap();
            let largest = gradient.iter().fold(0f32, |m, g| m.max(g.abs()));
            for (i, found) in gradient.iter().enumerate() {
                let moved = |by: f64| {
                    let mut a = a.clone();
                    a[i / d][i % d] += by;
                    total(&a)
                };
                let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let apart = (f64::from(*found) - expected).abs();
                assert!(apart <= 1e-3 * f64::from(largest), "gradient {i}: {found} {expected}");
            }
        }
    }
}
