//! From a template in `shaders/` and its settings to WGSL.
//!
//! WGSL has no generics, no loops the compiler must unroll and no registers by number, so the text is made: Jinja, by the
//! `minijinja` library.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use minijinja::{Environment, Value};

/// Name and text of every template, as `build.rs` packs them.
const SHADERS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/shaders.rs"));

/// The value of one setting of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Setting {
    /// A size.
    Number(usize),
    /// On or off.
    Flag(bool),
    /// One of several names.
    Name(&'static str),
}

impl From<usize> for Setting {
    fn from(value: usize) -> Self {
        Self::Number(value)
    }
}

impl From<bool> for Setting {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl From<&'static str> for Setting {
    fn from(value: &'static str) -> Self {
        Self::Name(value)
    }
}

type Settings = Vec<(&'static str, Setting)>;

/// The names of all templates.
pub fn shaders() -> impl Iterator<Item = &'static str> {
    SHADERS.iter().map(|(name, _)| *name)
}

/// The WGSL of a template with its settings; expanded once in a process.
///
/// # Panics
/// On a template that does not exist or is wrong, which the tests rule out.
#[allow(clippy::panic)]
pub fn expand(name: &'static str, settings: &[(&'static str, Setting)]) -> Arc<str> {
    type Expanded = HashMap<(&'static str, Settings), Arc<str>>;
    static EXPANDED: LazyLock<Mutex<Expanded>> = LazyLock::new(Mutex::default);
    static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
        let mut templates = Environment::new();
        templates.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        for (name, text) in SHADERS {
            if let Err(error) = templates.add_template_owned(format!("{name}.wgsl"), *text) {
                panic!("shaders/{name}.wgsl: {error:#}");
            }
        }
        templates
    });
    let key = (name, settings.to_vec());
    let mut expanded = EXPANDED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(text) = expanded.get(&key) {
        return text.clone();
    }
    let values: Value = settings
        .iter()
        .map(|(name, setting)| {
            let value = match *setting {
                Setting::Number(n) => Value::from(n),
                Setting::Flag(on) => Value::from(on),
                Setting::Name(name) => Value::from(name),
            };
            (*name, value)
        })
        .collect();
    let text = TEMPLATES.get_template(&format!("{name}.wgsl")).and_then(|t| t.render(values));
    let text: Arc<str> = text.unwrap_or_else(|error| panic!("shaders/{name}.wgsl {settings:?}: {error:#}")).into();
    expanded.insert(key, text.clone());
    text
}
