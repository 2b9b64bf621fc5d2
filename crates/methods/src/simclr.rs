//! SimCLR: contrast among the views of a large batch (Chen et al. 2020, <https://arxiv.org/abs/2002.05709>; v2:
//! <https://arxiv.org/abs/2006.10029>).

use burn::tensor::{Device, Tensor};
use ocelli_data::{Blur, BlurKind, Colour, ColourJitter, FloatBrightness, ViewPlan, ViewSpec};
use ocelli_kernels::together;
use ocelli_models::mlp::{LastNorm, LinearInit, MlpConfig};
use ocelli_models::weights::StateDict;
use ocelli_models::{AnyBackbone, Backbone, BackboneKind, Init, Mode};
use serde::{Deserialize, Serialize};

use crate::ViewSettings;
use crate::figure::{CONSTANT_FEATURES, Condition, FEATURE_STD, Figure, Level, Sign, loss};
use crate::held::Trained;
use crate::method::{Batch, LossOutput, Method, MethodError, Network, StepClock, Update, check_value};
use crate::moco;
use crate::optim::Group;
use crate::parts::ntxent::nt_xent;
use crate::parts::{Projected, feature_std};
use crate::recipe::{Facts, Key, Needs, Range, Recipe, Sections, check_keys, presets};

/// SimCLR's own constants; defaults are the published recipe of its code, v2's head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimclrConfig {
    /// τ (0.1; 0.5 for CIFAR).
    pub temperature: f64,
    /// Linear layers of the head (3; 2 in v1).
    pub layers: usize,
    /// Width between them; 0 is the backbone's own (2,048 for ResNet-50).
    pub hidden_dim: usize,
    /// Width of the embeddings (128).
    pub out_dim: usize,
}

impl Default for SimclrConfig {
    fn default() -> Self {
        Self { temperature: 0.1, layers: 3, hidden_dim: 0, out_dim: 128 }
    }
}

/// The loss where no view is nearer to a view than another.
const INDIFFERENT: &str = "2 ln(2 batch - 1)";
/// The share of views that come first by guessing.
const GUESSED: &str = "1 / (2 batch - 1)";

const FIGURES: &[Figure] = &[
    loss(
        "Healthy: down from the first epochs on, below 2 ln(2 batch - 1), where nothing is told apart; it may begin above. How good \
         the features are it does not say, and other batch sizes have other losses.",
    )
    .level(INDIFFERENT),
    Figure::new(
        "top1",
        "Views whose own image comes first",
        "Share of views nearer to their image's other view than to every view of another image. Healthy: rising; the more images \
         to a batch, the lower. All of them within an epoch or two is a leak, such as marks that images carry, or views that differ \
         too little.",
    )
    .from_zero()
    .bar_with("top-1", 100.0, 1, " %")
    .headline(),
    Figure::new(
        "positives",
        "Cosine of two views of an image",
        "Healthy: up, and far above the cosine of different images. Together with it near 1, all images have one embedding.",
    )
    .bar("pos", 2),
    Figure::new(
        "negatives",
        "Cosine of views of different images",
        "Mean over the batch. Healthy: about 0 throughout. Towards 1, all images have one embedding.",
    )
    .bar("neg", 2),
    FEATURE_STD,
];

const SIGNS: &[Sign] = &[
    CONSTANT_FEATURES,
    Sign::new(
        "indifferent",
        "the loss stays at 2 ln(2 batch - 1): to every view all other views are as near as its image's own",
        "a lower optim.lr, a longer optim.warmup_epochs, a higher simclr.temperature, a larger batch_size",
        // A network as it is drawn may lie above the level, as its few directions are confidently wrong: the loss alone says
        // little. It is right three times as often as guessing, and more after an epoch.
        &[Condition::above("loss", 0.995).of(INDIFFERENT), Condition::below("top1", 2.0).of(GUESSED)],
    ),
    Sign::new(
        "one_embedding",
        "all images have one embedding",
        "a lower optim.lr, a longer optim.warmup_epochs, a larger batch_size",
        // The loss pushes different images to a cosine of 0 and below; a head's normalisation keeps it there from the start.
        &[Condition::above("negatives", 0.95)],
    ),
];

const fn key(name: &'static str, meaning: &'static str, source: &'static str, range: Range) -> Key {
    Key { name, meaning, source, range }
}

const KEYS: &[Key] = &[
    key("simclr.temperature", "temperature of the contrast", "SimCLR; 0.5 for CIFAR", Range::Positive),
    key("simclr.layers", "linear layers of the head", "SimCLRv2; 2 in SimCLR", Range::Count(1, 20)),
    key("simclr.hidden_dim", "width between them; 0: the backbone's own", "SimCLR", Range::Count(0, 1_000_000)),
    key("simclr.out_dim", "width of the embeddings", "SimCLR", Range::Count(2, 1_000_000)),
];

/// What SimCLR declares.
pub const SIMCLR: Recipe = Recipe {
    name: "simclr",
    title: "SimCLR",
    paper: "Chen et al. 2020, https://arxiv.org/abs/2002.05709 and https://arxiv.org/abs/2006.10029",
    defaults: r#"
arch = "resnet-50"
epochs = 100
batch_size = 4096
drop_path = 0.0
[views]
global_scale = [0.08, 1.0]
local_crops = 0
mean = [0.0, 0.0, 0.0]
std = [1.0, 1.0, 1.0]
[optim]
optimizer = "lars"
lars_rate_inside = true
lr = 0.3
min_lr = 0.0
warmup_epochs = 10
warmup = "open"
weight_decay = 1e-4
weight_decay_end = 1e-4
clip_grad = 0.0
"#,
    sections: || Sections::default().with("simclr", &SimclrConfig::default()),
    keys: KEYS,
    presets: presets![
        "simclr-r50-1000": "SimCLR ResNet-50, 1000 epochs, batch 4096 (published: linear 69.1, k-NN 60.7)",
        "simclr-r50w4-1000": "SimCLR ResNet-50 of 4 times the width, 1000 epochs (published: linear 76.8, k-NN 69.3)",
        "simclrv2-r152w3-sk-800": "SimCLRv2 ResNet-152 of 3 times the width with selective kernels, 800 epochs (published: \
         linear 79.8, k-NN 73.1)",
        "simclr-laptop": "SimCLR, a narrow ResNet-18 on 64 px views, on a CPU",
    ],
    figures: FIGURES,
    signs: SIGNS,
    backbones: &[BackboneKind::Vit, BackboneKind::ResNet],
    published_for: "resnet-50, resnet-50x2, resnet-50x4, and in v2 resnet-50 to resnet-152x3, also with -sk",
    needs: Needs { labels: false, indices: false, places: false, whole_batch: true, coupled: true },
    holds: "nothing else",
    views,
    views_about: "The network sees both at once; of all views in the batch, each is to find its image's other one.",
    check,
    notes,
    build,
};

/// Two views alike, whose colours change on floats as in SimCLR v2; v1 adds to the brightness where this multiplies.
fn views(v: &ViewSettings) -> ViewPlan {
    let view = |i: usize| ViewSpec {
        title: format!("view {i}"),
        size_px: v.global_size_px as u32,
        scale: v.global_scale,
        jitter: Some(ColourJitter { prob: 0.8, brightness: 0.8, contrast: 0.8, saturation: 0.8, hue: 0.2 }),
        grayscale_prob: 0.2,
        blur: v.blur_sigma().map(|sigma| Blur { kind: BlurKind::Convolution, ..Blur::pil(0.5, sigma) }),
        colour: Colour::Floats { brightness: FloatBrightness::Multiply },
        ..ViewSpec::default()
    };
    ViewPlan { views: vec![view(1), view(2)], mean: v.mean, std: v.std }
}

/// Images whose views are contrasted with each other.
fn contrasted(facts: &Facts<'_>) -> usize {
    facts.batch_size / facts.accumulate.max(1)
}

fn check(facts: &Facts<'_>) -> Result<(), MethodError> {
    moco::check_two_views(facts)?;
    let images = contrasted(facts);
    let expected = "2 images or more in each part of a batch, which are told apart";
    check_value(images >= 2, "batch_size", expected, images)
}

/// What guessing gives.
fn guessing(images: usize) -> f64 {
    2.0 * (2.0 * images as f64 - 1.0).ln()
}

fn notes(facts: &Facts<'_>) -> Vec<String> {
    let images = contrasted(facts);
    vec![format!(
        "each view is told apart from {} views of other images; a loss of {:.2} is guessing",
        2 * images.max(1) - 2,
        guessing(images)
    )]
}

fn build(facts: &Facts<'_>, seed: u64, device: &Device) -> Result<Box<dyn Method>, MethodError> {
    let net = |init: &mut Init| facts.backbone.init(init);
    let method = Simclr::<AnyBackbone>::new(&facts.own.get("simclr")?, net, seed, device)?;
    Ok(Box::new(Simclr { images: Some(contrasted(facts)), ..method }))
}

/// A network that finds, of all views in a batch, the other view of the same image.
pub struct Simclr<B: Backbone = AnyBackbone> {
    config: SimclrConfig,
    net: Trained<Projected<B>>,
    /// Images of a batch, where they are known.
    images: Option<usize>,
}

impl<B: Backbone> Simclr<B> {
    /// A network drawn from `seed`: linear layers without bias from N(0, 0.01²), each followed by batch normalisation, the last
    /// one without shift. `build` draws a backbone; `device` is the plain device, the parameters are tracked.
    ///
    /// # Errors
    /// When a value is out of range, or the backbone cannot be built.
    pub fn new<E: Into<MethodError>>(
        config: &SimclrConfig,
        build: impl Fn(&mut Init) -> Result<B, E>,
        seed: u64,
        device: &Device,
    ) -> Result<Self, MethodError> {
        check_keys(KEYS, &Sections::default().with("simclr", config)?)?;
        let head = |dim| {
            let hidden = if config.hidden_dim == 0 { dim } else { config.hidden_dim };
            let between = std::iter::repeat_n(hidden, config.layers.saturating_sub(1));
            MlpConfig {
                widths: std::iter::once(dim).chain(between).chain([config.out_dim]).collect(),
                norm: true,
                bias: false,
                last_bias: false,
                last_norm: LastNorm::Scaled,
                how: LinearInit::Narrow,
            }
        };
        let (net, _) = Projected::drawn(build, head, seed, device)?;
        Ok(Self { config: config.clone(), net: Trained::new(net), images: None })
    }

    /// Both views of all images in one pass, so that batch normalisation sees them together: `[2·images, 3, side, side]` to
    /// embeddings `[2·images, out]`, not normalised, and the backbone's features `[2·images, dim]`.
    pub fn embed(&self, views: Tensor<4>, mode: Mode) -> (Tensor<2>, Tensor<2>) {
        self.net.net().forward(views.autodiff(), mode)
    }
}

impl<B: Backbone> Method for Simclr<B> {
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
        let (embeddings, features) = self.embed(batch.views[0].clone(), Mode::Train { seed: clock.step_seed() });
        let found = nt_xent(together::gather_blocks(embeddings, 2), self.config.temperature);
        let scalars = vec![
            ("loss", found.loss.clone().inner()),
            ("top1", found.top1),
            ("positives", found.positives),
            ("negatives", found.negatives),
            ("feature_std", feature_std(features.inner())),
        ];
        LossOutput { loss: found.loss, scalars }
    }

    fn views_at_once(&self, views: usize) -> usize {
        views
    }

    fn levels(&self) -> Vec<Level> {
        let of = |images: usize| {
            let first = 1.0 / (2.0 * images as f64 - 1.0);
            vec![Level::new(INDIFFERENT, guessing(images)), Level::new(GUESSED, first)]
        };
        self.images.map(of).unwrap_or_default()
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
    use ocelli_models::{PositionRule, VitConfig};

    use super::*;

    fn tiny(config: &SimclrConfig) -> Simclr<ocelli_models::Vit> {
        let vit = VitConfig {
            image_size_px: 16,
            patch_size_px: 8,
            dim: 8,
            depth: 1,
            heads: 2,
            mlp_ratio: 2,
            drop_path: 0.0,
            registers: 0,
            position_rule: PositionRule::Dino,
        };
        Simclr::new(config, |init: &mut Init| vit.init(init), 3, &Device::flex()).unwrap()
    }

    /// v1's head has two linear layers, v2's three; none has a bias, and the last normalisation has no shift.
    #[test]
    fn heads_are_those_of_v1_and_v2() {
        let head = |config: SimclrConfig| -> Vec<(String, Vec<usize>)> {
            let state = tiny(&config).state().unwrap().under("projector.");
            let seen = state.tensors.into_iter().filter(|(name, _)| !name.contains("running_"));
            seen.map(|(name, tensor)| (name, tensor.shape)).collect()
        };
        let named = |list: &[(&str, &[usize])]| -> Vec<(String, Vec<usize>)> {
            list.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
        };
        let mut v1 = head(SimclrConfig { layers: 2, hidden_dim: 5, out_dim: 4, ..SimclrConfig::default() });
        v1.sort();
        let expected: &[(&str, &[usize])] = &[
            ("0.weight", &[5, 8]),
            ("1.bias", &[5]),
            ("1.weight", &[5]),
            ("3.weight", &[4, 5]),
            ("4.weight", &[4]),
        ];
        assert_eq!(v1, named(expected));
        let v2 = head(SimclrConfig::default());
        let shape = |name: &str| v2.iter().find(|(n, _)| n == name).map(|(_, shape)| shape.clone());
        assert_eq!(shape("3.weight"), Some(vec![8, 8]), "the backbone's own width");
        assert_eq!((shape("6.weight"), shape("7.weight")), (Some(vec![128, 8]), Some(vec![128])));
        assert_eq!(shape("7.bias"), None);
        let none = SimclrConfig { layers: 0, ..SimclrConfig::default() };
        assert!(check_keys(KEYS, &Sections::default().with("simclr", &none).unwrap()).is_err());
    }

    /// Rows of published-like, of tiny and of collapsed runs: only the last show a sign.
    #[test]
    fn signs_are_seen_in_collapsed_runs_alone() {
        let method = Simclr { images: Some(64), ..tiny(&SimclrConfig::default()) };
        let levels = method.levels();
        let seen = |loss: f64, top1: f64, negatives: f64, std: f64| {
            let row: std::collections::BTreeMap<&'static str, f64> =
                [("loss", loss), ("top1", top1), ("negatives", negatives), ("feature_std", std)].into();
            SIGNS.iter().find(|sign| sign.is_seen(&row, &levels)).map(|sign| sign.name)
        };
        // The first epochs of simclr-laptop, and a trained network.
        assert_eq!(seen(10.09, 0.036, 0.0, 0.33), None);
        assert_eq!(seen(9.63, 0.045, 0.0, 0.26), None);
        assert_eq!(seen(3.0, 0.7, 0.0, 0.9), None);
        assert_eq!(seen(9.69, 0.0, 0.0, 0.3), Some("indifferent"));
        assert_eq!(seen(9.5, 0.02, 0.97, 0.3), Some("one_embedding"));
        assert_eq!(seen(9.69, 0.0, 0.0, 0.001), Some("constant_features"));
    }

    #[test]
    fn views_are_those_of_the_published_code() {
        let plan = views(&ViewSettings::default());
        plan.validate().unwrap();
        let [first, second] = &plan.views[..] else { panic!("{plan:?}") };
        assert_eq!((first.title.as_str(), second.title.as_str()), ("view 1", "view 2"));
        assert_eq!(ViewSpec { title: second.title.clone(), ..first.clone() }, *second);
        assert!(views(&ViewSettings { blur_sigma_max: 0.0, ..ViewSettings::default() }).views[0].blur.is_none());
    }
}
