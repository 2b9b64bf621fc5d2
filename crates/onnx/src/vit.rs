//! Vision Transformers.

use std::collections::BTreeMap;

use ocelli_weights::StateDict;

use crate::graph::{Graph, Setting};
use crate::model::{Axes, Axis, model, value};
use crate::positions::{Grid, PositionRule, resample};
use crate::tensors::Tensors;
use crate::{OnnxError, proto};

/// ε of every layer norm.
const LAYER_NORM_EPSILON: f32 = 1e-6;

/// Where position embeddings come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Positions {
    /// For pictures of one size, `[1 + cells, dim]`, the class token's first: resampled by whoever calls, as the network itself
    /// does it.
    Fixed(Vec<f32>),
    /// For pictures of any size: the stored ones, resampled in the graph.
    Resampled(PositionRule),
}

/// What the tensors of a Vision Transformer do not tell.
#[derive(Debug, Clone, PartialEq)]
pub struct VitOptions {
    /// Attention heads.
    pub heads: usize,
    /// Position embeddings.
    pub positions: Positions,
}

/// Writes a Vision Transformer in DINO's names, layer scale folded away, `register_tokens` `[1, R, dim]` where there are some.
/// Outputs: `features` `[batch, dim]`, the class token after the last norm, and `tokens` `[batch, 1 + cells, dim]`, the class
/// token first, then the patches row by row; registers are left out.
///
/// # Errors
/// When a tensor is missing, too many or of a shape that fits no such network.
pub fn vit(
    state: StateDict,
    options: &VitOptions,
    axes: Axes,
    metadata: &BTreeMap<String, String>,
) -> Result<proto::Model, OnnxError> {
    let tensors = Tensors::new(state);
    let depth = (0..).take_while(|i| tensors.has(&format!("blocks.{i}.norm1.weight"))).count();
    let &[dim @ (1..), 3, patch @ (1..), _] = tensors.shape("patch_embed.proj.weight")? else {
        let found = tensors.shape("patch_embed.proj.weight")?;
        return Err(OnnxError::Weights(format!(
            "patch_embed.proj.weight: expected shape [width, 3, patch, patch], found {found:?}"
        )));
    };
    if options.heads == 0 || !dim.is_multiple_of(options.heads) {
        return Err(OnnxError::Weights(format!(
            "expected a number of heads that divides the width {dim}, found {}",
            options.heads
        )));
    }
    if let Some([height, width]) = axes.size
        && (height < patch || width < patch)
    {
        return Err(OnnxError::Weights(format!(
            "expected pictures of at least one patch ({patch}×{patch} px), found {height}×{width} px"
        )));
    }
    let mut build = Build { graph: Graph::default(), tensors, dim, heads: options.heads };
    let (mut x, registers) = build.embed(options, axes, patch)?;
    for index in 0..depth {
        x = build.block(&x, &format!("blocks.{index}"))?;
    }
    let graph = &mut build.graph;
    if registers > 0 {
        // They are last, and their outputs mean nothing.
        let (start, end) = (graph.ints("tokens.first", &[0]), graph.ints("tokens.end", &[-(registers as i64)]));
        let axis = graph.ints("tokens.axis", &[1]);
        x = graph.node("tokens.without_registers", "Slice", &[&x, &start, &end, &axis], &[]);
    }
    let tokens = build.norm("tokens", &x, "norm")?;
    let first = build.graph.int("features.token", 0);
    build.graph.node("features", "Gather", &[&tokens, &first], &[("axis", Setting::Int(1))]);
    build.tensors.finish()?;
    let count = match axes.size {
        Some([height, width]) => Axis::Fixed(1 + (height / patch) * (width / patch)),
        None => Axis::Any("tokens"),
    };
    let outputs = vec![
        value("features", &[axes.batch(), Axis::Fixed(dim)], "the class token after the last norm"),
        value(
            "tokens",
            &[axes.batch(), count, Axis::Fixed(dim)],
            "the class token, then the patches row by row, after the last norm",
        ),
    ];
    model(build.graph, axes, outputs, metadata)
}

struct Build {
    graph: Graph,
    tensors: Tensors,
    dim: usize,
    heads: usize,
}

impl Build {
    /// From pixels to the tokens that go into the first block, `[batch, 1 + cells + registers, dim]`; and how many registers
    /// there are, at the end.
    fn embed(&mut self, options: &VitOptions, axes: Axes, patch: usize) -> Result<(String, usize), OnnxError> {
        let dim = self.dim;
        let weight = self.tensors.take_of("patch_embed.proj.weight", [dim, 3, patch, patch])?;
        let bias = self.tensors.take_of("patch_embed.proj.bias", [dim])?;
        let (stored_shape, stored) = self.tensors.take::<3>("pos_embed")?;
        let [1, positions @ (2..), width] = stored_shape else {
            return Err(OnnxError::Weights(format!(
                "pos_embed: expected shape [1, 1 + cells, {dim}], found {stored_shape:?}"
            )));
        };
        let side = (positions - 1).isqrt();
        if width != dim || side * side != positions - 1 {
            return Err(OnnxError::Weights(format!(
                "pos_embed: expected positions of a class token and of a square grid, {dim} wide; found {stored_shape:?}"
            )));
        }
        let cls_token = self.tensors.take_of("cls_token", [1, 1, dim])?;
        let graph = &mut self.graph;
        let weight = graph.floats("patch_embed.proj.weight", &[dim, 3, patch, patch], &weight);
        let bias = graph.floats("patch_embed.proj.bias", &[dim], &bias);
        let sides = [patch as i64; 2];
        let settings = [("kernel_shape", Setting::Ints(&sides)), ("strides", Setting::Ints(&sides))];
        let maps = graph.node("patch_embed.maps", "Conv", &["pixels", &weight, &bias], &settings);
        let shape = graph.ints("patch_embed.shape", &[0, dim as i64, -1]);
        let flat = graph.node("patch_embed.flat", "Reshape", &[&maps, &shape], &[]);
        let patches =
            graph.node("patch_embed.patches", "Transpose", &[&flat], &[("perm", Setting::Ints(&[0, 2, 1]))]);

        let (of_cls, of_patches) = match &options.positions {
            Positions::Fixed(all) => {
                let cells = axes.size.map_or(0, |[height, width]| (height / patch) * (width / patch));
                if all.len() != (1 + cells) * dim {
                    return Err(OnnxError::Weights(format!(
                        "expected {} position embeddings of {dim} values for the picture's size, found {} values",
                        1 + cells,
                        all.len()
                    )));
                }
                let (first, rest) = all.split_at(dim);
                (first.to_vec(), graph.floats("pos_embed.cells", &[1, cells, dim], rest))
            }
            Positions::Resampled(rule) => {
                let (first, rest) = stored.split_at(dim);
                let grid = Grid { side, dim, maps: &maps, pixels: "pixels" };
                (first.to_vec(), resample(graph, *rule, &grid, rest))
            }
        };
        let patches = graph.node("patch_embed.placed", "Add", &[&patches, &of_patches], &[]);
        let cls: Vec<f32> = cls_token.iter().zip(&of_cls).map(|(token, position)| token + position).collect();
        let cls = graph.floats("cls_token", &[1, 1, dim], &cls);
        let shape = batch_shape(graph, axes);
        let cls = graph.node("cls_token.of_batch", "Expand", &[&cls, &shape], &[]);
        let join = [("axis", Setting::Int(1))];
        if !self.tensors.has("register_tokens") {
            return Ok((self.graph.node("embedded", "Concat", &[&cls, &patches], &join), 0));
        }
        let ([_, registers, _], values) = self.tensors.take::<3>("register_tokens")?;
        if registers == 0 || values.len() != registers * dim {
            return Err(OnnxError::Weights(format!("register_tokens: expected shape [1, number, {dim}]")));
        }
        let graph = &mut self.graph;
        let tokens = graph.floats("register_tokens", &[1, registers, dim], &values);
        let tokens = graph.node("register_tokens.of_batch", "Expand", &[&tokens, &shape], &[]);
        Ok((graph.node("embedded", "Concat", &[&cls, &patches, &tokens], &join), registers))
    }

    /// x + attention(norm1(x)), then x + mlp(norm2(x)).
    fn block(&mut self, x: &str, at: &str) -> Result<String, OnnxError> {
        let normed = self.norm(&format!("{at}.norm1"), x, &format!("{at}.norm1"))?;
        let mixed = self.attention(&normed, &format!("{at}.attn"))?;
        let x = self.graph.node(&format!("{at}.after_attn"), "Add", &[x, &mixed], &[]);
        let normed = self.norm(&format!("{at}.norm2"), &x, &format!("{at}.norm2"))?;
        let expanded = self.mlp(&normed, &format!("{at}.mlp"))?;
        Ok(self.graph.node(&format!("{at}.after_mlp"), "Add", &[&x, &expanded], &[]))
    }

    fn attention(&mut self, x: &str, at: &str) -> Result<String, OnnxError> {
        let (dim, heads) = (self.dim, self.heads);
        let qkv = self.linear(x, &format!("{at}.qkv"), dim, 3 * dim)?;
        let graph = &mut self.graph;
        let parts = graph.split(&format!("{at}.parts"), &qkv, 2, ["q", "k", "v"]);
        let by_head = graph.ints("attn.by_head", &[0, 0, heads as i64, (dim / heads) as i64]);
        let [q, k, v] = parts.map(|part| {
            // Keys are turned over for the product.
            let order = if part.ends_with(".k") { [0, 2, 3, 1] } else { [0, 2, 1, 3] };
            let apart = graph.node(&format!("{part}.by_head"), "Reshape", &[&part, &by_head], &[]);
            graph.node(&format!("{part}.heads"), "Transpose", &[&apart], &[("perm", Setting::Ints(&order))])
        });
        let scale = graph.float("attn.scale", (1.0 / ((dim / heads) as f64).sqrt()) as f32);
        let q = graph.node(&format!("{at}.q_scaled"), "Mul", &[&q, &scale], &[]);
        let scores = graph.node(&format!("{at}.scores"), "MatMul", &[&q, &k], &[]);
        let weights = graph.node(&format!("{at}.weights"), "Softmax", &[&scores], &[("axis", Setting::Int(-1))]);
        let mixed = graph.node(&format!("{at}.mixed"), "MatMul", &[&weights, &v], &[]);
        let order = [("perm", Setting::Ints(&[0, 2, 1, 3]))];
        let mixed = graph.node(&format!("{at}.mixed_by_token"), "Transpose", &[&mixed], &order);
        let joined = graph.ints("attn.joined", &[0, 0, dim as i64]);
        let mixed = graph.node(&format!("{at}.mixed_joined"), "Reshape", &[&mixed, &joined], &[]);
        self.linear(&mixed, &format!("{at}.proj"), dim, dim)
    }

    /// Two linear layers around an exact GELU: x/2·(1 + erf(x/√2)).
    fn mlp(&mut self, x: &str, at: &str) -> Result<String, OnnxError> {
        let (fc1, fc2) = (format!("{at}.fc1"), format!("{at}.fc2"));
        let hidden = self.tensors.shape(&format!("{fc1}.weight"))?.first().copied().unwrap_or(0);
        let x = self.linear(x, &fc1, self.dim, hidden)?;
        let graph = &mut self.graph;
        let root = graph.float("gelu.root_of_two", std::f32::consts::SQRT_2);
        let (one, half) = (graph.float("gelu.one", 1.0), graph.float("gelu.half", 0.5));
        let mut step =
            |name: &str, op: &str, inputs: &[&str]| graph.node(&format!("{at}.{name}"), op, inputs, &[]);
        let scaled = step("gelu.scaled", "Div", &[&x, &root]);
        let erf = step("gelu.erf", "Erf", &[&scaled]);
        let share = step("gelu.share", "Add", &[&erf, &one]);
        let double = step("gelu.double", "Mul", &[&x, &share]);
        let y = step("gelu", "Mul", &[&double, &half]);
        self.linear(&y, &fc2, hidden, self.dim)
    }

    fn norm(&mut self, name: &str, x: &str, at: &str) -> Result<String, OnnxError> {
        let weight = self.tensors.take_of(&format!("{at}.weight"), [self.dim])?;
        let bias = self.tensors.take_of(&format!("{at}.bias"), [self.dim])?;
        let weight = self.graph.floats(&format!("{at}.weight"), &[self.dim], &weight);
        let bias = self.graph.floats(&format!("{at}.bias"), &[self.dim], &bias);
        let settings = [("axis", Setting::Int(-1)), ("epsilon", Setting::Float(LAYER_NORM_EPSILON))];
        Ok(self.graph.node(name, "LayerNormalization", &[x, &weight, &bias], &settings))
    }

    /// xW + b over the last axis; files have W as `[output, input]`.
    fn linear(&mut self, x: &str, at: &str, input: usize, output: usize) -> Result<String, OnnxError> {
        let weight = self.tensors.take_of(&format!("{at}.weight"), [output, input])?;
        let bias = self.tensors.take_of(&format!("{at}.bias"), [output])?;
        let mut turned = Vec::with_capacity(weight.len());
        for column in 0..input {
            turned.extend(weight.iter().skip(column).step_by(input));
        }
        let weight = self.graph.floats(&format!("{at}.weight"), &[input, output], &turned);
        let bias = self.graph.floats(&format!("{at}.bias"), &[output], &bias);
        let product = self.graph.node(&format!("{at}.product"), "MatMul", &[x, &weight], &[]);
        Ok(self.graph.node(at, "Add", &[&product, &bias], &[]))
    }
}

/// `[batch, 1, 1]`, to which a token is expanded.
fn batch_shape(graph: &mut Graph, axes: Axes) -> String {
    match axes.batch {
        Some(batch) => graph.ints("batch.shape", &[batch as i64, 1, 1]),
        None => {
            let cut = [("start", Setting::Int(0)), ("end", Setting::Int(1))];
            let batch = graph.node("batch", "Shape", &["pixels"], &cut);
            let ones = graph.ints("batch.ones", &[1, 1]);
            graph.node("batch.shape", "Concat", &[&batch, &ones], &[("axis", Setting::Int(0))])
        }
    }
}

#[cfg(test)]
mod tests {
    use ocelli_weights::HostTensor;

    use super::*;
    use crate::shape_of;

    const ANY: Axes = Axes { batch: None, size: None };

    /// One block of width 4 on 2×2 patches of 2 px.
    fn tensors() -> StateDict {
        let mut state = StateDict::default();
        let mut add = |name: &str, shape: &[usize]| {
            let values = (0..shape.iter().product()).map(|i: usize| i as f32).collect();
            state.tensors.push((name.to_owned(), HostTensor { shape: shape.to_vec(), values }));
        };
        add("cls_token", &[1, 1, 4]);
        add("pos_embed", &[1, 5, 4]);
        add("patch_embed.proj.weight", &[4, 3, 2, 2]);
        add("patch_embed.proj.bias", &[4]);
        for (layer, shape) in
            [("attn.qkv", [12, 4]), ("attn.proj", [4, 4]), ("mlp.fc1", [8, 4]), ("mlp.fc2", [4, 8])]
        {
            add(&format!("blocks.0.{layer}.weight"), &shape);
            add(&format!("blocks.0.{layer}.bias"), &shape[..1]);
        }
        for norm in ["blocks.0.norm1", "blocks.0.norm2", "norm"] {
            add(&format!("{norm}.weight"), &[4]);
            add(&format!("{norm}.bias"), &[4]);
        }
        state
    }

    fn options() -> VitOptions {
        VitOptions { heads: 2, positions: Positions::Resampled(PositionRule::Dino) }
    }

    fn floats(model: &proto::Model, name: &str) -> Vec<f32> {
        let tensor = model.graph.as_ref().unwrap().initializer.iter().find(|t| t.name == name).unwrap();
        tensor.raw_data.chunks_exact(4).map(|v| f32::from_le_bytes(v.try_into().unwrap())).collect()
    }

    #[test]
    fn linear_weights_are_turned_and_the_class_token_has_its_place() {
        let model = vit(tensors(), &options(), ANY, &BTreeMap::new()).unwrap();
        let fc1 = floats(&model, "blocks.0.mlp.fc1.weight");
        // [8, 4] of 0, 1, 2 … as [4, 8].
        assert_eq!(fc1[..9], [0.0, 4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 28.0, 1.0]);
        assert_eq!(floats(&model, "cls_token"), [0.0, 2.0, 4.0, 6.0]);
        assert_eq!(floats(&model, "pos_embed.stored")[0], 4.0, "without the class token's");
    }

    #[test]
    fn nothing_is_left_out_and_nothing_made_up() {
        let message = |change: fn(&mut StateDict)| {
            let mut state = tensors();
            change(&mut state);
            vit(state, &options(), ANY, &BTreeMap::new()).unwrap_err().to_string()
        };
        let extra = message(|state| {
            let gamma = HostTensor { shape: vec![4], values: vec![1.0; 4] };
            state.tensors.push(("blocks.0.ls1.gamma".into(), gamma));
        });
        assert!(extra.contains("leave out 1 of its tensors (blocks.0.ls1.gamma"), "{extra}");
        let missing = message(|state| state.tensors.retain(|(name, _)| name != "norm.bias"));
        assert!(missing.contains("norm.bias"), "{missing}");
        let shape = message(|state| {
            let (_, tensor) = state.tensors.iter_mut().find(|(name, _)| name == "blocks.0.attn.qkv.bias").unwrap();
            tensor.shape = vec![3, 4];
        });
        assert!(shape.contains("blocks.0.attn.qkv.bias: expected 1 axes, found shape [3, 4]"), "{shape}");
        let oblong = message(|state| {
            let (_, tensor) = state.tensors.iter_mut().find(|(name, _)| name == "pos_embed").unwrap();
            *tensor = HostTensor { shape: vec![1, 4, 4], values: vec![0.0; 16] };
        });
        assert!(oblong.contains("square grid"), "{oblong}");
    }

    #[test]
    fn sizes_and_heads_are_checked() {
        let of = |heads, size, positions: usize| {
            let options = VitOptions { heads, positions: Positions::Fixed(vec![0.0; positions]) };
            let axes = Axes { batch: Some(1), size: Some(size) };
            vit(tensors(), &options, axes, &BTreeMap::new())
                .map(|model| shape_of(&model.graph.unwrap_or_default().output[1]))
        };
        // 5×6 px: the last row of pixels is no whole patch.
        assert_eq!(of(2, [5, 6], 4 * 7), Ok("[1, 7, 4]".to_owned()));
        assert!(of(3, [4, 4], 20).unwrap_err().to_string().contains("divides the width 4"));
        assert!(of(2, [1, 4], 20).unwrap_err().to_string().contains("at least one patch"));
        assert!(of(2, [4, 4], 16).unwrap_err().to_string().contains("5 position embeddings"));
    }

    #[test]
    fn registers_go_in_and_do_not_come_out() {
        let mut state = tensors();
        state.tensors.push(("register_tokens".into(), HostTensor { shape: vec![1, 3, 4], values: vec![0.5; 12] }));
        let model = vit(state, &options(), ANY, &BTreeMap::new()).unwrap();
        let graph = model.graph.unwrap();
        let slice = graph.node.iter().find(|node| node.op_type == "Slice").unwrap();
        let end = graph.initializer.iter().find(|t| t.name == slice.input[2]).unwrap();
        assert_eq!(end.raw_data, (-3i64).to_le_bytes());
    }
}
