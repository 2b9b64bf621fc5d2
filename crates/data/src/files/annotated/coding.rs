//! From what a map has at a pixel to the number of a class.

use std::collections::BTreeMap;

use super::map_png::{MapPicture, Values};
use crate::DataError;
use crate::annotated::IGNORED;

/// Which class a number or a colour stands for; [`IGNORED`] is none, and what is not here stands for nothing.
#[derive(Debug, Clone)]
pub(super) struct Coding {
    pub by_number: [Option<u8>; 256],
    pub by_colour: BTreeMap<[u8; 3], u8>,
    /// Whether a map with a palette is read by its numbers, not by the colours of the palette.
    pub is_numbers_first: bool,
    /// The coding of maps whose files' names end so.
    pub other: Option<(&'static str, Box<Coding>)>,
    /// Whether grey colours that are not here are numbers.
    pub are_greys_numbers: bool,
}

impl Coding {
    /// Numbers that are their own classes, and 255 for none.
    pub fn plain(classes: usize) -> Self {
        Self::of_numbers((0..classes.min(255)).map(|class| (class, class as u8)))
    }

    /// Numbers and their classes; 255 is none where nothing else is said of it.
    pub fn of_numbers(pairs: impl Iterator<Item = (usize, u8)>) -> Self {
        let mut by_number = [None; 256];
        by_number[usize::from(IGNORED)] = Some(IGNORED);
        for (number, class) in pairs {
            if let Some(slot) = by_number.get_mut(number) {
                *slot = Some(class);
            }
        }
        Self {
            by_number,
            by_colour: BTreeMap::new(),
            is_numbers_first: true,
            other: None,
            are_greys_numbers: false,
        }
    }

    /// The coding of the map in this file.
    pub fn of_file(&self, name: &str) -> &Self {
        self.other.as_ref().filter(|(ending, _)| name.ends_with(ending)).map_or(self, |(_, other)| other)
    }

    /// The classes of all pixels of the map in this file.
    pub fn labels(&self, name: &str, map: &MapPicture) -> Result<Vec<u8>, DataError> {
        self.of_file(name).labels_of(name, map)
    }

    fn labels_of(&self, name: &str, map: &MapPicture) -> Result<Vec<u8>, DataError> {
        let at = |i: usize| format!("({}, {})", i % map.width.max(1), i / map.width.max(1));
        let fail = |reason: String| Err(DataError::Decode { name: name.to_owned(), reason });
        match &map.values {
            Values::Numbers(numbers, palette) => {
                let table = self.table(palette.as_deref());
                let mut labels = Vec::with_capacity(numbers.len());
                for (i, number) in numbers.iter().enumerate() {
                    match table[usize::from(*number)] {
                        Some(class) => labels.push(class),
                        None => {
                            let expected = self.expected();
                            return fail(format!(
                                "no class has the value {number} at {}; expected {expected}",
                                at(i)
                            ));
                        }
                    }
                }
                Ok(labels)
            }
            Values::Colours(colours) => {
                let mut labels = Vec::with_capacity(colours.len());
                let mut last = None;
                for (i, colour) in colours.iter().enumerate() {
                    // Neighbours are mostly alike.
                    let class = match last {
                        Some((same, class)) if same == *colour => class,
                        _ => match self.of_colour(colour) {
                            Some(class) => class,
                            None => {
                                let [r, g, b] = colour;
                                let what = if self.by_colour.is_empty() {
                                    "expected a map of class numbers, grey or with a palette"
                                } else {
                                    "expected one of the colours that name classes"
                                };
                                return fail(format!("no class has the colour {r} {g} {b} at {}; {what}", at(i)));
                            }
                        },
                    };
                    last = Some((*colour, class));
                    labels.push(class);
                }
                Ok(labels)
            }
        }
    }

    /// The class of a colour.
    pub fn of_colour(&self, colour: &[u8; 3]) -> Option<u8> {
        let [r, g, b] = colour;
        let is_number = self.are_greys_numbers && r == g && g == b;
        self.by_colour.get(colour).copied().or_else(|| self.by_number[usize::from(*r)].filter(|_| is_number))
    }

    /// The class of each number in a map with this palette.
    pub fn table(&self, palette: Option<&[[u8; 3]]>) -> [Option<u8>; 256] {
        match palette {
            Some(palette) if !self.is_numbers_first && !self.by_colour.is_empty() => {
                std::array::from_fn(|i| palette.get(i).and_then(|colour| self.of_colour(colour)))
            }
            _ => self.by_number,
        }
    }

    /// In words, the numbers that stand for something.
    fn expected(&self) -> String {
        let known: Vec<usize> = (0..255).filter(|i| self.by_number[*i].is_some()).collect();
        match (known.first(), known.last()) {
            (Some(first), Some(last)) if last - first + 1 == known.len() => {
                format!("{first} to {last}, or 255 for none")
            }
            (Some(first), Some(last)) => {
                format!("one of {} values from {first} to {last}, or 255 for none", known.len())
            }
            _ => "a colour".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(values: Values) -> MapPicture {
        MapPicture { width: 2, height: 2, values }
    }

    #[test]
    fn numbers_and_colours_stand_for_classes() {
        let coding = Coding::of_numbers([(0, 0), (7, 1), (9, IGNORED)].into_iter());
        let read = |numbers: [u8; 4]| coding.labels("a.png", &map(Values::Numbers(numbers.to_vec(), None)));
        assert_eq!(read([0, 7, 9, 255]).unwrap(), [0, 1, 255, 255]);
        let message = read([0, 7, 3, 0]).unwrap_err().to_string();
        assert!(message.contains("a.png") && message.contains("value 3 at (0, 1)"), "{message}");
        assert!(coding.labels("b.png", &map(Values::Colours(vec![[0; 3]; 4]))).is_err());

        let by_colour = BTreeMap::from([([9, 9, 9], 0), ([1, 2, 3], 1)]);
        let mut colours = Coding { by_colour, is_numbers_first: false, ..Coding::plain(2) };
        let picture = map(Values::Colours(vec![[1, 2, 3], [9, 9, 9], [1, 2, 3], [0, 0, 0]]));
        assert!(colours.labels("c.png", &picture).unwrap_err().to_string().contains("colour 0 0 0 at (1, 1)"));
        colours.are_greys_numbers = true;
        assert_eq!(colours.labels("c.png", &picture).unwrap(), [1, 0, 1, 0], "0 0 0 is the number 0");
        let other = map(Values::Colours(vec![[1, 1, 0]; 4]));
        assert!(colours.labels("c.png", &other).unwrap_err().to_string().contains("colour 1 1 0 at (0, 0)"));
        let palette = Some(vec![[1, 2, 3], [9, 9, 9]]);
        let shown = map(Values::Numbers(vec![0, 1, 1, 0], palette));
        assert_eq!(colours.labels("d.png", &shown).unwrap(), [1, 0, 0, 1], "by the colours of the palette");
        colours.is_numbers_first = true;
        assert_eq!(colours.labels("d.png", &shown).unwrap(), [0, 1, 1, 0]);
    }
}
