//! From a preset, a TOML file and `key=value` pairs to one checked configuration.

use toml::{Table, Value};

use super::{ConfigError, MethodKind, RunConfig, preset};

/// Builds a configuration: the method's published defaults, then the preset, then the file, then the single values.
///
/// `file` is a name for messages and the file's text; `sets` are `key=value` with dotted keys, values as in TOML
/// (bare words are taken as strings).
///
/// # Errors
/// Unknown presets and keys (with the nearest spelling), values of the wrong type or out of range.
pub fn resolve(
    preset_name: Option<&str>,
    file: Option<(&str, &str)>,
    sets: &[String],
) -> Result<RunConfig, ConfigError> {
    let mut layers: Vec<(Table, String)> = Vec::new();
    if let Some(name) = preset_name {
        layers.push((parse(preset(name)?.toml, name)?, name.to_owned()));
    }
    if let Some((name, text)) = file {
        layers.push((parse(text, name)?, name.to_owned()));
    }
    for set in sets {
        layers.push((parse_set(set)?, format!("--set {set}")));
    }
    // Every method has defaults of its own, so the last layer that names one comes first.
    let method = layers.iter().rev().find_map(|(layer, _)| layer.get("method")?.as_str());
    let method = method.map_or(Ok(MethodKind::Dino), str::parse)?;
    finish(table_of(&RunConfig::of(method))?, layers)
}

/// Lays single values over a configuration.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_over(base: &RunConfig, sets: &[String]) -> Result<RunConfig, ConfigError> {
    let layers = sets.iter().map(|set| Ok((parse_set(set)?, format!("--set {set}"))));
    finish(table_of(base)?, layers.collect::<Result<_, ConfigError>>()?)
}

fn finish(mut table: Table, layers: Vec<(Table, String)>) -> Result<RunConfig, ConfigError> {
    for (layer, name) in layers {
        merge(&mut table, layer, "", &name)?;
    }
    let config: RunConfig = table.try_into().map_err(|e: toml::de::Error| ConfigError::Toml {
        source_name: "configuration".into(),
        reason: e.message().to_owned(),
    })?;
    config.check()?;
    Ok(config)
}

pub(super) fn table_of(config: &RunConfig) -> Result<Table, ConfigError> {
    Table::try_from(config)
        .map_err(|e| ConfigError::Toml { source_name: "configuration".into(), reason: e.to_string() })
}

fn parse(text: &str, name: &str) -> Result<Table, ConfigError> {
    text.parse().map_err(|e: toml::de::Error| {
        let before = |at: usize| text.bytes().take(at).filter(|b| *b == b'\n').count();
        let line = e.span().map(|s| 1 + before(s.start));
        let at = line.map(|l| format!("line {l}: ")).unwrap_or_default();
        ConfigError::Toml { source_name: name.to_owned(), reason: format!("{at}{}", e.message()) }
    })
}

/// `a.b=v` to a table.
fn parse_set(set: &str) -> Result<Table, ConfigError> {
    let source_name = format!("--set {set}");
    let Some((key, value)) = set.split_once('=') else {
        return Err(ConfigError::Toml {
            source_name,
            reason: "expected key=value, such as optim.lr=0.001".into(),
        });
    };
    let (key, value) = (key.trim(), value.trim());
    let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("v"));
    let mut value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
    let mut parts = key.split('.').rev();
    let leaf = parts.next().unwrap_or(key).to_owned();
    let mut inner = Table::new();
    inner.insert(leaf, value);
    for part in parts {
        value = Value::Table(inner);
        inner = Table::new();
        inner.insert(part.to_owned(), value);
    }
    Ok(inner)
}

/// Lays `over` on `base`; every key must be there already, with the same kind of value.
fn merge(base: &mut Table, over: Table, prefix: &str, source_name: &str) -> Result<(), ConfigError> {
    for (key, value) in over {
        let full = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let hint = nearest(&key, base.keys());
        let Some(slot) = base.get_mut(&key) else {
            return Err(ConfigError::UnknownKey { key: full, source_name: source_name.to_owned(), hint });
        };
        match (slot, value) {
            (Value::Table(inner), Value::Table(value)) => merge(inner, value, &full, source_name)?,
            (slot @ Value::Float(_), Value::Integer(value)) => *slot = Value::Float(value as f64),
            (slot, value) if slot.same_type(&value) => *slot = value,
            (slot, value) => {
                return Err(ConfigError::Toml {
                    source_name: source_name.to_owned(),
                    reason: format!("{full}: expected {}, found {} {value}", slot.type_str(), value.type_str()),
                });
            }
        }
    }
    Ok(())
}

/// "; did you mean …?" when a name is close to a known one.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> String {
    known
        .map(|k| (distance(name, k), k))
        .filter(|(d, k)| *d <= 1 + k.len().max(name.len()) / 3)
        .min()
        .map(|(_, k)| format!("; did you mean \"{k}\"?"))
        .unwrap_or_default()
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_win() {
        let file = ("run.toml", "epochs = 7\n[optim]\nlr = 0.002\n");
        let sets = ["optim.lr=1".to_owned(), "arch=vit-ti/8".to_owned()];
        let config = resolve(Some("vit-s16-300"), Some(file), &sets).unwrap();
        assert_eq!((config.epochs, config.optim.lr), (7, 1.0));
        assert_eq!(config.arch.to_string(), "vit-ti/8");
        assert!(!config.dino.head.norm_last_layer, "the preset's value stays where nothing overrides it");
    }

    #[test]
    fn defaults_are_the_methods_own() {
        let of = |sets: &[&str]| {
            resolve(None, None, &sets.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).unwrap()
        };
        let moco = of(&["method=moco"]);
        assert_eq!((moco.arch.to_string().as_str(), moco.optim.lr, moco.moco.queue), ("resnet-50", 0.03, 65_536));
        assert_eq!(moco, RunConfig::of(MethodKind::Moco));
        let densecl = of(&["method=densecl", "arch=resnet18"]);
        assert_eq!(
            densecl,
            RunConfig { arch: "resnet-18".parse().unwrap(), ..RunConfig::of(MethodKind::DenseCl) }
        );
        assert_eq!(of(&["arch=resnet50"]).optim, RunConfig::default().optim);
    }

    #[test]
    fn mistakes_name_the_key_and_the_nearest() {
        let message = |sets: &[&str]| {
            resolve(None, None, &sets.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).unwrap_err().to_string()
        };
        assert!(message(&["optim.lrr=1"]).contains("did you mean \"lr\""), "{}", message(&["optim.lrr=1"]));
        assert!(message(&["epochs=ten"]).contains("epochs: expected integer, found string"));
        assert!(message(&["batch_size=0"]).contains("batch_size: expected at least 1"));
        assert!(message(&["optim.lr=-1"]).contains("optim.lr"));
        assert!(message(&["views.global_scale=[0.4,1.5]"]).contains("views.global_scale"));
        assert!(message(&["views.local_size_px=8"]).contains("at least one patch"));
        assert!(message(&["arch=resnet"]).contains("unknown architecture"));
        assert!(message(&["method=simclr"]).contains("\"densecl\""));
        assert!(message(&["method=moco", "arch=vit-s/16"]).contains("arch: expected a ResNet for moco"));
        assert!(
            message(&["method=moco", "moco.queue=1000"]).contains("moco.queue: expected a multiple of batch_size")
        );
        assert!(message(&["method=densecl", "views.local_crops=2"]).contains("views.local_crops: expected 0"));
        assert!(
            message(&["method=moco", "resnet.norm_groups=3"]).contains("resnet.norm_groups: expected a divisor")
        );
        assert!(message(&["optim.momentum=1"]).contains("optim.momentum: expected at least 0 and below 1"));
        assert!(message(&["optim.optimizer=adam"]).contains("optim.optimizer: expected \"adamw\" or \"sgd\""));
        assert!(
            message(&["densecl.matching=best"]).contains("backbone"),
            "{}",
            message(&["densecl.matching=best"])
        );
        assert!(message(&["resnet.stem=large"]).contains("imagenet"));
        assert!(resolve(Some("vit-s16-30"), None, &[]).unwrap_err().to_string().contains("vit-s16-300"));
    }
}
