//! Checks by programs that the toolchain does not bring: licences and advisories, spelling. Nothing is installed for them.

use std::process::{Command, Stdio};

use crate::{Outcome, cargo, root};

/// Runs those that are installed, and says in one line which are not.
pub fn check() -> Outcome {
    let mut missing = Vec::new();
    match answers("cargo", &["deny", "--version"]) {
        true => cargo(&["deny", "check"], &[])?,
        false => missing.push("cargo-deny (licences, advisories, duplicates; see deny.toml)"),
    }
    match answers("typos", &["--version"]) {
        true => typos()?,
        false => missing.push("typos (spelling; see _typos.toml)"),
    }
    if !missing.is_empty() {
        println!("\nleft out, as they are not installed: {}", missing.join(", "));
    }
    Ok(())
}

/// Whether a program is there and does this without a complaint.
fn answers(program: &str, args: &[&str]) -> bool {
    let quiet =
        Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

fn typos() -> Outcome {
    println!("\n$ typos");
    let status =
        Command::new("typos").current_dir(root()).status().map_err(|e| format!("cannot run typos: {e}"))?;
    match status.success() {
        true => Ok(()),
        false => Err("typos found words. Mend them, or add words of the field to _typos.toml".into()),
    }
}
