//! A Vision Transformer's shape, read off its weights.

use ocelli_weights::StateDict;

use super::VitConfig;
use crate::PositionRule;

/// What DINOv2 was trained at last, and what it is evaluated at.
const DINOV2_PX: [usize; 2] = [518, 224];

/// The side of the square images that a network with such patches, and positions for such images, is usually evaluated at:
/// theirs, but of DINOv2's 518 px 224 px, as its authors do.
pub fn usual_side_px(patch_size_px: usize, image_size_px: usize) -> usize {
    let [trained, evaluated] = DINOV2_PX;
    if (patch_size_px, image_size_px) == (14, trained) { evaluated } else { image_size_px }
}

impl VitConfig {
    /// The shape of the network these tensors (in DINO's names) belong to. The number of heads is in no tensor: without
    /// `heads` it is one for every 64 columns.
    ///
    /// # Errors
    /// What is missing or contradicts itself.
    pub fn of_weights(weights: &StateDict, heads: Option<usize>) -> Result<Self, String> {
        let shape = |name: &str| {
            weights.get(name).map(|t| t.shape.clone()).ok_or_else(|| {
                let first = weights.tensors.first().map_or("nothing", |(n, _)| n.as_str());
                format!(
                    "expected a Vision Transformer's weights; there is no {name} (the first tensor is {first})"
                )
            })
        };
        let patch = shape("patch_embed.proj.weight")?;
        let &[dim @ (1..), 3, patch_size_px @ (1..), same] = &patch[..] else {
            return Err(format!(
                "patch_embed.proj.weight: expected shape [width, 3, patch, patch], found {patch:?}"
            ));
        };
        let (positions, fc1) = (shape("pos_embed")?, shape("blocks.0.mlp.fc1.weight")?);
        let (&[1, tokens @ (2..), width], &[hidden, into]) = (&positions[..], &fc1[..]) else {
            return Err(format!("pos_embed has shape {positions:?}, blocks.0.mlp.fc1.weight {fc1:?}"));
        };
        if same != patch_size_px || width != dim || into != dim {
            return Err(format!(
                "patch_embed.proj.weight has shape {patch:?}, pos_embed {positions:?}, blocks.0.mlp.fc1.weight {fc1:?}: \
                 expected square patches and one width"
            ));
        }
        let depth = (0..).take_while(|i| weights.get(&format!("blocks.{i}.norm1.weight")).is_some()).count();
        // A network is only built for weights that could fill it, so that a file cannot ask for any amount of memory.
        let least = depth as f64 * dim as f64 * (4 * dim + 2 * hidden) as f64;
        if least > weights.num_values() as f64 {
            return Err(format!(
                "{depth} blocks of width {dim} have at least {least} values, and there are {} in the file",
                weights.num_values()
            ));
        }
        let registers = match weights.get("register_tokens").map(|t| t.shape.as_slice()) {
            None => 0,
            Some(&[1, registers @ (1..), width]) if width == dim => registers,
            Some(found) => {
                return Err(format!("register_tokens: expected shape [1, registers, {dim}], found {found:?}"));
            }
        };
        let position_rule = match weights.metadata.get(PositionRule::METADATA) {
            None => PositionRule::of_registers(registers),
            Some(name) => PositionRule::of_name(name).ok_or_else(|| {
                format!("{}: expected dino, bicubic or antialiased, found {name:?}", PositionRule::METADATA)
            })?,
        };
        let side = (tokens - 1).isqrt();
        let told = weights.metadata.get("num_attention_heads").and_then(|heads| heads.parse().ok());
        let heads = match heads.or(told) {
            Some(heads) => heads,
            None if dim.is_multiple_of(64) => dim / 64,
            None => return Err(format!("the number of heads is not in the file (width {dim}); give --heads")),
        };
        Ok(Self {
            image_size_px: side * patch_size_px,
            patch_size_px,
            dim,
            depth,
            heads,
            mlp_ratio: hidden / dim,
            drop_path: 0.0,
            registers,
            position_rule,
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use ocelli_weights::HostTensor;

    use super::*;
    use crate::weights::ModuleState as _;
    use crate::{Arch, Init, params};

    fn state(arch: &str) -> StateDict {
        let config = arch.parse::<Arch>().unwrap().config(28, 0.0);
        let vit = config.init(&mut Init::new(1, &Device::flex())).unwrap();
        assert_eq!(params::count(&vit), config.num_parameters(), "{arch}");
        let mut state = StateDict::default();
        state.add_module("", &vit).unwrap();
        state
    }

    #[test]
    fn registers_and_the_rule_of_positions_are_read() {
        for (arch, rule) in
            [("vit-64x1x1/14", PositionRule::Dino), ("vit-64x1x1/14-reg2", PositionRule::Antialiased)]
        {
            let mut state = state(arch);
            let config = VitConfig::of_weights(&state, None).unwrap();
            assert_eq!((config.arch().to_string().as_str(), config.position_rule), (arch, rule));
            for told in [PositionRule::Dino, PositionRule::Bicubic, PositionRule::Antialiased] {
                state.metadata.insert(PositionRule::METADATA.into(), told.name().into());
                assert_eq!(VitConfig::of_weights(&state, None).unwrap().position_rule, told);
            }
            // What a network writes is read back, and the usual rule is not written.
            for rule in [PositionRule::Dino, PositionRule::Bicubic, PositionRule::Antialiased] {
                let config = VitConfig { position_rule: rule, ..config.clone() };
                let vit = config.init(&mut Init::new(1, &Device::flex())).unwrap();
                state.metadata.clear();
                let entry = vit.position_entry();
                state.metadata.extend(entry.map(|(key, rule)| (key.to_owned(), rule)));
                assert_eq!(state.metadata.is_empty(), rule == PositionRule::of_registers(config.registers));
                assert_eq!(VitConfig::of_weights(&state, None).unwrap().position_rule, rule);
            }
        }
    }

    #[test]
    fn registers_of_another_shape_and_unknown_rules_are_refused() {
        let mut with = state("vit-64x1x1/14-reg2");
        with.metadata.insert(PositionRule::METADATA.into(), "nearest".into());
        let error = VitConfig::of_weights(&with, None).unwrap_err();
        assert!(error.contains("bicubic") && error.contains("nearest"), "{error}");
        for shape in [vec![1, 2, 32], vec![2, 64], vec![1, 0, 64], vec![2, 1, 64]] {
            let mut plain = state("vit-64x1x1/14");
            let values = vec![0.0; shape.iter().product()];
            plain.tensors.push(("register_tokens".into(), HostTensor { shape: shape.clone(), values }));
            let error = VitConfig::of_weights(&plain, None).unwrap_err();
            assert!(error.contains("[1, registers, 64]") && error.contains(&format!("{shape:?}")), "{error}");
        }
    }

    #[test]
    fn dinov2_is_evaluated_smaller_than_it_was_trained_last() {
        assert_eq!([usual_side_px(14, 518), usual_side_px(14, 224), usual_side_px(16, 518)], [224, 224, 518]);
    }
}
