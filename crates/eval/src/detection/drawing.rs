//! Boxes with names on a picture, readable on any background.

use crate::picture::{Picture, Rgb};
use crate::text::{draw_text, shorten, text_width};

/// Dark rim of boxes and words on bright plates.
const DARK: Rgb = [16, 18, 22];
/// Words on dark plates.
const BRIGHT: Rgb = [255, 255, 255];
/// Height of words in pixels: the least that can be read, and the most that is wanted.
const WORDS_PX: [usize; 2] = [11, 30];

/// A box to draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxPicture<'a> {
    /// `[x1, y1, x2, y2]`, pixels of the picture.
    pub xyxy: [f32; 4],
    /// Which colour it has.
    pub class: usize,
    /// What is written on its plate; empty for no plate.
    pub name: &'a str,
    /// Written behind the name as per cent.
    pub score: Option<f32>,
}

/// The colour of a class: bright, and as far as can be from those of the classes before it.
pub fn class_colour(class: usize) -> Rgb {
    // Steps of the golden ratio never come close to an earlier step; every second turn is paler.
    let hue = (0.58 + class as f64 * 0.618_033_988_749_895).fract();
    let saturation = [0.92, 0.6][class / 8 % 2];
    let value = [1.0, 0.78][class / 16 % 2];
    let channel = |offset: f64| {
        let t = ((hue + offset).fract() * 6.0 - 3.0).abs() - 1.0;
        (255.0 * value * (1.0 - saturation * (1.0 - t.clamp(0.0, 1.0)))).round() as u8
    };
    [channel(0.0), channel(2.0 / 3.0), channel(1.0 / 3.0)]
}

/// Black or white, whichever reads better on a colour.
pub(crate) fn ink_on([r, g, b]: Rgb) -> Rgb {
    let light = 0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b);
    if light > 140.0 { DARK } else { BRIGHT }
}

/// Height of words that can be read on a picture of this size.
pub(crate) fn words_px(width: usize, height: usize) -> usize {
    (width.max(height) / 40).clamp(WORDS_PX[0], WORDS_PX[1])
}

/// Width of lines on a picture of this size.
fn line_px(width: usize, height: usize) -> usize {
    (width.max(height) as f64 / 320.0).round().clamp(1.0, 8.0) as usize
}

/// The picture with boxes on it, the last on top, and above them their plates. What lies outside is cut off; boxes that are
/// not finite are left out.
pub fn draw_boxes(picture: &Picture, boxes: &[BoxPicture<'_>]) -> Picture {
    let mut page = picture.clone();
    let (width, height) = (page.width(), page.height());
    let line = line_px(width, height);
    let px = |v: f32, side: usize| (v.round().max(0.0) as usize).min(side);
    let placed: Vec<(&BoxPicture<'_>, [usize; 4])> = boxes
        .iter()
        .filter(|b| b.xyxy.iter().all(|v| v.is_finite()))
        .map(|b| (b, [px(b.xyxy[0], width), px(b.xyxy[1], height), px(b.xyxy[2], width), px(b.xyxy[3], height)]))
        .collect();
    for (b, [x1, y1, x2, y2]) in &placed {
        frame(&mut page, [*x1, *y1, *x2, *y2], line + 2, DARK, 0.55);
        // The colour lies within its dark rim, so that it shows on its own colour too.
        let inner = [x1 + 1, y1 + 1, x2.saturating_sub(1), y2.saturating_sub(1)];
        frame(&mut page, inner, line, class_colour(b.class), 1.0);
    }
    // The surest plate, which comes last, has its place first.
    let mut plates: Vec<Plate> = Vec::new();
    for (b, place) in placed.iter().rev() {
        if let Some(plate) = Plate::of(b, *place, [width, height], &plates) {
            plates.push(plate);
        }
    }
    plates.iter().rev().for_each(|plate| plate.draw(&mut page));
    page
}

/// The border of a rectangle from the inside, `thickness` pixels wide.
fn frame(page: &mut Picture, [x1, y1, x2, y2]: [usize; 4], thickness: usize, colour: Rgb, weight: f32) {
    for y in y1..y2 {
        let is_rim = y < y1 + thickness || y + thickness >= y2;
        if is_rim {
            (x1..x2).for_each(|x| page.blend(x, y, colour, weight));
        } else {
            let (left, right) = ((x1 + thickness).min(x2), x2.saturating_sub(thickness).max(x1));
            (x1..left).for_each(|x| page.blend(x, y, colour, weight));
            (right.max(left)..x2).for_each(|x| page.blend(x, y, colour, weight));
        }
    }
}

/// A name on its class's colour.
struct Plate {
    place: [usize; 4],
    text: String,
    words_px: usize,
    colour: Rgb,
}

impl Plate {
    fn of(b: &BoxPicture<'_>, [x1, y1, _, y2]: [usize; 4], size: [usize; 2], others: &[Self]) -> Option<Self> {
        let words_px = words_px(size[0], size[1]);
        let pad = words_px / 4;
        let text = match (b.name, b.score) {
            ("", None) => return None,
            (name, None) => name.to_owned(),
            (name, Some(score)) => format!("{name} {:.0} %", 100.0 * score).trim_start().to_owned(),
        };
        let text = shorten(&text, words_px, size[0].saturating_sub(2 * pad));
        let (width, height) = (text_width(&text, words_px) + 2 * pad, words_px + pad);
        let x = x1.min(size[0].saturating_sub(width));
        // Above the box, else inside at its top, else at its bottom, else below: where there is room and no other plate.
        let tops = [y1.checked_sub(height), Some(y1), y2.checked_sub(height), Some(y2)];
        let fits = tops.into_iter().flatten().filter(|y| y + height <= size[1]);
        let places: Vec<[usize; 4]> = fits.map(|y| [x, y, x + width, y + height]).collect();
        let meets = |a: &[usize; 4], b: &[usize; 4]| a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
        let is_free = |place: &&[usize; 4]| !others.iter().any(|other| meets(place, &other.place));
        let place = *places.iter().find(is_free).or(places.first())?;
        Some(Self { place, text, words_px, colour: class_colour(b.class) })
    }

    fn draw(&self, page: &mut Picture) {
        let [x1, y1, x2, y2] = self.place;
        page.fill(x1, y1, x2 - x1, y2 - y1, self.colour);
        let pad = self.words_px / 4;
        draw_text(page, x1 + pad, y1 + pad.div_ceil(2), &self.text, self.words_px, ink_on(self.colour));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn box_of(xyxy: [f32; 4], class: usize, name: &str) -> BoxPicture<'_> {
        BoxPicture { xyxy, class, name, score: Some(0.87) }
    }

    fn count(page: &Picture, colour: Rgb) -> usize {
        page.data().as_chunks::<3>().0.iter().filter(|rgb| **rgb == colour).count()
    }

    #[test]
    fn boxes_show_on_their_own_colour_and_their_names_can_be_read() {
        for class in 0..40 {
            let colour = class_colour(class);
            let page = draw_boxes(
                &Picture::filled(320, 240, colour),
                &[box_of([60.0, 80.0, 200.0, 180.0], class, "cat")],
            );
            // The rim is dark where the line would not be seen.
            assert_ne!(page.get(60, 120), Some(colour));
            assert_eq!(page.get(61, 120), Some(colour));
            assert!(count(&page, ink_on(colour)) > 20, "class {class}");
        }
    }

    #[test]
    fn neighbouring_classes_have_other_colours() {
        let apart = |a: Rgb, b: Rgb| a.iter().zip(b).map(|(x, y)| u32::from(x.abs_diff(y))).max().unwrap();
        for class in 0..21 {
            for other in 0..class {
                let (a, b) = (class_colour(class), class_colour(other));
                assert!(apart(a, b) > 25, "{class} {a:?} and {other} {b:?}");
            }
        }
    }

    #[test]
    fn boxes_outside_thin_and_not_finite_do_no_harm() {
        let picture = Picture::filled(40, 30, [90; 3]);
        let odd = [
            [-50.0, -50.0, 500.0, 500.0],
            [39.0, 29.0, 40.0, 30.0],
            [100.0, 100.0, 200.0, 200.0],
            [5.0, 5.0, 5.0, 20.0],
            [f32::NAN, 0.0, 10.0, 10.0],
            [9.0, 9.0, 3.0, 3.0],
            [0.0, 0.0, f32::INFINITY, 10.0],
            [1e30, -1e30, 2e30, 1e30],
        ];
        for xyxy in odd {
            let page = draw_boxes(&picture, &[box_of(xyxy, 3, "a name that is far too long for the picture")]);
            assert_eq!((page.width(), page.height()), (40, 30));
        }
        assert_eq!(draw_boxes(&picture, &[]), picture);
        let tiny = Picture::filled(3, 2, [0; 3]);
        draw_boxes(&tiny, &[box_of([0.0, 0.0, 3.0, 2.0], 0, "x")]);
    }

    #[test]
    fn plates_make_room_for_each_other() {
        let picture = Picture::filled(400, 300, [128; 3]);
        let same = [50.0, 100.0, 250.0, 200.0];
        let page = draw_boxes(&picture, &[box_of(same, 0, "dog"), box_of(same, 1, "cat")]);
        // The plate of the box beneath is inside at the top: both colours are there in areas, not lines alone.
        for class in [0, 1] {
            assert!(count(&page, class_colour(class)) > 150, "class {class}");
        }
    }
}
