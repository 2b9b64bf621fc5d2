//! Pictures of a run's folder, inside the page.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Larger files are no pictures of ours.
const LARGEST_BYTES: u64 = 8 << 20;
/// Columns of the strip at most.
const COLUMNS: usize = 8;

/// A PNG: its bytes and its size in pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Png {
    pub bytes: Vec<u8>,
    pub width: u32,
    pub height: u32,
}

impl Png {
    /// Reads a file, if it is there and begins as a PNG does.
    pub fn read(path: &Path) -> Option<Self> {
        if fs::metadata(path).ok()?.len() > LARGEST_BYTES {
            return None;
        }
        let bytes = fs::read(path).ok()?;
        let header = bytes.get(..24)?;
        if &header[..8] != b"\x89PNG\r\n\x1a\n" || &header[12..16] != b"IHDR" {
            return None;
        }
        let side = |at: usize| header[at..at + 4].iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
        let (width, height) = (side(16), side(20));
        (width > 0 && height > 0).then_some(Self { bytes, width, height })
    }

    /// An `<img>` that holds the picture itself.
    pub fn tag(&self, alt: &str) -> String {
        format!(
            "<img src=\"data:image/png;base64,{}\" width=\"{}\" height=\"{}\" alt=\"{}\">",
            STANDARD.encode(&self.bytes),
            self.width,
            self.height,
            crate::text::escape(alt)
        )
    }
}

/// What a run's pictures over the epochs are of: a Vision Transformer's attention, or a ResNet's features.
pub const KINDS: [&str; 2] = ["attention", "features"];

/// Epochs done (0: before training) that have a picture of a kind, rising.
pub fn epochs(run: &Path, kind: &str) -> Vec<u64> {
    let entries = fs::read_dir(run.join("pictures")).into_iter().flatten().flatten();
    let number = |name: &str| name.strip_prefix(kind)?.strip_prefix('-')?.strip_suffix(".png")?.parse().ok();
    let mut epochs: Vec<u64> = entries.filter_map(|e| number(e.file_name().to_str()?)).collect();
    epochs.sort_unstable();
    epochs.dedup();
    epochs
}

/// The picture of a kind after so many epochs.
pub fn after(run: &Path, kind: &str, epochs_done: u64) -> Option<Png> {
    Png::read(&run.join("pictures").join(format!("{kind}-{epochs_done:04}.png")))
}

/// At most [`COLUMNS`] of them, evenly spaced, the first and the last among them.
pub fn thinned(all: &[u64]) -> Vec<u64> {
    if all.len() <= COLUMNS {
        return all.to_vec();
    }
    (0..COLUMNS).map(|i| all[i * (all.len() - 1) / (COLUMNS - 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_span_the_run() {
        assert_eq!(thinned(&[0, 1, 2]), [0, 1, 2]);
        let all: Vec<u64> = (0..=300).collect();
        let some = thinned(&all);
        assert_eq!((some.len(), some[0], some[7]), (8, 0, 300));
        assert!(some.windows(2).all(|w| w[0] < w[1]));
    }
}
