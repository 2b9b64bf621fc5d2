//! What a pickle holds, as data: small values by themselves, everything else in one flat arena, so that shared and
//! self-referring objects cost nothing twice and nothing is dropped recursively.

use std::mem::size_of;

use crate::dtype::Dtype;

/// A value on the stack. Text and bytes point into the pickle.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits, little-endian two's complement.
    Long(&'a [u8]),
    /// The same in decimal digits (protocol 0).
    Digits(&'a str),
    Float(f64),
    Str(&'a str),
    Bytes(&'a [u8]),
    EmptyTuple,
    /// An object in the arena.
    Node(u32),
}

/// A list of pairs in the order they came.
pub type Pairs<'a> = Vec<(Value<'a>, Value<'a>)>;

/// An object.
#[derive(Debug)]
pub enum Node<'a> {
    /// Text that had to be unescaped.
    Text(String),
    /// List, set or frozenset.
    List(Vec<Value<'a>>),
    Tuple(Vec<Value<'a>>),
    Dict(Pairs<'a>),
    /// A class or function, by name.
    Global(Box<Global>),
    /// Where a tensor's bytes lie.
    Storage(Box<Storage>),
    Tensor(Box<RawTensor>),
    /// Something of a class that means nothing here: its name and the state given to it.
    Object(Box<Object<'a>>),
}

#[derive(Debug, Clone)]
pub struct Global {
    pub meaning: Meaning,
    /// `module.name`.
    pub name: String,
}

/// What a class or function may mean; nothing else is ever done with its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// `dict`, `OrderedDict`, `defaultdict`, `Counter`.
    Dict,
    /// `list`, `set`, `frozenset`, `tuple`, `torch.Size`: a sequence made of its only argument.
    Sequence,
    /// `_rebuild_tensor`, `_rebuild_tensor_v2`: storage, offset, size, stride.
    Tensor,
    /// `_rebuild_tensor_v3`: the same, the element type seventh.
    TypedTensor,
    /// `_rebuild_parameter`: the tensor is its first argument.
    Parameter,
    /// `_rebuild_from_type_v2`: a function, a class, the function's arguments.
    FromType,
    /// A storage class of elements of this type, or of plain bytes.
    StorageOf(Option<Dtype>),
    /// An element type.
    ElementType(Dtype),
    /// `_codecs.encode`: how Python 2 writes bytes.
    Encode,
    /// Anything else.
    Inert,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// The storage's name in the file.
    pub key: String,
    /// `None`: bytes without a type.
    pub dtype: Option<Dtype>,
    /// Number of elements.
    pub len: usize,
    /// First element, where it is a part of a larger storage (old files).
    pub offset: usize,
}

#[derive(Debug, Clone)]
pub struct RawTensor {
    pub storage: Storage,
    pub dtype: Dtype,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub stride: Vec<usize>,
}

#[derive(Debug)]
pub struct Object<'a> {
    pub class: String,
    pub args: Value<'a>,
    pub state: Value<'a>,
}

/// All objects of a file's pickles and what they may still cost.
#[derive(Debug)]
pub struct Arena<'a> {
    nodes: Vec<Node<'a>>,
    budget: usize,
}

/// Memory for the objects beyond the size of the file, bytes.
const ALLOWANCE: usize = 40 << 20;
/// A growing vector holds up to twice its items, and its old self while it grows.
const GROWTH: usize = 3;

/// The file wants more memory than its size explains.
#[derive(Debug)]
pub struct OverBudget;

impl<'a> Arena<'a> {
    /// For a file of `file_bytes`.
    pub fn new(file_bytes: usize) -> Self {
        Self { nodes: Vec::new(), budget: file_bytes.saturating_add(ALLOWANCE) }
    }

    /// Takes `bytes` from the budget.
    pub fn charge(&mut self, bytes: usize) -> Result<(), OverBudget> {
        self.budget = self.budget.checked_sub(bytes).ok_or(OverBudget)?;
        Ok(())
    }

    /// Takes what `count` values in a growing vector cost.
    pub fn charge_values(&mut self, count: usize) -> Result<(), OverBudget> {
        self.charge(count.saturating_mul(GROWTH * size_of::<Value<'_>>()))
    }

    /// Adds an object.
    pub fn add(&mut self, node: Node<'a>) -> Result<Value<'a>, OverBudget> {
        let inside = match &node {
            Node::Text(text) => text.capacity(),
            Node::List(items) | Node::Tuple(items) => items.len() * GROWTH * size_of::<Value<'_>>(),
            Node::Dict(pairs) => pairs.len() * 2 * GROWTH * size_of::<Value<'_>>(),
            Node::Global(global) => size_of::<Global>() + global.name.len(),
            Node::Storage(storage) => size_of::<Storage>() + storage.key.len(),
            Node::Tensor(t) => {
                let words = (t.shape.len() + t.stride.len()) * size_of::<usize>();
                size_of::<RawTensor>() + t.storage.key.len() + words
            }
            Node::Object(object) => size_of::<Object<'_>>() + object.class.len(),
        };
        self.charge(inside.saturating_add(GROWTH * size_of::<Node<'_>>()))?;
        let id = u32::try_from(self.nodes.len()).map_err(|_| OverBudget)?;
        self.nodes.push(node);
        Ok(Value::Node(id))
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The object behind a value.
    pub fn node(&self, value: Value<'a>) -> Option<&Node<'a>> {
        match value {
            Value::Node(id) => self.nodes.get(id as usize),
            _ => None,
        }
    }

    /// The object behind a value, to change.
    pub fn node_mut(&mut self, value: Value<'a>) -> Option<&mut Node<'a>> {
        match value {
            Value::Node(id) => self.nodes.get_mut(id as usize),
            _ => None,
        }
    }

    /// All objects in the order they were made.
    pub fn nodes(&self) -> &[Node<'a>] {
        &self.nodes
    }

    /// The text of a value.
    pub fn text(&self, value: Value<'a>) -> Option<&str> {
        match (value, self.node(value)) {
            (Value::Str(text), _) => Some(text),
            (_, Some(Node::Text(text))) => Some(text),
            _ => None,
        }
    }

    /// The items of a list or tuple.
    pub fn items(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match (value, self.node(value)) {
            (Value::EmptyTuple, _) => Some(&[]),
            (_, Some(Node::List(items) | Node::Tuple(items))) => Some(items),
            _ => None,
        }
    }

    /// The entry of a dict.
    pub fn entry(&self, value: Value<'a>, key: &str) -> Option<Value<'a>> {
        let Some(Node::Dict(pairs)) = self.node(value) else { return None };
        pairs.iter().rev().find(|(k, _)| self.text(*k) == Some(key)).map(|(_, v)| *v)
    }
}
