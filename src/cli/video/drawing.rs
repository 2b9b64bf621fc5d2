//! Frames, truth and prediction side by side.

use std::path::Path;

use ocelli::data::Image;
use ocelli::eval::mask::Mask;
use ocelli::eval::picture::{Picture, Rgb};
use ocelli::eval::segmentation::drawing::bright;
use ocelli::eval::sheet::{Sheet, SheetCell, SheetRow, SheetStyle};

use super::masks::{Objects, colour};
use crate::cli::outputs;

/// Frames that are shown of a sequence, evenly spaced.
const SHOWN: usize = 6;
/// Long side of a picture, pixels.
const CELL_PX: usize = 320;

/// The sheet of a sequence while it is being made: a few frames of it, small.
pub struct Sheets {
    frames: Vec<usize>,
    count: usize,
    rows: Vec<SheetRow>,
    style: SheetStyle,
}

impl Sheets {
    /// For a sequence of `count` frames; of none of them where nothing is wanted.
    pub fn new(count: usize, wanted: bool) -> Self {
        let shown = if wanted { SHOWN.min(count) } else { 0 };
        let frames = (0..shown).map(|i| i * (count - 1) / (shown - 1).max(1)).collect();
        Self { frames, count, rows: Vec::new(), style: SheetStyle { cell_px: CELL_PX, ..SheetStyle::default() } }
    }

    /// Adds a frame, if it is one of those shown. `fit` is its J and F.
    pub fn add(
        &mut self,
        index: usize,
        path: &Path,
        image: &Image,
        truth: Option<&Objects>,
        predicted: &Objects,
        fit: Option<(f64, f64)>,
    ) -> anyhow::Result<()> {
        if !self.frames.contains(&index) {
            return Ok(());
        }
        let frame = Picture::new(image.width as usize, image.height as usize, image.data.clone())?;
        let frame = self.style.display(&frame);
        let mut predicted = SheetCell::new(drawn(&frame, predicted)?);
        if let Some((j, f)) = fit {
            predicted = predicted.caption(format!("J {j:.2}  F {f:.2}"));
        } else if index == 0 {
            predicted = predicted.caption("given");
        }
        let truth = match truth {
            Some(truth) => SheetCell::new(drawn(&frame, truth)?),
            None if index == 0 => predicted.clone(),
            None => SheetCell::new(frame.clone()).caption("no mask"),
        };
        self.rows.push(SheetRow {
            label: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            note: format!("{} of {}", index + 1, self.count),
            cells: vec![SheetCell::new(frame), truth, predicted],
        });
        Ok(())
    }

    /// Writes the sheet.
    pub fn write(self, path: &Path, name: &str) -> anyhow::Result<()> {
        let columns = ["frame", "truth", "prediction"].map(str::to_owned).to_vec();
        let sheet = Sheet { title: name.to_owned(), columns, rows: self.rows, style: self.style }.render()?;
        outputs::write_png(path, sheet.width(), sheet.height(), sheet.data())
    }
}

/// The objects tinted and outlined, each in its colour.
fn drawn(frame: &Picture, objects: &Objects) -> anyhow::Result<Picture> {
    let mut picture = frame.clone();
    // The same colours in every frame, whatever objects are in it; no grey of the palette is brighter than its colours.
    let palette: Vec<Rgb> = (0..=191).map(colour).collect();
    for object in 1..=objects.largest() {
        let cells: Vec<bool> = objects.data.iter().map(|label| *label == object).collect();
        if cells.contains(&true) {
            let mask = Mask::new(objects.width, objects.height, cells)?;
            let colour = bright(&palette, object);
            picture = picture.tint(&mask, true, colour, 0.35).outline(&mask, colour, 1);
        }
    }
    Ok(picture)
}
