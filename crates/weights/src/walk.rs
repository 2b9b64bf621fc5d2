//! From the object in a PyTorch file to its tensors by path, and a few words about the rest.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use crate::WeightsError;
use crate::entry::{Entry, num_elements};
use crate::pickle::value::{Arena, Node, Object, RawTensor, Value};
use crate::torch::TorchFile;

/// Containers within containers at most.
const MAX_DEPTH: usize = 64;
/// Tensors listed at most; an object shared at many places counts at each.
const MAX_TENSORS: usize = 100_000;
/// Characters of all their names together, at most.
const MAX_NAMES: usize = 8 << 20;
/// Values looked at.
const MAX_STEPS: usize = 1_000_000;
/// Words about the file kept at most, their depth, and their length.
const MAX_METADATA: usize = 400;
const METADATA_DEPTH: usize = 3;
const MAX_WORDS: usize = 400;

struct Walk<'f, 'a> {
    arena: &'f Arena<'a>,
    storages: &'f HashMap<String, Range<usize>>,
    /// Objects with a tensor somewhere inside.
    bearing: Vec<bool>,
    entries: Vec<Entry>,
    names: usize,
    steps: usize,
    metadata: BTreeMap<String, String>,
}

/// Every tensor of the file, named by its path (`teacher.backbone.cls_token`), in the file's order; and the numbers
/// and words beside them.
///
/// # Errors
/// When a tensor lies outside its storage, or the object is nested or shared without measure.
pub fn walk(file: &TorchFile<'_>) -> Result<(Vec<Entry>, BTreeMap<String, String>), WeightsError> {
    let mut walk = Walk {
        arena: &file.arena,
        storages: &file.storages,
        bearing: bearing(&file.arena),
        entries: Vec::new(),
        names: 0,
        steps: 0,
        metadata: BTreeMap::new(),
    };
    walk.visit(file.root, &mut String::new(), 0)?;
    // A key set twice has its last value.
    let mut seen = HashSet::new();
    let last: Vec<bool> = walk.entries.iter().rev().map(|e| seen.insert(e.name.as_str())).collect();
    let mut last = last.into_iter().rev();
    let mut entries = walk.entries;
    entries.retain(|_| last.next().unwrap_or(true));
    Ok((entries, walk.metadata))
}

/// Which objects have a tensor somewhere inside: from the tensors up, each object once.
fn bearing(arena: &Arena<'_>) -> Vec<bool> {
    let mut parents: Vec<(u32, u32)> = Vec::new();
    let mut found = Vec::new();
    let mut bearing = vec![false; arena.len()];
    for (id, node) in arena.nodes().iter().enumerate() {
        let mut child = |value: &Value<'_>| {
            if let Value::Node(child) = value {
                parents.push((*child, id as u32));
            }
        };
        match node {
            Node::Tensor(_) => {
                bearing[id] = true;
                found.push(id as u32);
            }
            Node::List(items) | Node::Tuple(items) => items.iter().for_each(child),
            Node::Dict(pairs) => pairs.iter().for_each(|(_, value)| child(value)),
            Node::Object(object) => child(&object.state),
            Node::Text(_) | Node::Global(_) | Node::Storage(_) => {}
        }
    }
    parents.sort_unstable();
    while let Some(id) = found.pop() {
        let first = parents.partition_point(|(child, _)| *child < id);
        for (_, parent) in parents[first..].iter().take_while(|(child, _)| *child == id) {
            if !std::mem::replace(&mut bearing[*parent as usize], true) {
                found.push(*parent);
            }
        }
    }
    bearing
}

impl<'a> Walk<'_, 'a> {
    fn bears(&self, value: Value<'a>) -> bool {
        matches!(value, Value::Node(id) if self.bearing.get(id as usize).copied().unwrap_or(false))
    }

    fn visit(&mut self, value: Value<'a>, path: &mut String, depth: usize) -> Result<(), WeightsError> {
        self.steps += 1;
        if self.steps > MAX_STEPS || self.entries.len() > MAX_TENSORS || self.names > MAX_NAMES {
            return Err(WeightsError::Torch(format!(
                "its objects unfold to more than {MAX_TENSORS} tensors, as in a file made to exhaust its reader"
            )));
        }
        if depth > MAX_DEPTH {
            let start: String = path.chars().take(60).collect();
            return Err(WeightsError::Torch(format!(
                "tensors nested more than {MAX_DEPTH} deep, or an object that contains itself (at {start}…)"
            )));
        }
        let arena = self.arena;
        match arena.node(value) {
            Some(Node::Tensor(tensor)) => {
                let entry = self.entry(tensor, path)?;
                self.names += path.len();
                self.entries.push(entry);
            }
            Some(Node::Dict(pairs)) => {
                for (key, child) in pairs {
                    self.child(&self.key(*key), *child, path, depth)?;
                }
            }
            Some(Node::List(items) | Node::Tuple(items)) => {
                for (index, item) in items.iter().enumerate() {
                    if self.bears(*item) {
                        self.child(&index.to_string(), *item, path, depth)?;
                    }
                }
            }
            Some(Node::Object(object)) => self.attributes(object.state, path, depth)?,
            _ => {}
        }
        Ok(())
    }

    /// An object's attributes; of a whole pickled network, the parts its state dict would have.
    fn attributes(&mut self, state: Value<'a>, path: &mut String, depth: usize) -> Result<(), WeightsError> {
        let arena = self.arena;
        match arena.node(state) {
            Some(Node::Dict(pairs)) => {
                for (key, child) in pairs {
                    match arena.text(*key) {
                        Some("_parameters" | "_buffers" | "_modules") => self.visit(*child, path, depth + 1)?,
                        _ => self.child(&self.key(*key), *child, path, depth)?,
                    }
                }
                Ok(())
            }
            _ => self.visit(state, path, depth + 1),
        }
    }

    fn child(&mut self, key: &str, value: Value<'a>, path: &mut String, depth: usize) -> Result<(), WeightsError> {
        let bears = self.bears(value);
        if !bears && (depth >= METADATA_DEPTH || self.metadata.len() >= MAX_METADATA) {
            return Ok(());
        }
        let before = path.len();
        if before > 0 {
            path.push('.');
        }
        path.push_str(key);
        // An object without attributes may still be a number.
        let inside = match self.arena.node(value) {
            Some(Node::Dict(_)) => true,
            Some(Node::Object(object)) => matches!(self.arena.node(object.state), Some(Node::Dict(_))),
            _ => false,
        };
        let plain = !bears && !inside;
        let done = match plain {
            true => {
                if let Some(words) = self.words(value) {
                    self.metadata.insert(path.clone(), words);
                }
                Ok(())
            }
            false => self.visit(value, path, depth + 1),
        };
        path.truncate(before);
        done
    }

    fn key(&self, key: Value<'a>) -> String {
        match self.arena.text(key) {
            Some(text) => text.chars().take(MAX_WORDS).collect(),
            None => self.scalar(key).unwrap_or_else(|| "?".into()),
        }
    }

    fn scalar(&self, value: Value<'a>) -> Option<String> {
        Some(match value {
            Value::Bool(b) => b.to_string(),
            Value::Int(i) => i.to_string(),
            Value::Float(f) => f.to_string(),
            _ => match self.arena.node(value) {
                Some(Node::Object(object)) => return self.object_words(object),
                Some(Node::Global(global)) => global.name.clone(),
                _ => self.arena.text(value)?.chars().take(MAX_WORDS).collect(),
            },
        })
    }

    /// NumPy's scalars and PyTorch's devices, which arguments of a program often hold.
    fn object_words(&self, object: &Object<'a>) -> Option<String> {
        let args = self.arena.items(object.args)?;
        if object.class == "torch.device" {
            let parts: Option<Vec<String>> =
                args.iter().filter(|a| is_plain(**a)).map(|a| self.scalar(*a)).collect();
            return parts.map(|p| p.join(":"));
        }
        if !object.class.starts_with("numpy.") || !object.class.ends_with("multiarray.scalar") {
            return None;
        }
        let &[dtype, data] = args else { return None };
        let Some(Node::Object(dtype)) = self.arena.node(dtype) else { return None };
        let code = self.arena.text(*self.arena.items(dtype.args)?.first()?)?;
        // Python 2's protocols have the bytes as text in which every character is one.
        let bytes: Vec<u8> = match data {
            Value::Bytes(bytes) => bytes.iter().copied().take(8).collect(),
            _ => self.arena.text(data)?.chars().take(8).map(|c| u8::try_from(c).ok()).collect::<Option<_>>()?,
        };
        Some(match (code, &bytes[..]) {
            ("f8", b) => f64::from_le_bytes(*b.first_chunk()?).to_string(),
            ("f4", b) => f32::from_le_bytes(*b.first_chunk()?).to_string(),
            ("i8", b) => i64::from_le_bytes(*b.first_chunk()?).to_string(),
            ("i4", b) => i32::from_le_bytes(*b.first_chunk()?).to_string(),
            ("b1", [b]) => (*b != 0).to_string(),
            _ => return None,
        })
    }

    /// A number, a text, or a short list of them.
    fn words(&self, value: Value<'a>) -> Option<String> {
        const LONGEST_LIST: usize = 16;
        let Some(items) = self.arena.items(value) else { return self.scalar(value) };
        if items.is_empty() || items.len() > LONGEST_LIST {
            return None;
        }
        let words: Option<Vec<String>> = items.iter().map(|i| self.scalar(*i)).collect();
        Some(format!("[{}]", words?.join(", ")))
    }

    fn entry(&self, tensor: &RawTensor, name: &str) -> Result<Entry, WeightsError> {
        let fail = |reason: String| {
            let name = if name.is_empty() { "(the whole file)" } else { name };
            WeightsError::Tensor { name: name.to_owned(), reason }
        };
        let storage = &tensor.storage;
        let key: String = storage.key.chars().take(MAX_WORDS).collect();
        let range = self
            .storages
            .get(&storage.key)
            .ok_or_else(|| fail(format!("its storage {key} is not in the file")))?;
        let size = storage.dtype.map_or(1, |d| d.size());
        let bytes_of = |elements: usize| elements.checked_mul(size);
        let part = bytes_of(storage.offset).zip(bytes_of(storage.len)).and_then(|(from, len)| {
            let (start, end) = (range.start.checked_add(from)?, range.start.checked_add(from)?.checked_add(len)?);
            (end <= range.end).then_some(start..end)
        });
        let part = part.ok_or_else(|| {
            fail(format!(
                "its storage {key} should have {} elements of {size} bytes, and has {} bytes",
                storage.len,
                range.len()
            ))
        })?;
        let there = part.len() / tensor.dtype.size();
        let count = num_elements(&tensor.shape);
        // One past the last element the view reaches.
        let reach = match count {
            Some(0) => Some(tensor.offset.min(there)),
            _ => tensor
                .shape
                .iter()
                .zip(&tensor.stride)
                .try_fold(tensor.offset, |at, (size, stride)| at.checked_add((size - 1).checked_mul(*stride)?))
                .and_then(|last| last.checked_add(1)),
        };
        match (count, reach) {
            (Some(count), Some(reach)) if count <= there && reach <= there => Ok(Entry {
                name: name.to_owned(),
                dtype: tensor.dtype,
                shape: tensor.shape.clone(),
                stride: (!is_contiguous(&tensor.shape, &tensor.stride)).then(|| tensor.stride.clone()),
                first: if count == 0 { 0 } else { tensor.offset },
                file: 0,
                range: part,
                scale: None,
            }),
            _ => Err(fail(format!(
                "shape {:?} with strides {:?} from element {} claims more than the {there} elements of its storage",
                tensor.shape, tensor.stride, tensor.offset
            ))),
        }
    }
}

/// A number or a text, nothing with parts.
fn is_plain(value: Value<'_>) -> bool {
    matches!(value, Value::Int(_) | Value::Str(_))
}

/// Row-major without gaps; strides of axes of one element do not matter.
fn is_contiguous(shape: &[usize], stride: &[usize]) -> bool {
    let mut expected = 1usize;
    for (size, stride) in shape.iter().zip(stride).rev() {
        if *size > 1 {
            if *stride != expected {
                return false;
            }
            expected = expected.saturating_mul(*size);
        }
    }
    true
}
