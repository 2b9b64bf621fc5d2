//! A bounded look at the maps of a set before it is opened: what they hold, and which cannot be used.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::super::understood::{Understood, count};
use super::boxes::same_shape;
use super::coding::Coding;
use super::map_files::{Pair, misfit};
use super::map_png::{MapPicture, Values};
use super::size::picture_size;
use super::spec::Spec;
use crate::DataError;
use crate::annotated::IGNORED;

/// Pixels that are looked at, about a second's work.
const PIXELS: usize = 64 << 20;
/// Maps that are looked at: at least, however large, and at most.
const FEWEST: usize = 8;
const MOST: usize = 2000;
/// Colours that are told apart in a map; with more it is no map.
const MOST_COLOURS: usize = 1024;

/// What was seen of a map.
#[derive(Clone)]
struct Seen {
    size: [usize; 2],
    picture: Option<[u32; 2]>,
    /// How often each number occurs, where it has numbers.
    numbers: Option<Box<[u64; 256]>>,
    palette: Option<Vec<[u8; 3]>>,
    colours: BTreeMap<[u8; 3], u64>,
}

impl Seen {
    fn of(pair: &Pair) -> Result<Self, DataError> {
        let map = MapPicture::read(&pair.map)?;
        let mut seen = Self {
            size: [map.width, map.height],
            // What cannot be opened cannot be loaded; that is where it is told.
            picture: picture_size(&pair.picture).ok(),
            numbers: None,
            palette: None,
            colours: BTreeMap::new(),
        };
        match map.values {
            Values::Numbers(numbers, palette) => {
                let mut counts = Box::new([0; 256]);
                numbers.iter().for_each(|number| counts[usize::from(*number)] += 1);
                seen.numbers = Some(counts);
                seen.palette = palette;
            }
            Values::Colours(colours) => {
                for colour in colours.chunk_by(|a, b| a == b) {
                    if seen.colours.len() < MOST_COLOURS || seen.colours.contains_key(&colour[0]) {
                        *seen.colours.entry(colour[0]).or_default() += colour.len() as u64;
                    }
                }
            }
        }
        Ok(seen)
    }

    /// How often each number occurs; none where it has colours.
    fn counted(&self) -> impl Iterator<Item = (usize, u64)> {
        let all = self.numbers.iter().flat_map(|counts| counts.iter().copied().enumerate());
        all.filter(|(_, times)| *times > 0)
    }

    /// The same with the colours that its palette shows for its numbers.
    fn by_palette(&self) -> Self {
        let Some(palette) = &self.palette else { return self.clone() };
        let colour = |(number, times)| Some((*palette.get(number)?, times));
        Self { numbers: None, palette: None, colours: self.counted().filter_map(colour).collect(), ..self.clone() }
    }

    /// The same with numbers for colours, all of which are grey.
    fn by_greys(&self) -> Self {
        if self.colours.is_empty() {
            return self.clone();
        }
        let mut counts = Box::new([0; 256]);
        self.colours.iter().for_each(|([grey, ..], times)| counts[usize::from(*grey)] += times);
        Self { numbers: Some(counts), colours: BTreeMap::new(), ..self.clone() }
    }

    /// What it holds that stands for nothing, in words; else whether anything in it stands for a class.
    fn check(&self, coding: &Coding) -> Result<bool, String> {
        let table = coding.table(self.palette.as_deref());
        let mut is_labelled = false;
        for (number, _) in self.counted() {
            let class = table[number].ok_or_else(|| format!("no class has the value {number}"))?;
            is_labelled |= class != IGNORED;
        }
        for colour in self.colours.keys() {
            let [r, g, b] = colour;
            let class = coding.of_colour(colour).ok_or_else(|| format!("no class has the colour {r} {g} {b}"))?;
            is_labelled |= class != IGNORED;
        }
        Ok(is_labelled)
    }
}

/// What was seen.
pub(super) struct Look {
    seen: Vec<(String, Result<Seen, DataError>)>,
    /// Maps there are.
    of: usize,
}

impl Look {
    /// Looks at maps evenly through all parts: all of them where they are few or small.
    pub fn at(parts: &[&[Pair]]) -> Self {
        let all: Vec<&Pair> = parts.iter().flat_map(|pairs| pairs.iter()).collect();
        let first = all.iter().find_map(|pair| picture_size(&pair.map).ok()).unwrap_or([1, 1]);
        let pixels = (first[0] as usize).saturating_mul(first[1] as usize).max(1);
        let take = (PIXELS / pixels).clamp(FEWEST, MOST).min(all.len());
        let chosen: Vec<&Pair> = (0..take).map(|i| all[i * all.len() / take]).collect();
        let seen = chosen.par_iter().map(|pair| (pair.map.display().to_string(), Seen::of(pair))).collect();
        Self { seen, of: all.len() }
    }

    fn readable(&self) -> impl Iterator<Item = &Seen> {
        self.seen.iter().filter_map(|(_, seen)| seen.as_ref().ok())
    }

    /// In words, which maps were looked at.
    pub fn which(&self) -> String {
        match self.of {
            of if of == self.seen.len() => count(of, "map", "maps"),
            of => format!("{} checked (of {of})", count(self.seen.len(), "map", "maps")),
        }
    }

    /// The same of each map that can be read.
    fn mapped(&self, change: impl Fn(&Seen) -> Seen) -> Self {
        let each = |(name, seen): &(String, Result<Seen, DataError>)| {
            (name.clone(), seen.as_ref().map(&change).map_err(Clone::clone))
        };
        Self { seen: self.seen.iter().map(each).collect(), of: self.of }
    }

    /// The same with the colours of palettes for their numbers.
    pub fn by_palette(&self) -> Self {
        self.mapped(Seen::by_palette)
    }

    /// The same with numbers for colours; `None` where there are no colours, or one is not grey.
    pub fn by_greys(&self) -> Option<Self> {
        let mut colours = self.readable().flat_map(|seen| seen.colours.keys()).peekable();
        colours.peek()?;
        colours.all(|[r, g, b]| r == g && g == b).then(|| self.mapped(Seen::by_greys))
    }

    /// A map whose palette shows a number in another colour than that of an earlier map: the numbers are no classes.
    pub fn odd_palette(&self) -> Option<(&str, usize)> {
        let mut shown = [None; 256];
        for (name, seen) in &self.seen {
            let Some((seen, palette)) = seen.as_ref().ok().and_then(|s| Some((s, s.palette.as_ref()?))) else {
                continue;
            };
            for (number, _) in seen.counted() {
                let Some(colour) = palette.get(number) else { continue };
                if *shown[number].get_or_insert(*colour) != *colour {
                    return Some((name, number));
                }
            }
        }
        None
    }

    /// The classes that occur.
    pub fn classes(&self, coding: &Coding) -> BTreeSet<u8> {
        let mut classes = BTreeSet::new();
        for (name, seen) in &self.seen {
            let (Ok(seen), coding) = (seen, coding.of_file(name)) else { continue };
            let table = coding.table(seen.palette.as_deref());
            classes.extend(seen.counted().filter_map(|(number, _)| table[number]));
            classes.extend(seen.colours.keys().filter_map(|colour| coding.of_colour(colour)));
        }
        classes
    }

    /// Numbers that occur; none where no map has numbers.
    pub fn numbers(&self) -> Vec<usize> {
        let has = |number: &usize| self.readable().any(|s| s.numbers.as_ref().is_some_and(|n| n[*number] > 0));
        (0..256).filter(has).collect()
    }

    /// The palette of the first map that has one.
    pub fn palette(&self) -> Option<&[[u8; 3]]> {
        self.readable().find_map(|seen| seen.palette.as_deref())
    }

    /// Colours that occur, the most frequent first.
    pub fn colours(&self) -> Vec<[u8; 3]> {
        let mut all: BTreeMap<[u8; 3], u64> = BTreeMap::new();
        for (colour, times) in self.readable().flat_map(|seen| &seen.colours) {
            *all.entry(*colour).or_default() += times;
        }
        let mut colours: Vec<([u8; 3], u64)> = all.into_iter().collect();
        colours.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        colours.into_iter().map(|(colour, _)| colour).collect()
    }

    /// Says what is odd, and whether maps are to be fitted to their pictures: where most have another size of the same shape.
    pub fn judge(&self, spec: &Spec<'_>, coding: &Coding, understood: &mut Understood) -> Result<bool, DataError> {
        let is_scaled = |seen: &Seen| {
            let [width, height] = seen.size.map(|side| u32::try_from(side).unwrap_or(u32::MAX));
            seen.picture.is_some_and(|picture| picture != [width, height] && same_shape([width, height], picture))
        };
        let is_fitted = 2 * self.readable().filter(|seen| is_scaled(seen)).count() > self.seen.len();
        let (mut unlabelled, mut bad) = (Vec::new(), Vec::new());
        for (name, seen) in &self.seen {
            let seen = match seen {
                Ok(seen) => seen,
                Err(error) => {
                    bad.push(error.to_string());
                    continue;
                }
            };
            let is_misfit = seen.picture.is_some_and(|size| size.map(|side| side as usize) != seen.size);
            match (seen.check(coding.of_file(name)), seen.picture) {
                (_, Some(size)) if is_misfit && !(is_fitted && is_scaled(seen)) => {
                    bad.push(misfit(name, seen.size, size).to_string());
                }
                (Err(reason), _) => bad.push(format!("{name}: {reason}")),
                (Ok(false), _) => unlabelled.push(name.clone()),
                (Ok(true), _) => {}
            }
        }
        let which = self.which();
        if let Some(first) = bad.first() {
            if bad.len() == self.seen.len() {
                return Err(spec.fails(format!("none of the {which} can be used; the first: {first}")));
            }
            understood.notes.push(format!("{} of the {which} cannot be used; the first: {first}", bad.len()));
        }
        if let Some(first) = unlabelled.first() {
            if unlabelled.len() + bad.len() == self.seen.len() {
                return Err(spec.fails(format!("no labels: every pixel of the {which} is ignored (255)")));
            }
            let (n, have) = (unlabelled.len(), if unlabelled.len() == 1 { "has" } else { "have" });
            understood.notes.push(format!(
                "{n} of the {which} {have} no labelled pixel, every one is ignored; the first: {first}"
            ));
        }
        if let Some(seen) = self.readable().find(|seen| is_fitted && is_scaled(seen)) {
            let ([map_width, map_height], [width, height]) = (seen.size, seen.picture.unwrap_or_default());
            understood.notes.push(format!(
                "maps of another size than their pictures ({map_width}x{map_height} for {width}x{height}) are read at \
                 the nearest pixels"
            ));
        }
        Ok(is_fitted)
    }
}
