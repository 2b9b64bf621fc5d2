//! A Vision Transformer's shape, read off its weights.

use ocelli_weights::StateDict;

use super::VitConfig;

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
        let side = (tokens - 1).isqrt();
        let heads = match heads {
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
        })
    }
}
