//! The contact sheet of a search: each query with the pictures nearest to it.

use super::SheetStyle;
use crate::EvalError;
use crate::picture::{Picture, Rgb};
use crate::text::{draw_text, shorten, text_width};

/// A picture that was found.
#[derive(Clone, Debug)]
pub struct FoundPicture {
    /// The picture, of any size; without it an empty frame is drawn.
    pub picture: Option<Picture>,
    /// Its cosine with the query.
    pub similarity: f32,
    /// Its name. Folders are dropped and the rest is shortened.
    pub name: String,
}

/// A query and what was found, the most similar first.
#[derive(Clone, Debug)]
pub struct QueryPictures {
    /// The query.
    pub picture: Picture,
    /// Its name.
    pub name: String,
    /// What was found.
    pub found: Vec<FoundPicture>,
}

/// Settings of the sheet.
#[derive(Clone, Debug, PartialEq)]
pub struct NeighbourSheet {
    /// Line above all; may be empty.
    pub title: String,
    /// Pictures in a line beside the query; more go into lines below.
    pub columns: usize,
    /// Width of the query's frame.
    pub frame_px: usize,
    /// Sizes and colours.
    pub style: SheetStyle,
}

impl Default for NeighbourSheet {
    fn default() -> Self {
        Self { title: String::new(), columns: 6, frame_px: 5, style: SheetStyle::default() }
    }
}

impl NeighbourSheet {
    /// Draws the sheet: every query at the left in a strong frame, and beside it what was found, with similarity
    /// and name under each.
    ///
    /// # Errors
    /// [`EvalError::Empty`] without queries or columns.
    pub fn render(&self, queries: &[QueryPictures]) -> Result<Picture, EvalError> {
        if queries.is_empty() || self.columns == 0 {
            return Err(EvalError::Empty { what: "the contact sheet" });
        }
        let SheetStyle { cell_px, margin_px, gap_px, text_px, background, ink, pale, .. } = self.style;
        let line = text_px + text_px / 3;
        let columns = queries.iter().map(|q| q.found.len().min(self.columns)).max().unwrap_or(0);
        // Between the query and what was found there is more room than between pictures.
        let left = margin_px + cell_px + 2 * self.frame_px;
        let grid = left + 3 * gap_px;
        let (cell_w, cell_h) = (cell_px + gap_px, cell_px + 2 * line + gap_px);
        let title_px = text_px + text_px / 4;
        let top = margin_px + if self.title.is_empty() { 0 } else { 2 * title_px };
        let right = if columns == 0 { left } else { grid + columns * cell_w - gap_px };
        let width = right.max(margin_px + text_width(&self.title, title_px)) + margin_px;
        let heights: Vec<usize> = queries
            .iter()
            .map(|q| (q.found.len().div_ceil(self.columns).max(1) * cell_h).max(cell_h + 2 * self.frame_px))
            .collect();
        let between = 2 * gap_px;
        let height = top + heights.iter().map(|h| h + between).sum::<usize>() - between + margin_px - gap_px;
        let mut page = Picture::filled(width, height, background);
        draw_text(&mut page, margin_px, margin_px, &self.title, title_px, ink);
        let mut y = top;
        for (i, (query, height)) in queries.iter().zip(&heights).enumerate() {
            if i > 0 {
                page.fill(margin_px, y - between / 2, width - 2 * margin_px, 1, mix(pale, background));
            }
            self.draw_query(&mut page, [margin_px, y], query);
            for (n, found) in query.found.iter().enumerate() {
                let at = [grid + n % self.columns * cell_w, y + self.frame_px + n / self.columns * cell_h];
                self.draw_found(&mut page, at, found);
            }
            y += height + between;
        }
        Ok(page)
    }

    fn draw_query(&self, page: &mut Picture, [x, y]: [usize; 2], query: &QueryPictures) {
        let SheetStyle { cell_px, text_px, ink, pale, accent, .. } = self.style;
        let shown = self.fitted(&query.picture);
        let (w, h, frame) = (shown.width(), shown.height(), self.frame_px);
        let (dx, dy) = ((cell_px - w) / 2, (cell_px - h) / 2);
        page.fill(x + dx, y + dy, w + 2 * frame, h + 2 * frame, accent);
        page.paste(&shown, x + dx + frame, y + dy + frame);
        let (middle, below) = (x + frame + cell_px / 2, y + cell_px + 2 * frame + text_px / 4);
        self.centred(page, [middle, below], &query.name, ink);
        self.centred(page, [middle, below + text_px + text_px / 3], "query", pale);
    }

    fn draw_found(&self, page: &mut Picture, [x, y]: [usize; 2], found: &FoundPicture) {
        let SheetStyle { cell_px, text_px, ink, pale, background, .. } = self.style;
        match &found.picture {
            Some(picture) => {
                let shown = self.fitted(picture);
                page.paste(&shown, x + (cell_px - shown.width()) / 2, y + (cell_px - shown.height()) / 2);
            }
            None => {
                page.fill(x, y, cell_px, cell_px, mix(pale, background));
                page.fill(x + 1, y + 1, cell_px - 2, cell_px - 2, background);
                self.centred(page, [x + cell_px / 2, y + (cell_px - text_px) / 2], "not readable", pale);
            }
        }
        let (middle, below) = (x + cell_px / 2, y + cell_px + text_px / 4);
        self.centred(page, [middle, below], &format!("{:.3}", found.similarity), ink);
        self.centred(page, [middle, below + text_px + text_px / 3], &found.name, pale);
    }

    /// At its size on the sheet, and never longer than a cell.
    fn fitted(&self, picture: &Picture) -> Picture {
        self.style.display(picture)
    }

    /// A line with its middle at a column, shortened to a cell.
    fn centred(&self, page: &mut Picture, [middle, y]: [usize; 2], text: &str, ink: Rgb) {
        let size = (self.style.text_px - self.style.text_px / 8).max(8);
        let text = shorten(super::file_name(text), size, self.style.cell_px);
        draw_text(page, middle.saturating_sub(text_width(&text, size) / 2), y, &text, size, ink);
    }
}

/// Half of each.
fn mix(a: Rgb, b: Rgb) -> Rgb {
    std::array::from_fn(|i| a[i].midpoint(b[i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(found: usize) -> QueryPictures {
        let one = |i: usize| FoundPicture {
            picture: (i != 1).then(|| Picture::filled(40, 30, [0, 255, 0])),
            similarity: 0.9,
            name: format!("a/{i}.jpg"),
        };
        QueryPictures {
            picture: Picture::filled(300, 100, [0, 0, 255]),
            name: "query.png".into(),
            found: (0..found).map(one).collect(),
        }
    }

    #[test]
    fn every_picture_is_on_the_sheet() {
        let style = SheetStyle { cell_px: 80, ..SheetStyle::default() };
        let sheet = NeighbourSheet { title: "Nearest".into(), columns: 3, style, ..NeighbourSheet::default() };
        let page = sheet.render(&[query(7), query(0), query(2)]).unwrap();
        let count = |colour: Rgb| page.data().as_chunks::<3>().0.iter().filter(|rgb| **rgb == colour).count();
        // Pictures of 40 × 30 are shown twice as large; of each query's the second cannot be read.
        assert_eq!(count([0, 255, 0]), (6 + 1) * 80 * 60);
        assert_eq!(count([0, 0, 255]), 3 * 80 * 27);
        assert_eq!(count(sheet.style.accent), 3 * ((80 + 10) * (27 + 10) - 80 * 27), "a frame around each query");
        assert!(count(sheet.style.ink) > 0);
        assert!(sheet.render(&[]).is_err());
        assert!(NeighbourSheet { columns: 0, ..sheet }.render(&[query(1)]).is_err());
    }
}
