//! Files beside the weights in a folder of Hugging Face: the index of shards, and the network's `config.json`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value;

use crate::{Weights, WeightsError};

/// Shards of one network at most, and characters of a name.
const MAX_SHARDS: usize = 1000;
const MAX_NAME: usize = 255;

/// `model.safetensors.index.json`: which file has which tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIndex {
    files: Vec<String>,
    tensors: BTreeMap<String, String>,
}

impl ShardIndex {
    /// Reads an index. `place` names it in words.
    ///
    /// # Errors
    /// When it is none, or names a file that is not simply one beside it.
    pub fn parse(place: &str, text: &str) -> Result<Self, WeightsError> {
        let fail = |reason: String| WeightsError::Layout(format!("{place}: {reason}"));
        let all: Value = serde_json::from_str(text).map_err(|e| fail(format!("not readable JSON: {e}")))?;
        let map = all.get("weight_map").and_then(Value::as_object);
        let map = map.ok_or_else(|| fail("expected an index of shards with a weight_map, found none".into()))?;
        let (mut tensors, mut files) = (BTreeMap::new(), BTreeSet::new());
        for (tensor, file) in map {
            let file = file.as_str().unwrap_or_default();
            if !is_beside(file) {
                let shown: String = file.chars().take(80).collect();
                return Err(fail(format!(
                    "tensor {tensor} should be in {shown:?}; expected the name of a .safetensors or .bin file in the same \
                     folder. Nothing outside of it is read"
                )));
            }
            files.insert(file.to_owned());
            tensors.insert(tensor.clone(), file.to_owned());
        }
        if files.is_empty() || files.len() > MAX_SHARDS {
            return Err(fail(format!("expected 1 to {MAX_SHARDS} shards, found {}", files.len())));
        }
        Ok(Self { files: files.into_iter().collect(), tensors })
    }

    /// The shards' names, sorted; each is a file in the index's own folder.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Checks that every tensor the index names is in `weights`.
    ///
    /// # Errors
    /// Which are missing, and in which file they should be.
    pub fn check(&self, weights: &Weights<'_>) -> Result<(), WeightsError> {
        const SHOWN: usize = 3;
        let there: HashSet<&str> = weights.entries().iter().map(|e| e.name.as_str()).collect();
        let missing: Vec<String> = self
            .tensors
            .iter()
            .filter(|(tensor, _)| !there.contains(tensor.as_str()))
            .map(|(tensor, file)| format!("{tensor} ({file})"))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let more = if missing.len() > SHOWN { ", …" } else { "" };
        Err(WeightsError::Layout(format!(
            "{} tensors that the index of shards names are not in the files: {}{more}; download the folder again",
            missing.len(),
            missing[..missing.len().min(SHOWN)].join(", ")
        )))
    }
}

/// A plain name: no folder, no drive, nothing hidden.
fn is_beside(file: &str) -> bool {
    let plain = file.chars().all(|c| c.is_alphanumeric() || "._- ".contains(c));
    let known = file.ends_with(".safetensors") || file.ends_with(".bin");
    plain && known && file.len() <= MAX_NAME && !file.starts_with('.') && !file.contains("..")
}

/// Keys of `transformers`' `config.json` that tell what no tensor does.
const KEYS: [&str; 6] = [
    "model_type",
    "hidden_size",
    "num_attention_heads",
    "hidden_act",
    "downsample_in_bottleneck",
    "downsample_in_first_stage",
];

/// What the `config.json` of a network of `transformers` says that its tensors do not, as words for
/// [`Weights::tell`]: above all the heads. Empty for any other text.
pub fn read_model_config(text: &str) -> Vec<(String, String)> {
    let Ok(Value::Object(all)) = serde_json::from_str(text) else { return Vec::new() };
    if !all.contains_key("model_type") {
        return Vec::new();
    }
    let word = |value: &Value| match value {
        Value::String(text) => Some(text.chars().take(80).collect()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        _ => None,
    };
    KEYS.iter().filter_map(|key| Some(((*key).to_owned(), word(all.get(*key)?)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostTensor, StateDict, write_safetensors};

    #[test]
    fn an_index_names_files_beside_it() {
        let text = r#"{"metadata": {"total_size": 8}, "weight_map": {"a": "model-2.safetensors", "b": "model-1.safetensors"}}"#;
        let index = ShardIndex::parse("index", text).unwrap();
        assert_eq!(index.files(), ["model-1.safetensors", "model-2.safetensors"]);
        for file in
            ["../a.safetensors", "/etc/a.bin", "a/b.bin", "C:\\a.bin", "", "passwd", ".a.bin", "a..bin", "a\n.bin"]
        {
            let text = serde_json::json!({ "weight_map": { "a": file } }).to_string();
            let error = ShardIndex::parse("index", &text).unwrap_err().to_string();
            assert!(error.contains("same folder") && error.starts_with("index: tensor a"), "{file}: {error}");
        }
        for text in ["", "[]", "{}", r#"{"weight_map": {}}"#, r#"{"weight_map": {"a": 3}}"#] {
            assert!(ShardIndex::parse("index", text).is_err(), "{text}");
        }
    }

    #[test]
    fn shards_are_one_list_and_what_is_missing_or_twice_is_said() {
        let shard = |names: &[&str]| {
            let tensor = HostTensor { shape: vec![2], values: vec![1.0, 2.0] };
            let tensors = names.iter().map(|n| ((*n).to_owned(), tensor.clone())).collect();
            write_safetensors(&StateDict { tensors, ..StateDict::default() }).unwrap()
        };
        let text = r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
        let index = ShardIndex::parse("index", text).unwrap();
        let (one, two) = (shard(&["a"]), shard(&["b"]));
        let files = [("1.safetensors".to_owned(), &one[..]), ("2.safetensors".to_owned(), &two[..])];
        let both = Weights::open_many(&files).unwrap();
        index.check(&both).unwrap();
        assert_eq!(both.state_dict(|e| Some(e.name.clone())).unwrap().num_values(), 4);
        let error = index.check(&Weights::open_many(&files[..1]).unwrap()).unwrap_err().to_string();
        assert!(error.contains("1 tensors") && error.contains("b (2.safetensors)"), "{error}");
        let twice = [files[0].clone(), ("3.safetensors".to_owned(), &one[..])];
        let error = Weights::open_many(&twice).unwrap_err().to_string();
        assert!(
            error.contains("tensor a") && error.contains("1.safetensors") && error.contains("3.saf"),
            "{error}"
        );
        let error = Weights::open_many(&[("x.bin".to_owned(), &b"no"[..])]).unwrap_err().to_string();
        assert!(error.starts_with("x.bin: expected weights"), "{error}");
    }

    #[test]
    fn a_config_tells_heads() {
        let told = read_model_config(
            r#"{"model_type": "vit", "num_attention_heads": 6, "hidden_act": "gelu", "x": [1]}"#,
        );
        let expected = [("model_type", "vit"), ("num_attention_heads", "6"), ("hidden_act", "gelu")];
        assert_eq!(told, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        for other in ["", "[]", "{", r#"{"num_attention_heads": 6}"#] {
            assert_eq!(read_model_config(other), []);
        }
    }
}
