//! The browser's half: the modules, their JavaScript side, the page, and their tests.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Instant, UNIX_EPOCH};

use crate::{Outcome, as_root, cargo, root, say_time, targets};

const TARGET: &str = "wasm32-unknown-unknown";

/// What a page loads to look, and what it loads to train. They are built one after the other: built at once, cargo would give
/// both the gradients that one of them needs.
const MODULES: [&str; 2] = ["ocelli-web-look", "ocelli-web-train"];

/// What a module may use beyond WebAssembly's first version; every browser with WebGPU has it.
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

/// Where cargo leaves the module of a package.
fn built(package: &str) -> PathBuf {
    target_folder().join(TARGET).join("web").join(package.replace('-', "_")).with_extension("wasm")
}

/// The page with everything it needs, in `web/dist`.
pub fn build() -> Outcome {
    add_target()?;
    let web = root().join("web");
    npm_install(&web)?;
    let pkg = web.join("ocelli/pkg");
    let mut fresh = Vec::new();
    for package in MODULES {
        build_modules(&[package])?;
        fresh.extend(bind(&built(package), &pkg)?);
    }
    make_small(&fresh)?;
    run(&web, "npm", &["run", "build", "--silent"])?;
    let sizes = MODULES.map(|package| {
        let path = pkg.join(format!("{}_bg.wasm", package.replace('-', "_")));
        fs::metadata(path).map(|m| m.len() as f64 / 1e6).unwrap_or_default()
    });
    println!(
        "web/dist is the page (modules of {:.1} MB to look and {:.1} MB to train, before compression); `ocelli serve` shows it",
        sizes[0], sizes[1]
    );
    Ok(())
}

/// The methods' fixtures as a module of their own. The one that trains is named beside it, so that what they share is built once.
pub fn build_tests() -> Outcome {
    build_modules(&["ocelli-web-train", "ocelli-browser-tests"])?;
    let fresh = bind(&built("ocelli-browser-tests"), &target_folder().join("browser-tests"))?;
    fresh.map_or(Ok(()), |fresh| fresh.is_done())
}

/// The modules in a browser, after [`build`].
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

/// A module whose JavaScript side was just written.
struct Fresh {
    module: PathBuf,
    stamp: String,
    stamp_file: PathBuf,
}

impl Fresh {
    /// The next call of [`bind`] has nothing to do.
    fn is_done(&self) -> Outcome {
        fs::write(&self.stamp_file, &self.stamp)
            .map_err(|e| format!("cannot write {}: {e}", self.stamp_file.display()))
    }
}

/// Writes the JavaScript side of a module and the module to a folder; nothing where it is the one of last time.
fn bind(module: &Path, pkg: &Path) -> Result<Option<Fresh>, String> {
    let bytes = fs::read(module).map_err(|e| format!("cannot read {}: {e}", module.display()))?;
    let stamp = format!("{} {:016x}\n", bytes.len(), fnv(&bytes));
    let name = module.file_stem().unwrap_or_default().to_string_lossy();
    let stamp_file = pkg.join(format!("stamp-{name}.tmp"));
    if fs::read_to_string(&stamp_file).is_ok_and(|s| s == stamp) {
        return Ok(None);
    }
    let small = pkg.join(format!("{name}_bg.wasm"));
    let (module, folder) = (module.display().to_string(), pkg.display().to_string());
    let manifest = root().join("xtask/bindgen/Cargo.toml").display().to_string();
    let built = target_folder().join("bindgen").display().to_string();
    let own = ["run", "--quiet", "--locked", "--manifest-path", &manifest, "--target-dir", &built, "--"];
    cargo(&[&own[..], &[&module, &folder]].concat(), &[])?;
    Ok(Some(Fresh { module: small, stamp, stamp_file }))
}

/// Optimises modules for size, all at once: each takes one core for a minute.
fn make_small(modules: &[Fresh]) -> Outcome {
    let web = root().join("web");
    let make = |fresh: &Fresh| {
        let module = fresh.module.display().to_string();
        let optimise =
            [&["node_modules/binaryen/bin/wasm-opt", "-Oz"], &FEATURES[..], &[&module, "-o", &module]].concat();
        // A third round saves nothing that brotli would not, and `--converge` takes four minutes more.
        for _ in 0..2 {
            run(&web, "node", &optimise)?;
        }
        fresh.is_done()
    };
    thread::scope(|scope| {
        let running: Vec<_> = modules.iter().map(|fresh| scope.spawn(|| make(fresh))).collect();
        running
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err("wasm-opt panicked".into())))
    })
}

/// FNV-1a.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

pub fn run(folder: &Path, program: &str, args: &[&str]) -> Outcome {
    run_with(folder, program, args, &[])
}

pub fn run_with(folder: &Path, program: &str, args: &[&str], envs: &[(&str, &str)]) -> Outcome {
    println!("\n$ {program} {}", args.join(" "));
    let start = Instant::now();
    let status =
        Command::new(program).args(args).envs(envs.iter().copied()).current_dir(folder).status().map_err(|e| {
            match program {
                "node" | "npm" => {
                    format!("cannot run {program} ({e}). The page needs Node.js 20.19 or later with npm")
                }
                _ => format!("cannot run {program}: {e}"),
            }
        })?;
    say_time(start);
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
