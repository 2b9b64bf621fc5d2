//! `ocelli export --format onnx`: the file, the words about it, and its comparison with the network it came from.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use burn::tensor::Device;
use clap::Args;
use ocelli::data::files::temporary_in;
use ocelli::models::weights::preprocessing::Preprocessing;
use ocelli::models::weights::{ModuleState as _, StateDict};
use ocelli::models::{AnyBackbone, PositionRule, Vit};
use ocelli::train::{Loaded, Loading, TrainError};
use ocelli_onnx::{Axes, OnnxError, Positions, VitOptions, proto};

use super::opening::SizeArgs;
use super::weights::file_size;

mod check;

/// What only ONNX has.
#[derive(Args, Clone, Default)]
pub struct OnnxArgs {
    /// ONNX: pictures of any size (default: of the size that --size or --crop names, else the weights)
    #[arg(long)]
    dynamic: bool,
    /// ONNX: images of a batch, or dynamic for any number (the default)
    #[arg(long, value_name = "N", value_parser = batch)]
    batch: Option<Batch>,
    /// ONNX: run the file with Python's onnxruntime (python3, or what OCELLI_PYTHON names), compare its features with ours, and
    /// write no file that differs
    #[arg(long)]
    check: bool,
}

#[derive(Clone, Copy)]
enum Batch {
    Any,
    Of(usize),
}

fn batch(text: &str) -> Result<Batch, String> {
    let wrong = || "expected a number of images from 1 to 65536, or dynamic".to_owned();
    match text {
        "dynamic" => Ok(Batch::Any),
        _ => text.parse().ok().filter(|n| (1..=1 << 16).contains(n)).map(Batch::Of).ok_or_else(wrong),
    }
}

impl OnnxArgs {
    /// The flags that are given.
    pub fn named(&self) -> Vec<&'static str> {
        let flags = [("--dynamic", self.dynamic), ("--batch", self.batch.is_some()), ("--check", self.check)];
        flags.into_iter().filter(|(_, is_there)| *is_there).map(|(flag, _)| flag).collect()
    }
}

/// What to write and where.
pub struct Request<'r> {
    pub source: &'r Path,
    pub out: &'r Path,
    /// Which network of which file, and what is said of its pictures.
    pub loading: Loading,
    pub size: &'r SizeArgs,
    pub onnx: &'r OnnxArgs,
}

/// Largest side of a picture, as `--size` has it.
const MAX_SIDE_PX: usize = 1 << 14;
/// The size that is tried where any is taken and the weights name none.
const USUAL_PX: usize = 224;

pub fn run(request: &Request<'_>) -> anyhow::Result<()> {
    let Request { source, out, loading, size, onnx } = request;
    // The reference of the comparison is the CPU's.
    let mut net = loading.open(source, &Device::flex())?;
    size.apply(&mut net.size);
    let side = net.size.value.crop_px;
    let axes = Axes {
        batch: match onnx.batch {
            Some(Batch::Of(images)) => Some(images),
            Some(Batch::Any) | None => None,
        },
        size: (!onnx.dynamic && side > 0).then_some([side, side]),
    };
    let model = graph(&net, axes).map_err(|error| of_graph(source, &error))?;
    let bytes = ocelli_onnx::encode(&model).map_err(|error| of_graph(source, &error))?;
    let folder = out.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let cannot = || format!("{}: cannot write the file", out.display());
    let mut file = temporary_in(folder).with_context(cannot)?;
    file.write_all(&bytes).and_then(|()| file.as_file().sync_all()).with_context(cannot)?;
    let compared = match onnx.check {
        true => Some(
            check::compare(&net.encoder, file.path(), axes, sizes(&net, axes))
                .with_context(|| format!("{} was not written", out.display()))?,
        ),
        false => None,
    };
    file.persist(out).map_err(|e| e.error).with_context(cannot)?;

    println!("{}: {}", out.display(), net.description);
    println!("ONNX, opset {}, f32, {}", ocelli_onnx::OPSET, file_size(bytes.len()));
    let graph = model.graph.unwrap_or_default();
    let lines = |what: &str, values: &[proto::ValueInfo]| {
        for value in values {
            println!("{what} {} {}: {}", value.name, ocelli_onnx::shape_of(value), value.doc_string);
        }
    };
    lines("input ", &graph.input);
    lines("output", &graph.output);
    if let AnyBackbone::Vit(vit) = &net.encoder {
        println!("{}", positions_in_words(vit, axes));
    }
    println!("normalisation: {}; size: {}", net.statistics, net.size);
    println!("both are in the file's metadata; whoever runs it resizes and normalises its pictures so");
    match compared {
        Some(lines) => lines.iter().for_each(|line| println!("{line}")),
        None => println!("not run; --check compares its features with ours, where Python has onnxruntime"),
    }
    Ok(())
}

/// What a fault of ours is, and what the user can mend.
fn of_graph(source: &Path, error: &OnnxError) -> anyhow::Error {
    match error {
        OnnxError::Graph(_) => {
            TrainError::Fault { message: error.to_string(), location: "ocelli export --format onnx".into() }.into()
        }
        _ => anyhow::anyhow!("{}: {error}", source.display()),
    }
}

fn graph(net: &Loaded, axes: Axes) -> Result<proto::Model, OnnxError> {
    let mut state = StateDict::default();
    state.add_module("", &net.encoder).map_err(|e| OnnxError::Weights(e.to_string()))?;
    let metadata = metadata(net);
    match &net.encoder {
        AnyBackbone::Vit(vit) => {
            let options = VitOptions { heads: vit.heads(), positions: positions(vit, axes)? };
            ocelli_onnx::vit(state, &options, axes, &metadata)
        }
        AnyBackbone::ResNet(_) => ocelli_onnx::resnet(state, axes, &metadata),
    }
}

/// What a runtime's user has to know: the network, and what it wants done to its pictures.
fn metadata(net: &Loaded) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::from([("arch".to_owned(), net.arch())]);
    let input = Preprocessing { statistics: Some(net.statistics.clone()), size: Some(net.size.clone()) };
    input.write(&mut metadata);
    metadata.insert("channels".into(), "RGB".into());
    if let AnyBackbone::Vit(vit) = &net.encoder {
        metadata.insert("patch_size_px".into(), vit.patch_size_px().to_string());
        metadata.insert(PositionRule::METADATA.into(), vit.position_rule().name().into());
    }
    metadata
}

/// For a fixed size as the network itself resamples them, else in the graph.
fn positions(vit: &Vit, axes: Axes) -> Result<Positions, OnnxError> {
    let Some([height, width]) = axes.size else {
        return Ok(Positions::Resampled(match vit.position_rule() {
            PositionRule::Dino => ocelli_onnx::PositionRule::Dino,
            PositionRule::Bicubic => ocelli_onnx::PositionRule::Bicubic,
            PositionRule::Antialiased => ocelli_onnx::PositionRule::Antialiased,
        }));
    };
    let patch = vit.patch_size_px();
    if height < patch || width < patch {
        return Err(OnnxError::Weights(format!(
            "expected pictures of at least one patch, {patch}×{patch} px; found {height}×{width} px (--size)"
        )));
    }
    let values = vit.position_embedding(height, width).into_data().try_to_vec::<f32>();
    let values = values.map_err(|e| OnnxError::Weights(format!("cannot read the position embeddings: {e:?}")))?;
    Ok(Positions::Fixed(values))
}

fn positions_in_words(vit: &Vit, axes: Axes) -> String {
    let patch = vit.patch_size_px();
    let rule = match vit.position_rule() {
        PositionRule::Dino => "as DINO does it",
        PositionRule::Bicubic => "bicubic",
        PositionRule::Antialiased => "bicubic, antialiased",
    };
    match axes.size {
        None => format!(
            "position embeddings: resampled in the graph for any size, {rule}; of patches of {patch} px whole ones count"
        ),
        Some([height, width]) => {
            let grid = vit.grid(height, width);
            let rest = match (height % patch, width % patch) {
                (0, 0) => String::new(),
                (bottom, right) => {
                    format!("; {bottom} px at the bottom and {right} px at the right are no whole patch")
                }
            };
            format!("position embeddings: for {}×{} patches of {patch} px, {rule}{rest}", grid.rows, grid.cols)
        }
    }
}

/// The sizes at which the comparison runs: the fixed one; else the usual one and one that is not square, with pixels beyond the
/// last whole cell.
fn sizes(net: &Loaded, axes: Axes) -> Vec<[usize; 2]> {
    if let Some(size) = axes.size {
        return vec![size];
    }
    let cell = net.stride_px.max(1);
    let side = match net.size.value.crop_px {
        0 => USUAL_PX,
        side => side,
    }
    .max(cell);
    vec![[side, side], [(side * 5 / 8).max(cell), (side + cell + 1).min(MAX_SIDE_PX)]]
}
