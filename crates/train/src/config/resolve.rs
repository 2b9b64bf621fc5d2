//! From a preset, a TOML file and `key=value` pairs to one checked configuration.

use toml::{Table, Value};

use ocelli_methods::METHODS;

use super::layers::{self, lay_over, layers_of, parse};
use super::{ConfigError, MethodChoice, RunConfig, TaskKind, preset};

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
        let (recipe, preset) = preset(name)?;
        let mut layer = parse(preset.toml, name)?;
        layer.entry("method").or_insert_with(|| recipe.name.into());
        layers.push((layer, name.to_owned()));
    }
    layers.extend(layers_of(file, sets)?);
    // Every method has defaults of its own, so the last layer that names one comes first.
    let method = layers.iter().rev().find_map(|(layer, _)| layer.get("method")?.as_str());
    let method = method.map_or(Ok(MethodChoice::default()), str::parse)?;
    finish(table_of(&RunConfig::of(method)?)?, layers)
}

/// A method's defaults: the common ones, over them what its recipe sets, and its own sections.
pub(super) fn defaults(method: MethodChoice) -> Result<RunConfig, ConfigError> {
    let recipe = method.recipe();
    let base = RunConfig { method, own: (recipe.sections)()?, ..RunConfig::default() };
    let mut table = table_of(&base)?;
    let name = format!("defaults of {}", recipe.name);
    merge(&mut table, parse(recipe.defaults, &name)?, &name)?;
    of_table(table)
}

/// The configuration a run or a checkpoint keeps, as it was written. Sections of other methods, which earlier versions
/// wrote too, are passed over.
///
/// # Errors
/// Unknown keys and values of the wrong type.
pub fn stored(text: &str, name: &str) -> Result<RunConfig, ConfigError> {
    let mut table = parse(text, name)?;
    // Of another kind of run nothing else would be understood.
    table.get("task").and_then(Value::as_str).map_or(Ok(TaskKind::Pretraining), str::parse)?;
    let method = table.get("method").and_then(Value::as_str).map_or(Ok(MethodChoice::default()), str::parse)?;
    let mut base = table_of(&RunConfig { method, own: (method.recipe().sections)()?, ..RunConfig::default() })?;
    for other in METHODS {
        for section in (other.sections)()?.0.keys().filter(|s| !base.contains_key(*s)) {
            table.remove(section);
        }
    }
    merge(&mut base, table, name)?;
    of_table(base)
}

/// Lays a file and single values over a configuration, as [`resolve`] lays them over a preset.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_over(
    base: &RunConfig,
    file: Option<(&str, &str)>,
    sets: &[String],
) -> Result<RunConfig, ConfigError> {
    finish(table_of(base)?, layers_of(file, sets)?)
}

fn finish(mut table: Table, layers: Vec<(Table, String)>) -> Result<RunConfig, ConfigError> {
    for (layer, name) in layers {
        merge(&mut table, layer, &name)?;
    }
    let config = of_table(table)?;
    config.check()?;
    Ok(config)
}

fn of_table(table: Table) -> Result<RunConfig, ConfigError> {
    layers::of_table(table, "configuration")
}

pub(crate) fn table_of(config: &RunConfig) -> Result<Table, ConfigError> {
    layers::table_of(config)
}

/// Lays `over` on `base`; what is another method's section is said to be one.
fn merge(base: &mut Table, over: Table, source_name: &str) -> Result<(), ConfigError> {
    lay_over(base, over, source_name).map_err(|error| match error {
        ConfigError::UnknownKey { key, source_name, hint } => {
            let section = key.split('.').next().filter(|section| !base.contains_key(*section));
            let hint = section.and_then(of_another_method).unwrap_or(hint);
            ConfigError::UnknownKey { key, source_name, hint }
        }
        other => other,
    })
}

/// Whose section it is, where another method has it.
fn of_another_method(section: &str) -> Option<String> {
    let has = |recipe: &&&ocelli_methods::Recipe| (recipe.sections)().is_ok_and(|s| s.0.contains_key(section));
    let other = METHODS.iter().find(has)?;
    Some(format!("; it is a section of the method \"{}\", and this run has another", other.name))
}

#[cfg(test)]
mod tests {
    use ocelli_methods::{DinoConfig, MocoConfig};

    use super::*;

    #[test]
    fn every_method_has_defaults_with_its_own_sections_and_no_other() {
        for recipe in METHODS {
            let config = RunConfig::of(recipe.name.parse().unwrap()).unwrap();
            config.check().unwrap_or_else(|e| panic!("{}: {e}", recipe.name));
            let own: Vec<&String> = config.own.0.keys().collect();
            assert_eq!(own, (recipe.sections)().unwrap().0.keys().collect::<Vec<_>>());
            for key in recipe.keys {
                assert!(config.own.value(key.name).is_some(), "{} declares {}", recipe.name, key.name);
            }
            let text = toml::to_string_pretty(&config).unwrap();
            assert_eq!(stored(&text, "config.toml").unwrap(), config, "{text}");
        }
    }

    #[test]
    fn configurations_of_earlier_versions_are_read() {
        // They had the sections of every method.
        let text = "method = \"moco\"\narch = \"resnet-18\"\n[moco]\nqueue = 128\n[dino]\nstudent_temp = 0.2\n[densecl]\nlambda = 0.5\n";
        let config = stored(text, "config.toml").unwrap();
        assert_eq!(config.own.count("moco.queue"), 128);
        assert_eq!(config.own.0.len(), 1);
        assert!(stored("method = \"moco\"\n[other]\nx = 1\n", "config.toml").is_err());
    }

    #[test]
    fn later_layers_win() {
        let file = ("run.toml", "epochs = 7\n[optim]\nlr = 0.002\n");
        let sets = ["optim.lr=1".to_owned(), "arch=vit-ti/8".to_owned()];
        let config = resolve(Some("vit-s16-300"), Some(file), &sets).unwrap();
        assert_eq!((config.epochs, config.optim.lr), (7, 1.0));
        assert_eq!(config.arch.to_string(), "vit-ti/8");
        let dino: DinoConfig = config.section("dino").unwrap();
        assert!(!dino.head.norm_last_layer, "the preset's value stays where nothing overrides it");
    }

    #[test]
    fn defaults_are_the_methods_own() {
        let of = |sets: &[&str]| {
            resolve(None, None, &sets.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).unwrap()
        };
        let moco = of(&["method=moco"]);
        let own: MocoConfig = moco.section("moco").unwrap();
        assert_eq!((moco.arch.to_string().as_str(), moco.optim.lr, own.queue), ("resnet-50", 0.03, 65_536));
        let method = |name: &str| name.parse::<MethodChoice>().unwrap();
        assert_eq!(moco, RunConfig::of(method("moco")).unwrap());
        let densecl = of(&["method=densecl", "arch=resnet18"]);
        assert_eq!(
            densecl,
            RunConfig { arch: "resnet-18".parse().unwrap(), ..RunConfig::of(method("densecl")).unwrap() }
        );
        assert_eq!(of(&["arch=resnet50"]).optim, RunConfig::default().optim);
    }

    #[test]
    fn mistakes_name_the_key_and_the_nearest() {
        let message = |sets: &[&str]| {
            resolve(None, None, &sets.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).unwrap_err().to_string()
        };
        assert!(message(&["optim.lrr=1"]).contains("did you mean \"optim.lr\""), "{}", message(&["optim.lrr=1"]));
        assert!(message(&["lr=1"]).contains("unknown key \"lr\" in --set lr=1; did you mean \"optim.lr\"?"));
        let quue = message(&["method=densecl", "moco.quue=64"]);
        assert!(quue.contains("\"moco.quue\"") && quue.contains("did you mean \"moco.queue\"?"), "{quue}");
        assert!(message(&["seeds.x=1"]).contains("did you mean"), "{}", message(&["seeds.x=1"]));
        assert!(message(&["epochs=ten"]).contains("epochs: expected integer, found string"));
        assert!(message(&["batch_size=0"]).contains("batch_size: expected at least 1"));
        assert!(message(&["optim.lr=-1"]).contains("optim.lr"));
        assert!(message(&["views.global_scale=[0.4,1.5]"]).contains("views.global_scale"));
        assert!(message(&["views.local_size_px=8"]).contains("at least one patch"));
        assert!(message(&["arch=resnet"]).contains("unknown architecture"));
        assert!(message(&["method=mae"]).contains("\"densecl\""));
        assert!(
            message(&["method=densecl", "arch=vit-s/16"])
                .contains("arch: expected a ResNet, such as resnet-50 for densecl")
        );
        assert!(
            message(&["method=moco", "moco.queue=1000"]).contains("moco.queue: expected a multiple of batch_size")
        );
        assert!(message(&["method=moco", "dino.student_temp=1"]).contains("a section of the method \"dino\""));
        assert!(message(&["dino.head.out_dim=1"]).contains("dino.head.out_dim: expected at least 2, found 1"));
        assert!(message(&["method=densecl", "views.local_crops=2"]).contains("views.local_crops: expected 0"));
        assert!(
            message(&["method=moco", "resnet.norm_groups=3"]).contains("resnet.norm_groups: expected a divisor")
        );
        assert!(message(&["optim.momentum=1"]).contains("optim.momentum: expected at least 0 and below 1"));
        assert!(message(&["optim.optimizer=adam"]).contains("optim.optimizer: expected \"adamw\" or \"sgd\""));
        assert!(
            message(&["method=densecl", "densecl.matching=best"]).contains("backbone"),
            "{}",
            message(&["method=densecl", "densecl.matching=best"])
        );
        assert!(message(&["resnet.stem=large"]).contains("imagenet"));
        assert!(resolve(Some("vit-s16-30"), None, &[]).unwrap_err().to_string().contains("vit-s16-300"));
    }
}
