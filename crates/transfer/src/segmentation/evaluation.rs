//! What a network comes to on held-out pictures: one picture at a time, and the confusion matrix over all of them.

use std::path::Path;

use burn::tensor::Device;
use ocelli_data::annotated::{IGNORED, MaskedPart};
use ocelli_data::{BadFile, DataError, Scratch, bad_limit};
use ocelli_eval::picture::Rgb;
use ocelli_eval::segmentation::{Confusion, SegmentationScores};
use ocelli_train::{TrainError, write_atomically};
use serde_json::{Value, json};

use super::inference::Inference;
use super::network::SegmentationNet;
use crate::{Judged, evenly};

/// Pictures listed at each end.
const LISTED: usize = 5;

/// How well a picture was segmented.
#[derive(Debug, Clone, PartialEq)]
pub struct PictureScore {
    /// Its number in the part.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Mean intersection over union of the classes that are in it or were found in it, 0 to 1.
    pub miou: f64,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct SegmentationFound {
    /// How often each class was taken for each, in pixels.
    pub confusion: Confusion,
    /// mIoU and what goes with it.
    pub scores: SegmentationScores,
    /// Every picture that has a label, in order.
    pub pictures: Vec<PictureScore>,
    /// Pictures that could not be read.
    pub skipped: Vec<BadFile>,
}

/// What is evaluated, and when to give up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Pictures at most, evenly spaced; 0 is all.
    pub most: usize,
    /// Share of them that may be unreadable, as in training: a figure of the rest would be of other data.
    pub max_bad_fraction: f32,
}

/// Segments the pictures of a part and counts. `tell` hears how many are done. `net` is on the plain device.
///
/// # Errors
/// When more pictures than the limit cannot be read, none can or none has a label, and when values cannot be read from the
/// device or are not finite.
pub fn evaluate(
    (net, inference): (&SegmentationNet, &Inference),
    part: &MaskedPart,
    (classes, limits): (usize, Limits),
    device: &Device,
    tell: &mut dyn FnMut(usize),
) -> Result<SegmentationFound, TrainError> {
    let mut confusion = Confusion::new(classes)?;
    let (mut pictures, mut skipped) = (Vec::new(), Vec::new());
    let mut scratch = Scratch::default();
    let chosen = evenly(part.source.len(), limits.most);
    let total = chosen.len();
    let allowed = bad_limit(limits.max_bad_fraction, total);
    for (done, index) in chosen.into_iter().enumerate() {
        if skipped.len() > allowed {
            break;
        }
        let name = part.source.name(index);
        let read = part.source.load(index).and_then(|image| Ok((image, part.maps.label_map(index)?)));
        let (image, truth) = match read {
            Ok(read) => read,
            Err(error) => {
                skipped.push(BadFile { name, reason: error.to_string() });
                continue;
            }
        };
        let found = inference.segment(net, &image, device, &mut scratch)?;
        let mut own = Confusion::new(classes)?;
        // A map that does not go with its picture or its classes is one that cannot be read.
        if let Err(error) = own.add(&truth.labels, &found.labels, Some(IGNORED)) {
            skipped.push(BadFile { name, reason: error.to_string() });
            continue;
        }
        confusion.add(&truth.labels, &found.labels, Some(IGNORED))?;
        if let Ok(scores) = own.scores() {
            pictures.push(PictureScore { index, name, miou: scores.miou });
        }
        tell(done + 1);
    }
    if skipped.len() > allowed {
        let line = |bad: &BadFile| format!("  {}: {}", bad.name, bad.reason);
        return Err(DataError::TooManyBad {
            bad: skipped.len(),
            total,
            allowed,
            listing: skipped.iter().take(LISTED).map(line).collect::<Vec<_>>().join("\n"),
        }
        .into());
    }
    if pictures.is_empty()
        && let Some(bad) = skipped.first()
    {
        let reason = format!("no picture can be evaluated; the first: {}", bad.reason);
        return Err(TrainError::File { path: bad.name.clone().into(), reason });
    }
    Ok(SegmentationFound { scores: confusion.scores()?, confusion, pictures, skipped })
}

impl SegmentationFound {
    /// How many pictures the figures are of, in words, with those that are not among them: "16 training pictures".
    pub fn scored(&self, judged: Judged) -> String {
        let left_out = match self.skipped.len() {
            0 => String::new(),
            n => format!(" ({n} could not be read and {} left out)", if n == 1 { "is" } else { "are" }),
        };
        format!("{} {judged} pictures{left_out}", self.pictures.len())
    }

    /// The pictures, the worst first; of equal ones the first.
    pub fn from_worst(&self) -> Vec<&PictureScore> {
        let mut order: Vec<&PictureScore> = self.pictures.iter().collect();
        order.sort_by(|a, b| a.miou.total_cmp(&b.miou).then(a.index.cmp(&b.index)));
        order
    }

    /// Everything as JSON: figures in per cent, per class its IoU, colour and pixels, the confusion matrix (rows are labels,
    /// columns predictions, in pixels), the worst and the best pictures.
    pub fn to_json(&self, classes: &[String], palette: &[Rgb]) -> Value {
        let n = classes.len();
        let counts = self.confusion.counts();
        let percent = |share: f64| (share * 1e4).round() / 100.0;
        let of_class = |class: usize| {
            let labelled: u64 = counts[class * n..][..n].iter().sum();
            let predicted: u64 = counts.iter().skip(class).step_by(n).sum();
            json!({
                "name": classes[class],
                "colour": palette.get(class).map(|[r, g, b]| format!("#{r:02x}{g:02x}{b:02x}")),
                "iou": self.scores.iou.get(class).copied().flatten().map(percent),
                "pixels_labelled": labelled,
                "pixels_predicted": predicted,
            })
        };
        let order = self.from_worst();
        let listed = |some: Vec<&PictureScore>| -> Vec<Value> {
            some.into_iter().map(|p| json!({ "name": p.name, "miou": percent(p.miou) })).collect()
        };
        json!({
            "miou": percent(self.scores.miou),
            "mean_accuracy": percent(self.scores.mean_class_accuracy),
            "pixel_accuracy": percent(self.scores.pixel_accuracy),
            "pictures": self.pictures.len(),
            "skipped": self.skipped.iter().map(|bad| json!({ "name": bad.name, "reason": bad.reason })).collect::<Vec<_>>(),
            "classes": (0..n).map(of_class).collect::<Vec<_>>(),
            "confusion": counts.chunks(n.max(1)).collect::<Vec<_>>(),
            "worst": listed(order.iter().take(LISTED).copied().collect()),
            "best": listed(order.iter().rev().take(LISTED).copied().collect()),
        })
    }

    /// Writes [`SegmentationFound::to_json`], with `more` keys beside it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(
        &self,
        path: &Path,
        (classes, palette): (&[String], &[Rgb]),
        more: &[(&str, Value)],
    ) -> Result<(), TrainError> {
        let mut all = self.to_json(classes, palette);
        for (key, value) in more {
            all[*key] = value.clone();
        }
        write_atomically(path, format!("{all:#}\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_in_the_file() {
        let confusion = Confusion::from_counts(3, vec![6, 2, 0, 1, 3, 0, 0, 0, 0]).unwrap();
        let picture = |name: &str, miou: f64| PictureScore { index: 0, name: name.into(), miou };
        let found = SegmentationFound {
            scores: confusion.scores().unwrap(),
            confusion,
            pictures: vec![picture("a", 0.9), picture("b", 0.25), picture("c", 0.5)],
            skipped: vec![BadFile { name: "d".into(), reason: "no such file".into() }],
        };
        assert_eq!(found.scored(Judged::HeldOut), "3 held-out pictures (1 could not be read and is left out)");
        let names = ["sky", "road", "pole"].map(String::from);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("found.json");
        found.write(&path, (&names, &[[1, 2, 255], [0; 3]]), &[("epoch", json!(3))]).unwrap();
        let read: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read["classes"][0]["iou"], json!(66.67));
        assert_eq!(read["classes"][0]["colour"], json!("#0102ff"));
        assert_eq!(read["classes"][1]["pixels_predicted"], json!(5));
        assert!(read["classes"][2]["iou"].is_null() && read["classes"][2]["colour"].is_null());
        assert_eq!(read["miou"], json!(58.33));
        assert_eq!(read["confusion"][1], json!([1, 3, 0]));
        assert_eq!((&read["worst"][0]["name"], &read["best"][0]["miou"]), (&json!("b"), &json!(90.0)));
        assert_eq!((&read["epoch"], &read["skipped"][0]["name"]), (&json!(3), &json!("d")));
    }
}
