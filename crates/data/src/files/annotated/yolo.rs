//! YOLO's label files: a line for each object, its class by number and its box or outline as fractions of the picture.

use std::path::Path;

use super::marks::{Mark, Place};
use super::voc_xml::short;
use super::{malformed, malformed_line, read};
use crate::DataError;

/// Past any list of classes there is: a number that would ask for memory instead.
const MOST_CLASSES: usize = 100_000;
/// More than a picture has.
const MOST_OBJECTS: usize = 100_000;

/// The objects of a label file. After the class: four numbers are a box (centre x, y, width, height), six or more in pairs a
/// polygon, whose bounds are the box; of any other number (a box and its score), and of poses, the first four are the box.
pub(super) fn objects(path: &Path, names: Option<&[String]>, are_poses: bool) -> Result<Vec<Mark>, DataError> {
    let mut marks = Vec::new();
    let mut numbers = Vec::new();
    for (at, line) in read(path)?.lines().enumerate() {
        let mut words = line.split_whitespace();
        let Some(class) = words.next() else { continue };
        let wrong = |reason: String| malformed_line(path, at + 1, reason);
        numbers.clear();
        let is_all = words.all(|word| match word.parse::<f64>() {
            Ok(number) if number.is_finite() => {
                numbers.push(number);
                true
            }
            _ => false,
        });
        let Some(class) = class.parse::<usize>().ok().filter(|_| is_all && numbers.len() >= 4) else {
            return Err(wrong(format!(
                "expected a class number and a box (class x y width height), or a polygon; found \"{}\"",
                short(line)
            )));
        };
        let most = names.map_or(MOST_CLASSES, <[String]>::len);
        if class >= most {
            return Err(wrong(match names {
                Some(_) => {
                    format!(
                        "expected a class from 0 to {}, as {most} are named; found {class}",
                        most.saturating_sub(1)
                    )
                }
                None => format!("expected a class below {most}, found {class}"),
            }));
        }
        if marks.len() >= MOST_OBJECTS {
            return Err(wrong(format!("expected at most {MOST_OBJECTS} objects, found more")));
        }
        marks.push(Mark { class, place: Place::Fractions(edges(&numbers, are_poses)), ..Mark::default() });
    }
    Ok(marks)
}

/// `[x1, y1, x2, y2]` of four numbers or more.
fn edges(numbers: &[f64], is_pose: bool) -> [f64; 4] {
    if !is_pose && numbers.len() >= 6 && numbers.len().is_multiple_of(2) {
        let mut bounds = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
        for point in numbers.chunks_exact(2) {
            for axis in 0..2 {
                bounds[axis] = bounds[axis].min(point[axis]);
                bounds[axis + 2] = bounds[axis + 2].max(point[axis]);
            }
        }
        return bounds;
    }
    let [x, y, width, height] = [numbers[0], numbers[1], numbers[2] / 2.0, numbers[3] / 2.0];
    [x - width, y - height, x + width, y + height]
}

/// Names in a list, one a line, as `classes.txt` has them.
pub(super) fn names_in(path: &Path) -> Result<Vec<String>, DataError> {
    let names: Vec<String> = read(path)?.lines().map(|line| line.trim().to_owned()).collect();
    let last = names.iter().rposition(|name| !name.is_empty()).map_or(0, |at| at + 1);
    match names[..last].iter().position(String::is_empty) {
        _ if last == 0 => Err(malformed(path, "expected names of classes, one a line; found none")),
        Some(at) => Err(malformed_line(path, at + 1, "expected the name of a class, found an empty line")),
        None => Ok(names[..last].to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_of_boxes_and_of_polygons() {
        assert_eq!(edges(&[0.5, 0.5, 0.5, 0.25], false), [0.25, 0.375, 0.75, 0.625]);
        assert_eq!(edges(&[0.5, 0.5, 0.5, 0.25, 0.9], false), [0.25, 0.375, 0.75, 0.625], "a score behind it");
        assert_eq!(
            edges(&[0.5, 0.5, 0.5, 0.25, 0.9, 0.9], true),
            [0.25, 0.375, 0.75, 0.625],
            "a key point behind it"
        );
        assert_eq!(edges(&[0.1, 0.9, 0.4, 0.2, 0.3, 0.5], false), [0.1, 0.2, 0.4, 0.9]);
    }
}
