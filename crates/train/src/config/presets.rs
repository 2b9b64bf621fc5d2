//! Recipes by name: every method brings its own.

use ocelli_methods::{METHODS, Preset, Recipe};

use super::{ConfigError, hints::nearest};

/// All recipes with their methods, in the order of lists.
pub fn presets() -> impl Iterator<Item = (&'static Recipe, &'static Preset)> {
    METHODS.iter().flat_map(|recipe| recipe.presets.iter().map(move |preset| (*recipe, preset)))
}

/// The recipe of this name.
///
/// # Errors
/// [`ConfigError::UnknownPreset`] with all names and the nearest one.
pub fn preset(name: &str) -> Result<(&'static Recipe, &'static Preset), ConfigError> {
    presets().find(|(_, p)| p.name == name).ok_or_else(|| {
        let names: Vec<String> = presets().map(|(_, p)| p.name.to_owned()).collect();
        ConfigError::UnknownPreset {
            name: name.to_owned(),
            hint: nearest(name, names.iter()),
            known: names.join(", "),
        }
    })
}

#[cfg(test)]
mod tests {
    use ocelli_methods::{DenseClConfig, DinoConfig, MocoConfig};

    use super::*;
    use crate::config::resolve;

    /// The constants of the published tables, where a preset differs from its method's defaults or is them.
    #[test]
    fn contrastive_recipes_are_the_published_ones() {
        let of = |name| resolve(Some(name), None, &[]).unwrap();
        let contrast = |config: &crate::RunConfig| config.section::<MocoConfig>("moco").unwrap();
        let (moco, dense, coco) = (of("moco-r50-200"), of("densecl-r50-200"), of("densecl-r50-coco-800"));
        for config in [&moco, &dense, &coco] {
            let moco = contrast(config);
            assert_eq!((config.batch_size, moco.queue, moco.out_dim), (256, 65_536, 128));
            assert_eq!((moco.temperature, moco.momentum), (0.2, 0.999));
            let o = &config.optim;
            assert_eq!((o.weight_decay, o.weight_decay_end, o.momentum, o.min_lr), (1e-4, 1e-4, 0.9, 0.0));
            assert!(o.decay_all && o.lr_by_epoch && o.warmup_epochs == 0 && o.clip_grad == 0.0);
            assert_eq!(config.views.global_scale, [0.2, 1.0]);
        }
        assert_eq!((moco.epochs, dense.epochs, coco.epochs), (200, 200, 800));
        assert_eq!((moco.peak_lr(), dense.peak_lr(), coco.peak_lr()), (0.03, 0.03, 0.3));
        let own = dense.section::<DenseClConfig>("densecl").unwrap();
        assert_eq!((own.lambda, own.lambda_warmup_iterations), (0.5, 0));
        let (sgd, lars) = (of("dino-r50-100"), of("dino-r50-800"));
        assert_eq!((sgd.optim.lr, sgd.optim.weight_decay, sgd.optim.clip_grad), (0.03, 1e-4, 3.0));
        assert_eq!((sgd.views.global_scale, sgd.views.local_scale), ([0.14, 1.0], [0.05, 0.14]));
        let head = lars.section::<DinoConfig>("dino").unwrap().head;
        assert_eq!((lars.batch_size, head.out_dim, head.batch_norm), (4080, 60_000, true));
        assert_eq!((lars.optim.weight_decay, lars.optim.clip_grad), (1e-6, 0.0));
    }

    #[test]
    fn every_preset_resolves() {
        for (recipe, preset) in presets() {
            let config = resolve(Some(preset.name), None, &[]).unwrap_or_else(|e| panic!("{}: {e}", preset.name));
            assert_eq!(config.method.to_string(), recipe.name, "{}", preset.name);
        }
    }

    /// What a published row says of itself is what its preset trains.
    #[test]
    fn presets_of_published_rows_are_those_rows() {
        for row in ocelli_methods::PUBLISHED.iter().flat_map(|table| table.rows) {
            // Which are missing, another test says.
            let Ok((recipe, _)) = preset(row.preset) else { continue };
            let config = resolve(Some(row.preset), None, &[]).unwrap();
            assert_eq!(recipe.name, row.method, "{}", row.preset);
            assert_eq!(config.arch.to_string(), row.arch, "{}", row.preset);
            if let Some(epochs) = row.epochs {
                assert_eq!(config.epochs, epochs as usize, "{}", row.preset);
            }
        }
    }
}
