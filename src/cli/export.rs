//! `ocelli export`.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use burn::module::Module as _;
use burn::tensor::Device;
use clap::{Args, ValueEnum};
use ocelli::models::weights::preprocessing::Preprocessing;
use ocelli::models::weights::{
    Dtype, Family, Network, Part, StateDict, Weights, detectron2, write_pth, write_safetensors_as,
};
use ocelli::models::{AnyBackbone, PositionRule};
use ocelli::train::{Loading, WeightsFile, preprocessing_of, resolve_weights, write_atomically};

use super::export_onnx::{self, OnnxArgs};
use super::opening::{NormaliseArgs, SizeArgs};
use super::outputs;
use super::talk;
use super::weights::{arch_of, file_size, thousands};

/// Write a network's weights for other programs, in PyTorch's names and layout
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli export runs/first --format safetensors --out backbone.safetensors\n  ocelli export runs/first --format pth-layout --out backbone.pth\n  ocelli export checkpoint.pth --what student --format safetensors --dtype f16 --out student.safetensors\n  ocelli export runs/first --format safetensors --dtype q8 --out small.safetensors   # a quarter of the size\n  ocelli export runs/first --format onnx --dynamic --check --out backbone.onnx"
)]
pub struct ExportArgs {
    /// A run folder, a checkpoint, any file of weights (.safetensors, .pth), a folder of Hugging Face, or hf:NAME
    source: PathBuf,
    /// The kind of file
    #[arg(long, value_enum)]
    format: Format,
    /// The file to write
    #[arg(long)]
    out: PathBuf,
    /// Which tensors
    #[arg(long, value_enum, default_value_t = What::Backbone)]
    what: What,
    /// Numbers in the file
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    dtype: Precision,
    /// Number of attention heads, if the weights do not say (for safetensors, bpk and onnx)
    #[arg(long)]
    heads: Option<usize>,
    #[command(flatten)]
    normalise: NormaliseArgs,
    #[command(flatten)]
    size: SizeArgs,
    #[command(flatten)]
    onnx: OnnxArgs,
    /// Replace the file if there is one
    #[arg(long)]
    overwrite: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// safetensors, with a description of the network in the metadata
    Safetensors,
    /// A state dict in PyTorch's zip form; torch.load reads it with weights_only=True
    #[value(alias = "pth")]
    PthLayout,
    /// burn's own format, in burn's layout: a record of `ocelli::models::Vit`
    Bpk,
    /// For onnxruntime and other readers of ONNX: pixels in, features out
    Onnx,
    /// A ResNet in detectron2's names, a .pkl as its own script makes of torchvision's files
    Detectron2,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// The backbone that is used: the teacher's where there are two
    Backbone,
    /// The teacher's or key encoder's backbone
    Teacher,
    /// The student's or query encoder's backbone
    Student,
    /// The projection head of the backbone that is used
    Head,
    /// The projection head of the student or query encoder
    StudentHead,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Precision {
    /// 32 bits
    F32,
    /// 16 bits
    F16,
    /// int8 with one f32 scale per output row for the weights of matrices and convolutions; norms, biases, positions and
    /// tokens stay f32. Every command reads it. In safetensors alone: NAME as int8, NAME.scale as f32
    Q8,
}

impl Precision {
    /// The element type of the tensors that have one of their own.
    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Q8 => Dtype::I8,
        }
    }
}

pub fn run(args: &ExportArgs) -> anyhow::Result<()> {
    outputs::check_new(&args.out, args.overwrite)?;
    if args.format == Format::Onnx {
        return onnx(args);
    }
    if let [flag, ..] = args.onnx.named()[..] {
        bail!("{flag} is for --format onnx");
    }
    let source = resolve_weights(&args.source)?;
    let opened = WeightsFile::read(&source)?;
    let weights = opened.open()?;
    let part = match args.what {
        What::Backbone | What::Head => None,
        What::Teacher => Some(Part::Teacher),
        What::Student | What::StudentHead => Some(Part::Student),
    };
    let network = weights.network(part).with_context(|| source.display().to_string())?;
    let is_head = matches!(args.what, What::Head | What::StudentHead);
    let mut state = if is_head { head(&weights, &network)? } else { weights.backbone(&network)? };
    let mut metadata = describe(&weights, &network, args.heads, is_head);
    let carried = [PositionRule::METADATA, "num_attention_heads"].into_iter().filter(|_| !is_head);
    for key in carried {
        metadata.extend(state.metadata.get(key).map(|value| (key.to_owned(), value.clone())));
    }
    if let (Some(heads), Family::Vit { dim, .. }, false) = (args.heads, &network.family, is_head) {
        ensure!(
            heads > 0 && dim.is_multiple_of(heads),
            "--heads {heads}: expected a number that divides the network's width, {dim}"
        );
        metadata.insert("num_attention_heads".into(), heads.to_string());
    }
    state.metadata = metadata;
    let given = Preprocessing { size: args.size.given(), ..args.normalise.given()? };
    let (statistics, mut size) = preprocessing_of(&given, &source, &weights, &network)?;
    args.size.apply(&mut size);
    let input = Preprocessing { statistics: Some(statistics.clone()), size: Some(size.clone()) };
    if !is_head {
        input.write(&mut state.metadata);
    }
    let dtype = args.dtype.dtype();
    let file = match args.format {
        Format::Safetensors => write_safetensors_as(&state, dtype)?,
        Format::PthLayout if args.dtype == Precision::Q8 => {
            bail!("--format pth-layout is written as f32 or f16; --dtype q8 is for safetensors")
        }
        Format::PthLayout => write_pth(&state, dtype)?,
        Format::Bpk if is_head => {
            bail!("--format bpk: expected a backbone; a head goes to safetensors or pth-layout")
        }
        Format::Bpk if dtype != Dtype::F32 => bail!("--format bpk is written as f32; leave out --dtype"),
        Format::Bpk => burnpack(args, part)?,
        Format::Detectron2 => {
            ensure!(
                !is_head && matches!(network.family, Family::ResNet { .. }),
                "--format detectron2: expected a ResNet's backbone, found {}",
                if is_head { "a head".to_owned() } else { network.family.to_string() }
            );
            ensure!(
                state.get("conv1.weight").is_some_and(|t| t.shape.get(2) == Some(&7)),
                "--format detectron2: expected a ResNet that begins with one convolution of 7×7 pixels, as detectron2's do; this \
                 one begins otherwise (for small images, or with selective kernels)"
            );
            ensure!(dtype == Dtype::F32, "--format detectron2 is written as f32; leave out --dtype");
            let ending = args.out.extension().and_then(|e| e.to_str());
            ensure!(
                ending == Some("pkl"),
                "--out {}: expected a name that ends in .pkl, by which detectron2 knows the form",
                args.out.display()
            );
            detectron2::write_pkl(&state, concat!("ocelli ", env!("CARGO_PKG_VERSION")))?
        }
        Format::Onnx => bail!("--format onnx is written elsewhere"),
    };
    write_atomically(&args.out, &file)?;
    let what = match (is_head, network.part) {
        (true, part) => format!("{}projection head", whose(part, &network.prefix)),
        (false, part) => format!("{}{}", whose(part, &network.prefix), network.family),
    };
    println!(
        "{}: {what}, {} tensors, {} values, {}",
        args.out.display(),
        state.tensors.len(),
        thousands(state.num_values()),
        file_size(file.len())
    );
    if !talk::notes(false) {
        return Ok(());
    }
    for note in if is_head { Vec::new() } else { network.notes() } {
        println!("{note}");
    }
    if args.dtype == Precision::Q8 {
        println!(
            "matrices and convolutions are int8: a value is NAME times NAME.scale of its row; all other tensors are f32"
        );
    }
    if !is_head {
        println!("normalisation: {statistics}; size: {size}");
        let flags = input.flags();
        match args.format {
            Format::Safetensors => println!("both are in the file's metadata"),
            Format::PthLayout => println!("a .pth does not hold them; when you use it, give {flags}"),
            Format::Bpk => println!("a burnpack does not hold them; normalise its pictures as {flags} says"),
            Format::Detectron2 => {
                let level = |v: f32| (f64::from(v) * 255e3).round() / 1e3;
                let levels = |values: [f32; 3]| values.map(|v| level(v).to_string()).join(", ");
                let (mean, std) = (levels(statistics.value.mean), levels(statistics.value.std));
                println!(
                    "detectron2 needs to be told: INPUT.FORMAT: RGB, MODEL.PIXEL_MEAN: [{mean}], MODEL.PIXEL_STD: [{std}], \
                     MODEL.RESNETS.STRIDE_IN_1X1: False{}",
                    widths(&network.family, &state)
                );
            }
            Format::Onnx => {}
        }
    }
    if let (false, Family::Vit { dim, registers, .. }) = (is_head, &network.family) {
        if args.format == Format::PthLayout && (network.heads.or(args.heads).is_some() || dim % 64 != 0) {
            println!("a .pth does not hold the number of heads; read it again with --heads");
        }
        let holder = match args.format {
            Format::PthLayout => Some("a .pth"),
            Format::Bpk => Some("a burnpack"),
            _ => None,
        };
        // What is assumed of as many registers need not be held.
        let rule = state.metadata.get(PositionRule::METADATA);
        let rule = rule.filter(|rule| rule.as_str() != PositionRule::of_registers(*registers).name());
        if let (Some(file), Some(rule)) = (holder, rule) {
            println!(
                "{file} does not hold how positions of another size are resampled ({rule}); safetensors does"
            );
        }
    }
    Ok(())
}

/// A backbone as a graph.
fn onnx(args: &ExportArgs) -> anyhow::Result<()> {
    let part = match args.what {
        What::Backbone => None,
        What::Teacher => Some(Part::Teacher),
        What::Student => Some(Part::Student),
        What::Head | What::StudentHead => {
            bail!("--format onnx: expected a backbone; a head goes to safetensors or pth-layout")
        }
    };
    if args.dtype != Precision::F32 {
        bail!("--format onnx is written as f32; leave out --dtype");
    }
    let given = Preprocessing { size: args.size.given(), ..args.normalise.given()? };
    let loading = Loading { part, heads: args.heads, given, ..Loading::default() };
    let (source, out) = (&args.source, &args.out);
    export_onnx::run(&export_onnx::Request { source, out, loading, size: &args.size, onnx: &args.onnx })
}

/// What detectron2 has to be told of a ResNet with more channels than usual; nothing of others.
fn widths(family: &Family, state: &StateDict) -> String {
    let channels = state.get("conv1.weight").and_then(|t| t.shape.first().copied()).unwrap_or(0);
    match *family {
        Family::ResNet { bottleneck: true, width, .. } if (channels, width) != (64, 64) => format!(
            ", MODEL.RESNETS.STEM_OUT_CHANNELS: {channels}, MODEL.RESNETS.RES2_OUT_CHANNELS: {}, \
             MODEL.RESNETS.WIDTH_PER_GROUP: {width}",
            4 * channels
        ),
        _ => String::new(),
    }
}

/// Which of a pair, in its method's words.
fn whose(part: Option<Part>, prefix: &str) -> &'static str {
    let is_byol = ["online.", "target."].iter().any(|name| prefix.contains(name));
    match (part, prefix.contains("encoder_")) {
        (Some(Part::Student), false) if is_byol => "the online network's ",
        (Some(Part::Teacher), false) if is_byol => "the target network's ",
        (Some(Part::Student), true) => "the query encoder's ",
        (Some(Part::Teacher), true) => "the key encoder's ",
        (Some(Part::Student), false) => "the student's ",
        (Some(Part::Teacher), false) => "the teacher's ",
        (None, _) => "",
    }
}

/// The projection head beside a backbone.
fn head(weights: &Weights<'_>, network: &Network) -> anyhow::Result<StateDict> {
    // DINO's, DenseCL's and MoCo's names.
    let prefix = network.prefix.as_str();
    let beside = [("backbone.", "head."), ("encoder_q.0.", "encoder_q.1."), ("encoder_k.0.", "encoder_k.1.")]
        .into_iter()
        .find_map(|(backbone, head)| Some(format!("{}{head}", prefix.strip_suffix(backbone)?)))
        .unwrap_or_else(|| prefix.to_owned());
    let own = |name: &str| {
        let name = name.strip_prefix(beside.as_str())?;
        // MoCo has head and backbone under one prefix.
        (beside != prefix || prefix.contains("encoder_") && name.starts_with("fc.")).then(|| name.to_owned())
    };
    let found = weights.state_dict(|e| own(&e.name))?;
    if found.tensors.is_empty() {
        bail!("expected a checkpoint with a projection head; there is none beside the {}", network.family);
    }
    Ok(found)
}

/// What the safetensors file says of itself. `config` is what a run of Ocelli has: from it come heads and normalisation.
fn describe(
    weights: &Weights<'_>,
    network: &Network,
    heads: Option<usize>,
    is_head: bool,
) -> std::collections::BTreeMap<String, String> {
    let mut metadata: std::collections::BTreeMap<String, String> = ["epochs_done", "config"]
        .iter()
        .filter_map(|key| weights.metadata().get_key_value(*key))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    if let Some(epochs) = weights.metadata().get("epoch") {
        metadata.insert("epochs_done".into(), epochs.clone());
    }
    // What programs of the PyTorch world look for.
    metadata.insert("format".into(), "pt".into());
    metadata.insert("producer".into(), concat!("ocelli ", env!("CARGO_PKG_VERSION")).into());
    if !is_head {
        let arch =
            weights.metadata().get("arch").cloned().or_else(|| arch_of(&network.family, heads.or(network.heads)));
        metadata.extend(arch.map(|a| ("arch".to_owned(), a)));
        metadata.extend(network.family.image_side_px().map(|s| ("image_size_px".to_owned(), s.to_string())));
    }
    metadata
}

/// A record of the network as burn writes it.
fn burnpack(args: &ExportArgs, part: Option<Part>) -> anyhow::Result<Vec<u8>> {
    let loading = Loading { part, heads: args.heads, only_vit: true, ..Loading::default() };
    let AnyBackbone::Vit(vit) = loading.open(&args.source, &Device::flex())?.encoder else {
        bail!("--format bpk: expected a Vision Transformer");
    };
    let bytes = vit.into_record().into_bytes().map_err(|e| anyhow::anyhow!("cannot write a burnpack: {e}"))?;
    Ok(bytes.to_vec())
}
