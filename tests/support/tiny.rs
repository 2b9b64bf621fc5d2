//! Every method's recipe for a laptop, made so small that a step takes milliseconds.

use std::sync::Arc;

use ocelli::data::{SceneConfig, SceneSource, Source};
use ocelli::methods::{METHODS, Range, Recipe};
use ocelli::models::BackboneKind;
use ocelli::train::{RunConfig, config};
use serde_json::Value;

/// How small.
#[derive(Clone, Copy)]
pub struct Tiny {
    /// Scenes.
    pub images: usize,
    /// Images of a batch.
    pub batch: usize,
    /// The most of whatever a method counts: widths, prototypes, queues. Fewer than there are images, whole batches.
    pub most: u64,
    /// Epochs.
    pub epochs: usize,
}

impl Tiny {
    /// Labelled scenes.
    pub fn source(&self) -> Arc<dyn Source> {
        Arc::new(SceneSource::new(SceneConfig { count: self.images, ..SceneConfig::default() }).unwrap())
    }

    /// The configuration of a method with one of its backbones. It shrinks what the method declares, and so knows none by name.
    pub fn config(&self, recipe: &Recipe, kind: BackboneKind, sets: &[&str]) -> RunConfig {
        let arch = match kind {
            BackboneKind::ResNet => "resnet-18c4",
            BackboneKind::Vit => "vit-32x2x2/8",
        };
        let mut all = vec![
            format!("arch={arch}"),
            "resnet.stem=cifar".into(),
            format!("epochs={}", self.epochs),
            format!("batch_size={}", self.batch),
            // From the first step on, something moves.
            "optim.warmup_epochs=0".into(),
            "eval.every_epochs=0".into(),
            "watch.collapse=off".into(),
            "loader.prefetch=1".into(),
            "loader.threads=1".into(),
        ];
        let laptop = laptop(recipe);
        for key in recipe.keys {
            let value = laptop.own.value(key.name).unwrap_or_else(|| panic!("no {}", key.name));
            if let Some(small) = self.shrunk(key.name, key.range, value) {
                all.push(format!("{}={small}", key.name));
            }
        }
        all.extend(sets.iter().map(|s| (*s).to_owned()));
        config::resolve_over(&laptop, None, &all).unwrap_or_else(|e| panic!("{} {kind:?}: {e}", recipe.name))
    }

    /// A smaller value of a key, where it is a large number. What begins or ends at some time does so within the run.
    fn shrunk(&self, name: &str, range: Range, value: &Value) -> Option<Value> {
        let most = match name {
            _ if name.contains("epoch") => 1,
            _ if name.contains("iteration") || name.contains("step") => 3,
            _ => self.most,
        };
        match (value, range) {
            (Value::Array(items), _) => {
                let items: Vec<Value> =
                    items.iter().map(|v| v.as_u64().map_or(v.clone(), |n| n.min(most).into())).collect();
                Some(items.into())
            }
            (_, Range::Count(low, _)) => {
                let found = value.as_u64()?;
                (found > most).then(|| most.max(low).into())
            }
            _ => None,
        }
    }
}

/// A method's recipe for a laptop.
pub fn laptop(recipe: &Recipe) -> RunConfig {
    let preset = recipe.presets.iter().find(|p| p.name.ends_with("laptop"));
    let preset = preset.unwrap_or_else(|| panic!("{} has no recipe for a laptop", recipe.name)).name;
    config::resolve(Some(preset), None, &[]).unwrap_or_else(|e| panic!("{preset}: {e}"))
}

/// Every method with every kind of backbone it can have.
pub fn methods() -> impl Iterator<Item = (&'static Recipe, BackboneKind)> {
    METHODS.iter().flat_map(|recipe| recipe.backbones.iter().map(|kind| (*recipe, *kind)))
}
