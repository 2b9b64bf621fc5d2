//! The contact sheet of attention maps: one row per image.

use super::{Sheet, SheetCell, SheetRow, SheetStyle};
use crate::EvalError;
use crate::attention::AttentionMap;
use crate::colour::{Colormap, heatmap};
use crate::mask::Mask;
use crate::picture::{Filter, Picture};

/// An image and what the heads look at in it.
#[derive(Clone, Copy, Debug)]
pub struct AttentionExample<'a> {
    /// Row label; folders are dropped and the rest is shortened.
    pub name: &'a str,
    /// Second line of the label, such as the class; may be empty.
    pub note: &'a str,
    /// The image the patches were cut from.
    pub picture: &'a Picture,
    /// Attention of the class token, `[heads, rows, columns]`, over the whole picture.
    pub attention: &'a AttentionMap,
    /// The object's mask at pixel level, if known: `columns · patch × rows · patch`.
    pub truth: Option<&'a Mask>,
}

/// Settings of the sheet.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionSheet {
    /// Line above the grid; may be empty.
    pub title: String,
    /// Share of each map's attention that its mask keeps, in 0..=1.
    pub mass: f64,
    /// Colours of the heat-maps.
    pub colormap: Colormap,
    /// Whether the heat-maps show their patches or are smoothed.
    pub filter: Filter,
    /// Sizes and colours of the sheet.
    pub style: SheetStyle,
}

impl Default for AttentionSheet {
    fn default() -> Self {
        Self {
            title: String::new(),
            mass: 0.6,
            colormap: Colormap::Viridis,
            filter: Filter::Nearest,
            style: SheetStyle::default(),
        }
    }
}

impl AttentionSheet {
    /// Draws the sheet: image, every head, the heads' mean, and the mean's mask on the image. If any image has a truth
    /// mask, the mask of its best head and the truth follow, and captions give the Jaccard index (IoU) of every mask;
    /// the best head's stands out.
    ///
    /// # Errors
    /// [`EvalError::Empty`] without examples, [`EvalError::Shape`] if the numbers of heads differ or a truth mask does
    /// not fit its attention map.
    pub fn render(&self, examples: &[AttentionExample]) -> Result<Picture, EvalError> {
        let Some(first) = examples.first() else {
            return Err(EvalError::Empty { what: "the contact sheet" });
        };
        let heads = first.attention.heads();
        if let Some(other) = examples.iter().find(|e| e.attention.heads() != heads) {
            return Err(EvalError::shape("heads", heads, other.attention.heads()));
        }
        let mut columns = vec!["image".to_owned()];
        columns.extend((1..=heads).map(|head| format!("head {head}")));
        columns.extend(["mean".to_owned(), format!("mask {:.0} %", self.mass * 100.0)]);
        if examples.iter().any(|e| e.truth.is_some()) {
            columns.extend(["best head".to_owned(), "truth".to_owned()]);
        }
        let rows = examples.iter().map(|example| self.row(example)).collect::<Result<_, _>>()?;
        Sheet { title: self.title.clone(), columns, rows, style: self.style.clone() }.render()
    }

    fn row(&self, example: &AttentionExample) -> Result<SheetRow, EvalError> {
        let attention = example.attention;
        // Everything is drawn at the size it is shown in: outlines stay crisp and blocks keep their edges.
        let image = self.style.display(example.picture);
        let heat = |values: &[f32]| {
            heatmap(values, attention.columns(), image.width(), image.height(), self.colormap, self.filter)
        };
        let jaccard = match example.truth {
            Some(truth) => {
                // The patch size follows from the truth's; a size that does not fit is refused by the comparison.
                let patch = truth.width() / attention.columns();
                Some(attention.jaccard(truth, patch.max(1), self.mass)?)
            }
            None => None,
        };
        let best = jaccard.as_ref().map(|jaccard| jaccard.best().0);

        let mut cells = vec![SheetCell::new(image.clone())];
        for head in 0..attention.heads() {
            let mut cell = SheetCell::new(heat(attention.head(head))?);
            if let Some(jaccard) = &jaccard {
                cell = cell.caption(iou(jaccard.per_head[head])).strong(best == Some(head));
            }
            cells.push(cell);
        }
        cells.push(SheetCell::new(heat(&attention.mean())?));
        let mut masked = SheetCell::new(self.on_image(&image, &attention.mean_mask(self.mass)?));
        if let Some(jaccard) = &jaccard {
            masked = masked.caption(iou(jaccard.mean_map));
        }
        cells.push(masked);
        if let (Some(truth), Some(jaccard), Some(best)) = (example.truth, &jaccard, best) {
            let mask = attention.head_mask(best, self.mass)?;
            let caption = format!("head {}, {}", best + 1, iou(jaccard.per_head[best]));
            cells.push(SheetCell::new(self.on_image(&image, &mask)).caption(caption).strong(true));
            cells.push(SheetCell::new(self.on_image(&image, truth)));
        }
        Ok(SheetRow { label: example.name.to_owned(), note: example.note.to_owned(), cells })
    }

    /// The image with everything outside the mask faded and the mask outlined. Cells of a few pixels get no outline:
    /// it would cover more of them than it leaves.
    fn on_image(&self, image: &Picture, mask: &Mask) -> Picture {
        let faded = image.tint(mask, false, [24, 24, 30], 0.68);
        match image.width() / mask.width() {
            2..=4 => faded,
            _ => faded.outline(mask, self.style.accent, 1),
        }
    }
}

fn iou(value: f64) -> String {
    format!("IoU {value:.2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_with_and_without_truth() {
        let picture = Picture::filled(32, 32, [90, 120, 150]);
        let mut values = vec![0.01; 2 * 16];
        values[5] = 0.5;
        values[16 + 10] = 0.5;
        let attention = AttentionMap::new(2, 4, 4, values).unwrap();
        let truth = attention.head_mask(1, 0.6).unwrap().upsample(8);
        let plain =
            AttentionExample { name: "a.png", note: "", picture: &picture, attention: &attention, truth: None };
        let known = AttentionExample { truth: Some(&truth), ..plain };
        let sheet = AttentionSheet { title: "Attention".into(), ..Default::default() };
        let narrow = sheet.render(&[plain]).unwrap();
        let wide = sheet.render(&[known, plain]).unwrap();
        assert!(wide.width() > narrow.width() && wide.height() > narrow.height());
        let wrong = truth.crop(31, 32);
        assert!(sheet.render(&[AttentionExample { truth: Some(&wrong), ..plain }]).is_err());
        assert!(sheet.render(&[]).is_err());
    }
}
