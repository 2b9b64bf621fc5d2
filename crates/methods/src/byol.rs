//! BYOL: predict what a slowly moving copy of the network makes of another view (Grill et al. 2020,
//! <https://arxiv.org/abs/2006.07733>).

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ocelli_data::{Blur, BlurKind, Colour, ColourJitter, FloatBrightness, ViewPlan, ViewSpec};
use ocelli_models::mlp::{LastNorm, LinearInit, Mlp, MlpConfig, forward_mlp};
use ocelli_models::weights::{ModuleState as _, StateDict};
use ocelli_models::{AnyBackbone, Backbone, BackboneKind, Init, Mode};
use serde::{Deserialize, Serialize};

use crate::ViewSettings;
use crate::figure::{CONSTANT_FEATURES, Condition, FEATURE_STD, Figure, Sign, loss};
use crate::held::{Draw, Followed};
use crate::method::{Batch, LossOutput, Method, MethodError, Network, StepClock, Update, check_value};
use crate::moco::check_two_views;
use crate::optim::Group;
use crate::parts::infonce::unit;
use crate::parts::{Projected, feature_std};
use crate::recipe::{Facts, Key, Needs, Range, Recipe, Sections, check_keys, presets};
use crate::schedule::Cosine;

/// BYOL's own constants; defaults are the published recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ByolConfig {
    /// Linear layers of the projector; 0 is 2, and 3 where a configuration has a Vision Transformer.
    pub projector_layers: usize,
    /// Linear layers of the predictor (2); 0 is no predictor, and collapses.
    pub predictor_layers: usize,
    /// Width of the hidden layers of both (4,096).
    pub hidden_dim: usize,
    /// Width of projections and predictions (256).
    pub out_dim: usize,
    /// Momentum of the target network at the start (0.996); a cosine takes it to 1.
    pub momentum: f64,
}

impl Default for ByolConfig {
    fn default() -> Self {
        Self { projector_layers: 0, predictor_layers: 2, hidden_dim: 4096, out_dim: 256, momentum: 0.996 }
    }
}

/// Linear layers of the projector where the configuration leaves them open.
const fn projector_layers(kind: BackboneKind) -> usize {
    match kind {
        BackboneKind::Vit => 3,
        BackboneKind::ResNet => 2,
    }
}

const FIGURES: &[Figure] = &[
    loss(
        "Squared distance of unit vectors, both directions: 4 where predictions are no better than chance, 0 where they are \
         perfect. Healthy: down within the first epochs, then level or slowly down, clearly above 0. It also falls when all images \
         become the same: look at the spreads.",
    ),
    Figure::new(
        "target_std",
        "Spread of the target's projections",
        "How far the projections that are predicted lie apart, 1 for projections spread over the sphere. Healthy: level after \
         the first epochs, 0.5 and more. Falling towards 0 together with the loss means that all images get the same one.",
    )
    .from_zero()
    .bar("target std", 2)
    .headline(),
    Figure::new(
        "unpredicted",
        "Loss without the predictor",
        "The same distance of the online network's projection itself. Healthy: above the loss once the predictor has learnt. Near 0 \
         the target follows too closely.",
    )
    .from_zero(),
    FEATURE_STD,
];

const SIGNS: &[Sign] = &[
    CONSTANT_FEATURES,
    // Small networks that learn have a spread of 0.7 to 0.9 and a loss above 0.02 from their first step on; collapsed ones, without a
    // predictor and with a target that does not lag, 0.11 to 0.15 and below 0.004 (batch normalisation keeps them off 0).
    Sign::new(
        "constant_projections",
        "the target network gives every image the same projection, which is easily predicted, and the loss is near zero for \
         nothing",
        "a higher byol.momentum (0.99 and more), byol.predictor_layers = 2, a lower optim.lr, a longer optim.warmup_epochs, a \
         larger batch_size or a smaller accumulate (batch normalisation needs many images)",
        &[Condition::below("target_std", 0.2), Condition::below("loss", 0.02)],
    ),
];

const KEYS: &[Key] = &[
    Key {
        name: "byol.projector_layers",
        meaning: "linear layers of the projector; 0: 2, and 3 of a Vision Transformer",
        source: "BYOL: 2; Ocelli on Vision Transformers: 3",
        range: Range::Count(0, 64),
    },
    Key {
        name: "byol.predictor_layers",
        meaning: "linear layers of the predictor; 0: none, which collapses",
        source: "BYOL",
        range: Range::Count(0, 64),
    },
    Key {
        name: "byol.hidden_dim",
        meaning: "width of the hidden layers of projector and predictor",
        source: "BYOL",
        range: Range::Count(1, 1_000_000),
    },
    Key {
        name: "byol.out_dim",
        meaning: "width of projections and predictions",
        source: "BYOL",
        range: Range::Count(2, 1_000_000),
    },
    Key {
        name: "byol.momentum",
        meaning: "momentum of the target network at the start; a cosine takes it to 1",
        source: "BYOL, 1,000 epochs; 0.99 for 100 and 300, 0.97 for 40",
        range: Range::Share,
    },
];

/// What BYOL declares.
pub const BYOL: Recipe = Recipe {
    name: "byol",
    title: "BYOL",
    paper: "Grill et al. 2020, https://arxiv.org/abs/2006.07733",
    defaults: r#"
arch = "resnet-50"
epochs = 1000
batch_size = 4096
drop_path = 0.0
[views]
global_scale = [0.08, 1.0]
local_crops = 0
[optim]
optimizer = "lars"
lr = 0.2
min_lr = 0.0
warmup_epochs = 10
warmup = "open"
weight_decay = 1.5e-6
weight_decay_end = 1.5e-6
clip_grad = 0.0
"#,
    sections: || Sections::default().with("byol", &ByolConfig::default()),
    keys: KEYS,
    presets: presets![
        "byol-r50-1000": "BYOL ResNet-50, 1,000 epochs, batch 4096 (published: k-NN 64.8, linear 74.4)",
        "byol-r50-300": "BYOL ResNet-50, 300 epochs, batch 4096 (published: k-NN 65.4, linear 72.7)",
        "byol-r50w2-1000": "BYOL ResNet-50 of double width, 1,000 epochs, batch 4096 (published: linear 77.4)",
        "byol-r50w4-1000": "BYOL ResNet-50 of fourfold width, 1,000 epochs, batch 4096 (published: linear 78.6)",
        "byol-r200w2-1000": "BYOL ResNet-200 of double width, 1,000 epochs, batch 4096 (published: k-NN 73.9, linear 79.6)",
        "byol-vit-s16-300": "BYOL ViT-S/16, 300 epochs, batch 1024, AdamW (published by DINO: k-NN 66.6, linear 71.4)",
        "byol-laptop": "BYOL, a narrow ResNet-18 on 64 px views, on a CPU",
    ],
    figures: FIGURES,
    signs: SIGNS,
    backbones: &[BackboneKind::Vit, BackboneKind::ResNet],
    published_for: "resnet-50, resnet-50x2, resnet-50x4, resnet-200x2, vit-s/16",
    needs: Needs { labels: false, indices: false, places: false, whole_batch: false, coupled: false },
    holds: "target network",
    views,
    views_about: "Both networks see both; the online network predicts the target's projection of the other.",
    check,
    notes,
    build,
};

/// Two views that differ in blur and solarisation, their colours changed on floats.
fn views(settings: &ViewSettings) -> ViewPlan {
    let view = |title: &str, blur_prob: f32, solarize_prob: f32| ViewSpec {
        title: title.to_owned(),
        size_px: settings.global_size_px as u32,
        scale: settings.global_scale,
        jitter: Some(ColourJitter { prob: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.2, hue: 0.1 }),
        grayscale_prob: 0.2,
        blur: settings
            .blur_sigma()
            .map(|sigma| Blur { kind: BlurKind::Convolution, ..Blur::pil(blur_prob, sigma) }),
        solarize_prob,
        colour: Colour::Floats { brightness: FloatBrightness::Add },
        ..ViewSpec::default()
    };
    ViewPlan {
        views: vec![view("view 1", 1.0, 0.0), view("view 2", 0.1, 0.2)],
        mean: settings.mean,
        std: settings.std,
    }
}

fn check(facts: &Facts<'_>) -> Result<(), MethodError> {
    check_two_views(facts)?;
    let images = facts.batch_size / facts.accumulate.max(1);
    let expected = "2 images or more in each part of a batch, over which projections are normalised";
    check_value(images >= 2, "batch_size", expected, images)
}

/// Heads normalise over the batch even where the backbone does not.
fn notes(facts: &Facts<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let parts = facts.accumulate;
    if parts > 1 && !facts.backbone.has_batch_norm() {
        notes.push(format!(
            "batch normalisation in projector and predictor sees one of {parts} parts at a time (accumulate): close to the whole \
             batch at once, not the same"
        ));
    }
    if facts.own.count("byol.predictor_layers") == 0 {
        notes.push("without a predictor (byol.predictor_layers = 0) BYOL collapses".into());
    }
    notes
}

fn build(facts: &Facts<'_>, seed: u64, device: &Device) -> Result<Box<dyn Method>, MethodError> {
    let mut config: ByolConfig = facts.own.get("byol")?;
    if config.projector_layers == 0 {
        config.projector_layers = projector_layers(facts.backbone.kind());
    }
    let target = facts.backbone.without_drop_path();
    let online = |init: &mut Init| facts.backbone.init(init);
    let target = |init: &mut Init| target.init(init);
    Ok(Box::new(Byol::<AnyBackbone>::of(&config, [&online, &target], seed, device)?))
}

/// A backbone with projector and predictor. The target network's predictor is empty, which leaves projections as they are.
#[derive(Module, Debug)]
pub struct ByolNet<B: Module> {
    /// Backbone and projector.
    pub op_projected: Projected<B>,
    /// Layers with PyTorch's indices.
    pub predictor: Mlp,
}

/// What a network makes of a view, tracked where the network is.
pub struct ByolOutputs {
    /// `[batch, out]`, the target's equal to its projections.
    pub predictions: Tensor<2>,
    /// `[batch, out]`.
    pub projections: Tensor<2>,
    /// The backbone's, `[batch, dim]`.
    pub features: Tensor<2>,
}

impl<B: Backbone> ByolNet<B> {
    fn new(config: &ByolConfig, backbone: B, init: &mut Init) -> Self {
        let head = |input: usize, layers: usize| {
            let mut widths = vec![config.hidden_dim; layers + 1];
            widths[0] = input;
            widths[layers] = config.out_dim;
            MlpConfig {
                widths,
                norm: true,
                bias: true,
                last_bias: false,
                last_norm: LastNorm::None,
                how: LinearInit::Default,
            }
        };
        let layers = match config.projector_layers {
            0 => projector_layers(BackboneKind::ResNet),
            layers => layers,
        };
        let op_projected = Projected::new(backbone, |dim| head(dim, layers), init);
        let predictor = match config.predictor_layers {
            0 => Mlp::new(),
            layers => head(config.out_dim, layers).init(init),
        };
        Self { op_projected, predictor }
    }

    /// Images `[batch, 3, height, width]` to predictions, projections and features.
    pub fn forward(&self, images: Tensor<4>, mode: Mode) -> ByolOutputs {
        let (projections, features) = self.op_projected.forward(images, mode);
        ByolOutputs { predictions: forward_mlp(&self.predictor, projections.clone(), mode), projections, features }
    }
}

/// BYOL's loss (Grill et al. 2020, equation 2) of both directions: the mean over the batch of ‖n(p₁) − n(t₂)‖² + ‖n(p₂) −
/// n(t₁)‖², n(x) = x / ‖x‖, which is 4 less twice both cosines. `[batch, dim]` each to `[1]`, 0 to 8; targets have no gradient.
pub fn byol_loss([p1, p2]: [Tensor<2>; 2], [t1, t2]: [Tensor<2>; 2]) -> Tensor<1> {
    let distance = |p: Tensor<2>, t: Tensor<2>| {
        let t = unit(t.detach());
        let t = if p.is_autodiff() && !t.is_autodiff() { t.autodiff() } else { t };
        (unit(p) - t).powi_scalar(2).sum_dim(1).mean()
    };
    distance(p1, t2) + distance(p2, t1)
}

/// Online and target network. See [`ByolConfig`].
pub struct Byol<B: Backbone = AnyBackbone> {
    config: ByolConfig,
    nets: Followed<ByolNet<B>>,
}

impl<B: Backbone> Byol<B> {
    /// An online network drawn from `seed` and a target network equal to it. `build` draws a backbone; `device` is the plain
    /// device, the online network's parameters are tracked.
    ///
    /// # Errors
    /// When a value is out of range, or the backbone cannot be built.
    pub fn new<E: Into<MethodError>>(
        config: &ByolConfig,
        build: impl Fn(&mut Init) -> Result<B, E>,
        seed: u64,
        device: &Device,
    ) -> Result<Self, MethodError> {
        Self::of(config, [&build, &build], seed, device)
    }

    /// The same where the target's backbone is built otherwise: without drop path, of which it has none.
    ///
    /// # Errors
    /// As [`Byol::new`].
    pub fn of<E: Into<MethodError>>(
        config: &ByolConfig,
        build: [&Draw<'_, B, E>; 2],
        seed: u64,
        device: &Device,
    ) -> Result<Self, MethodError> {
        check_keys(KEYS, &Sections::default().with("byol", config)?)?;
        let nets = Followed::drawn(build, seed, device, |backbone, init| ByolNet::new(config, backbone, init))?;
        // The target predicts nothing.
        let nets = nets.with_follower(|target| ByolNet { predictor: Mlp::new(), ..target });
        Ok(Self { config: config.clone(), nets })
    }

    /// The online network: its backbone is the one that is kept.
    pub fn online(&self) -> &ByolNet<B> {
        self.nets.net()
    }

    /// The target network.
    pub fn target(&self) -> &ByolNet<B> {
        self.nets.follower()
    }

    /// What the online network makes of two views, then the target: four forward passes, each with batch statistics of its
    /// own.
    pub fn outputs(&self, views: [Tensor<4>; 2], seed: u64) -> ([ByolOutputs; 2], [ByolOutputs; 2]) {
        let mode = Mode::Train { seed };
        let online = views.clone().map(|view| self.online().forward(view.autodiff(), mode));
        let target = views.map(|view| self.target().forward(view, mode));
        (online, target)
    }
}

impl<B: Backbone> Method for Byol<B> {
    fn figures(&self) -> &'static [Figure] {
        FIGURES
    }

    fn network(&self) -> &dyn Network {
        self.nets.net()
    }

    /// The target moves with the step, by the online network's new values.
    fn update(&mut self, update: Update<'_>) {
        let momentum = update.clock.momentum;
        self.nets.update(update, Some(momentum), &|_| Group::default());
    }

    fn loss(&mut self, batch: &Batch, clock: &StepClock) -> LossOutput {
        let views = [0, 1].map(|view| batch.view(view));
        let (online, target) = self.outputs(views, clock.step_seed());
        let targets = target.map(|o| o.projections);
        let projections = online.each_ref().map(|o| o.projections.clone().inner());
        let features = online[0].features.clone().inner();
        let loss = byol_loss(online.map(|o| o.predictions), targets.clone());
        let scalars = vec![
            ("loss", loss.clone().inner()),
            ("target_std", feature_std(targets[0].clone())),
            ("unpredicted", byol_loss(projections, targets)),
            ("feature_std", feature_std(features)),
        ];
        LossOutput { loss, scalars }
    }

    /// 1 − (1 − base)(1 + cos(πk/K))/2.
    fn momentum(&self, iteration: usize, iterations: usize) -> Option<f64> {
        Some(Cosine::new(self.config.momentum, 1.0, iterations).at(iteration))
    }

    fn after_step(&mut self, clock: &StepClock) {
        self.nets.follow_once(clock);
    }

    fn start_from(&mut self, backbone: &StateDict) -> Result<(), MethodError> {
        self.nets.load([backbone, backbone], |state, net| {
            Ok(ByolNet { op_projected: net.op_projected.with_backbone(state)?, ..net })
        })
    }

    fn state(&self) -> Result<StateDict, MethodError> {
        self.nets.state(["online.", "target."])
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), MethodError> {
        let parts = ["online.", "target."].map(|prefix| state.under(prefix));
        self.nets.load([&parts[0], &parts[1]], |part, net| Ok(part.load_into(net)?))
    }

    fn held_values(&self) -> usize {
        self.nets.held_values()
    }
}
