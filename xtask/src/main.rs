//! Tasks of the project: `cargo xtask check | test | arm | mpi | targets | registers | wasm | web | modules | browser | wheel |
//! bench`. Each does its own set-up.
#![allow(clippy::print_stderr)]

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

mod arm;
mod beside;
mod mpi;
mod registers;
mod targets;
mod tools;
mod web;
mod wheel;

use beside::Beside;

/// Crates that must compile for the browser.
const WASM_CRATES: [&str; 8] = [
    "ocelli-weights",
    "ocelli-simd",
    "ocelli-kernels",
    "ocelli-models",
    "ocelli-methods",
    "ocelli-eval",
    "ocelli-data",
    "ocelli-world",
];

const HELP: &str = "\
cargo xtask TASK

  check   formatting, clippy with warnings as errors, documentation, the build without a GPU, the oldest compiler where it is
          installed; licences, advisories and spelling where cargo-deny and typos are
  wasm    the crates the browser uses compile for wasm32-unknown-unknown
  web     the browser modules and the page with them, in web/dist (needs Node.js 20.19 or later)
  test    everything: formatting, clippy, documentation, all tests on the CPU, the Python module, parity through the GPU path, the
          modules in a browser, several processes over MPI (installs a software Vulkan driver, Chromium and Open MPI on Debian
          where they are missing)
  mpi     several processes over MPI alone
  browser the modules in a browser alone
  modules what the browser's tests need, without running them
  arm     the CPU's kernels with the vectors of 64-bit Arm, under emulation (installs qemu and a compiler for it on Debian
          where they are missing, and says so where they cannot be had)
  wheel   the Python module as a wheel, and its tests beside the command line (needs Python 3.9 or later; fetches maturin and
          numpy into an environment of its own)
  targets everything compiles for Windows and macOS; where MinGW and Wine are installed, the program for Windows
          trains, is killed, resumes and reads a picture, with the figures of Linux (takes a build for each)
  bench   hand-written kernels beside stock burn on the first adapter; the table goes to docs/kernels.md
  registers what AMD's compiler makes of the kernels, with no card (needs Mesa's RADV); the table goes to docs/kernels.md.
          --check fails where one asks more of a card than it may or did; --tighten lowers the list of those that may

Environment:
  OCELLI_DATA     folder of real images and weights; tests that need it say when they skip
  OCELLI_GOLDEN   folder of fixtures instead of tests/golden
";

type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let task = env::args().nth(1).unwrap_or_default();
    let done = match task.as_str() {
        "check" => check(),
        "wasm" => wasm(),
        "web" => web::build(),
        "modules" => web::build().and_then(|()| web::build_tests()),
        "browser" => web::build().and_then(|()| web::test()),
        "test" => test(),
        "wheel" => wheel::test(),
        "arm" => arm::run(),
        "targets" => targets::run(),
        "mpi" => mpi::test(),
        "bench" => bench(),
        "registers" => registers::run(&env::args().skip(2).collect::<Vec<_>>()),
        "" | "help" | "--help" | "-h" => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        other => Err(format!("unknown task \"{other}\"\n\n{HELP}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::from(2)
        }
    }
}

fn root() -> PathBuf {
    Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default())
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// What `OCELLI_SIMD` may say to have fewer vectors than the processor has.
fn lower_levels() -> &'static [&'static str] {
    #[cfg(target_arch = "x86_64")]
    return if std::arch::is_x86_feature_detected!("avx512f") {
        &["avx2", "portable"]
    } else if std::arch::is_x86_feature_detected!("avx2") {
        &["portable"]
    } else {
        &[]
    };
    #[cfg(not(target_arch = "x86_64"))]
    if cfg!(target_arch = "aarch64") { &["portable"] } else { &[] }
}

/// Runs cargo in the project's root and shows what it runs.
fn cargo(args: &[&str], envs: &[(&str, &str)]) -> Outcome {
    let shown: Vec<String> = envs.iter().map(|(k, v)| format!("{k}={v}")).collect();
    println!("\n$ {} cargo {}", shown.join(" "), args.join(" "));
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let start = Instant::now();
    let status = Command::new(cargo)
        .args(args)
        .envs(envs.iter().copied())
        .current_dir(root())
        .status()
        .map_err(|e| format!("cannot run cargo: {e}"))?;
    say_time(start);
    match status.success() {
        true => Ok(()),
        false => Err(format!("cargo {} failed", args.join(" "))),
    }
}

/// What a task's commands cost, for whoever wants the whole to be faster.
fn say_time(start: Instant) {
    let seconds = start.elapsed().as_secs();
    if seconds > 0 {
        println!("took {seconds} s");
    }
}

/// All checks: those of the tests, and the code for several processes, the build for the CPU alone and the oldest compiler, each of
/// which builds much anew.
fn check() -> Outcome {
    lint()?;
    mpi::lint()?;
    cargo(&["check", "--release", "--no-default-features"], &[])?;
    tools::oldest_compiler()?;
    tools::check()
}

/// Formatting, clippy and documentation.
fn lint() -> Outcome {
    cargo(&["fmt", "--all", "--check"], &[])?;
    cargo(&["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])?;
    cargo(&["doc", "--release", "--workspace", "--no-deps", "--quiet"], &[("RUSTDOCFLAGS", "-D warnings")])
}

fn wasm() -> Outcome {
    web::add_target()?;
    let mut args = vec!["check", "--release", "--target", "wasm32-unknown-unknown", "--no-default-features"];
    for name in WASM_CRATES {
        args.extend(["-p", name]);
    }
    cargo(&args, &[])
}

fn test() -> Outcome {
    lint()?;
    tools::check()?;
    // The program is built once, for several processes where they can be: what it does with one is the same.
    let features = mpi::features();
    let tests = |of: &[&str], args: &[&str], envs: &[(&str, &str)]| {
        // The whole workspace is named each time: other selections select other features, and everything is built again.
        cargo(&[&["test", "--release", "--workspace"], features, of, &["--"], args].concat(), envs)
    };
    let skipped: Vec<&str> = mpi::TESTS.iter().flat_map(|name| ["--skip", name]).collect();
    tests(&[], &skipped, &[])?;
    wheel::beside_the_program()?;
    levels(features)?;
    arm::run()?;
    // From here on nothing looks at a clock. Linking the browser's modules keeps one core busy, and a driver that compiles
    // shaders another. They share no lock of cargo's.
    let modules = Beside::start("modules")?;
    ensure_vulkan(features)?;
    registers::run(&["--check".to_owned()])?;
    let runtime = runtime_dir();
    let envs = [("OCELLI_TEST_DEVICE", "gpu"), ("XDG_RUNTIME_DIR", runtime.as_str())];
    for test in ["parity", "ops", "weights"] {
        // Whether methods learn or collapse is a matter of their arithmetic, which the CPU has shown; and so is how many
        // parameters they have.
        let skipped = ["contrast::contrastive_methods", "signs_tell", "parameter_counts"];
        let skipped: Vec<&str> = skipped.iter().flat_map(|name| ["--skip", name]).collect();
        tests(&["--test", test], &[&["--nocapture"], &skipped[..]].concat(), &envs)?;
    }
    // The kernels for hardware, on whatever adapter there is: that they agree with their references, at sizes that fit no tile too.
    // A software adapter takes minutes to compile them, so what the family does not change was tried above alone.
    let args = ["agree", "survive", "sizes", "list", "--skip", "attention_branch"];
    tests(&["--test", "ops"], &args, &[envs[0], envs[1], ("OCELLI_TEST_FAMILY", "hardware")])?;
    // Those of software adapters without anything optional, as in a browser.
    let args = ["agree", "--skip", "branch", "--skip", "blocks_end"];
    tests(&["--test", "ops"], &args, &[envs[0], envs[1], ("OCELLI_TEST_FAMILY", "plain")])?;
    // Stock kernels stay correct too; the largest networks are left to ours, or this alone would take minutes.
    let args = ["dino_loss", "five", "--nocapture"];
    tests(&["--test", "parity"], &args, &[envs[0], envs[1], ("OCELLI_TEST_KERNELS", "stock")])?;
    modules.finish()?;
    web::test()?;
    mpi::test()?;
    println!("\nall tests passed");
    Ok(())
}

/// The CPU's kernels with fewer vectors than this processor has, on slices and on tensors, and its views.
fn levels(features: &[&str]) -> Outcome {
    for level in lower_levels() {
        let envs = [("OCELLI_SIMD", *level)];
        cargo(
            &["test", "--release", "--package", "ocelli-simd", "--features", "threads", "--lib", "--tests"],
            &envs,
        )?;
        let views = [&["test", "--release", "--workspace"], features, &["--lib", "--", "views::"]].concat();
        cargo(&views, &envs)?;
        // Shaders have nothing to do with it.
        cargo(&["test", "--release", "--workspace", "--test", "ops", "--", "--skip", "shaders"], &envs)?;
    }
    Ok(())
}

fn bench() -> Outcome {
    ensure_vulkan(&[])?;
    let args = ["run", "--release", "--example", "kernels", "--", "gpu", "docs/kernels.md"];
    cargo(&args, &[("XDG_RUNTIME_DIR", &runtime_dir())])
}

/// A shell's command, through sudo where it is needed.
fn as_root(command: &str) -> String {
    format!("if [ \"$(id -u)\" = 0 ]; then {command}; else sudo sh -c '{command}'; fi")
}

/// Mesa's driver complains on every start where this is unset.
fn runtime_dir() -> String {
    env::var("XDG_RUNTIME_DIR").unwrap_or_else(|_| env::temp_dir().display().to_string())
}

/// Whether `ocelli devices`, built with these features, lists an adapter.
fn has_adapter(features: &[&str]) -> Result<bool, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([&["run", "--release", "--quiet"], features, &["--", "devices"]].concat())
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("cannot run `ocelli devices`: {e}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).contains("gpu:0"))
}

/// The GPU path needs an adapter; a software one will do.
fn ensure_vulkan(features: &[&str]) -> Outcome {
    if has_adapter(features)? {
        return Ok(());
    }
    println!("\nno graphics adapter: installing Mesa's software Vulkan driver");
    let script = as_root("apt-get update -qq && apt-get install -y -qq mesa-vulkan-drivers libvulkan1");
    let installed = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).status();
    if installed.is_ok_and(|s| s.success()) && has_adapter(features)? {
        return Ok(());
    }
    Err("the tests of the GPU path need a graphics adapter. Install a Vulkan driver (on Debian and Ubuntu: apt-get \
         install mesa-vulkan-drivers libvulkan1; on Fedora: mesa-vulkan-drivers) and run again"
        .into())
}
