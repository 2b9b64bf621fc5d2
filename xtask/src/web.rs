//! The browser's half: the module, its JavaScript side, the page, and their tests.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

use crate::{Outcome, as_root, cargo, root, targets};

const TARGET: &str = "wasm32-unknown-unknown";

/// What the module may use beyond WebAssembly's first version; every browser with WebGPU has it.
const FEATURES: [&str; 6] = [
    "--enable-simd",
    "--enable-bulk-memory",
    "--enable-nontrapping-float-to-int",
    "--enable-sign-ext",
    "--enable-mutable-globals",
    "--enable-reference-types",
];

/// Adds WebAssembly to the toolchain.
pub fn add_target() -> Outcome {
    targets::add(TARGET)
}

/// Where builds go.
pub fn target_folder() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn build_modules(packages: &[&str]) -> Outcome {
    let mut args = vec!["build", "--profile", "web", "--target", TARGET];
    args.extend(packages.iter().flat_map(|package| ["--package", package]));
    cargo(&args, &[])
}

/// The page with everything it needs, in `web/dist`.
pub fn build() -> Outcome {
    add_target()?;
    build_modules(&["ocelli-web"])?;
    let target = target_folder();
    let module = target.join(TARGET).join("web/ocelli_web.wasm");
    let web = root().join("web");
    npm_install(&web)?;
    bind(&module, &web.join("ocelli/pkg"), &target, true)?;
    run(&web, "npm", &["run", "build", "--silent"])?;
    let size = |path: PathBuf| fs::metadata(path).map(|m| m.len() as f64 / 1e6).unwrap_or_default();
    println!(
        "web/dist is the page ({:.1} MB of module before compression); `ocelli serve` shows it",
        size(web.join("ocelli/pkg/ocelli_web_bg.wasm"))
    );
    Ok(())
}

/// The methods' fixtures as a module of their own. Both modules are named, so that what they share is built once.
fn build_tests() -> Outcome {
    build_modules(&["ocelli-web", "ocelli-browser-tests"])?;
    let target = target_folder();
    bind(&target.join(TARGET).join("web/ocelli_browser_tests.wasm"), &target.join("browser-tests"), &target, false)
}

/// The module in a browser, after [`build`].
pub fn test() -> Outcome {
    ensure_chromium()?;
    build_tests()?;
    // Every kernel as text: browsers have rules that the native check does not know.
    let kernels = target_folder().join("expansions.txt");
    let kernels = kernels.to_string_lossy();
    let args = ["test", "--release", "--workspace", "--test", "ops", "every_expansion_is_valid"];
    cargo(&args, &[("OCELLI_EXPANSIONS", &kernels)])?;
    let web = root().join("web");
    run_with(&web, "node", &["test/run.mjs"], &[("OCELLI_EXPANSIONS", &kernels)])?;
    let tests = target_folder().join("browser-tests");
    run_with(&web, "node", &["test/parity.mjs"], &[("OCELLI_BROWSER_TESTS", &tests.to_string_lossy())])?;
    run(&web, "node", &["test/page.mjs"])?;
    run(&web, "node", &["test/consumers.mjs"])
}

/// The packages of the lockfile, once.
fn npm_install(web: &Path) -> Outcome {
    let time = |path: PathBuf| fs::metadata(path).and_then(|m| m.modified()).unwrap_or(UNIX_EPOCH);
    if time(web.join("node_modules/.package-lock.json")) > time(web.join("package-lock.json")) {
        return Ok(());
    }
    run(web, "npm", &["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
}

/// Writes the JavaScript side and the module, made small where that is asked; nothing where the module is the one of last time.
fn bind(module: &Path, pkg: &Path, target: &Path, small: bool) -> Outcome {
    let bytes = fs::read(module).map_err(|e| format!("cannot read {}: {e}", module.display()))?;
    let stamp = format!("{} {:016x}\n", bytes.len(), fnv(&bytes));
    let stamp_file = pkg.join("stamp.tmp");
    if fs::read_to_string(&stamp_file).is_ok_and(|s| s == stamp) {
        return Ok(());
    }
    let (module, folder) = (module.display().to_string(), pkg.display().to_string());
    let manifest = root().join("xtask/bindgen/Cargo.toml").display().to_string();
    let built = target.join("bindgen").display().to_string();
    let own = ["run", "--quiet", "--locked", "--manifest-path", &manifest, "--target-dir", &built, "--"];
    cargo(&[&own[..], &[&module, &folder]].concat(), &[])?;
    if small {
        let small = pkg.join("ocelli_web_bg.wasm").display().to_string();
        let optimise =
            [&["node_modules/binaryen/bin/wasm-opt", "-Oz"], &FEATURES[..], &[&small, "-o", &small]].concat();
        // A third round saves nothing that brotli would not, and `--converge` takes four minutes more.
        for _ in 0..2 {
            run(&root().join("web"), "node", &optimise)?;
        }
    }
    fs::write(&stamp_file, stamp).map_err(|e| format!("cannot write {}: {e}", stamp_file.display()))
}

/// FNV-1a.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

fn run(folder: &Path, program: &str, args: &[&str]) -> Outcome {
    run_with(folder, program, args, &[])
}

fn run_with(folder: &Path, program: &str, args: &[&str], envs: &[(&str, &str)]) -> Outcome {
    println!("\n$ {program} {}", args.join(" "));
    let status = Command::new(program)
        .args(args)
        .envs(envs.iter().copied())
        .current_dir(folder)
        .status()
        .map_err(|e| format!("cannot run {program} ({e}). The page needs Node.js 20.19 or later with npm"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{program} {} failed", args.join(" "))),
    }
}

/// Chromium, from Debian where it is missing there.
fn ensure_chromium() -> Outcome {
    let known = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let there = || env::var_os("OCELLI_CHROMIUM").is_some() || known.iter().any(|p| Path::new(p).exists());
    if there() {
        return Ok(());
    }
    println!("\nno Chromium: installing Debian's");
    let script = as_root("apt-get update -qq && apt-get install -y -qq chromium");
    let installed = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).status();
    if installed.is_ok_and(|s| s.success()) && there() {
        return Ok(());
    }
    Err("the browser tests need Chromium or Chrome. Install it (on Debian: apt-get install chromium; on Fedora: \
         chromium), or name one in OCELLI_CHROMIUM, and run again"
        .into())
}
