//! Checks by programs that the toolchain does not bring: licences and advisories, spelling. Nothing is installed for them. And
//! the oldest compiler.

use std::env;
use std::fs;
use std::process::{Command, Stdio};

use crate::{Outcome, cargo, root};

/// Runs those that are installed, and says in one line which are not.
pub fn check() -> Outcome {
    let mut missing = Vec::new();
    match answers("cargo", &["deny", "--version"]) {
        true => cargo(&["deny", "--workspace", "check"], &[])?,
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
pub fn answers(program: &str, args: &[&str]) -> bool {
    let quiet =
        Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

/// Everything compiles with the oldest compiler that Cargo.toml promises: this one, or another that is installed.
pub fn oldest_compiler() -> Outcome {
    let manifest =
        fs::read_to_string(root().join("Cargo.toml")).map_err(|e| format!("cannot read Cargo.toml: {e}"))?;
    let promised = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"'));
    let promised = promised.ok_or("Cargo.toml: expected a line rust-version = \"…\"")?;
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler).arg("--version").output().map_err(|e| format!("cannot run rustc: {e}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = said.split(' ').nth(1).unwrap_or_default();
    if version == promised || version.strip_prefix(promised).is_some_and(|rest| rest.starts_with('.')) {
        println!("\nthe oldest compiler, {promised}, is the one that has just checked everything ({version})");
        return Ok(());
    }
    let Some(older) = [promised.to_owned(), format!("{promised}.0")]
        .into_iter()
        .find(|name| answers("rustup", &["run", name, "rustc", "--version"]))
    else {
        println!("\nleft out: the oldest compiler, as it is not installed: rustup toolchain install {promised}");
        return Ok(());
    };
    let args = ["run", &older, "cargo", "check", "--release", "--workspace", "--all-targets"];
    println!("\n$ rustup {}", args.join(" "));
    let status = Command::new("rustup").args(args).current_dir(root()).status();
    match status.is_ok_and(|status| status.success()) {
        true => Ok(()),
        false => Err(format!("the compiler {older} cannot compile everything; mend that, or raise rust-version")),
    }
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
