//! OBoW: predicting bags of visual words whose vocabulary is made while one trains (Gidaris et al. 2021,
//! <https://arxiv.org/abs/2012.11552>).

use burn::tensor::Device;
use ocelli_data::{Blur, ColourJitter, Crop, Filter, Grid, ViewPlan, ViewSpec};
use ocelli_models::{AnyBackbone, BackboneKind, Init};
use serde::{Deserialize, Serialize};

use crate::ViewSettings;
use crate::figure::{CONSTANT_FEATURES, Condition, FEATURE_STD, Figure, Sign, loss};
use crate::method::{Method, MethodError, check_value};
use crate::recipe::{Facts, Key, MANY, Needs, Range, Recipe, Sections, presets};

mod training;

pub use training::{BowPredictor, Cells, Obow, ObowNet};

/// OBoW's own constants; defaults are the published recipe for ResNet-50.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObowConfig {
    /// Words of each level's vocabulary (8,192); a multiple of the batch size, which it is renewed by.
    pub words: usize,
    /// Hidden width of the predictors; 0 is twice the features' (4,096 for ResNet-50).
    pub hidden_dim: usize,
    /// Levels of the teacher that have a vocabulary, the last ones (2).
    pub levels: usize,
    /// 1/δ, the sharpness of the assignments: softmax of −(1/δ)·d²/μ (15; 10 for ResNet-18).
    pub inv_delta: f64,
    /// κ, the fixed inverse temperature of the predictions (8; 5 for ResNet-18).
    pub kappa: f64,
    /// Momentum of the teacher at the start; a cosine takes it to 1 (0.99).
    pub momentum: f64,
    /// Momentum of μ, the mean distance to the nearest word (0.99).
    pub distance_momentum: f64,
}

impl Default for ObowConfig {
    fn default() -> Self {
        Self {
            words: 8192,
            hidden_dim: 0,
            levels: 2,
            inv_delta: 15.0,
            kappa: 8.0,
            momentum: 0.99,
            distance_momentum: 0.99,
        }
    }
}

/// The perplexity of a bag with all words alike.
const WORDS: &str = "words";
/// Names of the vocabularies in the state.
const STAGES: [&str; 4] = ["words0", "words1", "words2", "words3"];

const FIGURES: &[Figure] = &[
    loss(
        "KL divergence of predicted bags from the teacher's, crops and patches added. Healthy: it rises while random words give \
         way to real ones, then falls slowly. A student that looks at no image has bag_information twice over; how good the \
         features are it does not say.",
    ),
    Figure::new(
        "loss_crops",
        "Loss of the crops",
        "Healthy: below what the bags tell, and falling away from it.",
    )
    .from_zero()
    .bar("crops", 3),
    Figure::new(
        "loss_patches",
        "Loss of the patches",
        "Healthy: as that of the crops, somewhat above it: a patch shows less. 0 where there are no patches.",
    )
    .from_zero()
    .bar("patches", 3),
    Figure::new(
        "perplexity_image",
        "Words of an image",
        "Perplexity of a bag, the mean over images and levels. Healthy: level, well above 1 and well below the number of words; \
         at that number the teacher sees no difference between words.",
    )
    .from_zero()
    .level(WORDS),
    Figure::new(
        "perplexity_batch",
        "Words of a batch",
        "Perplexity of all bags of a batch together, the mean over levels. Healthy: several times an image's. At 1, one word is \
         all that is used; where it meets an image's, all images have the same bag.",
    )
    .from_zero()
    .level(WORDS)
    .bar("words", 0)
    .headline(),
    Figure::new(
        "bag_information",
        "What the bags tell of an image, nats",
        "Entropy of the batch's bags together less that of each, between 0 and ln(images). Healthy: up as the vocabulary fills, \
         then level. At 0, all images have the same bag and there is nothing to predict.",
    )
    .from_zero()
    .bar("info", 2)
    .headline(),
    Figure::new(
        "word_distance",
        "Squared distance to the nearest word",
        "Its moving average, the mean over levels: the scale of the assignments. Healthy: from 0.5 to the scale of the features \
         within some hundred steps, then slowly moving. Towards 0, the features of all images become one.",
    )
    .from_zero(),
    FEATURE_STD,
];

/// In a run of the laptop's preset bags told 1.8 nats of their image at first and 1.0 later, an image had 70 to 430 of 1,024 words
/// and a batch 370 to 880; in the fixture, with 12 words, bags tell 0.1 nats and more, and an image has at most 0.88 of the words.
/// Bags that do not depend on the image tell 0 but for rounding, about 1e-6.
const SIGNS: &[Sign] = &[
    CONSTANT_FEATURES,
    Sign::new(
        "same_bag",
        "the teacher gives every image the same bag of words, and the student has nothing to learn from",
        "a lower optim.lr, a longer optim.warmup_epochs, a higher obow.momentum, a higher obow.inv_delta, a larger batch_size",
        &[Condition::below("bag_information", 0.01)],
    ),
    Sign::new(
        "one_word",
        "the teacher answers every cell of every image with the same word",
        "a lower obow.inv_delta, a lower optim.lr, a longer optim.warmup_epochs, a larger obow.words",
        &[Condition::below("perplexity_batch", 1.5)],
    ),
    Sign::new(
        "all_words",
        "every word is as near to an image as every other: bags are uniform and tell nothing",
        "a higher obow.inv_delta, a lower optim.lr, a higher obow.momentum",
        &[Condition::above("perplexity_image", 0.98).of(WORDS)],
    ),
];

const fn key(name: &'static str, meaning: &'static str, source: &'static str, range: Range) -> Key {
    Key { name, meaning, source, range }
}

const KEYS: &[Key] = &[
    key("obow.words", "words of each level's vocabulary: a multiple of batch_size", "OBoW", Range::Count(2, MANY)),
    key(
        "obow.hidden_dim",
        "hidden width of the predictors; 0: twice the features'",
        "OBoW",
        Range::Count(0, 1_000_000),
    ),
    key("obow.levels", "stages of the teacher that have a vocabulary, the last ones", "OBoW", Range::Count(1, 4)),
    key("obow.inv_delta", "sharpness of the assignments to words", "OBoW; 10 for resnet-18", Range::Positive),
    key("obow.kappa", "inverse temperature of the predictions", "OBoW; 5 for resnet-18", Range::Positive),
    key("obow.momentum", "momentum of the teacher at the start; a cosine takes it to 1", "OBoW", Range::Share),
    key("obow.distance_momentum", "momentum of the mean distance to the nearest word", "OBoW", Range::Share),
];

/// What OBoW declares.
pub const OBOW: Recipe = Recipe {
    name: "obow",
    title: "OBoW",
    paper: "Gidaris et al. 2021, https://arxiv.org/abs/2012.11552",
    defaults: r#"
arch = "resnet-50"
epochs = 200
batch_size = 256
drop_path = 0.0
[views]
global_size_px = 160
global_scale = [0.08, 0.6]
local_size_px = 96
local_scale = [0.6, 1.0]
local_crops = 5
[optim]
optimizer = "sgd"
lr = 0.03
min_lr = 3e-5
warmup_epochs = 10
warmup = "open"
weight_decay = 1e-4
weight_decay_end = 1e-4
decay_all = true
clip_grad = 0.0
"#,
    sections: || Sections::default().with("obow", &ObowConfig::default()),
    keys: KEYS,
    presets: presets![
        "obow-r50-200": "OBoW ResNet-50, 200 epochs, batch 256 (published: k-NN 61.9, linear 73.8)",
        "obow-r18-small": "OBoW ResNet-18 on one GPU, 80 epochs, batch 128, for a fifth of ImageNet (the authors' small setting)",
        "obow-laptop": "OBoW, a narrow ResNet-18 on views of 56, 40 and 24 px, on a CPU",
    ],
    figures: FIGURES,
    signs: SIGNS,
    backbones: &[BackboneKind::ResNet],
    published_for: "resnet-50, resnet-18",
    needs: Needs { labels: false, indices: false, places: false, whole_batch: false, coupled: true },
    holds: "teacher and vocabularies",
    views,
    views_about: "The teacher sees the first, the image's centre; the student sees two crops and patches cut from a third, and \
                  predicts the teacher's words.",
    check,
    notes,
    build,
};

/// Side of the teacher's view for crops of this side, and of the image's short side before its centre is cut out: 224 and 256
/// for 160.
fn teacher_sides(crop_px: usize) -> [usize; 2] {
    [crop_px * 7 / 5, crop_px * 8 / 5]
}

/// Most patches there are: 3×3 of them.
const MOST_PATCHES: usize = 9;

/// The teacher's view, the image's centre; two crops of `views.global_size_px`; `views.local_crops` patches of
/// `views.local_size_px`, out of 3×3 overlapping ones of a further crop.
fn views(v: &ViewSettings) -> ViewPlan {
    let [teacher_px, short_px] = teacher_sides(v.global_size_px).map(|side| side as u32);
    let (crop_px, patch_px) = (v.global_size_px as u32, v.local_size_px as u32);
    let teacher = ViewSpec {
        title: "teacher".into(),
        size_px: teacher_px,
        crop: Crop::Centre { resize_short_px: short_px },
        // Of a square image; nothing is drawn from it.
        scale: [(7.0f32 / 8.0).powi(2); 2],
        filter: Filter::Bilinear,
        ..ViewSpec::default()
    };
    let student = |title: &str| ViewSpec {
        title: title.into(),
        scale: v.global_scale,
        size_px: crop_px,
        jitter: Some(ColourJitter { prob: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 }),
        grayscale_prob: 0.2,
        filter: Filter::Bilinear,
        ..ViewSpec::default()
    };
    let crop = |title: &str| ViewSpec { blur: v.blur_sigma().map(|s| Blur::pil(0.5, s)), ..student(title) };
    // 256, 24 and 68 pixels for patches of 96.
    let (canvas_px, jitter_px) = (patch_px * 8 / 3, patch_px / 4);
    let stride_px = canvas_px.saturating_sub(patch_px + jitter_px) / 2;
    let grid = Grid { canvas_px, per_side: 3, stride_px, jitter_px, shuffled: true };
    let patch = ViewSpec { size_px: patch_px, scale: v.local_scale, ..student("patch") };
    let patches = grid.views(v.local_crops.min(MOST_PATCHES) as u32, &patch);
    let views = [vec![teacher, crop("crop 1"), crop("crop 2")], patches].concat();
    ViewPlan { views, mean: v.mean, std: v.std }
}

fn check(facts: &Facts<'_>) -> Result<(), MethodError> {
    let v = facts.views;
    let most = format!("at most {MOST_PATCHES}, the patches there are");
    check_value(v.local_crops <= MOST_PATCHES, "views.local_crops", most, v.local_crops)?;
    if v.local_crops > 0 {
        let smaller = format!("below views.global_size_px, {}: patches are a pass of their own", v.global_size_px);
        check_value(v.local_size_px < v.global_size_px, "views.local_size_px", smaller, v.local_size_px)?;
    }
    // Five cells a side: without the border, three of which a word is the mean.
    let cell = facts.backbone.cell_px();
    let [side, _] = teacher_sides(v.global_size_px);
    let least = (5 * (4 * cell + 1)).div_ceil(7);
    let expected = format!(
        "at least {least}: the teacher's view, 7/5 of it, needs 5 cells of {cell} px a side, as words are means of 3×3 cells off \
         the border"
    );
    check_value(side.div_ceil(cell) >= 5, "views.global_size_px", expected, v.global_size_px)?;
    let words = facts.own.count("obow.words");
    let expected = format!("a multiple of batch_size, {}: every image renews a word", facts.batch_size);
    check_value(words.is_multiple_of(facts.batch_size.max(1)), "obow.words", expected, words)
}

/// The vocabulary's first turn.
fn notes(facts: &Facts<'_>) -> Vec<String> {
    let words = facts.own.count("obow.words");
    vec![format!(
        "vocabularies of {words} words: figures say little until real words have taken the place of random ones ({} steps)",
        words / facts.batch_size.max(1)
    )]
}

fn build(facts: &Facts<'_>, seed: u64, device: &Device) -> Result<Box<dyn Method>, MethodError> {
    let net = |init: &mut Init| facts.backbone.init(init);
    Ok(Box::new(Obow::<AnyBackbone>::new(&facts.own.get("obow")?, net, seed, device)?))
}

#[cfg(test)]
mod tests {
    use ocelli_models::{BackboneConfig, ResNetArch, ResNetConfig, Stem};

    use super::*;

    #[test]
    fn the_published_views_come_from_the_common_settings() {
        let settings = ViewSettings {
            global_size_px: 160,
            global_scale: [0.08, 0.6],
            local_scale: [0.6, 1.0],
            local_crops: 5,
            ..ViewSettings::default()
        };
        let plan = views(&settings);
        plan.validate().unwrap();
        assert_eq!(plan.groups(), [(224, 0..1), (160, 1..3), (96, 3..8)]);
        assert_eq!(plan.views[0].crop, Crop::Centre { resize_short_px: 256 });
        assert!(plan.views[0].jitter.is_none() && plan.views[1].blur.is_some() && plan.views[3].blur.is_none());
        let grid = Grid { canvas_px: 256, per_side: 3, stride_px: 68, jitter_px: 24, shuffled: true };
        assert_eq!(plan.views[7].crop, Crop::Patch { grid, number: 4 });
        for (crop, patch, patches) in [(40, 24, 5), (48, 28, 9), (31, 11, 3), (160, 96, 0), (33, 1, 9)] {
            let sides = ViewSettings {
                global_size_px: crop,
                local_size_px: patch,
                local_crops: patches,
                ..settings.clone()
            };
            let plan = views(&sides);
            plan.validate().unwrap();
            assert_eq!(plan.groups().len(), if patches > 0 { 3 } else { 2 }, "{crop} {patch}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        let arch: ResNetArch = "resnet-18c8".parse().unwrap();
        let message = |words: usize, change: fn(&mut ViewSettings)| {
            let mut settings =
                ViewSettings { global_size_px: 40, local_size_px: 24, local_crops: 5, ..ViewSettings::default() };
            change(&mut settings);
            let own = Sections::default().with("obow", &ObowConfig { words, ..ObowConfig::default() }).unwrap();
            let backbone = BackboneConfig::ResNet(ResNetConfig { stem: Stem::Cifar, ..arch.into() });
            let facts = Facts {
                own: &own,
                views: &settings,
                backbone: &backbone,
                batch_size: 64,
                accumulate: 1,
                images: None,
                classes: None,
            };
            OBOW.check(&facts).err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert_eq!(message(1024, |_| ()), "");
        assert_eq!(message(1024, |v| v.local_crops = 0), "");
        assert!(message(1000, |_| ()).contains("obow.words: expected a multiple of batch_size, 64"));
        assert!(message(1024, |v| v.local_crops = 10).contains("at most 9"));
        assert!(message(1024, |v| v.local_size_px = 40).contains("views.local_size_px: expected below"));
        // Cells of 8 px: a teacher's view of 33 px and more has five of them.
        let small = message(1024, |v| (v.global_size_px, v.local_crops) = (23, 0));
        assert!(
            small.contains("views.global_size_px: expected at least 24") && small.contains("found 23"),
            "{small}"
        );
        assert_eq!(message(1024, |v| (v.global_size_px, v.local_crops) = (24, 0)), "");
    }
}
