//! What every key means, and where its default comes from.

use toml::{Table, Value};

use super::resolve::table_of;
use super::{ConfigError, RunConfig};

/// Key, meaning, source of the default. *DINO*, *MoCo*, *DenseCL*: the reference's default or its paper; *torchvision*:
/// the reference takes it from there; *Ocelli*: no published value, or a matter of taste.
const KEYS: &[(&str, &str, &str)] = &[
    ("task", "what the run is: pretraining, or classification (fine-tuning)", "Ocelli"),
    ("method", "what is trained; the other defaults are its own", "Ocelli"),
    ("arch", "backbone: a Vision Transformer, or a ResNet, as the method allows", "each method's paper"),
    ("init_from", "weights to start from; empty: random", "DINO"),
    ("seed", "decides weights, order, views, drop path", "DINO"),
    ("epochs", "passes over the images", "DINO"),
    ("batch_size", "images per optimizer step, all parts together", "DINO, each GPU"),
    (
        "accumulate",
        "parts a batch is computed in: the same result but for batch normalisation, which sees a part at a time",
        "Ocelli",
    ),
    ("drop_path", "largest rate of stochastic depth in the student, of a Vision Transformer", "DINO"),
    ("resnet.stem", "imagenet: 7x7 of stride 2 and pooling; cifar: 3x3, for images of 32 to 64 px", "torchvision"),
    (
        "resnet.norm_groups",
        "shares of a micro-batch normalised on their own; in contrast with a queue, 1 lets the statistics give a key away",
        "each method's number of devices",
    ),
    ("resnet.zero_init_residual", "start every block as the identity", "torchvision, MoCo, DenseCL"),
    ("views.global_size_px", "side of the two global crops; methods that compare two views have no others", "all"),
    ("views.local_size_px", "side of the local crops", "DINO"),
    ("views.global_scale", "share of the image's area in a global crop", "each method's paper"),
    ("views.local_scale", "share of the image's area in a local crop", "DINO"),
    ("views.local_crops", "local crops of each image; 0 where a method compares two views", "DINO"),
    ("views.blur_sigma_max", "largest sigma of the blur, pixels; 0: no blur", "DINO"),
    (
        "views.jitter",
        "strength of brightness, contrast, saturation and hue jitter, of methods that leave it open; 0: none",
        "VISSL, supervised: 0.4",
    ),
    (
        "views.randaugment",
        "magnitude of RandAugment, 0 to 10, of methods that leave it open; 0: none",
        "DeiT, supervised: 9; InfoMin: 10",
    ),
    (
        "views.erase",
        "probability of random erasing, of methods that leave it open; 0: none",
        "DeiT, supervised: 0.25",
    ),
    ("views.mean", "taken off each channel", "torchvision: ImageNet's"),
    ("views.std", "divides each channel", "torchvision: ImageNet's"),
    ("optim.optimizer", "adamw, sgd, lars, or larc", "each method's paper"),
    (
        "optim.lr",
        "peak learning rate for scale_base images; scaled by batch_size / scale_base",
        "each method's paper",
    ),
    ("optim.scale_base", "images of a batch that lr is for; 0: lr as it is", "all; DeiT: 512"),
    (
        "optim.lr_factor_1d",
        "multiplies the learning rate of biases and normalisations",
        "all: 1; Barlow Twins: 0.024",
    ),
    ("optim.min_lr", "learning rate at the end of cosine and poly, not scaled", "DINO"),
    ("optim.schedule", "learning rate after the warm-up: cosine, step, poly, or constant", "each method's paper"),
    ("optim.milestones_epochs", "epochs at which step multiplies the learning rate", "each method's paper"),
    ("optim.gamma", "what step multiplies the learning rate by", "torchvision"),
    ("optim.power", "exponent of poly", "mmsegmentation"),
    ("optim.lr_by_epoch", "let the learning rate move once an epoch, not every step", "MoCo"),
    ("optim.warmup_epochs", "epochs of linear warm-up", "DINO"),
    ("optim.warmup_start_lr", "learning rate of the first step of warm-up, not scaled", "DINO: 0; DeiT: 1e-6"),
    (
        "optim.warmup",
        "closed: its last step has the peak; open: the step after it; overlapping: open, in place of the schedule's start",
        "DINO: closed; SimCLR, BYOL, Barlow Twins: open; DeiT: overlapping",
    ),
    ("optim.weight_decay", "weight decay at the start (decoupled in adamw)", "each method's paper"),
    ("optim.weight_decay_end", "weight decay at the end, along a cosine", "DINO"),
    (
        "optim.decay_all",
        "decay biases and normalisations too (not in lars, see lars_matrices_only)",
        "MoCo, DenseCL, SwAV: true; DINO: false",
    ),
    ("optim.no_decay", "last parts of the names of parameters that are not decayed", "DeiT: pos_embed, cls_token"),
    ("optim.clip_grad", "largest gradient norm of each parameter; 0: no clipping", "DINO"),
    ("optim.beta1", "decay of the first moment of adamw", "all"),
    ("optim.beta2", "decay of the second moment of adamw", "all"),
    ("optim.momentum", "momentum of sgd, lars and larc", "all"),
    ("optim.nesterov", "look one momentum ahead in sgd", "torchvision: false"),
    ("optim.lars_eta", "trust ratio of lars and larc", "DINO, SwAV"),
    ("optim.lars_matrices_only", "neither decay nor scale biases and normalisations in lars", "all"),
    (
        "optim.lars_rate_inside",
        "put the learning rate of lars into the momentum",
        "SimCLR: true; all others: false",
    ),
    (
        "optim.gradients",
        "what gradients travel as between processes; f16 halves the bytes and keeps three digits",
        "Ocelli: f32",
    ),
    ("eval.every_epochs", "epochs between k-NN evaluations; 0: none. Needs labels", "Ocelli"),
    ("eval.resize_px", "short side before the centre crop; 0: as it is", "DINO's k-NN"),
    ("eval.crop_px", "side of the centre crop; 0: all of it", "DINO's k-NN"),
    ("eval.batch_size", "images per forward pass", "Ocelli"),
    ("eval.max_train", "images neighbours come from, at most; 0: all", "Ocelli"),
    ("eval.max_test", "images to classify, at most; 0: all", "Ocelli"),
    ("eval.linear", "also a linear classifier on the same features, 30 epochs at six rates", "Ocelli"),
    ("loader.threads", "threads that decode and cut views; 0: one per core", "Ocelli"),
    ("loader.prefetch", "batches made ahead", "Ocelli"),
    (
        "loader.max_bad_fraction",
        "share of unreadable images that stops the run; up to 3 are tolerated unless it is 0",
        "Ocelli",
    ),
    ("loader.max_pixels", "largest width × height of an image that is read", "Ocelli"),
    ("loader.views", "where views are rendered: cpu, gpu, or auto (gpu on graphics hardware)", "Ocelli"),
    ("log.every_steps", "steps between rows of metrics.jsonl; DINO prints every 10", "DINO"),
    ("log.checkpoint_every_epochs", "epochs between checkpoints", "DINO"),
    ("log.checkpoint_every_minutes", "minutes between checkpoints within an epoch; 0: none", "Ocelli"),
    ("log.keep_checkpoints", "newest checkpoints kept", "Ocelli"),
    ("log.keep_every_epochs", "every so many epochs one is kept for good; 0: none", "DINO"),
    ("watch.collapse", "what to do about a collapse: stop, warn, off", "Ocelli"),
    ("watch.patience_epochs", "epochs a sign of collapse has to last", "Ocelli"),
];

/// A configuration as TOML, with the meaning and source of each value, and the default where it differs.
///
/// # Errors
/// When it cannot be written as TOML.
pub fn annotated(config: &RunConfig) -> Result<String, ConfigError> {
    let (table, defaults) = (table_of(config)?, table_of(&RunConfig::of(config.method)?)?);
    let own = config.recipe().keys.iter().map(|k| (k.name, k.meaning, k.source));
    let keys: Vec<_> = KEYS.iter().copied().chain(own).collect();
    let mut text = String::new();
    section(&mut text, "", &table, &defaults, &keys);
    Ok(text)
}

/// Plain values first, then the sections inside, as TOML wants it.
fn section(
    text: &mut String,
    prefix: &str,
    table: &Table,
    defaults: &Table,
    keys: &[(&'static str, &'static str, &'static str)],
) {
    for (key, value) in table.iter().filter(|(_, v)| !v.is_table()) {
        let full = format!("{prefix}{key}");
        let (_, meaning, source) = keys.iter().find(|(k, ..)| *k == full).copied().unwrap_or_default();
        let from = match defaults.get(key) {
            Some(default) if default != value => format!("this recipe; default {}, {source}", plain(default)),
            _ => source.to_owned(),
        };
        text.push_str(&format!("{:<34} # {meaning} ({from})\n", format!("{key} = {}", plain(value))));
    }
    for (key, value) in table {
        if let (Value::Table(inner), Some(Value::Table(defaults))) = (value, defaults.get(key)) {
            text.push_str(&format!("\n[{prefix}{key}]\n"));
            section(text, &format!("{prefix}{key}."), inner, defaults, keys);
        }
    }
}

/// A value as one would write it: numbers of single precision have come through double precision, where 0.4 is
/// 0.4000000059604645.
fn plain(value: &Value) -> String {
    match value {
        Value::Float(f) if f64::from(*f as f32) == *f => format!("{:?}", *f as f32),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{presets, resolve};

    fn keys(prefix: &str, table: &Table, to: &mut Vec<String>) {
        for (key, value) in table {
            match value {
                Value::Table(inner) => keys(&format!("{prefix}{key}."), inner, to),
                _ => to.push(format!("{prefix}{key}")),
            }
        }
    }

    #[test]
    fn every_key_is_explained_once() {
        for recipe in ocelli_methods::METHODS {
            let mut there = Vec::new();
            let config = RunConfig::of(recipe.name.parse().unwrap()).unwrap();
            keys("", &table_of(&config).unwrap(), &mut there);
            let own = recipe.keys.iter().map(|k| k.name.to_owned());
            let mut explained: Vec<String> = KEYS.iter().map(|(k, ..)| (*k).to_owned()).chain(own).collect();
            there.sort();
            explained.sort();
            assert_eq!(there, explained, "{}", recipe.name);
        }
    }

    #[test]
    fn what_is_printed_is_the_configuration() {
        for (_, preset) in presets() {
            let config = resolve(Some(preset.name), None, &[]).unwrap();
            let text = annotated(&config).unwrap();
            assert_eq!(resolve(None, Some(("printed", &text)), &[]).unwrap(), config, "{}", preset.name);
        }
    }
}
