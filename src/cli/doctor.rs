//! `ocelli doctor`: what a bug report needs to know of a machine, and what is missing on it.

mod facts;
mod trials;

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use ocelli::kernels::choices_file;
use ocelli::train::device::{self, DeviceChoice};
use serde_json::{Map, Value, json};

use super::{DeviceArgs, devices, ranks};
pub use facts::{cpu_features, cpu_name, target, without_home};
use facts::{environment, memory};

/// Look at this machine and try what Ocelli needs: one text to paste into a bug report
///
/// It names the version, the processor, the memory, the adapters and their drivers, and the device that is used. Folders in your
/// home are written with ~. Nothing is sent anywhere. It ends with 0 where everything that was tried works, else with 2.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli doctor\n  ocelli doctor --data photos --out runs/first\n  ocelli doctor --device gpu --json"
)]
pub struct DoctorArgs {
    /// Also try this data set, as it is given to `ocelli pretrain`: its first image is read, and a small file is written to its
    /// folder and removed again
    #[arg(long)]
    data: Option<String>,
    /// Also try to write to this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What was found: in words and as fields, and what to mend.
#[derive(Default)]
struct Findings {
    lines: Vec<(&'static str, String)>,
    fields: Map<String, Value>,
    problems: Vec<String>,
}

impl Findings {
    fn add(&mut self, name: &'static str, words: impl Into<String>, field: Value) {
        self.lines.push((name, without_home(&words.into())));
        self.fields.insert(name.replace(' ', "_"), redacted(field));
    }

    /// The outcome of something that was tried: words and fields, or what to mend.
    fn tried(&mut self, name: &'static str, outcome: anyhow::Result<(String, Value)>) {
        match outcome {
            Ok((words, field)) => self.add(name, words, field),
            Err(error) => {
                let problem = without_home(&format!("{error:#}"));
                self.add(name, format!("does not work: {problem}"), json!({ "problem": problem }));
                self.problems.push(format!("{name}: {problem}"));
            }
        }
    }
}

/// The same value with the user's own folder as ~ in every text.
fn redacted(value: Value) -> Value {
    match value {
        Value::String(text) => without_home(&text).into(),
        Value::Array(values) => values.into_iter().map(redacted).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, redacted(value))).collect(),
        other => other,
    }
}

pub fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let mut found = Findings::default();
    about_machine(&mut found);
    about_devices(args, &mut found);
    if let Some(data) = &args.data {
        found.tried("data", trials::read(data));
    }
    if let Some(out) = &args.out {
        found.tried("out", trials::write(out));
    }
    let variables = environment();
    let words: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let words = if words.is_empty() { "nothing that Ocelli reads is set".to_owned() } else { words.join("\n") };
    let field = variables.into_iter().map(|(name, value)| (name.to_owned(), value.into()));
    found.add("environment", words, Value::Object(field.collect()));
    found.fields.insert("problems".into(), json!(found.problems));
    match args.json {
        true => println!("{:#}", Value::Object(found.fields)),
        false => print(&found.lines),
    }
    if !found.problems.is_empty() {
        bail!("{}", found.problems.join("\n"));
    }
    if !args.json {
        println!("\nEverything that was tried works.");
    }
    Ok(())
}

/// Two columns; lines after the first of an entry stand below it.
fn print(lines: &[(&'static str, String)]) {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, words) in lines {
        for (i, line) in words.lines().enumerate() {
            println!("{:width$}  {line}", if i == 0 { *name } else { "" });
        }
    }
}

fn about_machine(found: &mut Findings) {
    let (version, target) = (env!("CARGO_PKG_VERSION"), target());
    let gpu = if cfg!(feature = "gpu") { "with the GPU backend" } else { "without the GPU backend" };
    found.add(
        "ocelli",
        format!("{version}, {target}, {gpu}"),
        json!({ "version": version, "target": target, "gpu": cfg!(feature = "gpu") }),
    );
    let (words, mpi) = ranks::built_in();
    found.add("processes", words, json!({ "mpi": mpi }));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (name, features) = (cpu_name(), cpu_features());
    let words = [
        name.clone().unwrap_or_else(|| "a processor whose name the system does not tell".into()),
        format!("{threads} threads"),
        if features.is_empty() { "no vector extensions known".into() } else { features.join(" ") },
    ];
    found.add("cpu", words.join(", "), json!({ "name": name, "threads": threads, "features": features }));
    if let Some((words, field)) = memory() {
        found.add("memory", words, field);
    }
}

fn about_devices(args: &DoctorArgs, found: &mut Findings) {
    let adapters = device::adapters();
    let words: Vec<String> = adapters.iter().enumerate().flat_map(|(i, a)| devices::lines(i, a)).collect();
    let words = match (words.is_empty(), cfg!(feature = "gpu")) {
        (false, _) => words.join("\n"),
        (true, true) => {
            "none was found; to compute on a GPU install its driver, on Linux the driver's Vulkan package and libvulkan1 as well"
                .to_owned()
        }
        (true, false) => "not looked for: this build has no GPU backend".to_owned(),
    };
    let fields: Vec<Value> = adapters.iter().enumerate().map(|(i, a)| devices::fields(i, a)).collect();
    found.add("adapters", words, fields.into());
    // What others get, whatever this call asks for.
    if let Ok((picked, reason)) = device::pick(DeviceChoice::Auto, &adapters) {
        let name = devices::name(picked);
        found.add("auto takes", format!("{name}: {reason}"), json!({ "device": name, "reason": reason }));
    }
    found.tried("computing", trials::compute(&args.device));
    let file = choices_file();
    let words = match &file {
        Some(path) if path.is_file() => format!("kept in {}", path.display()),
        Some(path) => format!("none kept yet; they come to {} once a GPU has computed", path.display()),
        None => "not kept: there is no folder for caches (neither HOME nor XDG_CACHE_HOME is set)".to_owned(),
    };
    let field = json!({ "file": file.as_deref().map(|path| path.display().to_string()), "exists": file.as_ref().is_some_and(|path| path.is_file()) });
    found.add("kernel choices", words, field);
}
