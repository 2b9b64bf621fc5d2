//! What is searched for in what: a revisited set on disk, or folders of classes in its place.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use ocelli::data::{DataSet, Source, open_data};
use ocelli::eval::retrieval::{GroundTruth, Relevance};
use ocelli::models::weights::read_data_pickle;
use ocelli::train::{Labelled, RunConfig};
use serde_json::{Value, json};

use super::super::extraction::Files;

/// Endings of the images of a set in the published layout, the usual one first.
const ENDINGS: [&str; 4] = ["jpg", "JPG", "jpeg", "png"];
/// Names of missing images in a message.
const SHOWN: usize = 3;

/// Queries and a database.
pub struct Set {
    /// What it is, in words.
    pub lines: Vec<String>,
    /// The same as fields.
    pub fields: Value,
    /// Whether it is one of the revisited sets' layout and protocol.
    pub is_revisited: bool,
    /// Images to search in.
    pub database: (Arc<dyn Source>, Vec<usize>),
    /// Images to search with.
    pub queries: (Arc<dyn Source>, Vec<usize>),
    /// What each query is about: left, top, right, bottom in pixels. Of folders of classes there are none.
    pub boxes: Vec<Option<[f64; 4]>>,
    /// What is to be found, for each query.
    pub relevance: Vec<Relevance>,
}

/// A ground truth on disk.
struct Place {
    name: String,
    gnd: PathBuf,
    folder: PathBuf,
}

impl Set {
    /// Opens `data`: the set `name` in it where one is named, else the one that is there, else folders of classes.
    ///
    /// # Errors
    /// When there is no ground truth for the named set, or several and none is named; when the ground truth cannot
    /// be read or images of it are missing; when the folder has no classes.
    pub fn open(data: &str, name: Option<&str>) -> anyhow::Result<Self> {
        let path = Path::new(data);
        let mut found = places(path, name);
        match (found.len(), name) {
            (1, _) => Self::revisited(&found.remove(0)),
            (0, Some(name)) => bail!("{}", missing(path, name)),
            (0, None) => match ["roxford5k", "rparis6k"].iter().find(|name| path.join(name).is_dir()) {
                Some(name) => bail!("{}", missing(path, name)),
                None if path.join("jpg").is_dir() => bail!("{}", missing(path, "NAME")),
                None => Self::classes(data),
            },
            (_, _) => {
                let names: Vec<String> = found.into_iter().map(|place| place.name).collect();
                bail!("{data} holds several sets, {}; choose one with --dataset", names.join(" and "))
            }
        }
    }

    fn revisited(place: &Place) -> anyhow::Result<Self> {
        let truth = read_truth(&place.gnd).with_context(|| place.gnd.display().to_string())?;
        let jpg = place.folder.join("jpg");
        let query_names: Vec<String> = truth.queries.iter().map(|query| query.name.clone()).collect();
        let database = files(&jpg, &truth.images, "imlist", &place.gnd)?;
        let queries = files(&jpg, &query_names, "qimlist", &place.gnd)?;
        let lines = vec![format!(
            "data: {}, {} images and {} queries; images in {}",
            place.name,
            database.len(),
            queries.len(),
            jpg.display()
        )];
        let fields = json!({
            "set": place.name, "ground_truth": place.gnd, "images": database.len(), "queries": queries.len(),
        });
        let all = |files: Files| -> (Arc<dyn Source>, Vec<usize>) {
            let indices = (0..files.len()).collect();
            (Arc::new(files), indices)
        };
        Ok(Self {
            lines,
            fields,
            is_revisited: true,
            database: all(database),
            queries: all(queries),
            boxes: truth.queries.iter().map(|query| query.bbox).collect(),
            relevance: truth.queries.into_iter().map(|query| query.relevance).collect(),
        })
    }

    /// Folders of classes: every image of a query's class is an easy one.
    fn classes(data: &str) -> anyhow::Result<Self> {
        let DataSet { train, val, understood } = open_data(data)?;
        let mut config = RunConfig::default().eval;
        (config.max_train, config.max_test) = (0, 0);
        let Some(labelled) = Labelled::of(&train, val.as_ref(), &config) else {
            bail!(
                "{data}: expected NAME/gnd_NAME.pkl and NAME/jpg (a revisited set), or folders of classes with at \
                 least ten images; found {}",
                understood.lines().join("; ")
            );
        };
        let label = |(source, indices): &(Arc<dyn Source>, Vec<usize>)| -> Vec<u32> {
            indices.iter().map(|i| source.label(*i).unwrap_or_default()).collect()
        };
        let mut by_class = vec![Vec::new(); labelled.classes];
        for (image, label) in (0u32..).zip(label(&labelled.train)) {
            by_class[label as usize].push(image);
        }
        let of = |label: u32| Relevance { easy: by_class[label as usize].clone(), ..Relevance::default() };
        let relevance: Vec<Relevance> = label(&labelled.test).into_iter().map(of).collect();
        let (images, queries) = (labelled.train.1.len(), labelled.test.1.len());
        let mut lines = understood.lines();
        lines.push(format!(
            "no gnd_NAME.pkl here: classes stand in for it, {queries} queries against {images} images. This is \
             another protocol: its figures compare with each other, not with published ones"
        ));
        Ok(Self {
            lines,
            fields: json!({ "set": "classes", "data": understood, "images": images, "queries": queries }),
            is_revisited: false,
            database: labelled.train,
            queries: labelled.test,
            boxes: vec![None; queries],
            relevance,
        })
    }
}

/// Where ground truths lie: `DATA/NAME/gnd_NAME.pkl`, or `gnd_NAME.pkl` in the folder itself; of the same name a
/// pickle before JSON.
fn places(data: &Path, name: Option<&str>) -> Vec<Place> {
    let at = |folder: &Path, name: &str| {
        let gnd = ["pkl", "json"].map(|ending| folder.join(format!("gnd_{name}.{ending}")));
        let gnd = gnd.into_iter().find(|path| path.is_file())?;
        Some(Place { name: name.to_owned(), gnd, folder: folder.to_owned() })
    };
    if let Some(name) = name {
        return at(&data.join(name), name).or_else(|| at(data, name)).into_iter().collect();
    }
    let entries = |folder: &Path| {
        let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.file_name());
        let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
        names.sort_unstable();
        names
    };
    let own = |file: &String| {
        let stem = file.strip_prefix("gnd_")?;
        at(data, stem.strip_suffix(".pkl").or_else(|| stem.strip_suffix(".json"))?)
    };
    let names = entries(data);
    let mut found: Vec<Place> = names.iter().filter_map(own).collect();
    found.dedup_by(|a, b| a.name == b.name);
    found.extend(names.iter().filter_map(|name| at(&data.join(name), name)));
    found
}

/// That there is no ground truth, and where it comes from.
fn missing(data: &Path, name: &str) -> String {
    let (found, folder) = (data.join(name), data.display());
    let there = if found.is_dir() {
        format!("a folder {name} without it")
    } else if data.is_dir() {
        format!("no {name} there")
    } else {
        "no such folder".to_owned()
    };
    format!(
        "{folder}: expected {name}/gnd_{name}.pkl (or .json of the same structure) and the images in {name}/jpg, \
         found {there}. The ground truth comes with the revisited benchmark, the images with the Oxford and Paris sets"
    )
}

/// Reads a ground truth: a pickle as data, or JSON.
fn read_truth(path: &Path) -> anyhow::Result<GroundTruth> {
    let bytes = fs::read(path)?;
    let json = if path.extension().is_some_and(|ending| ending == "json") {
        serde_json::from_slice(&bytes).context("expected JSON")?
    } else {
        read_data_pickle(&bytes)?
    };
    Ok(GroundTruth::from_json(&json)?)
}

/// The images of a list, every one of which must be there.
fn files(jpg: &Path, names: &[String], list: &str, gnd: &Path) -> anyhow::Result<Files> {
    let find = |name: &String| {
        let mut paths = ENDINGS.iter().map(|ending| jpg.join(format!("{name}.{ending}")));
        paths.find(|path| path.is_file())
    };
    let (mut paths, mut missing) = (Vec::with_capacity(names.len()), Vec::new());
    for name in names {
        match find(name) {
            Some(path) => paths.push(path),
            None => missing.push(format!("{name}.{}", ENDINGS[0])),
        }
    }
    if !missing.is_empty() {
        let shown = missing[..missing.len().min(SHOWN)].join(", ");
        let more = if missing.len() > SHOWN { ", …" } else { "" };
        bail!(
            "{}: {} of the {} images of {list} in {} are missing: {shown}{more}",
            jpg.display(),
            missing.len(),
            names.len(),
            gnd.display()
        );
    }
    Ok(Files { names: names.to_vec(), paths })
}
