//! The configuration of a run in a tab: the native program's names, with defaults that suit a tab.

use ocelli_data::ViewPlan;
use ocelli_methods::{Facts, METHODS, MethodError, Range, Recipe, Sections, ViewSettings};
use ocelli_models::{Arch, BackboneConfig, BackboneKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use ocelli_web::WebError;

/// The method of a run that names none.
const USUAL: &str = "dino";

/// Prototypes, widths and queues beyond this fill a tab's memory before a step is done.
const MOST: u64 = 1 << 17;

/// What a run is, beside its method's own sections.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub arch: Arch,
    pub views: ViewSettings,
    pub epochs: usize,
    pub steps_per_epoch: usize,
    pub batch_size: usize,
    pub seed: u64,
    pub drop_path: f64,
    /// Peak learning rate, as it is.
    pub lr: f64,
    pub min_lr: f64,
    pub warmup_epochs: usize,
    pub weight_decay: f64,
    pub weight_decay_end: f64,
    pub clip_grad: f64,
}

impl Default for Settings {
    /// Small enough for a laptop's browser: a few million values, pictures of 64 px.
    fn default() -> Self {
        let views = ViewSettings {
            global_size_px: 64,
            local_size_px: 32,
            local_crops: 4,
            blur_sigma_max: 1.0,
            ..ViewSettings::default()
        };
        Self {
            arch: Arch { dim: 128, depth: 4, heads: 2, patch_size_px: 8, registers: 0 },
            views,
            epochs: 20,
            steps_per_epoch: 50,
            batch_size: 16,
            seed: 0,
            drop_path: 0.0,
            lr: 5e-4,
            min_lr: 1e-6,
            warmup_epochs: 2,
            weight_decay: 0.04,
            weight_decay_end: 0.4,
            clip_grad: 3.0,
        }
    }
}

/// What a method's run in a tab sets beside the settings' defaults: heads as narrow as its recipe for laptops has them, and followers
/// and queues that keep up within some hundred steps.
fn in_a_tab(method: &str) -> Value {
    let with = |local_crops: usize, own: Value| {
        let views = json!({ "global_scale": [0.2, 1.0], "local_scale": [0.05, 0.2], "local_crops": local_crops });
        let mut all = json!({ "batch_size": 32, "weight_decay_end": 0.04, "views": views });
        merge(&mut all, own);
        all
    };
    let (pairs, crops) = (|own| with(0, own), |own| with(2, own));
    match method {
        "dino" => json!({ "dino": {
            "teacher_momentum": 0.99, "freeze_last_layer_epochs": 1,
            "head": { "out_dim": 1024, "hidden_dim": 512, "bottleneck_dim": 128 },
        } }),
        "moco" => pairs(json!({ "moco": { "queue": 256, "momentum": 0.995, "hidden_dim": 256 } })),
        "simclr" => pairs(json!({ "simclr": { "layers": 2, "hidden_dim": 256, "temperature": 0.2 } })),
        "barlow" => pairs(json!({ "barlow": { "hidden_dim": 512, "out_dim": 512, "loss_scale": 0.1 } })),
        "vicreg" => pairs(json!({ "vicreg": { "dim": 512 } })),
        "byol" => pairs(json!({ "byol": { "hidden_dim": 512, "out_dim": 64, "momentum": 0.99 } })),
        "swav" => crops(json!({ "swav": {
            "prototypes": 128, "hidden_dim": 256, "out_dim": 64, "epsilon": 0.02, "queue": 0, "freeze_prototypes_steps": 50,
        } })),
        "deepcluster" => {
            crops(json!({ "deepcluster": { "heads": [100, 100, 50], "hidden_dim": 128, "out_dim": 64 } }))
        }
        _ => json!({}),
    }
}

/// Puts `from` over `into`, key by key.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// Methods that a Vision Transformer can have and that learn without labels: nobody names the pictures of a tab.
pub fn methods() -> impl Iterator<Item = &'static Recipe> {
    METHODS.iter().copied().filter(|r| r.backbones.contains(&BackboneKind::Vit) && !r.needs.labels)
}

/// A run in a tab.
pub struct Config {
    pub recipe: &'static Recipe,
    pub settings: Settings,
    /// The method's own sections.
    pub own: Sections,
}

impl Config {
    /// Reads JSON; what is left out has its default.
    ///
    /// # Errors
    /// `argument` for a method, key or kind of value that is not known.
    pub fn read(text: &str) -> Result<Self, WebError> {
        let wrong = |found: String| WebError::argument("config", "a training configuration", found);
        let given: Value = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        let method = given.get("method").unwrap_or(&Value::Null);
        let recipe = match method {
            Value::Null => methods().find(|r| r.name == USUAL),
            named => methods().find(|r| Some(r.name) == named.as_str()),
        };
        let recipe = recipe.ok_or_else(|| {
            let names: Vec<&str> = methods().map(|r| r.name).collect();
            WebError::argument("method", names.join(", "), method)
        })?;
        let sections = (recipe.sections)().map_err(told)?;
        let names: Vec<String> = sections.0.keys().cloned().collect();
        let mut all = serde_json::to_value(Settings::default()).map_err(|e| wrong(e.to_string()))?;
        merge(&mut all, Value::Object(sections.0));
        merge(&mut all, in_a_tab(recipe.name));
        merge(&mut all, given);
        let Value::Object(mut all) = all else { return Err(wrong("no object".into())) };
        all.remove("method");
        let mut own = Sections::default();
        for name in names {
            own.0.extend(all.remove_entry(&name));
        }
        let settings = serde_json::from_value(Value::Object(all)).map_err(|e| wrong(e.to_string()))?;
        Ok(Self { recipe, settings, own })
    }

    /// Every value, as JSON.
    ///
    /// # Errors
    /// `argument` for what JSON does not have, which no value here is.
    pub fn write(&self) -> Result<String, WebError> {
        let mut all = Map::from_iter([("method".to_owned(), json!(self.recipe.name))]);
        let settings = serde_json::to_value(&self.settings);
        let settings = settings.map_err(|e| WebError::argument("config", "JSON", e.to_string()))?;
        if let Value::Object(settings) = settings {
            all.extend(settings);
        }
        all.extend(self.own.0.clone());
        Ok(Value::Object(all).to_string())
    }

    /// What the method may ask; `images` once they are known.
    pub fn facts<'a>(&'a self, backbone: &'a BackboneConfig, images: Option<usize>) -> Facts<'a> {
        Facts {
            own: &self.own,
            views: &self.settings.views,
            backbone,
            batch_size: self.settings.batch_size,
            accumulate: 1,
            images,
            classes: None,
        }
    }

    /// The views of a picture.
    pub fn plan(&self) -> ViewPlan {
        (self.recipe.views)(&self.settings.views)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// `argument` for the first that is out of range.
    pub fn check(&self, backbone: &BackboneConfig) -> Result<(), WebError> {
        let within =
            |what: &'static str, value: usize, low: usize, high: usize| match (low..=high).contains(&value) {
                true => Ok(()),
                false => Err(WebError::argument(what, format!("{low} to {high}"), value)),
            };
        let (s, patch) = (&self.settings, self.settings.arch.patch_size_px);
        within("epochs", s.epochs, 1, 100_000)?;
        within("steps_per_epoch", s.steps_per_epoch, 1, 100_000)?;
        within("batch_size", s.batch_size, 1, 1024)?;
        within("views.global_size_px", s.views.global_size_px, patch, 512)?;
        within("views.local_size_px", s.views.local_size_px, patch, 512)?;
        within("views.local_crops", s.views.local_crops, 0, 32)?;
        for (what, value) in [
            ("lr", s.lr),
            ("min_lr", s.min_lr),
            ("weight_decay", s.weight_decay),
            ("weight_decay_end", s.weight_decay_end),
            ("clip_grad", s.clip_grad),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(WebError::argument(what, "a number of at least 0", value));
            }
        }
        self.recipe.check(&self.facts(backbone, None)).map_err(told)?;
        for key in self.recipe.keys.iter().filter(|key| matches!(key.range, Range::Count(..))) {
            let value = self.own.value(key.name).and_then(Value::as_u64).unwrap_or(0);
            if value > MOST {
                return Err(WebError::argument(key.name, format!("at most {MOST}"), value));
            }
        }
        Ok(self.plan().validate()?)
    }
}

/// A method's error as the module tells it.
pub fn told(error: MethodError) -> WebError {
    match error {
        MethodError::Vit(e) => e.into(),
        MethodError::Weights(e) => e.into(),
        MethodError::Value { key, expected, found } => WebError::argument(key, expected, found),
        MethodError::Section(name, found) => {
            WebError::argument("config", format!("a section {name} that fits"), found)
        }
        MethodError::Unreadable(_) => WebError::Device(error.to_string()),
        MethodError::ResNet(_)
        | MethodError::Backbone(_)
        | MethodError::Missing(_)
        | MethodError::Labels { .. } => WebError::Weights(error.to_string()),
    }
}
