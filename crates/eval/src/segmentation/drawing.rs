//! Classes of pixels as colours over a picture, with a legend of those that are there.

use crate::EvalError;
use crate::detection::drawing::{ink_on, words_px};
use crate::picture::{Picture, Rgb};
use crate::text::{draw_text, shorten, text_width};

/// Paper of the legend.
const PAPER: Rgb = [250, 250, 248];

/// Share of the picture that a class has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassShare {
    /// Class, from 0.
    pub class: u8,
    /// Its pixels.
    pub pixels: usize,
    /// Its share of all pixels, 0..=1.
    pub share: f64,
}

/// The classes of a label map, the largest first; equal ones by number.
pub fn class_shares(labels: &[u8]) -> Vec<ClassShare> {
    let mut counts = [0usize; 256];
    labels.iter().for_each(|label| counts[usize::from(*label)] += 1);
    let of = |(class, pixels): (u8, usize)| ClassShare {
        class,
        pixels,
        share: pixels as f64 / labels.len().max(1) as f64,
    };
    let mut shares: Vec<ClassShare> = (0u8..=255).zip(counts).filter(|(_, n)| *n > 0).map(of).collect();
    shares.sort_by(|a, b| b.pixels.cmp(&a.pixels).then(a.class.cmp(&b.class)));
    shares
}

/// The colour of a class on a photograph and in the legend: all colours of the palette are made brighter by the same factor,
/// until one can go no further. Those of PASCAL VOC's palette are too dark to be seen on a picture. Each by itself would
/// make one of two that differ in brightness alone, as CamVid's tree and pedestrian.
pub fn bright(palette: &[Rgb], class: u8) -> Rgb {
    let colour = palette.get(usize::from(class)).copied().unwrap_or_default();
    let largest = u32::from(palette.iter().flatten().copied().max().unwrap_or(0).max(1));
    colour.map(|channel| (u32::from(channel) * 255 / largest) as u8)
}

/// The picture with every pixel tinted in its class's colour ([`bright`]) with weight `alpha`, and the borders of classes in full
/// colour. `labels` are `[height, width]` row-major; pixels of `untinted` (a background) stay as they are.
///
/// # Errors
/// [`EvalError::Shape`] if there are not as many labels as pixels, [`EvalError::Setting`] for an `alpha` outside 0..=1.
pub fn overlay(
    picture: &Picture,
    labels: &[u8],
    palette: &[Rgb],
    untinted: Option<u8>,
    alpha: f32,
) -> Result<Picture, EvalError> {
    let (width, height) = (picture.width(), picture.height());
    if labels.len() != width * height {
        return Err(EvalError::shape("labels", format!("{width} × {height}"), labels.len()));
    }
    if !(0.0..=1.0).contains(&alpha) {
        return Err(EvalError::setting("alpha", "from 0 to 1", alpha));
    }
    let colours: [Rgb; 256] = std::array::from_fn(|class| bright(palette, class as u8));
    let mut page = picture.clone();
    for (at, label) in labels.iter().enumerate() {
        if Some(*label) == untinted {
            continue;
        }
        let (x, y) = (at % width, at / width);
        let is_border = (x + 1 < width && labels[at + 1] != *label)
            || (x > 0 && labels[at - 1] != *label)
            || (y + 1 < height && labels[at + width] != *label)
            || (y > 0 && labels[at - width] != *label);
        page.blend(x, y, colours[usize::from(*label)], if is_border { 1.0 } else { alpha });
    }
    Ok(page)
}

/// The picture with a legend below it: a plate in its colour for each of these classes, with name and share. Names are those of
/// `classes`, else numbers.
pub fn with_legend(picture: &Picture, shares: &[ClassShare], classes: &[String], palette: &[Rgb]) -> Picture {
    let (width, height) = (picture.width(), picture.height());
    let words = words_px(width, height);
    let (pad, line) = (words / 3, words + words / 2 + 4);
    let entries: Vec<(Rgb, String)> = shares
        .iter()
        .map(|s| {
            let number = s.class.to_string();
            let name = classes.get(usize::from(s.class)).map_or(number.as_str(), String::as_str);
            let text = format!("{name} {}", percent(s.share));
            (bright(palette, s.class), shorten(&text, words, width.saturating_sub(4 * pad)))
        })
        .collect();
    // Places first: the page is as high as they need.
    let (mut x, mut y, mut places) = (pad, pad, Vec::new());
    for (_, text) in &entries {
        let wide = text_width(text, words) + 2 * pad;
        if x > pad && x + wide + pad > width {
            (x, y) = (pad, y + line);
        }
        places.push((x, y, wide));
        x += wide + pad;
    }
    let rows = if entries.is_empty() { 0 } else { y + line };
    let mut page = Picture::filled(width, height + rows, PAPER);
    page.paste(picture, 0, 0);
    for ((colour, text), (x, y, wide)) in entries.iter().zip(places) {
        let top = height + y;
        page.fill(x, top, wide, line - 4, *colour);
        draw_text(&mut page, x + pad, top + (line - 4 - words) / 2, text, words, ink_on(*colour));
    }
    page
}

/// A share as people say it: never 0 % of what is there.
fn percent(share: f64) -> String {
    match 100.0 * share {
        p if p >= 9.95 => format!("{p:.0} %"),
        p if p >= 0.1 => format!("{p:.1} %"),
        _ => "< 0.1 %".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PALETTE: [Rgb; 3] = [[0, 0, 0], [128, 0, 64], [0, 200, 0]];

    #[test]
    fn inside_is_tinted_borders_are_full_and_the_background_stays() {
        let grey = Picture::filled(6, 3, [100; 3]);
        // Background at the left, class 1 at the right.
        let labels: Vec<u8> = (0..18).map(|i| u8::from(i % 6 >= 2)).collect();
        let page = overlay(&grey, &labels, &PALETTE, Some(0), 0.5).unwrap();
        assert_eq!(page.get(0, 1), Some([100; 3]));
        assert_eq!(page.get(2, 1), Some([163, 0, 81]), "its border, 255/200 times as bright");
        let mixed = [163u8, 0, 81].map(|c| (100.0 + (f32::from(c) - 100.0) * 0.5).round() as u8);
        assert_eq!(page.get(4, 1), Some(mixed));
        assert_eq!(overlay(&grey, &labels, &PALETTE, Some(0), 0.0).unwrap().get(4, 1), Some([100; 3]));
        assert_eq!(overlay(&grey, &labels, &PALETTE, None, 1.0).unwrap().get(0, 1), Some([0; 3]));
        assert!(overlay(&grey, &labels[..17], &PALETTE, None, 0.5).is_err());
        for alpha in [1.5, -0.1, f32::NAN] {
            assert!(overlay(&grey, &labels, &PALETTE, None, alpha).is_err());
        }
        assert!(overlay(&grey, &[9; 18], &PALETTE, None, 0.5).is_ok(), "a class without a colour");
    }

    #[test]
    fn classes_that_differ_in_brightness_alone_stay_different() {
        let camvid: [Rgb; 3] = [[128, 128, 128], [128, 128, 0], [64, 64, 0]];
        assert_eq!([0, 1, 2].map(|class| bright(&camvid, class)), [[255; 3], [255, 255, 0], [127, 127, 0]]);
        assert_eq!((bright(&camvid, 9), bright(&[], 0)), ([0; 3], [0; 3]));
    }

    #[test]
    fn shares_and_the_legend_tell_what_is_there() {
        let labels = [2u8, 2, 2, 0, 255, 0, 2, 2];
        let shares = class_shares(&labels);
        let told: Vec<(u8, usize)> = shares.iter().map(|s| (s.class, s.pixels)).collect();
        assert_eq!(told, [(2, 5), (0, 2), (255, 1)]);
        assert!((shares.iter().map(|s| s.share).sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(class_shares(&[]).is_empty());

        let picture = Picture::filled(200, 100, [10, 20, 30]);
        let names = ["sky", "road", "a building with a very long name that does not fit"].map(str::to_owned);
        let page = with_legend(&picture, &shares, &names, &PALETTE);
        assert_eq!(page.width(), 200);
        assert_eq!(page.crop(200, 100), picture, "the picture stays as it is");
        let of = |colour: Rgb| page.data().as_chunks::<3>().0.iter().filter(|rgb| **rgb == colour).count();
        assert!(of([0, 0, 0]) > 50 && of([0, 255, 0]) > 50);
        assert_eq!(of([163, 0, 81]), 0, "what is not there is not told");
        assert_eq!(with_legend(&picture, &[], &names, &PALETTE), picture);
        with_legend(&Picture::filled(1, 1, [0; 3]), &shares, &names, &PALETTE);
        let told = [percent(0.5), percent(0.012), percent(1e-9)];
        assert_eq!(told, ["50 %", "1.2 %", "< 0.1 %"]);
    }
}
