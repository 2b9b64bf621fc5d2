//! Copydays on disk: `original`, `strong`, `jpegqual/QUALITY` and `crops/PERCENT`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ocelli::eval::copies::{MATCHED_BLOCKS, SHARED_PREFIX};

/// Endings of the images of a block; Copydays has the first alone.
const ENDINGS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Altered images, and which originals they come from.
pub struct Block {
    /// `strong`, `jpegqual/3`.
    pub name: String,
    /// The images.
    pub paths: Vec<PathBuf>,
    /// Numbers of each image's originals.
    pub originals: Vec<Vec<u32>>,
}

/// The blocks that are there.
pub struct Blocks {
    /// The originals: they are the database, and a block of queries themselves.
    pub originals: Vec<PathBuf>,
    /// The others in the published order.
    pub altered: Vec<Block>,
    /// Blocks of the protocol that are not there.
    pub left_out: Vec<String>,
    /// What else to know.
    pub notes: Vec<String>,
}

impl Blocks {
    /// Lists the blocks below `data`.
    ///
    /// # Errors
    /// When there are no originals, no other block, a block of another number of images than originals, or strong
    /// images of other names than the originals'.
    pub fn open(data: &Path) -> anyhow::Result<Self> {
        if !data.is_dir() {
            bail!("{}: no such folder; expected one with original, strong, jpegqual and crops", data.display());
        }
        let originals = images(&data.join("original"))?;
        if originals.is_empty() {
            bail!(
                "{}: expected the images that the others were made from (.jpg) in the folder original, found none",
                data.display()
            );
        }
        let mut all = Self { originals, altered: Vec::new(), left_out: Vec::new(), notes: Vec::new() };
        let strong = images(&data.join("strong"))?;
        if strong.is_empty() {
            all.left_out.push("strong".to_owned());
        } else {
            all.add_strong(strong, data)?;
        }
        for (kind, levels) in MATCHED_BLOCKS {
            for level in levels {
                let name = format!("{kind}/{level}");
                let paths = images(&data.join(&name))?;
                if paths.is_empty() {
                    all.left_out.push(name);
                } else {
                    all.add_matched(name, paths)?;
                }
            }
            all.note_others(&data.join(kind), kind, levels);
        }
        if all.altered.is_empty() {
            bail!(
                "{}: expected altered images in strong, jpegqual/3 … 75 or crops/10 … 80, found only \
                 the originals",
                data.display()
            );
        }
        Ok(all)
    }

    /// Images whose names begin as their originals' do.
    fn add_strong(&mut self, paths: Vec<PathBuf>, data: &Path) -> anyhow::Result<()> {
        let start = |path: &PathBuf| file_name(path).chars().take(SHARED_PREFIX).collect::<String>();
        let starts: Vec<String> = self.originals.iter().map(start).collect();
        let mut block = Block { name: "strong".to_owned(), paths: Vec::new(), originals: Vec::new() };
        let mut strangers = Vec::new();
        for path in paths {
            let own = start(&path);
            let of = (0u32..).zip(&starts).filter(|(_, other)| **other == own).map(|(i, _)| i).collect::<Vec<_>>();
            if of.is_empty() {
                strangers.push(file_name(&path));
            } else {
                block.paths.push(path);
                block.originals.push(of);
            }
        }
        if block.paths.is_empty() {
            bail!(
                "{}: expected images whose first {SHARED_PREFIX} characters are an original's, such as {}…; \
                 found {}",
                data.join("strong").display(),
                starts[0],
                strangers[0]
            );
        }
        if !strangers.is_empty() {
            let (first, n) = (&strangers[0], strangers.len());
            self.notes
                .push(format!("strong: {n} without an original of the same first letters left out ({first})"));
        }
        let several = block.originals.iter().filter(|of| of.len() > 1).count();
        if several > 0 {
            self.notes.push(format!(
                "strong: {several} images begin as several originals do; each of these counts, as published"
            ));
        }
        self.altered.push(block);
        Ok(())
    }

    /// Images in the order of their originals.
    fn add_matched(&mut self, name: String, paths: Vec<PathBuf>) -> anyhow::Result<()> {
        let expected = self.originals.len();
        if paths.len() != expected {
            bail!(
                "{name}: expected {expected} images, one of each original and in the order of their names; \
                 found {}",
                paths.len()
            );
        }
        let stem = |path: &PathBuf| path.file_stem().map(|s| s.to_string_lossy().into_owned());
        let differ = paths.iter().zip(&self.originals).filter(|(a, b)| stem(a) != stem(b)).count();
        if differ > 0 {
            self.notes.push(format!(
                "{name}: {differ} names differ from the originals'; matched by order, as published"
            ));
        }
        let originals = (0..expected as u32).map(|i| vec![i]).collect();
        self.altered.push(Block { name, paths, originals });
        Ok(())
    }

    /// Folders beside those of the protocol.
    fn note_others(&mut self, folder: &Path, kind: &str, levels: &[u32]) {
        let names = fs::read_dir(folder).into_iter().flatten().flatten().filter(|e| e.path().is_dir());
        let known = |name: &String| levels.iter().any(|level| level.to_string() == *name);
        let mut others: Vec<String> =
            names.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|name| !known(name)).collect();
        others.sort_unstable();
        if !others.is_empty() {
            self.notes.push(format!("{kind}: no blocks of the protocol, left out: {}", others.join(", ")));
        }
    }
}

/// A file's name for messages.
pub fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The images in a folder, by the byte order of their names; none where there is no folder.
fn images(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let of = || folder.display().to_string();
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(of)? {
        let path = entry.with_context(of)?.path();
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        let is_image = ENDINGS.contains(&ending.as_str()) && !file_name(&path).starts_with('.');
        if is_image && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort_unstable_by_key(|path| file_name(path));
    Ok(paths)
}
