//! COCO's JSON of instances: what is read of it, and within which bounds.
//!
//! The parser refuses what is nested deeper than 128 levels. Nothing is kept of values that nobody asked for.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{malformed, read_bytes};
use crate::DataError;

/// The largest file: COCO's own have half a gigabyte, the largest sets' a few.
const MOST_BYTES: u64 = 4 << 30;
/// The most numbers that the outline of one object may have; COCO's longest have a few thousand.
const MOST_NUMBERS: usize = 200_000;
/// Coordinates are kept within this, so that arithmetic on them stays exact enough.
const FARTHEST_PX: f64 = 1e7;

/// A file. `S` is what is kept of an outline: [`IgnoredAny`] or [`Outline`].
#[derive(Deserialize)]
#[serde(bound = "S: Deserialize<'de> + Default")]
pub(super) struct File<S> {
    pub images: Vec<ImageEntry>,
    pub annotations: Vec<Entry<S>>,
    pub categories: Vec<Category>,
}

#[derive(Deserialize)]
pub(super) struct ImageEntry {
    pub id: i64,
    pub file_name: String,
    #[serde(default)]
    width: Option<f64>,
    #[serde(default)]
    height: Option<f64>,
}

impl ImageEntry {
    /// Its size, where it is one.
    pub fn size(&self) -> Option<[u32; 2]> {
        let side = |side: Option<f64>| side.filter(|s| (1.0..=1e6).contains(s)).map(|s| s as u32);
        Some([side(self.width)?, side(self.height)?])
    }
}

/// An object.
#[derive(Deserialize)]
#[serde(bound = "S: Deserialize<'de> + Default")]
pub(super) struct Entry<S> {
    pub image_id: i64,
    pub category_id: i64,
    #[serde(default)]
    pub iscrowd: Flag,
    #[serde(default)]
    pub bbox: Corner,
    #[serde(default)]
    pub area: Option<f64>,
    #[serde(default)]
    pub segmentation: S,
}

/// 0 or 1, or as some programs write it.
#[derive(Deserialize, Default)]
#[serde(untagged)]
pub(super) enum Flag {
    #[default]
    Missing,
    Number(i64),
    Truth(bool),
}

impl Flag {
    pub fn is_set(&self) -> bool {
        matches!(self, Self::Truth(true)) || matches!(self, Self::Number(n) if *n != 0)
    }
}

#[derive(Deserialize)]
pub(super) struct Category {
    pub id: i64,
    pub name: String,
}

impl<S: for<'de> Deserialize<'de> + Default> File<S> {
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let bytes = read_bytes(path, MOST_BYTES)?;
        serde_json::from_slice(&bytes).map_err(|e| {
            let reason = match e.is_data() {
                true => format!("expected COCO's instances (images, annotations, categories): {e}"),
                false => format!("not JSON: {e}"),
            };
            malformed(path, reason)
        })
    }
}

/// A box `[x, y, width, height]` in pixels; none where there are not four numbers.
#[derive(Default)]
pub(super) struct Corner(pub Option<[f64; 4]>);

impl<'de> Deserialize<'de> for Corner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Four;
        impl<'de> Visitor<'de> for Four {
            type Value = Corner;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a box [x, y, width, height]")
            }
            fn visit_unit<E>(self) -> Result<Corner, E> {
                Ok(Corner(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Corner, A::Error> {
                let (mut four, mut count) = ([0.0; 4], 0);
                while let Some(number) = seq.next_element::<Option<f64>>()? {
                    if let (Some(slot), Some(number)) = (four.get_mut(count), number) {
                        *slot = number;
                        count += 1;
                    } else {
                        count = usize::MAX - 1;
                    }
                }
                Ok(Corner((count == 4).then_some(four)))
            }
        }
        deserializer.deserialize_any(Four)
    }
}

/// The outline of an object.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) enum Outline {
    /// None that can be drawn.
    #[default]
    Untold,
    /// It has more numbers than are believed.
    TooLong,
    /// Polygons, the points of each `x, y, x, y, …` in pixels.
    Polygons(Vec<Vec<f32>>),
    /// Lengths of runs, off and on in turn, down the columns of a mask of [height, width].
    Runs { size: [u64; 2], counts: Vec<u32> },
    /// The same as COCO packs it into letters.
    PackedRuns { size: [u64; 2], counts: String },
}

impl<'de> Deserialize<'de> for Outline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OutlineVisitor)
    }
}

struct OutlineVisitor;

impl<'de> Visitor<'de> for OutlineVisitor {
    type Value = Outline;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("polygons [[x, y, …], …] or runs {size, counts}")
    }

    fn visit_unit<E>(self) -> Result<Outline, E> {
        Ok(Outline::Untold)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Outline, A::Error> {
        let (mut polygons, mut flat, mut left) = (Vec::new(), Vec::new(), MOST_NUMBERS);
        while let Some(part) = seq.next_element::<Part>()? {
            let new = match &part {
                Part::Number(_) => 1,
                // So that empty ones count as well.
                Part::Polygon(points) => points.len() + 1,
                Part::TooLong => usize::MAX,
            };
            match left.checked_sub(new) {
                Some(rest) => left = rest,
                None => {
                    while seq.next_element::<IgnoredAny>()?.is_some() {}
                    return Ok(Outline::TooLong);
                }
            }
            match part {
                // Some programs write the points of the only polygon without a list around it.
                Part::Number(number) => flat.push(number),
                Part::Polygon(points) => polygons.push(points),
                Part::TooLong => {}
            }
        }
        if !flat.is_empty() {
            polygons.push(flat);
        }
        Ok(if polygons.is_empty() { Outline::Untold } else { Outline::Polygons(polygons) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outline, A::Error> {
        let (mut size, mut counts) = (None, Counts::Untold);
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Size => size = Some(map.next_value::<[u64; 2]>()?),
                Key::Counts => counts = map.next_value()?,
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(match (size, counts) {
            (_, Counts::TooLong) => Outline::TooLong,
            (Some(size), Counts::Runs(counts)) => Outline::Runs { size, counts },
            (Some(size), Counts::Packed(counts)) => Outline::PackedRuns { size, counts },
            _ => Outline::Untold,
        })
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Key {
    Size,
    Counts,
    #[serde(other)]
    Other,
}

/// What stands in the list of an outline.
enum Part {
    Number(f32),
    Polygon(Vec<f32>),
    TooLong,
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PartVisitor;
        impl<'de> Visitor<'de> for PartVisitor {
            type Value = Part;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the points of a polygon")
            }
            fn visit_f64<E>(self, number: f64) -> Result<Part, E> {
                Ok(Part::Number(within(number)))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Part, E> {
                Ok(Part::Number(within(number as f64)))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Part, E> {
                Ok(Part::Number(within(number as f64)))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Part, A::Error> {
                let mut points = Vec::new();
                while let Some(number) = seq.next_element::<f64>()? {
                    if points.len() >= MOST_NUMBERS {
                        while seq.next_element::<IgnoredAny>()?.is_some() {}
                        return Ok(Part::TooLong);
                    }
                    points.push(within(number));
                }
                points.shrink_to_fit();
                Ok(Part::Polygon(points))
            }
        }
        deserializer.deserialize_any(PartVisitor)
    }
}

fn within(number: f64) -> f32 {
    number.clamp(-FARTHEST_PX, FARTHEST_PX) as f32
}

/// What stands under `counts`.
enum Counts {
    Untold,
    TooLong,
    Runs(Vec<u32>),
    Packed(String),
}

impl<'de> Deserialize<'de> for Counts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountsVisitor;
        impl<'de> Visitor<'de> for CountsVisitor {
            type Value = Counts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("lengths of runs, in a list or packed into letters")
            }
            fn visit_unit<E>(self) -> Result<Counts, E> {
                Ok(Counts::Untold)
            }
            fn visit_str<E>(self, text: &str) -> Result<Counts, E> {
                Ok(if text.len() > MOST_RUN_BYTES { Counts::TooLong } else { Counts::Packed(text.to_owned()) })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Counts, A::Error> {
                let mut counts = Vec::new();
                // A run longer than any image is refused where it is drawn.
                while let Some(count) = seq.next_element::<u64>()? {
                    if counts.len() >= MOST_RUN_BYTES {
                        while seq.next_element::<IgnoredAny>()?.is_some() {}
                        return Ok(Counts::TooLong);
                    }
                    counts.push(u32::try_from(count).unwrap_or(u32::MAX));
                }
                counts.shrink_to_fit();
                Ok(Counts::Runs(counts))
            }
        }
        deserializer.deserialize_any(CountsVisitor)
    }
}

/// The most runs of one object, and the most letters of packed ones: a crowd of 640 × 480 has some ten thousand.
const MOST_RUN_BYTES: usize = 4_000_000;
