//! `ocelli export`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use burn::module::Module as _;
use burn::tensor::Device;
use clap::{Args, ValueEnum};
use ocelli::models::AnyBackbone;
use ocelli::models::weights::preprocessing::Preprocessing;
use ocelli::models::weights::{Dtype, Family, Network, Part, StateDict, Weights, write_pth, write_safetensors_as};
use ocelli::train::{Loading, preprocessing_of, resolve_weights, write_atomically};

use super::opening::{NormaliseArgs, SizeArgs};
use super::outputs;
use super::weights::{arch_of, file_size, image_side_px, thousands};

/// Write a network's weights for other programs, in PyTorch's names and layout.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli export runs/first --format safetensors --out backbone.safetensors\n  ocelli export runs/first --format pth-layout --out backbone.pth\n  ocelli export checkpoint.pth --what student --format safetensors --dtype f16 --out student.safetensors"
)]
pub struct ExportArgs {
    /// A run folder, a checkpoint, or any file of weights (.safetensors, .pth)
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
    /// Heads, where the weights do not tell (only for bpk)
    #[arg(long)]
    heads: Option<usize>,
    #[command(flatten)]
    normalise: NormaliseArgs,
    #[command(flatten)]
    size: SizeArgs,
    /// Replace the file if there is one
    #[arg(long)]
    overwrite: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// With what is known of the network in the metadata
    Safetensors,
    /// A state dict in PyTorch's zip form; torch.load reads it with weights_only=True
    #[value(alias = "pth")]
    PthLayout,
    /// burn's own format, in burn's layout: a record of `ocelli::models::Vit`
    Bpk,
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
    F32,
    F16,
}

pub fn run(args: &ExportArgs) -> anyhow::Result<()> {
    outputs::check_new(&args.out, args.overwrite)?;
    let source = resolve_weights(&args.source)?;
    let bytes = fs::read(&source).with_context(|| format!("{}: cannot read the weights", source.display()))?;
    let weights = Weights::open(&bytes).with_context(|| source.display().to_string())?;
    let part = match args.what {
        What::Backbone | What::Head => None,
        What::Teacher => Some(Part::Teacher),
        What::Student | What::StudentHead => Some(Part::Student),
    };
    let network = weights.network(part).with_context(|| source.display().to_string())?;
    let is_head = matches!(args.what, What::Head | What::StudentHead);
    let mut state = if is_head { head(&weights, &network)? } else { weights.backbone(&network)? };
    state.metadata = describe(&weights, &network, is_head);
    let given = Preprocessing { size: args.size.given(), ..args.normalise.given()? };
    let (statistics, mut size) = preprocessing_of(&given, &source, &weights, &network)?;
    args.size.apply(&mut size);
    let input = Preprocessing { statistics: Some(statistics.clone()), size: Some(size.clone()) };
    if !is_head {
        input.write(&mut state.metadata);
    }
    let dtype = if args.dtype == Precision::F16 { Dtype::F16 } else { Dtype::F32 };
    let file = match args.format {
        Format::Safetensors => write_safetensors_as(&state, dtype)?,
        Format::PthLayout => write_pth(&state, dtype)?,
        Format::Bpk if is_head => {
            bail!("--format bpk: expected a backbone; a head goes to safetensors or pth-layout")
        }
        Format::Bpk if dtype != Dtype::F32 => bail!("--format bpk is written as f32; leave out --dtype"),
        Format::Bpk => burnpack(args, part)?,
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
    if !is_head {
        println!("normalisation: {statistics}; size: {size}");
        let flags = input.flags();
        match args.format {
            Format::Safetensors => println!("both are in the file's metadata"),
            Format::PthLayout => println!("a .pth does not hold them; when you use it, give {flags}"),
            Format::Bpk => println!("a burnpack does not hold them; normalise its pictures as {flags} says"),
        }
    }
    let is_vit = matches!(network.family, Family::Vit { .. });
    if !is_head && is_vit && args.format == Format::PthLayout && arch_of(&network.family).is_none() {
        println!("a .pth does not hold the number of heads; read it again with --heads");
    }
    Ok(())
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
        let arch = weights.metadata().get("arch").cloned().or_else(|| arch_of(&network.family));
        metadata.extend(arch.map(|a| ("arch".to_owned(), a)));
        metadata.extend(image_side_px(&network.family).map(|s| ("image_size_px".to_owned(), s.to_string())));
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
