//! A graph run by onnxruntime, beside the network it came from.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use burn::tensor::{Device, Tensor, TensorData};
use ocelli::models::{AnyBackbone, Backbone as _, Mode};
use ocelli_onnx::Axes;

/// Differences up to this share of the largest value are rounding.
const TOLERANCE: f64 = 1e-4;
/// Images of a batch where any number is taken.
const BATCH: usize = 2;

/// Reads pictures from its input, writes its version and every output: f32, little-endian. Imports nothing from the folder one
/// stands in, where Python looks first.
const SCRIPT: &str = "
import sys
sys.path = [folder for folder in sys.path if folder]
import numpy as np
import onnxruntime as ort
options = ort.SessionOptions()
options.log_severity_level = 3
session = ort.InferenceSession(sys.argv[1], options, providers=['CPUExecutionProvider'])
out = sys.stdout.buffer
out.write((ort.__version__ + '\\n').encode())
data = sys.stdin.buffer.read()
at = 0
for shape in sys.argv[2:]:
    shape = [int(n) for n in shape.split('x')]
    count = int(np.prod(shape))
    pixels = np.frombuffer(data, '<f4', count, at).reshape(shape)
    at += 4 * count
    for y in session.run(None, {'pixels': pixels}):
        out.write(np.ascontiguousarray(y, '<f4').tobytes())
";

/// Compares the features of both at each size, in height and width; a line about each.
///
/// # Errors
/// When Python or onnxruntime is not there or fails, or the features differ.
pub fn compare(
    encoder: &AnyBackbone,
    file: &Path,
    axes: Axes,
    sizes: Vec<[usize; 2]>,
) -> anyhow::Result<Vec<String>> {
    let batch = axes.batch.unwrap_or(BATCH);
    let shapes: Vec<[usize; 4]> = sizes.into_iter().map(|[height, width]| [batch, 3, height, width]).collect();
    let pictures: Vec<Vec<f32>> = shapes.iter().map(|shape| picture(*shape)).collect();
    let (version, theirs) = onnxruntime(file, &shapes, &pictures)?;
    let mut rest = &theirs[..];
    let mut lines = Vec::new();
    for (shape, picture) in shapes.iter().zip(pictures) {
        let [_, _, height, width] = *shape;
        let mut words = Vec::new();
        for (name, ours) in outputs(encoder, *shape, picture)? {
            if rest.len() < ours.len() {
                bail!("--check: expected {} values of {name} from onnxruntime, found {}", ours.len(), rest.len());
            }
            let (found, after) = rest.split_at(ours.len());
            rest = after;
            let difference = Difference::of(&ours, found);
            if !difference.is_rounding() {
                bail!(
                    "--check: onnxruntime {version} gives other {name} for pictures of {height}×{width} px: expected a difference \
                     of at most {TOLERANCE} of the largest value, found {difference}"
                );
            }
            words.push(format!("{name} by at most {difference}"));
        }
        lines.push(format!(
            "onnxruntime {version} agrees for a batch of {batch} at {height}×{width} px: {}",
            words.join(", ")
        ));
    }
    match rest.len() {
        0 => Ok(lines),
        more => bail!("--check: onnxruntime gave {more} values more than expected"),
    }
}

/// How far two lists are apart.
struct Difference {
    largest: f64,
    of: f64,
}

impl Difference {
    fn of(ours: &[f32], theirs: &[f32]) -> Self {
        let mut all = Self { largest: 0.0, of: 0.0 };
        for (a, b) in ours.iter().zip(theirs) {
            let apart = f64::from((a - b).abs());
            // What is no number once stays the difference: nothing is above it.
            if apart.is_nan() || apart > all.largest {
                all.largest = apart;
            }
            all.of = all.of.max(f64::from(a.abs()));
        }
        all
    }

    fn is_rounding(&self) -> bool {
        self.largest <= TOLERANCE * self.of
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1e} (values up to {:.2})", self.largest, self.of)
    }
}

/// What the network itself gives, under the graph's names.
fn outputs(
    encoder: &AnyBackbone,
    shape: [usize; 4],
    picture: Vec<f32>,
) -> anyhow::Result<[(&'static str, Vec<f32>); 2]> {
    let images = Tensor::<4>::from_data(TensorData::new(picture, shape), &Device::flex());
    let read = |data: TensorData| {
        data.try_to_vec::<f32>().map_err(|e| anyhow::anyhow!("cannot read the features back: {e:?}"))
    };
    let features = read(encoder.features(images.clone(), Mode::Eval).into_data())?;
    let (name, second) = match encoder {
        AnyBackbone::Vit(vit) => ("tokens", vit.tokens(images).into_data()),
        AnyBackbone::ResNet(_) => ("map", encoder.feature_map(images, Mode::Eval).into_data()),
    };
    Ok([("features", features), (name, read(second)?)])
}

/// Pictures that are the same every time: waves and noise, as normalised pixels are.
fn picture([batch, channels, height, width]: [usize; 4]) -> Vec<f32> {
    let mut values = Vec::with_capacity(batch * channels * height * width);
    let mut noise = 0x9E37_79B9_u32;
    for plane in 0..batch * channels {
        for y in 0..height {
            for x in 0..width {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let grain = (noise >> 8) as f32 / (1 << 24) as f32 - 0.5;
                values.push(1.5 * (0.05 * (x + 3 * y) as f32 + plane as f32).sin() + grain);
            }
        }
    }
    values
}

/// The version, and all outputs one after the other.
fn onnxruntime(file: &Path, shapes: &[[usize; 4]], pictures: &[Vec<f32>]) -> anyhow::Result<(String, Vec<f32>)> {
    let python = std::env::var("OCELLI_PYTHON").unwrap_or_else(|_| "python3".into());
    let install = "; install it (pip install onnxruntime), or let OCELLI_PYTHON name a Python that has it";
    let mut command = Command::new(&python);
    command.args(["-c", SCRIPT]).arg(file);
    command.args(shapes.iter().map(|shape| shape.map(|n| n.to_string()).join("x")));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().with_context(
            || format!("--check: expected Python with onnxruntime, cannot start {python}{install}"),
        )?;
    if let Some(mut input) = child.stdin.take() {
        let bytes: Vec<u8> = pictures.iter().flatten().flat_map(|v| v.to_le_bytes()).collect();
        // Who cannot import onnxruntime reads nothing: what it says tells more than the broken pipe.
        let _ = input.write_all(&bytes);
    }
    let output = child.wait_with_output().context("--check: cannot read what Python says")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").trim().to_owned();
        let hint = if last.contains("No module named") { install } else { "" };
        bail!("--check: {python} cannot run the file with onnxruntime; it says: {last}{hint}");
    }
    let Some(end) = output.stdout.iter().position(|byte| *byte == b'\n') else {
        bail!("--check: expected onnxruntime's version from {python}, found nothing");
    };
    let version = String::from_utf8_lossy(&output.stdout[..end]).into_owned();
    let values = output.stdout[end + 1..].chunks_exact(4).map(|v| f32::from_le_bytes([v[0], v[1], v[2], v[3]]));
    Ok((version, values.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_no_rounding() {
        let of = |theirs: &[f32]| Difference::of(&[1.0, -2.0, 0.5], theirs).is_rounding();
        assert!(of(&[1.0, -2.000_1, 0.5]));
        assert!(!of(&[1.0, -2.001, 0.5]));
        assert!(!of(&[f32::NAN, -2.0, 0.5]));
        assert!(!of(&[1.0, -2.0, f32::INFINITY]));
        assert!(!Difference::of(&[f32::NAN], &[f32::NAN]).is_rounding());
    }
}
