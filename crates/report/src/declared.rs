//! What a run says of its own figures: the report knows no method by name.

use serde_json::{Map, Value};

/// A figure with a chart of its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figure {
    /// Its name in `metrics.jsonl`.
    pub name: String,
    /// The chart's title.
    pub title: String,
    /// What healthy looks like.
    pub healthy: String,
    /// Whether the chart begins at 0.
    pub from_zero: bool,
    /// The name of the level it is drawn with.
    pub level: Option<String>,
    /// What its value is multiplied by to be read, 100 for per cent, and the unit after it.
    pub times: f64,
    /// After the value, where that is told.
    pub unit: Option<String>,
    /// Whether it heads the report.
    pub headline: bool,
}

/// A value that says what figures mean.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    /// What it is, as in `ln K`.
    pub name: String,
    /// Its value.
    pub value: f64,
}

/// A sign that nothing is learnt any more.
#[derive(Debug, Clone, PartialEq)]
pub struct Sign {
    /// The name by which epochs tell that they show it.
    pub name: String,
    /// What it means.
    pub meaning: String,
    /// What usually helps.
    pub remedies: String,
}

/// Everything a run declares.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Declared {
    /// The method in words.
    pub title: String,
    /// What steps tell.
    pub figures: Vec<Figure>,
    /// What evaluations tell, per cent where no other unit is told.
    pub scores: Vec<Figure>,
    /// Values that say what the figures mean.
    pub levels: Vec<Level>,
    /// Signs that nothing is learnt any more.
    pub signs: Vec<Sign>,
    /// What the views are for.
    pub views_about: String,
}

impl Figure {
    /// Whether it is a share as most scores are: those that tell no unit are per cent.
    pub fn is_per_cent(&self) -> bool {
        self.unit.as_deref().is_none_or(|unit| unit.trim() == "%")
    }
}

impl Declared {
    /// From the fields of an event, or of whatever else lists them. What is missing stays empty.
    pub fn read(fields: &Map<String, Value>) -> Self {
        let list = |key: &str| fields.get(key).and_then(Value::as_array).into_iter().flatten();
        Self {
            title: text(fields.get("title")),
            figures: list("figures").map(figure).collect(),
            scores: list("scores").map(figure).collect(),
            levels: list("levels").filter_map(level).collect(),
            signs: list("signs")
                .map(|s| Sign {
                    name: text(s.get("name")),
                    meaning: text(s.get("meaning")),
                    remedies: text(s.get("remedies")),
                })
                .collect(),
            views_about: text(fields.get("views_about")),
        }
    }

    /// A level by name.
    pub fn level(&self, name: &str) -> Option<&Level> {
        self.levels.iter().find(|l| l.name == name)
    }
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn level(value: &Value) -> Option<Level> {
    let number = value.get("value")?.as_f64().filter(|v| v.is_finite())?;
    Some(Level { name: text(value.get("name")), value: number })
}

fn figure(value: &Value) -> Figure {
    let flag = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or(false);
    let bar = value.get("bar");
    let number = |key: &str| bar?.get(key)?.as_f64();
    Figure {
        name: text(value.get("name")),
        title: text(value.get("title")),
        healthy: text(value.get("healthy")),
        from_zero: flag("from_zero"),
        level: value.get("level").and_then(Value::as_str).map(str::to_owned),
        times: number("times").filter(|t| *t > 0.0).unwrap_or(1.0),
        unit: bar.map(|b| text(b.get("unit"))),
        headline: flag("headline"),
    }
}
