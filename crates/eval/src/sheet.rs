//! Labelled contact sheets: a grid of pictures with column titles, row labels and captions.
//!
//! ```
//! use ocelli_eval::picture::Picture;
//! use ocelli_eval::sheet::{Sheet, SheetCell, SheetRow};
//!
//! let cell = SheetCell::new(Picture::filled(8, 8, [200, 0, 0])).caption("red");
//! let row = SheetRow { label: "a.png".to_owned(), note: String::new(), cells: vec![cell] };
//! let sheet = Sheet { columns: vec!["image".to_owned()], rows: vec![row], ..Sheet::default() };
//! let page = sheet.render()?;
//! assert!(page.width() > 160 && page.data().chunks_exact(3).any(|pixel| pixel == [200, 0, 0]));
//! # Ok::<(), ocelli_eval::EvalError>(())
//! ```

use crate::EvalError;
use crate::picture::{Filter, Picture, Rgb};
use crate::text::{draw_text, shorten, text_width};

mod attention;
mod neighbours;

pub use attention::{AttentionExample, AttentionSheet};
pub use neighbours::{FoundPicture, NeighbourSheet, QueryPictures};

/// Sizes and colours of a sheet. Sizes are in pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct SheetStyle {
    /// Longest side of a picture in the grid.
    pub cell_px: usize,
    /// Free border around the sheet.
    pub margin_px: usize,
    /// Space between pictures.
    pub gap_px: usize,
    /// Height of titles and labels.
    pub text_px: usize,
    /// Widest row label; longer ones lose their middle.
    pub label_px: usize,
    /// The paper.
    pub background: Rgb,
    /// Titles and labels.
    pub ink: Rgb,
    /// Captions and rules.
    pub pale: Rgb,
    /// Captions that stand out, and outlines on pictures.
    pub accent: Rgb,
}

impl Default for SheetStyle {
    fn default() -> Self {
        Self {
            cell_px: 160,
            margin_px: 24,
            gap_px: 10,
            text_px: 15,
            label_px: 180,
            background: [252, 252, 250],
            ink: [34, 38, 46],
            pale: [118, 124, 134],
            accent: [214, 40, 90],
        }
    }
}

impl SheetStyle {
    /// Size `[width, height]` at which a picture of `width × height` pixels is shown: shrunk to fit [`Self::cell_px`],
    /// or enlarged by the largest whole number that fits, so that small pictures keep crisp pixels.
    pub fn display_size(&self, width: usize, height: usize) -> [usize; 2] {
        let longest = width.max(height).max(1);
        if longest <= self.cell_px {
            let factor = self.cell_px / longest;
            return [width.max(1) * factor, height.max(1) * factor];
        }
        let fit = |side: usize| ((side * self.cell_px) as f64 / longest as f64).round().max(1.0) as usize;
        [fit(width), fit(height)]
    }

    /// The picture at its [`Self::display_size`].
    pub fn display(&self, picture: &Picture) -> Picture {
        let [width, height] = self.display_size(picture.width(), picture.height());
        let filter = if width > picture.width() { Filter::Nearest } else { Filter::Smooth };
        picture.resize(width, height, filter)
    }
}

/// A picture of the grid and the line below it.
#[derive(Clone, Debug, PartialEq)]
pub struct SheetCell {
    /// The picture, of any size.
    pub picture: Picture,
    /// A short line below it, such as `IoU 0.41`.
    pub caption: Option<String>,
    /// Whether the caption stands out.
    pub strong: bool,
}

impl SheetCell {
    /// A picture without a caption.
    pub fn new(picture: Picture) -> Self {
        Self { picture, caption: None, strong: false }
    }

    /// With a caption.
    #[must_use]
    pub fn caption(mut self, caption: impl Into<String>) -> Self {
        self.caption = Some(caption.into());
        self
    }

    /// With a caption that stands out.
    #[must_use]
    pub fn strong(mut self, strong: bool) -> Self {
        self.strong = strong;
        self
    }
}

/// A row of the grid.
#[derive(Clone, Debug, PartialEq)]
pub struct SheetRow {
    /// Name at the left, such as a file name. Its folders are dropped.
    pub label: String,
    /// A second, paler line below the name; may be empty.
    pub note: String,
    /// The pictures, one per column; fewer leave the rest of the row empty.
    pub cells: Vec<SheetCell>,
}

/// A grid of pictures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sheet {
    /// Line above the grid; may be empty.
    pub title: String,
    /// Titles of the columns.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<SheetRow>,
    /// Sizes and colours.
    pub style: SheetStyle,
}

impl Sheet {
    /// Draws the sheet. Columns are as wide, and rows as high, as their largest picture.
    ///
    /// # Errors
    /// [`EvalError::Empty`] without rows or columns, [`EvalError::Shape`] if a row has more cells than there are
    /// columns.
    pub fn render(&self) -> Result<Picture, EvalError> {
        let style = &self.style;
        if self.rows.is_empty() || self.columns.is_empty() {
            return Err(EvalError::Empty { what: "the contact sheet" });
        }
        if let Some(row) = self.rows.iter().find(|row| row.cells.len() > self.columns.len()) {
            return Err(EvalError::shape("sheet row", format!("{} cells", self.columns.len()), row.cells.len()));
        }
        let shown: Vec<Vec<Picture>> = self
            .rows
            .iter()
            .map(|row| row.cells.iter().map(|cell| style.display(&cell.picture)).collect())
            .collect();
        let widths = self.column_widths(&shown);
        let labels = self.label_width();
        let line = style.text_px + style.text_px / 2;

        let left = style.margin_px + if labels > 0 { labels + style.gap_px * 2 } else { 0 };
        let header = if self.title.is_empty() { 0 } else { line * 2 };
        let top = style.margin_px + header + line;
        let heights: Vec<usize> = shown
            .iter()
            .zip(&self.rows)
            .map(|(pictures, row)| {
                let picture = pictures.iter().map(Picture::height).max().unwrap_or(0);
                let captions = row.cells.iter().any(|cell| cell.caption.is_some());
                picture.max(line * 2) + if captions { line } else { 0 }
            })
            .collect();
        let title = text_width(&self.title, style.text_px + style.text_px / 4);
        let grid = widths.iter().map(|w| w + style.gap_px).sum::<usize>() - style.gap_px;
        let right = (left + grid).max(style.margin_px + title);
        let bottom = top + heights.iter().map(|h| h + style.gap_px).sum::<usize>() - style.gap_px;
        let mut page = Picture::filled(right + style.margin_px, bottom + style.margin_px, style.background);

        let title_px = style.text_px + style.text_px / 4;
        draw_text(&mut page, style.margin_px, style.margin_px, &self.title, title_px, style.ink);
        let mut x = left;
        for (column, width) in self.columns.iter().zip(&widths) {
            let at = x + (width - text_width(column, style.text_px)) / 2;
            draw_text(&mut page, at, top - line, column, style.text_px, style.ink);
            x += width + style.gap_px;
        }
        let mut y = top;
        for ((row, pictures), height) in self.rows.iter().zip(&shown).zip(&heights) {
            self.draw_row(&mut page, [left, y], row, pictures, &widths);
            y += height + style.gap_px;
        }
        Ok(page)
    }

    fn column_widths(&self, shown: &[Vec<Picture>]) -> Vec<usize> {
        let columns = self.columns.iter().enumerate();
        columns
            .map(|(column, title)| {
                let pictures = shown.iter().filter_map(|row| row.get(column)).map(Picture::width);
                let captions = self.rows.iter().filter_map(|row| row.cells.get(column)?.caption.as_deref());
                let texts = captions.map(|caption| text_width(caption, self.caption_px()));
                pictures.chain(texts).max().unwrap_or(0).max(text_width(title, self.style.text_px))
            })
            .collect()
    }

    fn caption_px(&self) -> usize {
        (self.style.text_px - self.style.text_px / 8).max(8)
    }

    fn label_width(&self) -> usize {
        let texts = self.rows.iter().flat_map(|row| [file_name(&row.label), &row.note]);
        texts.map(|text| text_width(text, self.style.text_px)).max().unwrap_or(0).min(self.style.label_px)
    }

    fn draw_row(
        &self,
        page: &mut Picture,
        at: [usize; 2],
        row: &SheetRow,
        pictures: &[Picture],
        widths: &[usize],
    ) {
        let (style, [left, y]) = (&self.style, at);
        let tallest = pictures.iter().map(Picture::height).max().unwrap_or(0);
        let line = style.text_px + style.text_px / 2;
        let lines = if row.note.is_empty() { style.text_px } else { style.text_px + line };
        let mut label_y = y + tallest.saturating_sub(lines) / 2;
        for (text, ink) in [(file_name(&row.label), style.ink), (row.note.as_str(), style.pale)] {
            let text = shorten(text, style.text_px, style.label_px);
            draw_text(page, style.margin_px, label_y, &text, style.text_px, ink);
            label_y += line;
        }
        let mut x = left;
        for ((cell, picture), width) in row.cells.iter().zip(pictures).zip(widths) {
            let (dx, dy) = ((width - picture.width()) / 2, (tallest - picture.height()) / 2);
            page.paste(picture, x + dx, y + dy);
            if let Some(caption) = &cell.caption {
                let caption_px = self.caption_px();
                let dx = width.saturating_sub(text_width(caption, caption_px)) / 2;
                let ink = if cell.strong { style.accent } else { style.pale };
                draw_text(page, x + dx, y + tallest + style.text_px / 2, caption, caption_px, ink);
            }
            x += width + style.gap_px;
        }
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pictures_grow_by_whole_numbers() {
        let style = SheetStyle { cell_px: 100, ..Default::default() };
        assert_eq!(style.display_size(32, 32), [96, 96]);
        assert_eq!(style.display_size(50, 20), [100, 40]);
        assert_eq!(style.display_size(60, 60), [60, 60]);
        assert_eq!(style.display_size(400, 200), [100, 50]);
        assert_eq!(style.display_size(1000, 1), [100, 1]);
    }

    #[test]
    fn a_sheet_holds_all_its_pictures() {
        let cell = |colour| SheetCell::new(Picture::filled(40, 30, colour));
        let mut sheet = Sheet {
            title: "Sheet".into(),
            columns: vec!["image".into(), "head 1".into()],
            rows: vec![
                SheetRow {
                    label: "folder/a.jpg".into(),
                    note: "cat".into(),
                    cells: vec![cell([255, 0, 0]), cell([0, 255, 0]).caption("IoU 0.41").strong(true)],
                },
                SheetRow { label: "b.jpg".into(), note: String::new(), cells: vec![cell([0, 0, 255])] },
            ],
            style: SheetStyle { cell_px: 80, ..Default::default() },
        };
        let page = sheet.render().unwrap();
        let count = |colour: Rgb| page.data().as_chunks::<3>().0.iter().filter(|rgb| **rgb == colour).count();
        for colour in [[255, 0, 0], [0, 255, 0], [0, 0, 255]] {
            assert_eq!(count(colour), 80 * 60);
        }
        assert!(count(sheet.style.accent) > 0 && count(sheet.style.ink) > 0);
        assert_eq!(page.get(0, 0), Some(sheet.style.background));
        sheet.columns.pop();
        assert!(sheet.render().is_err());
        sheet.rows.clear();
        assert!(sheet.render().is_err());
    }
}
