//! Pictures beside their true and their predicted classes, in the classes' colours, with a legend.

use ocelli_data::Image;
use ocelli_data::annotated::{IGNORED, LabelMap};
use ocelli_eval::EvalError;
use ocelli_eval::picture::{Filter, Picture, Rgb};
use ocelli_eval::segmentation::drawing::{class_shares, with_legend};
use ocelli_eval::sheet::{Sheet, SheetCell, SheetRow, SheetStyle};

use super::data::painted;

/// Longest side of a picture, pixels.
const CELL_PX: usize = 192;

/// A picture with what is in it.
#[derive(Debug, Clone)]
pub struct SegmentedPicture {
    /// Its name.
    pub name: String,
    /// The picture.
    pub image: Image,
    /// Its true classes, where they are known.
    pub truth: Option<LabelMap>,
    /// Those that were found.
    pub found: LabelMap,
    /// A line below the prediction; may be empty.
    pub caption: String,
}

/// Draws the sheet: a row for each picture, and below them the classes that are in any of them, with their shares.
///
/// # Errors
/// Without pictures, and where a map does not fit its sides.
pub fn segmentation_sheet(
    title: &str,
    pictures: &[SegmentedPicture],
    (classes, palette): (&[String], &[Rgb]),
) -> Result<Picture, EvalError> {
    let style = SheetStyle { cell_px: CELL_PX, ..SheetStyle::default() };
    let with_truth = pictures.iter().any(|picture| picture.truth.is_some());
    let row = |picture: &SegmentedPicture| {
        let Image { width, height, data } = &picture.image;
        let mut cells = vec![SheetCell::new(Picture::new(*width as usize, *height as usize, data.clone())?)];
        if let Some(truth) = &picture.truth {
            cells.push(SheetCell::new(enlarged(&painted(truth, palette)?, &style)));
        }
        let found = SheetCell::new(enlarged(&painted(&picture.found, palette)?, &style));
        cells.push(if picture.caption.is_empty() { found } else { found.caption(picture.caption.as_str()) });
        Ok(SheetRow { label: picture.name.clone(), note: String::new(), cells })
    };
    let mut columns = vec!["picture".to_owned()];
    columns.extend(with_truth.then(|| "truth".to_owned()));
    columns.push("prediction".to_owned());
    let rows = pictures.iter().map(row).collect::<Result<Vec<_>, EvalError>>()?;
    let sheet = Sheet { title: title.to_owned(), columns, rows, style }.render()?;
    let maps = pictures.iter().flat_map(|picture| picture.truth.iter().chain([&picture.found]));
    let labels: Vec<u8> = maps.flat_map(|map| map.labels.iter().copied()).filter(|l| *l != IGNORED).collect();
    Ok(with_legend(&sheet, &class_shares(&labels), classes, palette))
}

/// A label map at the size at which a picture of its size is shown; its colours are never mixed.
fn enlarged(map: &Picture, style: &SheetStyle) -> Picture {
    let [width, height] = style.display_size(map.width(), map.height());
    map.resize(width, height, Filter::Nearest)
}

#[cfg(test)]
mod tests {
    use ocelli_eval::segmentation::drawing::bright;

    use super::super::data::palette;
    use super::*;

    #[test]
    fn classes_have_their_colours_and_names() {
        let map = |labels: [u8; 4]| LabelMap { width: 2, height: 2, labels: labels.to_vec() };
        let picture = |name: &str, truth| SegmentedPicture {
            name: name.into(),
            image: Image::filled(2, 2, [10, 200, 30]),
            truth,
            found: map([0, 1, 2, 2]),
            caption: "mIoU 41.0 %".into(),
        };
        let names: Vec<String> = (0..40).map(|i| format!("class number {i}")).collect();
        let colours = palette(40);
        let both = [picture("a.jpg", Some(map([0, 0, 2, 255]))), picture("b.jpg", Some(map([3; 4])))];
        let sheet = segmentation_sheet("after 3 epochs", &both, (&names, &colours)).unwrap();
        let count = |class: u8| {
            let colour = bright(&colours, class);
            sheet.data().as_chunks::<3>().0.iter().filter(|rgb| **rgb == colour).count()
        };
        // Quarters of pictures of 192 px: class 2 has two of each prediction and one of a truth, class 3 a whole truth.
        assert!(count(2) > 5 * 96 * 96 && count(3) > 192 * 192, "{} {}", count(2), count(3));
        assert_eq!(count(5), 0, "a class that is not there is not told");
        // Without truth there is one column less.
        let alone = segmentation_sheet("", &[picture("a.jpg", None)], (&names, &colours)).unwrap();
        assert!(alone.width() < sheet.width());
        assert!(segmentation_sheet("", &[], (&names, &colours)).is_err());
    }
}
