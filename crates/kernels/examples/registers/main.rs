//! What AMD's compiler makes of every kernel of the hardware family, with no card: registers, spills, waves in flight, workgroup
//! memory, code, and the main loop in numbers.
//!
//!     cargo xtask registers [--check | --tighten]
//!
//! The compiler is that of Mesa's RADV, the driver of AMD's cards on Linux. It compiles for a card that is not there
//! (`RADV_FORCE_FAMILY`), each family in a process of its own.
#![allow(clippy::print_stderr)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::ffi::CString;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use ocelli_kernels::gpu::expand;

mod driver;
mod known;
mod listing;
mod measured;
mod settings;
mod spirv;
mod table;

use driver::{Compiled, Failure, Radv};
use measured::{Family, Measured};
use settings::Expansion;

const HELP: &str = "\
registers [--write FILE | --check | --tighten]

  --write FILE  the table goes between the marks in FILE
  --check       fails where a kernel asks more of a card than it may, or than it did (known.tsv)
  --tighten     takes off known.tsv what is mended, and lowers what is less
";

/// Families of cards: RDNA 2, and GCN 5.
const FAMILIES: [&str; 2] = ["NAVI21", "VEGA10"];

/// Tells a process that it is the one that compiles.
const COMPILE: &str = "compile";

fn measure(radv: &Radv, expansion: &Expansion) -> Result<Measured, Failure> {
    let module = spirv::module(&expand(expansion.shader, &expansion.settings))?;
    let Compiled { registers, spills, waves, shared, code, listing } =
        radv.compile(&module.words, &CString::new("main")?, module.bindings)?;
    let main_loop = listing::main_loop(&listing);
    Ok(Measured { name: expansion.name(), registers, spills, waves, shared, code, main_loop })
}

/// Prints the driver's version, then a line for each kernel; nothing where there is no such device.
fn compile(family: &str) -> Result<(), Failure> {
    // Without such a family, or without RADV, there is no device of that name.
    let Some(radv) = Radv::open()?.filter(|radv| radv.name.contains(family)) else { return Ok(()) };
    println!("{}", radv.version);
    for expansion in settings::hardware() {
        let kernel = measure(&radv, &expansion).map_err(|e| format!("{}: {e}", expansion.name()))?;
        println!("{}", kernel.line());
    }
    Ok(())
}

/// What a process of its own says of a family; nothing where there is no RADV that knows it.
fn family(name: &'static str) -> Result<Option<Family>, Failure> {
    let output = Command::new(env::current_exe()?)
        .args([COMPILE, name])
        .env("RADV_FORCE_FAMILY", name)
        .env("MESA_SHADER_CACHE_DISABLE", "true")
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("compiling for {name} failed").into());
    }
    let text = String::from_utf8(output.stdout)?;
    let mut lines = text.lines();
    let Some(version) = lines.next() else { return Ok(None) };
    let kernels = lines.map(Measured::parse).collect::<Result<_, _>>()?;
    Ok(Some(Family { name, version: version.to_owned(), kernels }))
}

/// Writes a file as a whole or not at all.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let beside = path.with_extension("new");
    fs::write(&beside, text).map_err(|e| format!("{}: {e}", beside.display()))?;
    fs::rename(&beside, path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(())
}

/// Whether everything is as it should be.
fn check(families: &[Family]) -> Result<bool, Failure> {
    if let Some(difference) = known::other_driver(known::LIST, families)? {
        println!("registers: skipped, {difference}; another compiler gives other numbers");
        return Ok(true);
    }
    let wrong = known::complaints(known::LIST, families)?;
    for sentence in &wrong {
        eprintln!("{sentence}");
    }
    let kernels = families.iter().map(|family| family.kernels.len()).sum::<usize>();
    println!("registers: {kernels} kernels compiled, {} complaints", wrong.len());
    Ok(wrong.is_empty())
}

fn run(args: &[&str]) -> Result<bool, Failure> {
    match args {
        [COMPILE, family] => return compile(family).map(|()| true),
        ["--help" | "-h"] => {
            print!("{HELP}");
            return Ok(true);
        }
        [] | ["--check" | "--tighten"] | ["--write", _] => {}
        _ => return Err(format!("expected no arguments or one of these, found {args:?}\n\n{HELP}").into()),
    }
    let mut families = Vec::new();
    for name in FAMILIES {
        match family(name)? {
            Some(family) => families.push(family),
            None => {
                let message = format!(
                    "no RADV that compiles for {name} (on Debian and Ubuntu: apt-get install mesa-vulkan-drivers libvulkan1)"
                );
                if args != ["--check"] {
                    return Err(message.into());
                }
                println!("registers: skipped, there is {message}");
                return Ok(true);
            }
        }
    }
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/registers/known.tsv");
    match args {
        ["--check"] => return check(&families),
        ["--tighten"] => {
            if let Some(difference) = known::other_driver(known::LIST, &families)? {
                return Err(format!(
                    "{difference}; only the compiler that a list was measured with can tighten it"
                )
                .into());
            }
            replace(&list, &known::tightened(known::LIST, &families)?)?;
        }
        _ => {
            let table = table::table(&settings::hardware(), &families);
            match args {
                ["--write", path] => {
                    let document = fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
                    let placed = table::placed(&document, &table).map_err(|e| format!("{path}: {e}"))?;
                    replace(Path::new(path), &placed)?;
                }
                _ => print!("{table}"),
            }
        }
    }
    Ok(true)
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match run(&args.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("registers: {error}");
            ExitCode::from(2)
        }
    }
}
