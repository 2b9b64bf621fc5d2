//! COCO's results: a list of boxes as JSON, by which programs exchange what detectors found.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use ocelli::eval::detection::Detection;
use serde_json::{Value, json};

/// The last part of a path, without its ending.
fn stem(name: &str) -> &str {
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
    file.rsplit_once('.').map_or(file, |(stem, _)| if stem.is_empty() { file } else { stem })
}

/// What stands for an image: the number in its file's name where that is one, else the name without its ending.
pub fn image_id(name: &str) -> Value {
    let stem = stem(name);
    let is_number = !stem.is_empty() && stem.bytes().all(|b| b.is_ascii_digit());
    match stem.parse::<u64>() {
        Ok(id) if is_number => id.into(),
        _ => stem.into(),
    }
}

/// A box as COCO's results have it; classes count from 1 there.
pub fn row(image: &str, class: &str, detection: &Detection) -> Value {
    let [x1, y1, x2, y2] = detection.xyxy;
    // As decimals people write, not the double nearest to a single.
    let decimal = |v: f32| v.to_string().parse::<f64>().unwrap_or_default();
    json!({
        "image_id": image_id(image),
        "category_id": detection.class + 1,
        "category_name": class,
        "bbox": [decimal(x1), decimal(y1), decimal(x2 - x1), decimal(y2 - y1)],
        "score": decimal(detection.score),
    })
}

/// What numbers in results stand for, where COCO's file of instances says so: images by name and categories by name.
#[derive(Default)]
pub struct Ids {
    images: HashMap<u64, String>,
    categories: HashMap<u64, String>,
}

impl Ids {
    /// Reads a file of instances (`images` and `categories` of it).
    ///
    /// # Errors
    /// When it cannot be read, or has neither.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let value = read_json(path)?;
        let of = |list: &str, name: &str| -> HashMap<u64, String> {
            let entries = value[list].as_array().into_iter().flatten();
            entries.filter_map(|e| Some((e["id"].as_u64()?, e[name].as_str()?.to_owned()))).collect()
        };
        let ids = Self { images: of("images", "file_name"), categories: of("categories", "name") };
        ensure!(
            !(ids.images.is_empty() && ids.categories.is_empty()),
            "{}: expected COCO's instances, an object with \"images\" and \"categories\"; found neither",
            path.display()
        );
        Ok(ids)
    }
}

fn read_json(path: &Path) -> anyhow::Result<Value> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{}: expected JSON", path.display()))
}

/// The images of a set by whatever results may call them.
struct Images {
    by_name: HashMap<String, Option<usize>>,
}

impl Images {
    fn of(names: &[String]) -> Self {
        let mut by_name = HashMap::new();
        for (index, name) in names.iter().enumerate() {
            let mut add = |key: String| {
                // What two images are called is the name of neither.
                by_name
                    .entry(key)
                    .and_modify(|i| {
                        if *i != Some(index) {
                            *i = None;
                        }
                    })
                    .or_insert(Some(index));
            };
            add(name.clone());
            add(name.rsplit(['/', '\\']).next().unwrap_or(name).to_owned());
            add(stem(name).to_owned());
            if let Value::Number(number) = image_id(name) {
                add(number.to_string());
            }
        }
        Self { by_name }
    }

    fn find(&self, id: &Value, ids: &Ids) -> Option<usize> {
        let name = match id {
            Value::Number(number) => {
                number.as_u64().and_then(|n| ids.images.get(&n)).cloned().unwrap_or_else(|| number.to_string())
            }
            Value::String(name) => name.clone(),
            _ => return None,
        };
        let found = self.by_name.get(&name).or_else(|| self.by_name.get(stem(&name)));
        found.copied().flatten()
    }
}

/// Reads results for these images and classes. Also says how categories were understood.
///
/// # Errors
/// When the file cannot be read, or holds an image, a category or a box that is none; the message has the place in the list.
pub fn read(
    path: &Path,
    images: &[String],
    classes: &[String],
    ids: &Ids,
) -> anyhow::Result<(Vec<Detection>, &'static str)> {
    let value = read_json(path)?;
    let Value::Array(rows) = value else {
        bail!("{}: expected COCO's results, a list of boxes; found {}", path.display(), kind(&value));
    };
    let known = Images::of(images);
    let by_name: HashMap<&str, usize> = classes.iter().enumerate().map(|(i, n)| (n.as_str(), i)).collect();
    let mut understood = "categories by name";
    let mut detections = Vec::with_capacity(rows.len());
    for (place, row) in rows.iter().enumerate() {
        let at = || format!("{}: box {place}", path.display());
        let image = known.find(&row["image_id"], ids).with_context(|| {
            format!("{}: image_id {} is none of the {} images", at(), short(&row["image_id"]), images.len())
        })?;
        let id = row["category_id"].as_u64();
        let name = row["category_name"].as_str().or_else(|| ids.categories.get(&id?).map(String::as_str));
        let class = match name {
            Some(name) => *by_name.get(name).with_context(|| {
                format!("{}: category \"{name}\" is none of the {} classes", at(), classes.len())
            })?,
            None => {
                understood = "category_id for the place of a class, from 1 (--instances FILE says otherwise)";
                let class = id.and_then(|id| usize::try_from(id).ok()?.checked_sub(1));
                class.filter(|class| *class < classes.len()).with_context(|| {
                    format!(
                        "{}: expected a category_id from 1 to {}, found {}; --instances FILE says which category each number is",
                        at(),
                        classes.len(),
                        short(&row["category_id"])
                    )
                })?
            }
        };
        let number = |value: &Value| value.as_f64().map(|v| v as f32).filter(|v| v.is_finite());
        let bbox: Option<Vec<f32>> = row["bbox"].as_array().and_then(|b| b.iter().map(number).collect());
        let Some([x, y, width, height]) = bbox.and_then(|b| <[f32; 4]>::try_from(b).ok()) else {
            bail!("{}: expected bbox as four numbers x, y, width, height, found {}", at(), short(&row["bbox"]));
        };
        ensure!(
            width >= 0.0 && height >= 0.0,
            "{}: expected a width and a height of 0 or more, found {width} × {height}",
            at()
        );
        let score = number(&row["score"])
            .with_context(|| format!("{}: expected a number for score, found {}", at(), short(&row["score"])))?;
        detections.push(Detection { image, class, score, xyxy: [x, y, x + width, y + height] });
    }
    Ok((detections, understood))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "an object",
        Value::Array(_) => "a list",
        Value::String(_) => "text",
        Value::Number(_) => "a number",
        Value::Bool(_) | Value::Null => "neither",
    }
}

/// A value for a message, cut where it is long.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("found.json");
        let (images, classes) = (names(&["val/000000000139.jpg", "val/street.png"]), names(&["ant", "bee"]));
        let found = [
            Detection { image: 0, class: 1, score: 0.875, xyxy: [1.5, 2.0, 11.25, 20.0] },
            Detection { image: 1, class: 0, score: 0.1, xyxy: [0.0, 0.0, 3.0, 4.0] },
        ];
        let rows: Vec<Value> = found.iter().map(|d| row(&images[d.image], &classes[d.class], d)).collect();
        assert_eq!((&rows[0]["image_id"], &rows[1]["image_id"]), (&139.into(), &"street".into()));
        assert_eq!(rows[0]["bbox"], json!([1.5, 2.0, 9.75, 18.0]));
        std::fs::write(&path, Value::from(rows).to_string()).unwrap();
        let (read, how) = read(&path, &images, &classes, &Ids::default()).unwrap();
        assert_eq!((read.as_slice(), how), (&found[..], "categories by name"));
    }

    #[test]
    fn numbers_mean_what_the_instances_say() {
        let folder = tempfile::tempdir().unwrap();
        let (path, instances) = (folder.path().join("found.json"), folder.path().join("instances.json"));
        let (images, classes) = (names(&["a.jpg", "b.jpg"]), names(&["ant", "bee"]));
        std::fs::write(&path, r#"[{"image_id": 7, "category_id": 90, "bbox": [0, 0, 1, 1], "score": 1}]"#)
            .unwrap();
        let told = r#"{"images": [{"id": 7, "file_name": "b.jpg"}], "categories": [{"id": 90, "name": "bee"}]}"#;
        std::fs::write(&instances, told).unwrap();
        let ids = Ids::read(&instances).unwrap();
        let (found, _) = read(&path, &images, &classes, &ids).unwrap();
        assert_eq!((found[0].image, found[0].class), (1, 1));
        let message = read(&path, &images, &classes, &Ids::default()).unwrap_err().to_string();
        assert!(message.contains("image_id 7") && message.contains("box 0"), "{message}");
    }

    #[test]
    fn damaged_results_are_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("found.json");
        let (images, classes) = (names(&["1.jpg", "x/2.jpg", "y/2.jpg"]), names(&["ant"]));
        let good = json!({"image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2], "score": 0.5});
        let with = |key: &str, value: Value| {
            let mut row = good.clone();
            row[key] = value;
            json!([good, row]).to_string()
        };
        for (text, words) in [
            (String::new(), "expected JSON"),
            ("{}".into(), "a list of boxes; found an object"),
            (with("image_id", 9.into()), "box 1: image_id 9 is none of the 3 images"),
            (with("image_id", 2.into()), "image_id 2"),
            (with("image_id", json!(["x".repeat(500)])), "…"),
            (with("category_id", 2.into()), "from 1 to 1, found 2"),
            (with("category_id", 0.into()), "from 1 to 1"),
            (with("category_name", "wasp".into()), "\"wasp\""),
            (with("bbox", json!([0, 0, 1])), "four numbers"),
            (with("bbox", json!([0, 0, -1, 1])), "0 or more"),
            (with("bbox", json!([0, 0, 1e300, 1])), "four numbers"),
            (with("score", Value::Null), "score"),
        ] {
            std::fs::write(&path, text).unwrap();
            let message = format!("{:#}", read(&path, &images, &classes, &Ids::default()).unwrap_err());
            assert!(message.contains(words), "{message}");
        }
        assert!(Ids::read(&path).is_err());
    }
}
