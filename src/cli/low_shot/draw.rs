//! Which training images have labels.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use ocelli::data::files::decoded;
use ocelli::data::{Rng, Source};

/// Keeps these draws apart from others with the same seed.
const STREAM: u64 = 0x4C4F_5753;

/// How many labels there are.
#[derive(Debug, Clone, PartialEq)]
pub enum Labels {
    /// This share of each class, per cent, and at least one image.
    Share(f64),
    /// So many images of each class, or all it has.
    PerClass(usize),
    /// Those that a file names.
    Listed(PathBuf),
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{share} % of the labels"),
            Self::PerClass(1) => write!(f, "1 image of each class"),
            Self::PerClass(n) => write!(f, "{n} images of each class"),
            Self::Listed(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Images that were drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Draw {
    /// Their numbers in the source, ascending.
    pub images: Vec<usize>,
    /// Classes of which there is none.
    pub classes_without: usize,
}

type Images = (Arc<dyn Source>, Vec<usize>);

impl Labels {
    /// Draws images. The same seed and number give the same draw, and a smaller share is part of a larger one.
    ///
    /// # Errors
    /// When a list cannot be read, or names what is not there.
    pub fn draw(&self, (source, images): &Images, seed: u64, draw: u64) -> anyhow::Result<Draw> {
        let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for &image in images {
            classes.entry(source.label(image).unwrap_or_default()).or_default().push(image);
        }
        let mut drawn = match self {
            Self::Listed(path) => listed(path, source.as_ref(), images)?,
            Self::Share(share) => {
                some_of(&classes, seed, draw, |n| ((share / 100.0 * n as f64).round() as usize).max(1))
            }
            Self::PerClass(count) => some_of(&classes, seed, draw, |n| n.min(*count)),
        };
        drawn.sort_unstable();
        let with: BTreeSet<u32> = drawn.iter().filter_map(|i| source.label(*i)).collect();
        Ok(Draw { images: drawn, classes_without: classes.len() - with.len() })
    }
}

/// The first so many of each class in an order of its own.
fn some_of(
    classes: &BTreeMap<u32, Vec<usize>>,
    seed: u64,
    draw: u64,
    count: impl Fn(usize) -> usize,
) -> Vec<usize> {
    let mut drawn = Vec::new();
    for (class, images) in classes {
        let mut rng = Rng::from_words(&[STREAM, seed, draw, u64::from(*class)]);
        let mut order = images.clone();
        for at in 0..count(images.len()).min(images.len()) {
            let other = at + rng.below((order.len() - at) as u64) as usize;
            order.swap(at, other);
            drawn.push(order[at]);
        }
    }
    drawn
}

/// The images that a file names, by path or by name alone.
fn listed(path: &Path, source: &dyn Source, images: &[usize]) -> anyhow::Result<Vec<usize>> {
    let bytes = std::fs::read(path).with_context(|| format!("--list {}", path.display()))?;
    let text = decoded(&bytes).map_err(|e| anyhow::anyhow!("--list {}: {e}", path.display()))?;
    let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for &image in images {
        let name = source.name(image);
        if let Some((_, alone)) = name.rsplit_once('/') {
            by_name.entry(alone.to_owned()).or_default().push(image);
        }
        by_name.entry(name).or_default().push(image);
    }
    let mut drawn = BTreeSet::new();
    for (at, line) in text.lines().enumerate() {
        let name = line.trim().trim_start_matches("./");
        if name.is_empty() {
            continue;
        }
        let found = by_name.get(name).or_else(|| by_name.get(name.rsplit('/').next()?));
        match found.map(Vec::as_slice) {
            Some([one]) => drop(drawn.insert(*one)),
            Some(several) => bail!(
                "--list {}:{}: {} training images are called {name}; write their paths below the data",
                path.display(),
                at + 1,
                several.len()
            ),
            None => bail!(
                "--list {}:{}: expected the name of a training image, found {name}; names there are such as {}",
                path.display(),
                at + 1,
                images.first().map(|i| source.name(*i)).unwrap_or_default()
            ),
        }
    }
    if drawn.is_empty() {
        bail!("--list {}: expected names of training images, one a line; found none", path.display());
    }
    Ok(drawn.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use ocelli::data::{DataError, Image};

    use super::*;

    /// Images of classes of 30, 10 and 2.
    struct Classes;

    impl Source for Classes {
        fn len(&self) -> usize {
            42
        }

        fn load(&self, index: usize) -> Result<Image, DataError> {
            Err(DataError::OutOfRange { index, len: 0 })
        }

        fn label(&self, index: usize) -> Option<u32> {
            Some(if index < 30 { 0 } else { 1 + u32::from(index >= 40) })
        }

        fn name(&self, index: usize) -> String {
            format!("class-{}/{}.jpg", self.label(index).unwrap_or_default(), index % 10)
        }
    }

    fn images() -> Images {
        (Arc::new(Classes), (0..42).collect())
    }

    #[test]
    fn every_class_is_drawn_from_and_draws_differ() {
        let images = images();
        let of = |labels: Labels, seed, draw| labels.draw(&images, seed, draw).unwrap().images;
        let per_class = |drawn: &[usize]| {
            [0, 1, 2].map(|class| drawn.iter().filter(|i| Classes.label(**i) == Some(class)).count())
        };
        let ten = of(Labels::Share(10.0), 7, 0);
        assert_eq!(per_class(&ten), [3, 1, 1], "one of two at least");
        assert!(ten.is_sorted());
        assert_eq!(of(Labels::Share(10.0), 7, 0), ten);
        assert!(of(Labels::Share(10.0), 7, 1) != ten && of(Labels::Share(10.0), 8, 0) != ten);
        let half = of(Labels::Share(50.0), 7, 0);
        assert!(per_class(&half) == [15, 5, 1] && ten.iter().all(|i| half.contains(i)), "part of the larger one");
        assert_eq!(per_class(&of(Labels::PerClass(5), 0, 0)), [5, 5, 2]);
        assert_eq!(of(Labels::Share(100.0), 3, 2).len(), 42);
    }

    #[test]
    fn lists_name_images_by_path_or_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.txt");
        let of = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Labels::Listed(path.clone()).draw(&images(), 0, 0).map_err(|e| format!("{e:#}"))
        };
        let found = of("class-1/3.jpg\n\n./class-2/0.jpg\nclass-1/3.jpg\n").unwrap();
        assert_eq!(found, Draw { images: vec![33, 40], classes_without: 1 });
        assert!(
            of("class-1/3.jpg\n0.jpg\n").unwrap_err().contains("list.txt:2: 5 training images are called 0.jpg")
        );
        assert!(of("class-9/77.jpg").unwrap_err().contains("names there are such as class-0/0.jpg"));
        assert!(of("\n").unwrap_err().contains("found none"));
        let missing = Labels::Listed(folder.path().join("gone.txt")).draw(&images(), 0, 0);
        assert!(format!("{:#}", missing.unwrap_err()).contains("gone.txt"));
    }
}
