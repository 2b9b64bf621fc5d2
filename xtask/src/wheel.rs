//! The Python module: a wheel, and its tests beside the command line.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::tools::answers;
use crate::web::{run, run_with, target_folder};
use crate::{Outcome, cargo, root};

/// What builds wheels, and what the module and its tests need.
const PACKAGES: [&str; 2] = ["maturin>=1.9.4,<2", "numpy"];

/// Builds the program, and tests the module beside it.
pub fn test() -> Outcome {
    cargo(&["build", "--release"], &[])?;
    beside_the_program()
}

/// Builds the wheel and tests it beside the program as it is built, where Python and its packages are at hand; else says in one
/// line what is missing.
pub fn beside_the_program() -> Outcome {
    let target = root().join(target_folder());
    let venv = target.join("python");
    if let Err(missing) = prepare(&venv) {
        println!("\nleft out: the Python module and its tests; {missing}");
        return Ok(());
    }
    let wheel = build(&venv, &target.join("wheels"))?;
    let folder = root().join("crates/python");
    let python = program(&venv, "python");
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"];
    run(&folder, &python, &[&install[..], &["--force-reinstall", &wheel.to_string_lossy()]].concat())?;
    let ocelli = target.join("release").join(format!("ocelli{}", env::consts::EXE_SUFFIX));
    run_with(&folder, &python, &["tests/test_ocelli.py"], &[("OCELLI_BIN", &ocelli.to_string_lossy())])?;
    println!("\nthe wheel: {}", wheel.display());
    Ok(())
}

/// An environment of its own with the packages in it, made once.
fn prepare(venv: &Path) -> Result<(), String> {
    let python = program(venv, "python");
    let has_packages = "import importlib.util as u; assert u.find_spec('maturin') and u.find_spec('numpy')";
    if answers(&python, &["-c", has_packages]) {
        return Ok(());
    }
    let new_enough = "import sys, venv, ensurepip; assert sys.version_info >= (3, 9)";
    let found = ["python3", "python"].into_iter().find(|name| answers(name, &["-c", new_enough]));
    let found = found
        .ok_or("there is no Python 3.9 or newer with venv and pip (on Debian: apt-get install python3-venv)")?;
    let folder = venv.to_string_lossy();
    if !answers(found, &["-m", "venv", "--clear", &folder]) {
        return Err(format!("{found} -m venv {folder} failed"));
    }
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"];
    match answers(&python, &[&install[..], &PACKAGES].concat()) {
        true => Ok(()),
        false => Err(format!("pip cannot install {}: is there a network?", PACKAGES.join(" and "))),
    }
}

/// The wheel, built as the program is, so that nothing but the module itself is compiled.
fn build(venv: &Path, out: &Path) -> Result<PathBuf, String> {
    let began = SystemTime::now();
    let folder = root().join("crates/python");
    run(&folder, &program(venv, "maturin"), &["build", "--release", "--locked", "--out", &out.to_string_lossy()])?;
    let files = fs::read_dir(out).map_err(|e| format!("cannot read {}: {e}", out.display()))?;
    let wheels = files.flatten().map(|entry| entry.path()).filter(|p| p.extension().is_some_and(|x| x == "whl"));
    let written = |path: &PathBuf| fs::metadata(path).and_then(|m| m.modified()).ok();
    let newest = wheels.filter_map(|path| Some((written(&path)?, path))).max();
    match newest {
        Some((time, path)) if time >= began => Ok(path),
        _ => Err(format!("expected a new wheel in {}, found none", out.display())),
    }
}

/// A program of the environment.
fn program(venv: &Path, name: &str) -> String {
    let folder = if cfg!(windows) { "Scripts" } else { "bin" };
    venv.join(folder).join(format!("{name}{}", env::consts::EXE_SUFFIX)).to_string_lossy().into_owned()
}
