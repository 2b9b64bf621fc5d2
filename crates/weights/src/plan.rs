//! Which tensors of a file are a network's, under our names, and which are left out.

use std::collections::{BTreeSet, HashMap};

use crate::entry::Entry;
use crate::error::clean;
use crate::naming::Naming;

/// Classifiers on top of a backbone, and what stands between.
const CLASSIFIERS: [&str; 7] = ["head", "fc", "head_dist", "heads", "classifier", "pooler", "pre_logits"];

/// What only training needs, by the first part of its name.
const TRAINING: [&str; 18] = [
    "mask_token",
    "masked_embed",
    "decoder",
    "projection_head",
    "projector",
    "projection",
    "prototypes",
    "prediction_head",
    "predictor",
    "dino_head",
    "ibot_head",
    "queue",
    "queue_ptr",
    "momentum_head",
    "momentum_projector",
    "contrastive_head",
    "optimizer",
    "criterion",
];

/// Names of what is left out that are kept, at most, and characters of each: they are for a person to read.
const MAX_LEFT: usize = 12;
const MAX_CHARS: usize = 60;

/// What happens to a tensor, by our name for it.
enum Fate {
    Keep,
    Classifier,
    Training,
}

fn fate(own: &str) -> Fate {
    let first = own.split('.').next().unwrap_or_default();
    if CLASSIFIERS.contains(&first) {
        return Fate::Classifier;
    }
    // MAE's `decoder_embed`, `decoder_blocks`, …
    match TRAINING.contains(&first) || first.starts_with("decoder_") {
        true => Fate::Training,
        false => Fate::Keep,
    }
}

/// A network's tensors under our names.
pub(crate) struct Plan<'w> {
    /// In the file's order: of queries, keys and values that are apart, all three under one name.
    pub tensors: Vec<(String, Vec<&'w Entry>)>,
    at: HashMap<String, usize>,
    /// The first parts of the names that only training needs.
    pub left_out: BTreeSet<String>,
    /// A tensor that is there under two names.
    pub twice: Option<String>,
}

impl<'w> Plan<'w> {
    /// Of the tensors under `prefix`, but for those under one of the `others`.
    pub fn new(naming: Naming, prefix: &str, others: &[String], entries: &'w [Entry]) -> Self {
        let mut plan = Self { tensors: Vec::new(), at: HashMap::new(), left_out: BTreeSet::new(), twice: None };
        let nested: Vec<&str> = others
            .iter()
            .map(String::as_str)
            .filter(|o| o.len() > prefix.len() && o.starts_with(prefix))
            .collect();
        for entry in entries.iter().filter(|e| e.is_float()) {
            let Some(name) = entry.name.strip_prefix(prefix) else { continue };
            if nested.iter().any(|other| entry.name.starts_with(other)) {
                continue;
            }
            let own = naming.own(name);
            match fate(&own) {
                Fate::Keep => plan.add(own, entry),
                Fate::Training if plan.left_out.len() < MAX_LEFT => {
                    let first = own.split('.').next().unwrap_or_default();
                    plan.left_out.insert(clean(first).chars().take(MAX_CHARS).collect());
                }
                Fate::Training | Fate::Classifier => {}
            }
        }
        plan
    }

    fn add(&mut self, own: String, entry: &'w Entry) {
        let (own, part) = whole(own);
        let at = *self.at.entry(own).or_insert_with_key(|own| {
            self.tensors.push((own.clone(), Vec::new()));
            self.tensors.len() - 1
        });
        let Some((name, sources)) = self.tensors.get_mut(at) else { return };
        let most = if part.is_some() { 3 } else { 1 };
        if sources.len() == most {
            self.twice.get_or_insert_with(|| name.clone());
            return;
        }
        sources.push(entry);
        // A safetensors file has keys before queries.
        sources.sort_by_key(|e| part_of(&e.name));
    }

    /// The shape of the tensor of this name; of three, what they have together.
    pub fn shape(&self, own: &str) -> Option<Vec<usize>> {
        let (_, sources) = self.tensors.get(*self.at.get(own)?)?;
        shape_of(sources)
    }

    /// Values of all of them, running statistics left out.
    pub fn num_values(&self) -> usize {
        let trained = self.tensors.iter().filter(|(name, _)| !name.contains("running_"));
        trained.flat_map(|(_, sources)| sources).fold(0, |sum, e| sum.saturating_add(e.len()))
    }
}

/// The name of all three, and which of them it is.
fn whole(own: String) -> (String, Option<usize>) {
    for (index, part) in [".attn.q.", ".attn.k.", ".attn.v."].iter().enumerate() {
        if own.contains(part) {
            return (own.replacen(part, ".attn.qkv.", 1), Some(index));
        }
    }
    (own, None)
}

/// Queries, keys, values: by what `transformers` calls them.
fn part_of(name: &str) -> usize {
    let has = |words: [&str; 2]| words.iter().any(|w| name.contains(w));
    match () {
        () if has([".query.", ".q_proj."]) => 0,
        () if has([".key.", ".k_proj."]) => 1,
        () => 2,
    }
}

pub(crate) fn shape_of(sources: &[&Entry]) -> Option<Vec<usize>> {
    match sources {
        [one] => Some(one.shape.clone()),
        [q, k, v] if [q, k, v].map(|e| part_of(&e.name)) == [0, 1, 2] => {
            let rows = [q, k, v].iter().try_fold(0usize, |sum, e| sum.checked_add(*e.shape.first()?))?;
            let columns = q.shape.get(1..)?;
            let same = [k, v].iter().all(|e| e.shape.get(1..) == Some(columns));
            same.then(|| [&[rows], columns].concat())
        }
        _ => None,
    }
}
