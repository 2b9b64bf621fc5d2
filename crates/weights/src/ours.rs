//! A network's tensors in our form: DINO's or torchvision's names, layer scale folded, positions of class token and patches.

use std::collections::HashMap;

use crate::entry::Entry;
use crate::fits::Positions;
use crate::layout::{Family, Network};
use crate::plan::Plan;
use crate::{HostTensor, StateDict, Weights, WeightsError};

impl Weights<'_> {
    /// The tensors of a network of this file in our form, a classifier and what only training needs left out: DINO's and
    /// torchvision's names whatever the file's are (`blocks.0.attn.qkv.weight`, `layer1.0.conv1.weight`); layer scale
    /// multiplied into the rows of `attn.proj` and `mlp.fc2`; `pos_embed` of shape `[1, 1 + cells, dim]`, the class token's zero
    /// where it has none; `register_tokens` of shape `[1, registers, dim]`. The metadata say `position_rule` where
    /// positions of another size are not resampled as DINO does it: "antialiased" (with registers, timm's DINOv2) or "bicubic"
    /// (transformers); and `num_attention_heads` where the heads are known ([`Network::heads`]).
    ///
    /// # Errors
    /// When it is none that a command here takes ([`Network::refusal`]), and as [`Weights::state_dict`].
    pub fn backbone(&self, network: &Network) -> Result<StateDict, WeightsError> {
        if let Some(refusal) = &network.refusal {
            return Err(WeightsError::Layout(refusal.clone()));
        }
        let plan = self.plan(network);
        let mut budget = self.budget();
        let mut state = StateDict { tensors: Vec::new(), metadata: self.metadata_of_values() };
        for (name, sources) in &plan.tensors {
            let mut values = Vec::new();
            for entry in sources {
                budget.take(entry)?;
                let part = self.values(entry)?;
                if values.is_empty() { values = part } else { values.extend(part) }
            }
            let shape = plan.shape(name).unwrap_or_default();
            state.tensors.push((name.clone(), HostTensor { shape, values }));
        }
        if let Family::Vit { dim, depth, registers, .. } = network.family {
            if network.scaled {
                fold(&mut state, depth);
            }
            if !network.qkv_bias {
                let zero = |i| (format!("blocks.{i}.attn.qkv.bias"), zeros(&[3 * dim]));
                state.tensors.extend((0..depth).map(zero));
            }
            place(&mut state, network.positions, registers);
            // What the file says of itself counts.
            if let Some(rule) = network.position_rule {
                state.metadata.entry("position_rule".into()).or_insert_with(|| rule.into());
            }
            match network.heads {
                Some(heads) => state.metadata.insert("num_attention_heads".into(), heads.to_string()),
                None => state.metadata.remove("num_attention_heads"),
            };
        }
        Ok(state)
    }

    /// The tensors of a network of this file, a classifier and what only training needs left out.
    pub fn entries_of(&self, network: &Network) -> impl Iterator<Item = &Entry> {
        self.plan(network).tensors.into_iter().flat_map(|(_, sources)| sources)
    }

    fn plan(&self, network: &Network) -> Plan<'_> {
        Plan::new(network.naming, &network.prefix, &network.others, self.entries())
    }
}

fn zeros(shape: &[usize]) -> HostTensor {
    HostTensor { shape: shape.to_vec(), values: vec![0.0; shape.iter().product()] }
}

/// Multiplies layer scale into the rows of the linear layer in front of it: γ·(W·x + b) = (γ·W)·x + γ·b.
fn fold(state: &mut StateDict, depth: usize) {
    let at: HashMap<String, usize> = state.tensors.iter().enumerate().map(|(i, (n, _))| (n.clone(), i)).collect();
    for block in 0..depth {
        for (scale, layer) in [("ls1.gamma", "attn.proj"), ("ls2.gamma", "mlp.fc2")] {
            let Some(gamma) = at.get(&format!("blocks.{block}.{scale}")) else { continue };
            let gamma = std::mem::take(&mut state.tensors[*gamma].1.values);
            for part in ["weight", "bias"] {
                let Some(at) = at.get(&format!("blocks.{block}.{layer}.{part}")) else { continue };
                let values = &mut state.tensors[*at].1.values;
                let row = values.len() / gamma.len().max(1);
                for (row, scale) in values.chunks_mut(row.max(1)).zip(&gamma) {
                    row.iter_mut().for_each(|v| *v *= scale);
                }
            }
        }
    }
    state.tensors.retain(|(name, _)| !name.ends_with(".ls1.gamma") && !name.ends_with(".ls2.gamma"));
}

/// Brings the positions into our form.
fn place(state: &mut StateDict, positions: Positions, registers: usize) {
    let find = |state: &StateDict, name: &str| state.tensors.iter().position(|(n, _)| n == name);
    let Some(at) = find(state, "pos_embed") else { return };
    let &[1, stored, dim] = &state.tensors[at].1.shape[..] else { return };
    match positions {
        Positions::ClassAndPatches => {}
        Positions::Patches => {
            let tensor = &mut state.tensors[at].1;
            tensor.values.splice(0..0, std::iter::repeat_n(0.0, dim));
            tensor.shape[1] = stored + 1;
        }
        Positions::ClassRegistersPatches => {
            let tensor = &mut state.tensors[at].1;
            let theirs: Vec<f32> = tensor.values.drain(dim..(1 + registers) * dim).collect();
            tensor.shape[1] = stored - registers;
            if let Some(tokens) = find(state, "register_tokens") {
                let tokens = &mut state.tensors[tokens].1.values;
                tokens.iter_mut().zip(theirs).for_each(|(token, position)| *token += position);
            }
        }
    }
}
