//! Held-out images with what is there and what was found: the worst and the best of them, in one sheet.

use ocelli_data::annotated::BoxedPart;
use ocelli_eval::detection::{BoxPicture, Detection, Truth, drawing::draw_boxes, iou};
use ocelli_eval::picture::Picture;
use ocelli_eval::sheet::{Sheet, SheetCell, SheetRow, SheetStyle};
use ocelli_train::TrainError;

use super::evaluation::{Findings, SHOWN_SCORE};

/// Images at either end.
const EACH: usize = 4;
/// Overlap from which an object is found.
const IOU: f64 = 0.5;
/// Longest side of a picture in the sheet, pixels.
const CELL_PX: usize = 320;

/// How well an image was done: found objects by all that are there or were found (the F1 score).
fn score(detections: &[&Detection], truths: &[&Truth]) -> f64 {
    let counted = truths.iter().filter(|t| !t.is_difficult_or_crowd).count();
    let mut taken = vec![false; truths.len()];
    let (mut right, mut wrong) = (0usize, 0usize);
    for detection in detections {
        let best = truths
            .iter()
            .enumerate()
            .filter(|(i, t)| !taken[*i] && t.class == detection.class)
            .map(|(i, t)| (i, iou(detection.xyxy, t.xyxy)))
            .max_by(|a, b| a.1.total_cmp(&b.1));
        match best.filter(|(_, overlap)| *overlap >= IOU) {
            Some((i, _)) if truths[i].is_difficult_or_crowd => {}
            Some((i, _)) => {
                taken[i] = true;
                right += 1;
            }
            None => wrong += 1,
        }
    }
    if counted + wrong == 0 { 1.0 } else { 2.0 * right as f64 / (right + wrong + counted) as f64 }
}

/// The sheet; none without images.
///
/// # Errors
/// When it cannot be drawn. Images that cannot be read are left out.
pub fn sheet(part: &BoxedPart, findings: &Findings, classes: &[String]) -> Result<Option<Picture>, TrainError> {
    let of = |image: usize| -> (Vec<&Detection>, Vec<&Truth>) {
        let found = findings.detections.iter().filter(|d| d.image == image && d.score >= SHOWN_SCORE);
        (found.collect(), findings.truths.iter().filter(|t| t.image == image).collect())
    };
    let mut ranked: Vec<(f64, usize)> = findings
        .images
        .iter()
        .map(|image| {
            let (found, truths) = of(*image);
            (score(&found, &truths), *image)
        })
        .collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let ends = (0..ranked.len()).filter(|i| *i < EACH || i + EACH >= ranked.len());
    let mut rows = Vec::new();
    for (score, image) in ends.map(|i| ranked[i]) {
        let Ok(picture) = part.source.load(image) else { continue };
        let picture = Picture::new(picture.width as usize, picture.height as usize, picture.data)?;
        let style = SheetStyle { cell_px: CELL_PX, ..SheetStyle::default() };
        let [width, height] = style.display_size(picture.width(), picture.height());
        let (across, down) = (width as f32 / picture.width() as f32, height as f32 / picture.height() as f32);
        // Words and lines are drawn on the picture as it is shown.
        let shown = style.display(&picture);
        let placed = |[x1, y1, x2, y2]: [f32; 4]| [x1 * across, y1 * down, x2 * across, y2 * down];
        let name = |class: usize| classes.get(class).map_or("", String::as_str);
        let (mut found, truths) = of(image);
        found.sort_by(|a, b| a.score.total_cmp(&b.score));
        let there: Vec<BoxPicture<'_>> = truths
            .iter()
            .map(|t| BoxPicture { xyxy: placed(t.xyxy), class: t.class, name: name(t.class), score: None })
            .collect();
        let found: Vec<BoxPicture<'_>> = found
            .iter()
            .map(|d| BoxPicture {
                xyxy: placed(d.xyxy),
                class: d.class,
                name: name(d.class),
                score: Some(d.score),
            })
            .collect();
        rows.push(SheetRow {
            label: part.source.name(image),
            note: format!("F1 {score:.2}"),
            cells: vec![SheetCell::new(draw_boxes(&shown, &there)), SheetCell::new(draw_boxes(&shown, &found))],
        });
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let sheet = Sheet {
        title: String::new(),
        columns: vec!["what is there".into(), format!("found, score {SHOWN_SCORE} or more")],
        rows,
        style: SheetStyle { cell_px: CELL_PX, ..SheetStyle::default() },
    };
    Ok(Some(sheet.render()?))
}

#[cfg(test)]
mod tests {
    use super::super::data::tests::scenes;
    use super::*;

    #[test]
    fn the_worst_and_the_best_are_shown() {
        let (part, classes) = scenes(12, 32);
        let truths: Vec<Truth> = (0..12)
            .map(|image| {
                let object = part.objects[image][0];
                Truth { image, class: object.class as usize, xyxy: object.xyxy, ..Truth::default() }
            })
            .collect();
        // The first half is found, the second is not.
        let detections: Vec<Detection> = truths[..6]
            .iter()
            .map(|t| Detection { image: t.image, class: t.class, score: 0.9, xyxy: t.xyxy })
            .collect();
        let found: Vec<&Detection> = detections.iter().filter(|d| d.image == 0).collect();
        assert_eq!(score(&found, &[&truths[0]]), 1.0);
        assert_eq!(score(&found, &[&truths[0], &truths[0]]), 2.0 / 3.0);
        assert_eq!((score(&[], &[&truths[7]]), score(&[], &[])), (0.0, 1.0));
        let findings = Findings { detections, truths, images: (0..12).collect() };
        let picture = sheet(&part, &findings, &classes).unwrap().unwrap();
        assert!(picture.width() > 2 * CELL_PX && picture.height() > 8 * CELL_PX, "{}", picture.height());
        assert!(sheet(&part, &Findings::default(), &classes).unwrap().is_none());
    }
}
