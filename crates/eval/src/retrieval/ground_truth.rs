//! What is to be found: the file `gnd_NAME.pkl` of the revisited sets, as the JSON it amounts to.
//!
//! ```text
//! { "imlist":  ["all_souls_000000", …],            images of the database
//!   "qimlist": ["all_souls_000013", …],            images of the queries
//!   "gnd": [{ "bbx": [136.5, 34.1, 648.5, 955.7],  what the query is about: left, top, right, bottom, pixels
//!             "easy": [0, …], "hard": [], "junk": [7, …] }, …] }
//! ```

use serde_json::Value;

use super::Relevance;

/// A query.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The image's name, without an ending.
    pub name: String,
    /// The part of the image that the query is about, where it is told: left, top, right, bottom in pixels.
    pub bbox: Option<[f64; 4]>,
    /// What the database's images are to it.
    pub relevance: Relevance,
}

/// Images and queries of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct GroundTruth {
    /// Names of the database's images, without an ending.
    pub images: Vec<String>,
    /// The queries.
    pub queries: Vec<Query>,
}

/// A ground truth that is not as described above.
#[derive(Debug, thiserror::Error)]
#[error("the ground truth's {place}: expected {expected}, found {found}")]
pub struct GroundTruthError {
    place: String,
    expected: String,
    found: String,
}

impl GroundTruthError {
    fn new(place: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { place: place.into(), expected: expected.into(), found: found.into() }
    }
}

impl GroundTruth {
    /// Reads and checks it.
    ///
    /// # Errors
    /// The place that is not as described, what was expected there and what was found.
    pub fn from_json(json: &Value) -> Result<Self, GroundTruthError> {
        let images = names(json, "imlist")?;
        let queries = names(json, "qimlist")?;
        let of_queries = list(entry(json, "gnd", "gnd")?, "gnd")?;
        if of_queries.len() != queries.len() {
            let expected = format!("{} entries, one per name of qimlist", queries.len());
            return Err(GroundTruthError::new("gnd", expected, of_queries.len().to_string()));
        }
        if images.is_empty() || queries.is_empty() {
            let place = if images.is_empty() { "imlist" } else { "qimlist" };
            return Err(GroundTruthError::new(place, "at least one name", "none"));
        }
        let query = |(i, (name, json)): (usize, (String, &Value))| {
            let numbers = |key: &str| indices(json, &format!("gnd[{i}].{key}"), key, images.len());
            let relevance = Relevance { easy: numbers("easy")?, hard: numbers("hard")?, junk: numbers("junk")? };
            Ok(Query { bbox: bbox(json, &format!("gnd[{i}].bbx"))?, name, relevance })
        };
        let queries = queries.into_iter().zip(of_queries).enumerate().map(query).collect::<Result<_, _>>()?;
        Ok(Self { images, queries })
    }
}

/// What a value is, in a word or two.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "nothing (null)".to_owned(),
        Value::Bool(_) => "a truth value".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("the text \"{}\"", text.chars().take(60).collect::<String>()),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(map) => {
            let keys: Vec<&str> = map.keys().take(6).map(String::as_str).collect();
            format!("a dict with {}", if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") })
        }
    }
}

fn entry<'a>(json: &'a Value, key: &str, place: &str) -> Result<&'a Value, GroundTruthError> {
    json.get(key).ok_or_else(|| {
        // The sets before the revision have other lists.
        let hint = if json.get("ok").is_some() { " (as the sets before the revision have it)" } else { "" };
        GroundTruthError::new(place, format!("an entry \"{key}\""), format!("{}{hint}", kind(json)))
    })
}

fn list<'a>(value: &'a Value, place: &str) -> Result<&'a [Value], GroundTruthError> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| GroundTruthError::new(place, "a list", kind(value)))
}

/// Names of images: paths below a folder, and never out of it.
fn names(json: &Value, key: &str) -> Result<Vec<String>, GroundTruthError> {
    let name = |(i, value): (usize, &Value)| {
        let inside = |name: &&str| {
            let parts = name.split(['/', '\\']);
            !name.is_empty()
                && !name.contains([':', '\0'])
                && !parts.into_iter().any(|part| part.is_empty() || part == "..")
        };
        let name = value.as_str().filter(inside);
        let wrong =
            || GroundTruthError::new(format!("{key}[{i}]"), "an image's name without its ending", kind(value));
        name.map(str::to_owned).ok_or_else(wrong)
    };
    list(entry(json, key, key)?, key)?.iter().enumerate().map(name).collect()
}

/// Numbers of images below `count`. Numpy makes floats of integers beside an empty list.
fn indices(json: &Value, place: &str, key: &str, count: usize) -> Result<Vec<u32>, GroundTruthError> {
    let index = |value: &Value| {
        let float = || value.as_f64().filter(|f| f.fract() == 0.0 && (0.0..1e9).contains(f)).map(|f| f as u64);
        let number = value.as_u64().or_else(float).and_then(|n| u32::try_from(n).ok());
        let wrong = || {
            GroundTruthError::new(
                place,
                format!("numbers of images below {count}, the length of imlist"),
                kind(value),
            )
        };
        number.filter(|n| (*n as usize) < count).ok_or_else(wrong)
    };
    list(entry(json, key, place)?, place)?.iter().map(index).collect()
}

fn bbox(json: &Value, place: &str) -> Result<Option<[f64; 4]>, GroundTruthError> {
    let Some(value) = json.get("bbx").filter(|value| !value.is_null()) else { return Ok(None) };
    let numbers: Option<Vec<f64>> = value.as_array().and_then(|items| items.iter().map(Value::as_f64).collect());
    let four = numbers.and_then(|numbers| <[f64; 4]>::try_from(numbers).ok());
    let four = four.filter(|[left, top, right, bottom]| left < right && top < bottom);
    let wrong =
        || GroundTruthError::new(place, "left, top, right and bottom in pixels, in this order", kind(value));
    four.map(Some).ok_or_else(wrong)
}
