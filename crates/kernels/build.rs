//! Packs the templates of `shaders/` without what only people read: they are part of what a browser downloads.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

/// A template without Jinja's comments, lines that are nothing but a comment, and indentation. A `//` within a line stays: to
/// Jinja it is a division.
fn packed(text: &str) -> Result<String, Box<dyn Error>> {
    let mut bare = String::new();
    let mut rest = text;
    while let Some((before, comment)) = rest.split_once("{#") {
        let (_, after) = comment.split_once("#}").ok_or("a comment without an end")?;
        // A dash takes the white space on its side along.
        bare += if comment.starts_with('-') { before.trim_end() } else { before };
        rest = after;
    }
    bare += rest;
    let lines = bare.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    Ok(lines.fold(String::new(), |text, line| text + line + "\n"))
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../shaders");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut paths =
        fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    paths.sort();
    let mut list = String::from("&[");
    for path in paths.iter().filter(|path| path.extension().is_some_and(|ext| ext == "wgsl")) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = packed(&fs::read_to_string(path)?).map_err(|e| format!("{}: {e}", path.display()))?;
        write!(list, "({name:?}, {text:?}),")?;
    }
    list += "]";
    fs::write(Path::new(&env::var("OUT_DIR")?).join("shaders.rs"), list)?;
    Ok(())
}
