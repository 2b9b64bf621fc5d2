//! Images named on the command line.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use ocelli::data::files::{DecodeLimits, decode_file};
use ocelli::data::{DataError, FittedImage, Image, Mask, Source, Understood, fit_to_cells, open_data};

use super::talk;

/// One image to look at.
pub struct Input {
    /// Path as given, or the sample's name.
    pub name: String,
    /// Class name, or empty.
    pub class: String,
    /// Pixels.
    pub image: Image,
    /// The object, where the data set knows it.
    pub truth: Option<Mask>,
}

impl Input {
    /// A sample of a data set, with everything the set knows about it.
    pub fn of(source: &dyn Source, index: usize) -> anyhow::Result<Self> {
        let class = source.label(index).and_then(|l| source.class_names().get(l as usize).cloned());
        Ok(Self {
            name: source.name(index),
            class: class.unwrap_or_default(),
            image: source.load(index)?,
            truth: source.mask(index),
        })
    }
}

/// The images somebody named, in their order: listed at once, read one by one.
pub struct Named {
    parts: Vec<Part>,
    entries: Vec<(usize, usize)>,
    /// The names of all, where several things were named and images of two could be called the same.
    names: Vec<String>,
    understood: Vec<Understood>,
}

enum Part {
    File(PathBuf),
    Set(Arc<dyn Source>),
}

impl Named {
    /// Files, folders, records, or `scenes[:COUNT]`; at most `limit` of each folder, evenly spaced (0: all).
    pub fn list(names: &[String], limit: usize) -> anyhow::Result<Self> {
        let (mut parts, mut entries, mut understood) = (Vec::new(), Vec::new(), Vec::new());
        for name in names {
            let path = Path::new(name);
            let part = if path.is_file() && !name.ends_with(".bin") && !name.ends_with(".bin.xz") {
                entries.push((parts.len(), 0));
                Part::File(path.to_path_buf())
            } else {
                let set = open_data(name)?;
                let source = set.train;
                understood.push(set.understood);
                let count = if limit == 0 { source.len() } else { limit.min(source.len()) };
                entries.extend((0..count).map(|i| (parts.len(), i * source.len() / count)));
                Part::Set(source)
            };
            parts.push(part);
        }
        if entries.is_empty() {
            bail!("expected at least one image, folder of images, or `scenes`");
        }
        let mut named = Self { parts, entries, names: Vec::new(), understood };
        if named.parts.len() > 1 {
            named.names = different(named.names(), |index| {
                let (part, _) = named.entries[index];
                matches!(named.parts[part], Part::Set(_)).then(|| names[part].as_str())
            });
        }
        Ok(named)
    }

    /// The names of all images, in their order; no two are the same.
    pub fn names(&self) -> Vec<String> {
        (0..self.len()).map(|index| self.name(index)).collect()
    }

    /// What was made of each folder, a line or two each; nothing of single files.
    pub fn lines(&self) -> Vec<String> {
        let not_taken = |u: &Understood| {
            let val = u.val.as_ref().filter(|val| val.images > 0 && !u.root.is_empty())?;
            let of = |folder: &str| if folder.is_empty() { String::new() } else { format!(" of {folder}") };
            let (train, val) = (of(&u.train.folder), of(&val.folder));
            Some(format!("taken: the {} images{train}, not those{val}", u.train.images))
        };
        self.understood.iter().flat_map(|u| u.lines().into_iter().chain(not_taken(u))).collect()
    }

    /// The same as fields.
    pub fn understood(&self) -> &[Understood] {
        &self.understood
    }

    /// Reads one, with what is known about it.
    pub fn input(&self, index: usize) -> anyhow::Result<Input> {
        match self.at(index) {
            Some((Part::Set(source), i)) => Ok(Input { name: self.name(index), ..Input::of(source.as_ref(), i)? }),
            _ => Input::of(self, index),
        }
    }

    fn at(&self, index: usize) -> Option<(&Part, usize)> {
        let &(part, i) = self.entries.get(index)?;
        Some((self.parts.get(part)?, i))
    }
}

/// Labels of different sets do not go together, so there are none.
impl Source for Named {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn load(&self, index: usize) -> Result<Image, DataError> {
        match self.at(index) {
            Some((Part::File(path), _)) => decode_file(path, DecodeLimits::default()),
            Some((Part::Set(source), i)) => source.load(i),
            None => Err(DataError::OutOfRange { index, len: self.entries.len() }),
        }
    }

    fn label(&self, _: usize) -> Option<u32> {
        None
    }

    fn name(&self, index: usize) -> String {
        if let Some(name) = self.names.get(index) {
            return name.clone();
        }
        match self.at(index) {
            Some((Part::File(path), _)) => path.display().to_string(),
            Some((Part::Set(source), i)) => source.name(i),
            None => String::new(),
        }
    }

    fn class_names(&self) -> &[String] {
        &[]
    }

    fn mask(&self, index: usize) -> Option<Mask> {
        match self.at(index)? {
            (Part::Set(source), i) => source.mask(i),
            (Part::File(_), _) => None,
        }
    }
}

/// Names of which no two are the same. Where any are, also where the case of letters alone tells them apart, those of folders come with
/// the folder as it was given (`folder_of` an index); an image that is there twice has a number behind its name.
fn different<'a>(mut names: Vec<String>, folder_of: impl Fn(usize) -> Option<&'a str>) -> Vec<String> {
    let mut folded = HashSet::new();
    if names.iter().all(|name| folded.insert(name.to_lowercase())) {
        return names;
    }
    for (index, name) in names.iter_mut().enumerate() {
        if let Some(folder) = folder_of(index) {
            *name = format!("{}/{name}", folder.trim_end_matches(['/', '\\']));
        }
    }
    let (mut taken, mut times) = (HashSet::new(), HashMap::<String, usize>::new());
    for name in &mut names {
        let times = times.entry(name.clone()).or_insert(1);
        let mut unique = name.clone();
        while !taken.insert(unique.clone()) {
            *times += 1;
            unique = format!("{name} ({times})");
        }
        *name = unique;
    }
    names
}

/// A bar for work on so many images; none beside JSON or with `--quiet`.
pub fn bar(images: usize, json: bool) -> ProgressBar {
    if !talk::notes(json) {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(images as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:28} {pos}/{len} images  {per_sec}  ETA {eta}") {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar
}

/// The image and the object's mask as [`fit_to_cells`] has them.
pub fn fit(input: &Input, long_px: usize, patch_px: usize) -> (Image, Option<Mask>) {
    let FittedImage { image, scaled } = fit_to_cells(&input.image, long_px, patch_px);
    let truth = input.truth.as_ref().map(|mask| nearest(mask, scaled, &image));
    (image, truth)
}

/// The mask at the size of `scaled`, cut as `fitted` is.
fn nearest(mask: &Mask, scaled: (u32, u32), fitted: &Image) -> Mask {
    let (width, height) = (fitted.width as usize, fitted.height as usize);
    let at = |x: usize, y: usize| {
        let sx = x * mask.width as usize / scaled.0 as usize;
        let sy = y * mask.height as usize / scaled.1 as usize;
        mask.data[sy * mask.width as usize + sx]
    };
    let data = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| at(x, y)).collect();
    Mask { width: fitted.width, height: fitted.height, data }
}

/// An image, or a note why it is passed over, which is also told above the bar unless JSON is printed.
pub fn read_or_note(
    inputs: &Named,
    index: usize,
    name: &str,
    bar: &ProgressBar,
    json: bool,
) -> Result<Input, String> {
    inputs.input(index).map_err(|error| {
        let note = format!("warning: skipped {name}: {error:#}");
        if !json {
            bar.suspend(|| println!("{note}"));
        }
        bar.inc(1);
        note
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_table_have_names_that_differ() {
        let of = |names: &[&str], folders: &[Option<&'static str>]| {
            different(names.iter().map(|name| (*name).to_owned()).collect(), |index| folders[index])
        };
        let (a, b) = (Some("2024/beach/"), Some("2025/beach"));
        assert_eq!(
            of(&["1.jpg", "2.jpg"], &[a, b]),
            ["1.jpg", "2.jpg"],
            "nothing is added where nothing needs it"
        );
        assert_eq!(
            of(&["1.jpg", "1.JPG", "x/2.jpg"], &[a, b, None]),
            ["2024/beach/1.jpg", "2025/beach/1.JPG", "x/2.jpg"]
        );
        assert_eq!(of(&["a.jpg"; 3], &[None; 3]), ["a.jpg", "a.jpg (2)", "a.jpg (3)"]);
        assert_eq!(of(&["a (2)", "a", "a"], &[None; 3]), ["a (2)", "a", "a (3)"]);
    }
}
