//! COCO's results: a list of boxes as JSON, by which programs exchange what detectors found.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use ocelli::eval::detection::Detection;
use serde_json::{Value, json};

/// The last part of a path.
fn file(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

/// The same without its ending.
fn stem(name: &str) -> &str {
    let file = file(name);
    file.rsplit_once('.').map_or(file, |(stem, _)| if stem.is_empty() { file } else { stem })
}

/// What stands for an image: the number in its file's name where that is one, else the name without its ending.
fn image_id(name: &str) -> Value {
    let stem = stem(name);
    let is_number = !stem.is_empty() && stem.bytes().all(|b| b.is_ascii_digit());
    match stem.parse::<u64>() {
        Ok(id) if is_number => id.into(),
        _ => stem.into(),
    }
}

/// What stands for images and classes in results that are written.
pub struct Labels {
    images: Vec<Value>,
    categories: Vec<u64>,
}

impl Labels {
    /// For images and classes of these names. Where COCO's instances are given they have its numbers: images by their files' names,
    /// classes by theirs. Otherwise an image has the number in its file's name, or the name without its ending, images that would be
    /// called the same have their whole names, and classes count from 1.
    ///
    /// # Errors
    /// When the instances lack an image or a class, or two images would be called the same.
    pub fn of(images: &[String], classes: &[String], instances: Option<&Path>) -> anyhow::Result<Self> {
        let labels = match instances {
            Some(path) => Self::of_instances(images, classes, path)?,
            None => {
                let mut ids: Vec<Value> = images.iter().map(|name| image_id(name)).collect();
                let mut seen: HashMap<String, usize> = HashMap::new();
                ids.iter().for_each(|id| *seen.entry(id.to_string()).or_default() += 1);
                for (id, name) in ids.iter_mut().zip(images) {
                    if seen.get(&id.to_string()).is_some_and(|times| *times > 1) {
                        *id = name.as_str().into();
                    }
                }
                Self { images: ids, categories: (1..=classes.len() as u64).collect() }
            }
        };
        let mut seen = HashSet::new();
        if let Some(at) = labels.images.iter().position(|id| !seen.insert(id.to_string())) {
            let id = &labels.images[at];
            bail!(
                "expected images that results can tell apart, found two called {} ({} is one)",
                short(id),
                images[at]
            );
        }
        Ok(labels)
    }

    fn of_instances(images: &[String], classes: &[String], path: &Path) -> anyhow::Result<Self> {
        let ids = Ids::read(path)?;
        let mut by_name: HashMap<&str, Option<u64>> = HashMap::new();
        for (id, name) in &ids.images {
            for key in HashSet::from([name.as_str(), file(name), stem(name)]) {
                // What two images are called is the name of neither.
                by_name.entry(key).and_modify(|known| *known = None).or_insert(Some(*id));
            }
        }
        let image = |name: &String| {
            let found = [name.as_str(), file(name), stem(name)].into_iter().find_map(|key| by_name.get(key));
            let id = found.copied().flatten().map(Value::from);
            id.with_context(|| {
                format!("{}: expected exactly one image {name}, found none or several", path.display())
            })
        };
        let category = |class: &String| {
            let found = ids.categories.iter().find(|(_, name)| *name == class);
            found.map(|(id, _)| *id).with_context(|| {
                format!("{}: expected a category for the class \"{class}\", found none", path.display())
            })
        };
        Ok(Self {
            images: images.iter().map(image).collect::<anyhow::Result<_>>()?,
            categories: classes.iter().map(category).collect::<anyhow::Result<_>>()?,
        })
    }

    /// A box as COCO's results have it, of a class of this name.
    pub fn row(&self, class: &str, detection: &Detection) -> Value {
        let [x1, y1, x2, y2] = detection.xyxy;
        // As decimals people write, not the double nearest to a single.
        let decimal = |v: f32| v.to_string().parse::<f64>().unwrap_or_default();
        json!({
            "image_id": self.images[detection.image],
            "category_id": self.categories[detection.class],
            "category_name": class,
            "bbox": [decimal(x1), decimal(y1), decimal(x2 - x1), decimal(y2 - y1)],
            "score": decimal(detection.score),
        })
    }
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
            add(file(name).to_owned());
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
