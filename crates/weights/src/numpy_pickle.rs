//! A pickle of plain data and numpy arrays, read as JSON: what research code leaves its ground truth in.
//!
//! The machine of [`crate::pickle`] follows the opcodes; the only names it lets through are those that numpy's
//! arrays, types and scalars are written with (and the two ways in which protocol 2 writes bytes). Nothing is
//! imported or called.

mod array;

use serde_json::{Map, Number, Value as Json};

use crate::WeightsError;
use crate::pickle::read_with;
use crate::pickle::value::{Arena, Meaning, Node, Object, Value};

/// Why a pickle was not read as data.
#[derive(Debug, thiserror::Error)]
pub enum DataPickleError {
    /// It is broken, or asks for too much.
    #[error("the pickle cannot be read: {} (byte {at})", clean(.reason))]
    Broken {
        /// Position, bytes.
        at: usize,
        /// What was expected and what was found.
        reason: String,
    },
    /// It names a class or function that is no part of numpy's arrays.
    #[error(
        "refused: the pickle names {} (byte {at}); numbers, text, lists, dicts and numpy's arrays are read, and \
         nothing else. Nothing was run. Save it again with those alone, by pickle protocol 2, 3 or 4 or as JSON",
        clean(.name)
    )]
    Name {
        /// Module and name, as the file has it.
        name: String,
        /// Position, bytes.
        at: usize,
    },
    /// What it holds has no counterpart in JSON, or contradicts itself.
    #[error("the pickle holds {}", clean(.0))]
    Content(String),
}

/// A text out of a file without what would move a terminal's cursor, and not too long.
fn clean(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Containers within containers at most.
const MAX_DEPTH: usize = 32;
/// Memory for what is read beyond the objects of the pickle, bytes: some half a million numbers.
const ALLOWANCE: usize = 20 << 20;
/// What a value costs, and a dict: its nodes have room for eleven entries.
const VALUE: usize = size_of::<Json>();
const DICT: usize = 12 * (VALUE + size_of::<String>()) + 64;

/// Reads a pickle of protocols 0 to 4: None, numbers, text, bytes that are UTF-8 (as text), lists, tuples and sets
/// (as arrays), dicts with text for keys, and numpy's arrays (nested, as their `tolist`) and scalars of bools,
/// integers, floats, text and objects. Whatever the bytes, it neither panics nor takes more memory than twice the
/// file and 64 MB.
///
/// # Errors
/// [`DataPickleError`]: a broken pickle, a name of anything else, or contents that JSON has no counterpart for.
pub fn read_data_pickle(bytes: &[u8]) -> Result<Json, DataPickleError> {
    let mut arena = Arena::new(bytes.len());
    let root = match read_with(bytes, &mut arena, vocabulary) {
        Ok((root, _)) => root,
        Err(WeightsError::Pickle { at, reason }) => return Err(DataPickleError::Broken { at, reason }),
        Err(WeightsError::Code { at, name }) => return Err(DataPickleError::Name { name, at }),
        Err(other) => return Err(DataPickleError::Content(other.to_string())),
    };
    Reading { arena: &arena, budget: ALLOWANCE }.value(root, 0)
}

/// Numpy's arrays and how bytes are written in protocol 2. All of it stays objects with their arguments and state.
fn vocabulary(module: &str, name: &str) -> Result<Meaning, ()> {
    match (module, name) {
        ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct" | "scalar")
        | ("numpy", "ndarray" | "dtype")
        | ("_codecs", "encode")
        | ("builtins" | "__builtin__", "bytes") => Ok(Meaning::Inert),
        _ => Err(()),
    }
}

/// Contents that cannot be taken over.
fn content(reason: impl Into<String>) -> DataPickleError {
    DataPickleError::Content(reason.into())
}

/// From the objects of a pickle to JSON.
struct Reading<'f, 'a> {
    arena: &'f Arena<'a>,
    /// Bytes that may still be taken: an object that is shared is written out at each of its places.
    budget: usize,
}

impl<'a> Reading<'_, 'a> {
    fn charge(&mut self, bytes: usize) -> Result<(), DataPickleError> {
        let left = self.budget.checked_sub(bytes);
        self.budget = left.ok_or_else(|| {
            content("more than some 500,000 values, as a pickle does that was made to exhaust its reader")
        })?;
        Ok(())
    }

    fn value(&mut self, value: Value<'a>, depth: usize) -> Result<Json, DataPickleError> {
        if depth > MAX_DEPTH {
            return Err(content(format!("lists or dicts more than {MAX_DEPTH} deep, or one that holds itself")));
        }
        self.charge(VALUE)?;
        match value {
            Value::None => Ok(Json::Null),
            Value::Bool(b) => Ok(Json::Bool(b)),
            Value::Int(i) => Ok(Json::from(i)),
            Value::Long(_) | Value::Digits(_) => Err(content("an integer of more than 64 bits")),
            Value::Float(f) => number(f),
            Value::Str(text) => self.text(text),
            Value::Bytes(bytes) => self.utf8(bytes),
            Value::EmptyTuple => Ok(Json::Array(Vec::new())),
            Value::Node(_) => self.node(value, depth),
        }
    }

    fn node(&mut self, value: Value<'a>, depth: usize) -> Result<Json, DataPickleError> {
        // The arena outlives the reading, so that what it lends does not hold the budget up.
        let arena = self.arena;
        match arena.node(value) {
            Some(Node::Text(text)) => self.text(text),
            Some(Node::List(items) | Node::Tuple(items)) => self.items(items, depth),
            Some(Node::Dict(pairs)) => {
                self.charge(if pairs.is_empty() { 0 } else { DICT })?;
                let mut map = Map::new();
                for (key, value) in pairs {
                    let Json::String(key) = self.value(*key, depth + 1)? else {
                        return Err(content("a dict with a key that is not text"));
                    };
                    self.charge(2 * size_of::<String>() + VALUE)?;
                    let value = self.value(*value, depth + 1)?;
                    map.insert(key, value);
                }
                Ok(Json::Object(map))
            }
            Some(Node::Object(object)) => match short(&object.class) {
                "_reconstruct" => self.array(object, depth),
                "scalar" => self.scalar(object),
                "encode" | "bytes" => {
                    let bytes = self.bytes(value)?.into_owned();
                    self.utf8(&bytes)
                }
                _ => Err(content(format!("an object of {} where data is expected", object.class))),
            },
            Some(Node::Global(global)) => Err(content(format!("the name {} where data is expected", global.name))),
            Some(Node::Storage(_) | Node::Tensor(_)) | None => Err(content("an object that is no data")),
        }
    }

    fn items(&mut self, items: &[Value<'a>], depth: usize) -> Result<Json, DataPickleError> {
        // Before room is made for them.
        self.charge(items.len() * VALUE)?;
        let mut all = Vec::with_capacity(items.len());
        for item in items {
            all.push(self.value(*item, depth + 1)?);
        }
        Ok(Json::Array(all))
    }

    fn text(&mut self, text: &str) -> Result<Json, DataPickleError> {
        self.charge(text.len())?;
        Ok(Json::String(text.to_owned()))
    }

    fn utf8(&mut self, bytes: &[u8]) -> Result<Json, DataPickleError> {
        self.text(std::str::from_utf8(bytes).map_err(|_| content("bytes that are no UTF-8 text"))?)
    }
}

/// A class's name without its module; nothing of what has no module.
fn short(class: &str) -> &str {
    class.rsplit_once('.').map_or("", |(_, name)| name)
}

/// JSON knows no others.
fn number(value: f64) -> Result<Json, DataPickleError> {
    Number::from_f64(value)
        .map(Json::Number)
        .ok_or_else(|| content(format!("the number {value}, which is not finite")))
}

/// What an object was made with and given, named for messages.
fn parts<'f, 'a>(
    arena: &'f Arena<'a>,
    object: &Object<'a>,
    what: &str,
) -> Result<(&'f [Value<'a>], Option<&'f [Value<'a>]>), DataPickleError> {
    let args = arena.items(object.args).ok_or_else(|| content(format!("{what} without arguments")))?;
    Ok((args, arena.items(object.state)))
}
