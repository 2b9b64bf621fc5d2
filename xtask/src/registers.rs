//! What AMD's compiler makes of the kernels, with no card (`crates/kernels/examples/registers`).

use std::env;
use std::process::Command;

use crate::{Outcome, cargo, root};

/// The table in docs/kernels.md; with `--check` or `--tighten` the list of kernels that ask too much instead.
pub fn run(options: &[String]) -> Outcome {
    let options = match &options.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => vec!["--write", "docs/kernels.md"],
        [option @ ("--check" | "--tighten")] => vec![*option],
        other => {
            return Err(format!("registers: expected no option, --check or --tighten, found {}", other.join(" ")));
        }
    };
    // The whole workspace is named: other selections select other features, and everything is built again.
    cargo(&["build", "--release", "--workspace", "--example", "registers"], &[])?;
    let folder = env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
    let program = folder.with_file_name("examples").join("registers");
    println!("\n$ registers {}", options.join(" "));
    let status = Command::new(&program)
        .args(&options)
        .current_dir(root())
        .status()
        .map_err(|e| format!("cannot run {}: {e}", program.display()))?;
    match status.success() {
        true => Ok(()),
        false if options == ["--check"] => {
            Err("kernels ask more of a card than they may (docs/kernels.md, \"With AMD's compiler\")".into())
        }
        false => Err(format!("registers {} failed", options.join(" "))),
    }
}
