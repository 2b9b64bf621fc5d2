//! DAVIS on disk: which sequences there are, and their frames and masks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use super::masks;
use crate::cli::frames;

/// What the numbers in the masks mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Year {
    /// One object: whatever is not 0 (masks of 0 and 255)
    #[value(name = "2016")]
    Davis2016,
    /// The number of the object, palette PNG
    #[value(name = "2017")]
    Davis2017,
}

impl Year {
    pub fn number(self) -> u32 {
        match self {
            Self::Davis2016 => 2016,
            Self::Davis2017 => 2017,
        }
    }
}

/// What somebody asked for.
pub struct Wanted<'a> {
    pub year: Option<Year>,
    pub split: Option<&'a str>,
    pub sequences: &'a [String],
    /// Every so many frames.
    pub stride: usize,
    /// Frames of a sequence at most; 0 for all.
    pub frames: usize,
}

/// A video and the masks there are of it.
pub struct Sequence {
    pub name: String,
    pub frames: Vec<PathBuf>,
    /// One of each frame, where there is one.
    pub masks: Vec<Option<PathBuf>>,
}

impl Sequence {
    /// Whether there are masks to compare with. The last frame is not scored and needs none.
    pub fn is_scored(&self) -> bool {
        self.frames.len() > 2 && self.masks[1..self.masks.len() - 1].iter().all(Option::is_some)
    }
}

/// The sequences to go through, and how they were found.
pub struct Tree {
    pub sequences: Vec<Sequence>,
    pub year: Year,
    /// In words, for a person.
    pub understood: String,
}

impl Tree {
    /// Looks through `JPEGImages/480p`, `Annotations/480p` and `ImageSets` below `root`.
    pub fn open(root: &Path, wanted: &Wanted<'_>) -> anyhow::Result<Self> {
        if !root.is_dir() {
            bail!("{}: expected a folder with JPEGImages/480p and Annotations/480p, found none", root.display());
        }
        let images = resolution(&root.join("JPEGImages"))?;
        let annotations = root.join("Annotations").join(images.strip_prefix(root.join("JPEGImages"))?);
        let (names, list) = names(root, &images, wanted)?;
        let sequences = names
            .iter()
            .map(|name| sequence(name, &images.join(name), &annotations.join(name), wanted))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let (year, why) = year(root, &sequences, wanted)?;
        let objects = match year {
            Year::Davis2016 => "one object, masks of 0 and 255",
            Year::Davis2017 => "masks hold the number of the object",
        };
        let frames: usize = sequences.iter().map(|s| s.frames.len()).sum();
        let understood = format!(
            "DAVIS-{}, {objects} ({why}): {} sequence{} ({list}), {frames} frames",
            year.number(),
            sequences.len(),
            if sequences.len() == 1 { "" } else { "s" }
        );
        Ok(Self { sequences, year, understood })
    }
}

/// The folder of the sequences: `480p`, else `Full-Resolution`, else the folder itself.
fn resolution(images: &Path) -> anyhow::Result<PathBuf> {
    let Ok(found) = folders(images) else {
        bail!(
            "{}: no such folder. Expected DAVIS's tree: JPEGImages/480p/SEQUENCE/00000.jpg and \
             Annotations/480p/SEQUENCE/00000.png",
            images.display()
        );
    };
    for name in ["480p", "Full-Resolution"] {
        if found.iter().any(|f| f == name) {
            return Ok(images.join(name));
        }
    }
    Ok(images.to_path_buf())
}

/// The names of the sequences, and where they are listed.
fn names(root: &Path, images: &Path, wanted: &Wanted<'_>) -> anyhow::Result<(Vec<String>, String)> {
    let there = folders(images)?;
    if !wanted.sequences.is_empty() {
        for name in wanted.sequences {
            if !there.contains(name) {
                bail!("--sequence {name}: no such folder in {}; there are {}", images.display(), some(&there));
            }
        }
        return Ok((wanted.sequences.to_vec(), "--sequence".into()));
    }
    let sets = root.join("ImageSets");
    if !sets.is_dir() {
        if let Some(split) = wanted.split {
            bail!(
                "--split {split}: expected {}, found no ImageSets. Leave --split out to take every sequence, or \
                 name some with --sequence",
                sets.join("2017").join(format!("{split}.txt")).display()
            );
        }
        if there.is_empty() {
            bail!("{}: expected a folder of frames for each sequence, found none", images.display());
        }
        return Ok((there, "all there are: no ImageSets".into()));
    }
    let split = wanted.split.unwrap_or("val");
    // DAVIS-2016 lists pairs of files by resolution.
    let years: &[&str] = match wanted.year {
        Some(Year::Davis2016) => &["2016", "480p"],
        Some(Year::Davis2017) => &["2017"],
        None => &["2017", "2016", "480p"],
    };
    let lists: Vec<PathBuf> = years.iter().map(|y| sets.join(y).join(format!("{split}.txt"))).collect();
    let Some(list) = lists.iter().find(|list| list.is_file()) else {
        let expected: Vec<String> = lists.iter().map(|list| list.display().to_string()).collect();
        bail!(
            "expected {}, found no such file. Choose another --split, or name sequences with --sequence",
            expected.join(" or ")
        );
    };
    let text = fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
    let names = listed(&text);
    if names.is_empty() {
        bail!("{}: expected the name of a sequence in each line, found none", list.display());
    }
    if let Some(missing) = names.iter().find(|name| !there.contains(name)) {
        bail!("{}: lists {missing}, but {} has no such folder", list.display(), images.display());
    }
    Ok((names, list.strip_prefix(root).unwrap_or(list).display().to_string()))
}

/// Names of sequences, one a line; of DAVIS-2016's pairs of files, the folder of each first one, once.
fn listed(text: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let name = |line: &str| {
        let first = line.split_whitespace().next()?;
        let mut parts = first.rsplit('/');
        let last = parts.next()?;
        Some(parts.next().unwrap_or(last).to_owned())
    };
    text.lines().filter_map(name).filter(|name| seen.insert(name.clone())).collect()
}

fn sequence(name: &str, images: &Path, annotations: &Path, wanted: &Wanted<'_>) -> anyhow::Result<Sequence> {
    let all = frames::list(images)?;
    let stem = |path: &Path| path.file_stem().unwrap_or_default().to_os_string();
    let stems: BTreeSet<_> = all.iter().map(|frame| stem(frame)).collect();
    let masks = frames::list(annotations).unwrap_or_default();
    if let Some(orphan) = masks.iter().find(|mask| !stems.contains(&stem(mask))) {
        bail!("{}: there is a mask, but no frame of that name in {}", orphan.display(), images.display());
    }
    let limit = if wanted.frames == 0 { usize::MAX } else { wanted.frames };
    let frames: Vec<PathBuf> = all.into_iter().step_by(wanted.stride).take(limit).collect();
    if frames.len() < 2 {
        bail!("{}: expected at least 2 frames, found {}", images.display(), frames.len());
    }
    let masks: Vec<Option<PathBuf>> =
        frames.iter().map(|frame| masks.iter().find(|mask| stem(mask) == stem(frame)).cloned()).collect();
    let first = &frames[0];
    if masks[0].is_none() {
        bail!(
            "{}: expected the mask of the first frame, {}.png, found no annotations of it",
            annotations.display(),
            stem(first).display()
        );
    }
    // Some sequences have a mask of the first frame alone: they are not scored. Holes in between are a mistake.
    let between = &masks[1..masks.len() - 1];
    if let (true, Some(hole)) = (between.iter().any(Option::is_some), between.iter().position(Option::is_none)) {
        bail!(
            "{}: expected a mask of every frame, or of the first alone; {}.png is missing",
            annotations.display(),
            stem(&frames[1 + hole]).display()
        );
    }
    Ok(Sequence { name: name.to_owned(), frames, masks })
}

/// What the masks mean, and why that is thought.
fn year(root: &Path, sequences: &[Sequence], wanted: &Wanted<'_>) -> anyhow::Result<(Year, &'static str)> {
    if let Some(year) = wanted.year {
        return Ok((year, "--year"));
    }
    let sets = root.join("ImageSets");
    if sets.join("2017").is_dir() {
        return Ok((Year::Davis2017, "ImageSets/2017"));
    }
    if sets.join("2016").is_dir() || sets.join("480p").is_dir() {
        return Ok((Year::Davis2016, "ImageSets"));
    }
    let first = sequences.iter().find_map(|s| s.masks.first()?.as_ref()).context("no sequence has a mask")?;
    match masks::is_binary(first)? {
        true => Ok((Year::Davis2016, "a guess by the first mask, which holds 0 and 255")),
        false => Ok((Year::Davis2017, "a guess by the first mask, which holds other numbers than 0 and 255")),
    }
}

/// Names of the folders in a folder, sorted.
fn folders(path: &Path) -> anyhow::Result<Vec<String>> {
    let entries = fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with(['.', '_']))
        .collect();
    names.sort();
    Ok(names)
}

/// The first few, in words.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_lists_are_read() {
        assert_eq!(listed("bike-packing\n\n blackswan \r\nbike-packing\n"), ["bike-packing", "blackswan"]);
        let pairs = "/JPEGImages/480p/cows/00000.jpg /Annotations/480p/cows/00000.png\n\
                     /JPEGImages/480p/cows/00001.jpg /Annotations/480p/cows/00001.png\n\
                     /JPEGImages/480p/dog/00000.jpg /Annotations/480p/dog/00000.png\n";
        assert_eq!(listed(pairs), ["cows", "dog"]);
        assert!(listed("\n \n").is_empty());
    }
}
