//! ResNets. Batch normalisations are folded into the convolutions before them: the same function, a third of the nodes.

use std::collections::BTreeMap;

use ocelli_weights::StateDict;

use crate::graph::{Graph, Setting};
use crate::model::{Axes, Axis, model, value};
use crate::tensors::Tensors;
use crate::{OnnxError, proto};

/// ε of every batch norm.
const BATCH_NORM_EPSILON: f64 = 1e-5;

/// Writes a ResNet in torchvision's names, or one with selective kernels in ours. Outputs: `features` `[batch, dim]`, the mean
/// over the last stage's cells, and `map` `[batch, dim, rows, cols]`, the last stage's output. A first kernel of 3×3 is the stem
/// for small images, without pooling.
///
/// # Errors
/// When a tensor is missing, too many or of a shape that fits no such network.
pub fn resnet(
    state: StateDict,
    axes: Axes,
    metadata: &BTreeMap<String, String>,
) -> Result<proto::Model, OnnxError> {
    let tensors = Tensors::new(state);
    let mut build = Build { graph: Graph::default(), tensors, pixels: axes.size, dim: 3 };
    let mut x = build.stem()?;
    for stage in 1..=4 {
        let blocks = (0..).take_while(|i| build.tensors.has(&format!("layer{stage}.{i}.conv1.weight"))).count();
        if blocks == 0 {
            return Err(OnnxError::Weights(format!("expected a ResNet of four stages; there is no layer{stage}")));
        }
        for index in 0..blocks {
            let stride = if stage > 1 && index == 0 { 2 } else { 1 };
            let name =
                if stage == 4 && index + 1 == blocks { "map".into() } else { format!("layer{stage}.{index}") };
            x = build.block(&x, &format!("layer{stage}.{index}"), &name, stride)?;
        }
    }
    let pooled = build.graph.node("pooled", "GlobalAveragePool", &[&x], &[]);
    build.graph.node("features", "Flatten", &[&pooled], &[("axis", Setting::Int(1))]);
    build.tensors.finish()?;
    let [rows, cols] = match build.pixels {
        Some(grid) => grid.map(Axis::Fixed),
        None => [Axis::Any("rows"), Axis::Any("cols")],
    };
    let dim = Axis::Fixed(build.dim);
    let outputs = vec![
        value("features", &[axes.batch(), dim], "the mean over the cells of the last stage"),
        value("map", &[axes.batch(), dim, rows, cols], "the output of the last stage"),
    ];
    model(build.graph, axes, outputs, metadata)
}

struct Build {
    graph: Graph,
    tensors: Tensors,
    /// Rows and columns of what was made last, where the picture's size is fixed.
    pixels: Option<[usize; 2]>,
    /// Channels of what was made last.
    dim: usize,
}

impl Build {
    /// What is in front of the stages.
    fn stem(&mut self) -> Result<String, OnnxError> {
        let mut x = "pixels".to_owned();
        let mut pools = true;
        if self.tensors.has("stem.0.conv.weight") {
            // Networks with selective kernels have three small convolutions.
            for index in 0..3 {
                let [conv, norm] = ["conv", "norm"].map(|part| format!("stem.{index}.{part}"));
                let y = self.conv(&x, [&conv, &norm], if index == 0 { 2 } else { 1 })?;
                x = self.relu(&y);
            }
        } else {
            pools = self.tensors.shape("conv1.weight")?.get(2) != Some(&3);
            let y = self.conv(&x, ["conv1", "bn1"], if pools { 2 } else { 1 })?;
            x = self.relu(&y);
        }
        if !pools {
            return Ok(x);
        }
        let settings = [
            ("kernel_shape", Setting::Ints(&[3, 3])),
            ("strides", Setting::Ints(&[2, 2])),
            ("pads", Setting::Ints(&[1, 1, 1, 1])),
        ];
        self.halve();
        Ok(self.graph.node("maxpool", "MaxPool", &[&x], &settings))
    }

    /// Half the size, rounded up.
    fn halve(&mut self) {
        self.pixels = self.pixels.map(|size| size.map(|n| n.div_ceil(2)));
    }

    fn block(&mut self, x: &str, at: &str, name: &str, stride: usize) -> Result<String, OnnxError> {
        let (input, size) = (self.dim, self.pixels);
        let has = |build: &Self, part: &str| build.tensors.has(&format!("{at}.{part}.weight"));
        let three = has(self, "conv3");
        let names = |conv: &str, norm: &str| [format!("{at}.{conv}"), format!("{at}.{norm}")];
        let conv = |build: &mut Self, x: &str, number: usize, stride| {
            let [conv, norm] = names(&format!("conv{number}"), &format!("bn{number}"));
            build.conv(x, [&conv, &norm], stride)
        };
        // Blocks of three convolutions have the stride in the middle one.
        let y = conv(self, x, 1, if three { 1 } else { stride })?;
        let y = self.relu(&y);
        let mut y = if self.tensors.has(&format!("{at}.sk.conv.weight")) {
            self.selective_kernel(&y, &format!("{at}.sk"), stride)?
        } else {
            let y = conv(self, &y, 2, if three { stride } else { 1 })?;
            if three { self.relu(&y) } else { y }
        };
        if three {
            y = conv(self, &y, 3, 1)?;
        }
        let after = (self.dim, self.pixels);
        (self.dim, self.pixels) = (input, size);
        let shortcut = if has(self, "downsample.0") {
            let [conv, norm] = names("downsample.0", "downsample.1");
            self.conv(x, [&conv, &norm], stride)?
        } else if has(self, "downsample.1") {
            // Pooling first: the mean over the cells that are there, half the size rounded up.
            let settings = [
                ("kernel_shape", Setting::Ints(&[2, 2])),
                ("strides", Setting::Ints(&[2, 2])),
                ("ceil_mode", Setting::Int(1)),
                ("count_include_pad", Setting::Int(0)),
            ];
            let pooled = self.graph.node(&format!("{at}.downsample.0"), "AveragePool", &[x], &settings);
            self.halve();
            let [conv, norm] = names("downsample.1", "downsample.2");
            self.conv(&pooled, [&conv, &norm], 1)?
        } else {
            x.to_owned()
        };
        if (self.dim, self.pixels) != after {
            return Err(OnnxError::Weights(format!(
                "{at}: expected a shortcut to {} channels, found one to {}",
                after.0, self.dim
            )));
        }
        let sum = self.graph.node(&format!("{at}.sum"), "Add", &[&y, &shortcut], &[]);
        Ok(self.graph.node(name, "Relu", &[&sum], &[]))
    }

    fn relu(&mut self, x: &str) -> String {
        self.graph.node(&format!("{x}.relu"), "Relu", &[x], &[])
    }

    /// Two 3×3 streams, mixed per channel by what the image holds.
    fn selective_kernel(&mut self, x: &str, at: &str, stride: usize) -> Result<String, OnnxError> {
        let channels = self.dim;
        let both = self.conv(x, [&format!("{at}.conv"), &format!("{at}.norm")], stride)?;
        let both = self.relu(&both);
        if self.dim != 2 * channels {
            return Err(OnnxError::Weights(format!(
                "{at}.conv.weight: expected two streams of {channels} channels, found {} channels",
                self.dim
            )));
        }
        self.dim = channels;
        let streams = self.graph.split(&format!("{at}.streams"), &both, 1, ["first", "second"]);
        let sum = self.graph.node(&format!("{at}.streams_sum"), "Add", &[&streams[0], &streams[1]], &[]);
        let pooled = self.graph.node(&format!("{at}.pooled"), "GlobalAveragePool", &[&sum], &[]);
        // Linear layers on one cell are convolutions of one cell.
        let ([width, _], mut reduce) = self.tensors.take::<2>(&format!("{at}.reduce.weight"))?;
        let bias = self.fold(&mut reduce, &format!("{at}.reduce_norm"), width)?;
        let select = self.tensors.take_of(&format!("{at}.select.weight"), [2 * channels, width])?;
        if reduce.len() != width * channels {
            return Err(OnnxError::Weights(format!("{at}.reduce.weight: expected {channels} columns")));
        }
        let graph = &mut self.graph;
        let reduce = graph.floats(&format!("{at}.reduce.weight"), &[width, channels, 1, 1], &reduce);
        let bias = graph.floats(&format!("{at}.reduce.bias"), &[width], &bias);
        let reduced = graph.node(&format!("{at}.reduce"), "Conv", &[&pooled, &reduce, &bias], &[]);
        let reduced = self.relu(&reduced);
        let graph = &mut self.graph;
        let select = graph.floats(&format!("{at}.select.weight"), &[2 * channels, width, 1, 1], &select);
        let chosen = graph.node(&format!("{at}.select"), "Conv", &[&reduced, &select], &[]);
        let by_stream = graph.ints(&format!("{at}.by_stream"), &[0, 2, channels as i64]);
        let chosen = graph.node(&format!("{at}.select_by_stream"), "Reshape", &[&chosen, &by_stream], &[]);
        let shares = graph.node(&format!("{at}.shares"), "Softmax", &[&chosen], &[("axis", Setting::Int(1))]);
        let as_maps = graph.ints(&format!("{at}.as_maps"), &[0, 2 * channels as i64, 1, 1]);
        let shares = graph.node(&format!("{at}.shares_as_maps"), "Reshape", &[&shares, &as_maps], &[]);
        let mixed = graph.node(&format!("{at}.shared"), "Mul", &[&both, &shares], &[]);
        let parts = graph.split(&format!("{at}.shared_streams"), &mixed, 1, ["first", "second"]);
        Ok(graph.node(at, "Add", &[&parts[0], &parts[1]], &[]))
    }

    /// Folds a batch norm into the weights before it, whose first axis has `output` entries; returns the bias.
    fn fold(&mut self, weight: &mut [f32], norm: &str, output: usize) -> Result<Vec<f32>, OnnxError> {
        let mut of_norm = |part: &str| self.tensors.take_of(&format!("{norm}.{part}"), [output]);
        let (gamma, beta) = (of_norm("weight")?, of_norm("bias")?);
        let (mean, var) = (of_norm("running_mean")?, of_norm("running_var")?);
        let mut bias = Vec::with_capacity(output);
        for (channel, kernel) in weight.chunks_mut((weight.len() / output.max(1)).max(1)).enumerate() {
            let scale = f64::from(gamma[channel]) / (f64::from(var[channel]) + BATCH_NORM_EPSILON).sqrt();
            kernel.iter_mut().for_each(|w| *w = (f64::from(*w) * scale) as f32);
            bias.push((f64::from(beta[channel]) - f64::from(mean[channel]) * scale) as f32);
        }
        Ok(bias)
    }

    /// A convolution padded so that stride 1 keeps the size, and the batch norm after it, as one convolution.
    fn conv(&mut self, x: &str, [conv, norm]: [&str; 2], stride: usize) -> Result<String, OnnxError> {
        let ([output, input, side, same], mut weight) = self.tensors.take::<4>(&format!("{conv}.weight"))?;
        if input != self.dim || side != same || side.is_multiple_of(2) || output == 0 {
            return Err(OnnxError::Weights(format!(
                "{conv}.weight: expected a square convolution of {} channels with an odd side, found shape {:?}",
                self.dim,
                [output, input, side, same]
            )));
        }
        let bias = self.fold(&mut weight, norm, output)?;
        let weight = self.graph.floats(&format!("{conv}.weight"), &[output, input, side, side], &weight);
        let bias = self.graph.floats(&format!("{conv}.bias"), &[output], &bias);
        let (sides, strides, pads) = ([side as i64; 2], [stride as i64; 2], [(side / 2) as i64; 4]);
        let settings = [
            ("kernel_shape", Setting::Ints(&sides)),
            ("strides", Setting::Ints(&strides)),
            ("pads", Setting::Ints(&pads)),
        ];
        self.dim = output;
        if stride == 2 {
            self.halve();
        }
        Ok(self.graph.node(conv, "Conv", &[x, &weight, &bias], &settings))
    }
}

#[cfg(test)]
mod tests {
    use ocelli_weights::HostTensor;

    use super::*;
    use crate::shape_of;

    /// A network of one block of two convolutions a stage, 2 channels at first.
    fn tensors(side: usize) -> StateDict {
        let mut state = StateDict::default();
        let mut conv = |conv: &str, norm: &str, [output, input, side]: [usize; 3]| {
            let mut add = |name: String, shape: Vec<usize>, value: f32| {
                let values = vec![value; shape.iter().product()];
                state.tensors.push((name, HostTensor { shape, values }));
            };
            add(format!("{conv}.weight"), vec![output, input, side, side], 3.0);
            add(format!("{norm}.weight"), vec![output], 2.0);
            add(format!("{norm}.bias"), vec![output], 0.5);
            add(format!("{norm}.running_mean"), vec![output], -1.0);
            add(format!("{norm}.running_var"), vec![output], 4.0 - 1e-5);
        };
        conv("conv1", "bn1", [2, 3, side]);
        let mut input = 2;
        for stage in 1..=4 {
            let (at, output) = (format!("layer{stage}.0"), 1 << stage);
            conv(&format!("{at}.conv1"), &format!("{at}.bn1"), [output, input, 3]);
            conv(&format!("{at}.conv2"), &format!("{at}.bn2"), [output, output, 3]);
            if input != output {
                conv(&format!("{at}.downsample.0"), &format!("{at}.downsample.1"), [output, input, 1]);
            }
            input = output;
        }
        state
    }

    #[test]
    fn norms_are_folded_and_sizes_are_rounded_up() {
        let axes = Axes { batch: Some(2), size: Some([65, 40]) };
        let graph = resnet(tensors(7), axes, &BTreeMap::new()).unwrap().graph.unwrap();
        let floats = |name: &str| {
            let tensor = graph.initializer.iter().find(|t| t.name == name).unwrap();
            tensor.raw_data.chunks_exact(4).map(|v| f32::from_le_bytes(v.try_into().unwrap())).collect::<Vec<_>>()
        };
        // γ/σ = 2/2; β − μ·1.
        assert!(floats("conv1.weight").iter().all(|w| (w - 3.0).abs() < 1e-6));
        assert!(floats("conv1.bias").iter().all(|b| (b - 1.5).abs() < 1e-6));
        assert!(graph.node.iter().all(|node| node.op_type != "BatchNormalization"));
        let shapes: Vec<String> = graph.output.iter().map(shape_of).collect();
        assert_eq!(shapes, ["[2, 16]", "[2, 16, 3, 2]"]);
    }

    #[test]
    fn small_images_have_a_stem_without_pooling() {
        let axes = Axes { batch: None, size: Some([32, 32]) };
        let graph = resnet(tensors(3), axes, &BTreeMap::new()).unwrap().graph.unwrap();
        assert!(graph.node.iter().all(|node| node.op_type != "MaxPool"));
        assert_eq!(shape_of(&graph.output[1]), "[batch, 16, 4, 4]");
    }

    #[test]
    fn what_is_no_such_network_is_refused() {
        let message = |change: fn(&mut StateDict)| {
            let mut state = tensors(7);
            change(&mut state);
            resnet(state, Axes { batch: None, size: None }, &BTreeMap::new()).unwrap_err().to_string()
        };
        let shortcut = message(|state| state.tensors.retain(|(name, _)| !name.starts_with("layer3.0.downsample")));
        assert!(shortcut.contains("layer3.0: expected a shortcut to 8 channels, found one to 4"), "{shortcut}");
        let extra = message(|state| {
            let bias = HostTensor { shape: vec![2], values: vec![0.0; 2] };
            state.tensors.push(("conv1.bias".into(), bias));
        });
        assert!(extra.contains("conv1.bias"), "{extra}");
        let stage = message(|state| state.tensors.retain(|(name, _)| !name.starts_with("layer4")));
        assert!(stage.contains("there is no layer4"), "{stage}");
    }
}
