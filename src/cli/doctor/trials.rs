//! What is tried: computing, reading data, writing to a folder.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use burn::tensor::{Tensor, TensorData};
use ocelli::data::{DataSet, open_data};
use ocelli::train::catch_panics;
use serde_json::{Value, json};

use super::super::DeviceArgs;

/// Side of the matrices that are multiplied.
const SIDE: usize = 64;

/// Opens the device that is asked for, and multiplies two matrices on it.
pub fn compute(args: &DeviceArgs) -> anyhow::Result<(String, Value)> {
    let chosen = args.open()?;
    let started = Instant::now();
    let product = catch_panics(|| {
        let ones = TensorData::new(vec![1.0_f32; SIDE * SIDE], [SIDE, SIDE]);
        let ones = Tensor::<2>::from_data(ones, &chosen.device);
        ones.clone().matmul(ones).into_data().try_to_vec::<f32>()
    });
    let name = &chosen.name;
    let product = product
        .with_context(|| format!("{name} failed; --device cpu computes without it"))?
        .map_err(|e| anyhow::anyhow!("{name}: the result cannot be read back: {e:?}"))?;
    ensure!(
        product.len() == SIDE * SIDE && product.iter().all(|v| *v == SIDE as f32),
        "{name} multiplied two matrices wrongly: install a newer driver, or take --device cpu"
    );
    let took_ms = started.elapsed().as_secs_f64() * 1e3;
    let words = format!("{name} works ({}); a first small product took {took_ms:.0} ms", chosen.reason);
    Ok((words, json!({ "device": name, "reason": chosen.reason, "took_ms": took_ms })))
}

/// Opens a data set and reads its first image.
pub fn read(data: &str) -> anyhow::Result<(String, Value)> {
    let DataSet { train, understood, .. } = open_data(data)?;
    ensure!(!train.is_empty(), "{data}: expected images, found none");
    let image = train.load(0).with_context(|| format!("{data}: cannot read the first image"))?;
    let (lines, size) = (understood.lines(), [image.width, image.height]);
    let words = format!("{}\nthe first image can be read: {}×{} px", lines.join("\n"), size[0], size[1]);
    let path = Path::new(data);
    let is_writable = path.is_dir().then(|| leave_and_remove(path).is_ok());
    let words = match is_writable {
        Some(false) => {
            format!("{words}\nthe folder cannot be written to; `ocelli search` then needs --index FILE")
        }
        _ => words,
    };
    Ok((words, json!({ "understood": understood, "first_image_px": size, "writable": is_writable })))
}

/// Writes a small file to a folder and removes it; where there is no such folder, to the one it would be made in.
pub fn write(out: &Path) -> anyhow::Result<(String, Value)> {
    ensure!(!out.is_file(), "{}: expected a folder, found a file", out.display());
    let absolute = std::path::absolute(out).with_context(|| out.display().to_string())?;
    let existing = absolute.ancestors().find(|path| path.exists());
    let Some(folder) = existing.filter(|path| path.is_dir()) else {
        bail!("{}: expected a folder, or one in which it can be made, found neither", out.display());
    };
    leave_and_remove(folder)
        .with_context(|| format!("cannot write to {}; choose another folder with --out", folder.display()))?;
    let words = match folder == absolute {
        true => format!("{} can be written to", out.display()),
        false => format!("{} can be made in {}", out.display(), folder.display()),
    };
    Ok((words, json!({ "folder": out.display().to_string(), "exists": folder == absolute, "writable": true })))
}

fn leave_and_remove(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(format!(".ocelli-doctor-{}", std::process::id()));
    let written = OpenOptions::new().write(true).create_new(true).open(&path)?.write_all(b"ocelli");
    fs::remove_file(&path)?;
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_as_it_was_after_the_trial() {
        let folder = tempfile::tempdir().unwrap();
        let (words, fields) = write(folder.path()).unwrap();
        assert!(words.ends_with("can be written to") && fields["exists"] == true, "{words}");
        let (words, fields) = write(&folder.path().join("runs/first")).unwrap();
        assert!(words.contains("can be made in") && fields["exists"] == false, "{words}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        for path in [file.clone(), file.join("below")] {
            assert!(write(&path).is_err(), "{}", path.display());
        }
    }

    #[test]
    fn data_is_read_to_its_first_image() {
        let (words, fields) = read("scenes:16").unwrap();
        assert!(words.contains("the first image can be read"), "{words}");
        assert!(fields["first_image_px"][0].as_u64() > Some(0) && fields["writable"].is_null(), "{fields}");
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path().to_str().unwrap()).is_err(), "there is no image");
    }
}
