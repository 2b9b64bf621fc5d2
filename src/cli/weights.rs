//! `ocelli weights`.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use ocelli::models::Arch;
use ocelli::models::weights::preprocessing::Preprocessing;
use ocelli::models::weights::{Entry, Family, Layout, Network, Part, Weights};
use ocelli::train::{WeightsFile, preprocessing_of, resolve_weights};
use serde_json::{Value, json};

use super::opening;

/// Longest list of tensors that is shown without grouping.
const SHORT: usize = 40;
/// Longest value of metadata that is shown.
const SHOWN_CHARS: usize = 80;

/// Describe a file of weights: what it holds, and which commands take it
///
/// It reads safetensors, and PyTorch's .pth, .pt and .tar. Nothing in the file is executed.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli weights dino_deitsmall16_pretrain.pth\n  ocelli weights runs/first\n  ocelli weights hf:facebook/dino-vits16 --download\n  ocelli weights checkpoint.pth --all --json"
)]
pub struct WeightsArgs {
    /// A file of weights, a run folder (its newest checkpoint), a folder of Hugging Face, or hf:NAME for what its library has
    /// cached on this machine
    file: PathBuf,
    /// List every tensor separately, however many there are
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &WeightsArgs) -> anyhow::Result<()> {
    let file = resolve_weights(&args.file)?;
    let opened = WeightsFile::read(&file)?;
    let weights = opened.open()?;
    let layout = weights.layout();
    let name = file.display().to_string();
    let input = layout
        .networks
        .first()
        .map(|network| preprocessing_of(&Preprocessing::default(), &file, &weights, network));
    let input = match input {
        Some(Ok((statistics, size))) => Input {
            words: format!("Its pictures: normalisation {statistics}; size {size}."),
            fields: opening::fields_of(&statistics, &size),
        },
        Some(Err(error)) => Input { words: format!("Its pictures: {error}."), fields: Value::Null },
        None => Input { words: String::new(), fields: Value::Null },
    };
    let size = opened.num_bytes();
    let text = match args.json {
        true => format!("{:#}\n", report(&name, size, &weights, &layout, &input)),
        false => words(&name, size, &weights, &layout, &input, args.all),
    };
    // A reader that has seen enough (`| head`) is no error.
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}

/// What the network to use wants done to its pictures.
struct Input {
    words: String,
    fields: Value,
}

fn words(file: &str, size: usize, weights: &Weights<'_>, layout: &Layout, input: &Input, all: bool) -> String {
    let mut lines = vec![sentence(file, size, weights, layout)];
    lines.extend(layout.networks.iter().map(|n| format!("  {}", describe(n))));
    lines.push(fits(weights, layout));
    if !input.words.is_empty() {
        lines.push(input.words.clone());
    }
    if !weights.metadata().is_empty() {
        lines.push("\nIt says of itself:".into());
    }
    for (key, value) in weights.metadata() {
        let line = printable(value);
        let short: String = line.chars().take(SHOWN_CHARS).collect();
        lines.push(format!("  {}: {short}{}", printable(key), if short.len() < line.len() { " …" } else { "" }));
    }
    lines.push("\nTensors:".into());
    let rows = match all || weights.entries().len() <= SHORT {
        true => weights.entries().iter().map(|e| (e.name.clone(), e, 1)).collect(),
        false => grouped(weights.entries()),
    };
    for (name, entry, count) in rows {
        let times = if count > 1 { format!("  ×{count}") } else { String::new() };
        lines.push(format!(
            "  {:5} {:22} {}{times}",
            entry.dtype.name(),
            format!("{:?}", entry.shape),
            printable(&name)
        ));
    }
    lines.join("\n") + "\n"
}

/// The architecture's name here, where `heads` (what the file tells of them) or the width gives their number.
pub fn arch_of(family: &Family, heads: Option<usize>) -> Option<String> {
    match *family {
        Family::Vit { dim, depth, patch_size_px, hidden, registers, .. }
            if dim > 0 && hidden == dim.saturating_mul(4) =>
        {
            let heads = heads.or((dim % 64 == 0).then_some(dim / 64))?;
            Some(Arch { dim, depth, heads, patch_size_px, registers }.to_string())
        }
        _ => None,
    }
}

/// Number of epochs the weights were trained for, where the file tells.
fn epochs<'w>(weights: &'w Weights<'_>) -> Option<&'w str> {
    ["epochs_done", "epoch", "meta.epoch"].iter().find_map(|k| weights.metadata().get(*k)).map(String::as_str)
}

fn sentence(file: &str, size: usize, weights: &Weights<'_>, layout: &Layout) -> String {
    let after = epochs(weights).map(|e| format!(", after {e} epochs")).unwrap_or_default();
    let count = weights.entries().len();
    format!(
        "{file}: {}{after}. {}, {}, {count} tensor{} of {}.",
        layout.name,
        weights.format(),
        file_size(size),
        if count == 1 { "" } else { "s" },
        dtypes(weights)
    )
}

/// Element types by the number of their elements, most first.
fn dtypes(weights: &Weights<'_>) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for entry in weights.entries() {
        match counts.iter_mut().find(|(name, _)| *name == entry.dtype.name()) {
            Some((_, count)) => *count += entry.len(),
            None => counts.push((entry.dtype.name(), entry.len())),
        }
    }
    counts.sort_by_key(|c| std::cmp::Reverse(c.1));
    counts.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
}

fn describe(network: &Network) -> String {
    let part = match network.part {
        Some(Part::Teacher) => "teacher: ",
        Some(Part::Student) => "student: ",
        None => "",
    };
    let mut words = format!("{part}{}", network.family);
    if let Some(arch) = arch_of(&network.family, network.heads) {
        words.push_str(&format!(" ({arch})"));
    }
    words.push_str(&format!(", {} parameters", thousands(network.parameters)));
    if let Some(side) = network.family.image_side_px() {
        words.push_str(&format!(", positions of {side}×{side} px images"));
    }
    if let Some(classes) = network.classes {
        words.push_str(&format!(", a classifier of {classes} classes on top (not used)"));
    }
    if !network.prefix.is_empty() {
        words.push_str(&format!(", under {}", printable(&network.prefix)));
    }
    for note in network.notes() {
        words.push_str(&format!("; {}", printable(&note)));
    }
    words
}

/// What the file can be used for.
fn fits(weights: &Weights<'_>, layout: &Layout) -> String {
    let Some(first) = layout.networks.first() else {
        return "No command here takes it: expected a Vision Transformer's tensors (patch_embed.proj.weight, blocks.0…) or a \
                ResNet's (conv1.weight, layer1.0…)."
            .into();
    };
    if let Some(refusal) = &first.refusal {
        return format!("No command here takes it: {}.", printable(refusal));
    }
    let Family::Vit { dim, .. } = first.family else {
        return "Use it with --weights in ocelli match, embed, eval knn and eval correspondence, or with ocelli export; the \
                first of its networks is taken. Attention maps want a Vision Transformer."
            .into();
    };
    let which = if layout.networks.len() > 1 { " (the first of its networks)" } else { "" };
    let told = dim % 64 == 0 || first.heads.is_some() || weights.metadata().contains_key("config");
    let heads = if told { String::new() } else { format!(". Give --heads: a width of {dim} does not tell them") };
    format!("Use it with --weights in ocelli attention, embed and eval knn, or with ocelli export{which}{heads}.")
}

/// Tensors that differ only in the numbers of their names, together.
fn grouped(entries: &[Entry]) -> Vec<(String, &Entry, usize)> {
    let mut rows: Vec<(String, &Entry, usize)> = Vec::new();
    let mut at = std::collections::HashMap::new();
    for entry in entries {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let parts: Vec<&str> = entry.name.split('.').map(|p| if is_number(p) { "*" } else { p }).collect();
        let name = parts.join(".");
        let row = *at.entry((name.clone(), entry.dtype, &entry.shape)).or_insert(rows.len());
        match rows.get_mut(row) {
            Some((_, _, count)) => *count += 1,
            None => rows.push((name, entry, 1)),
        }
    }
    // One of a kind keeps its name.
    rows.into_iter().map(|(name, e, n)| if n == 1 { (e.name.clone(), e, 1) } else { (name, e, n) }).collect()
}

fn report(file: &str, size: usize, weights: &Weights<'_>, layout: &Layout, input: &Input) -> Value {
    let networks: Vec<Value> = layout
        .networks
        .iter()
        .map(|n| {
            json!({
                "prefix": n.prefix,
                "part": n.part.map(|p| if p == Part::Teacher { "teacher" } else { "student" }),
                "architecture": n.family.to_string(),
                "arch": arch_of(&n.family, n.heads),
                "heads": n.heads,
                "notes": n.notes(),
                "refusal": n.refusal,
                "image_size_px": n.family.image_side_px(),
                "parameters": n.parameters,
                "classes": n.classes,
            })
        })
        .collect();
    let tensors: Vec<Value> = weights
        .entries()
        .iter()
        .map(|e| json!({ "name": e.name, "dtype": e.dtype.name(), "shape": e.shape }))
        .collect();
    json!({
        "file": file,
        "bytes": size,
        "format": weights.format(),
        "layout": layout.name,
        "networks": networks,
        "epochs": epochs(weights),
        "input": input.fields,
        "metadata": weights.metadata(),
        "tensors": tensors,
    })
}

/// On one line, without what would move a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A size in MB, in kB below one.
pub fn file_size(bytes: usize) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// `21665664` as `21,665,664`.
pub fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sides() {
        assert_eq!([0, 999, 1000, 21_665_664].map(thousands), ["0", "999", "1,000", "21,665,664"]);
        let family =
            |tokens| Family::Vit { dim: 384, depth: 12, patch_size_px: 16, tokens, hidden: 1536, registers: 0 };
        assert_eq!(family(197).image_side_px(), Some(224));
        assert_eq!(family(190).image_side_px(), None);
        let (dim, patch_size_px) = (usize::MAX, usize::MAX);
        let vast = Family::Vit { dim, depth: 1, patch_size_px, tokens: 5, hidden: 4, registers: 0 };
        assert_eq!((vast.image_side_px(), arch_of(&vast, None)), (None, None), "as files may pretend");
        assert_eq!(arch_of(&family(197), None).as_deref(), Some("vit-s/16"));
        assert_eq!(arch_of(&family(197), Some(12)).as_deref(), Some("vit-384x12x12/16"));
    }
}
