//! Numpy's arrays, scalars and types as their pickles describe them.
//!
//! An array is `_reconstruct(ndarray, (0,), b'b')` given the state `(1, shape, dtype, is_fortran, data)`; a type
//! is `dtype('i8', …)` given the state `(3, '<', …)`; a scalar is `scalar(dtype, data)`. Data are the elements'
//! bytes, or a list where the elements are objects.

use std::borrow::Cow;

use half::f16;
use serde_json::Value as Json;

use super::{DataPickleError, Reading, VALUE, content, number, parts, short};
use crate::pickle::value::{Node, Object, Value};

/// Axes of an array at most (numpy's own limit is 64).
const MAX_AXES: usize = 16;
/// Bytes of an element at most.
const MAX_ELEMENT: usize = 1 << 16;

/// What an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Signed,
    Unsigned,
    Float,
    /// Characters of four bytes each.
    Unicode,
    /// Characters of one byte.
    Bytes,
    Object,
}

#[derive(Debug, Clone, Copy)]
struct ElementType {
    kind: Kind,
    /// Bytes; 0 for objects.
    size: usize,
    big_endian: bool,
}

impl<'a> Reading<'_, 'a> {
    /// The bytes of what may hold some: bytes themselves; Python 2's strings; text in which every character is a
    /// byte, by `_codecs.encode` or escaped; and `bytes()`.
    pub fn bytes(&mut self, value: Value<'a>) -> Result<Cow<'a, [u8]>, DataPickleError> {
        let bytes = self.bytes_of(value)?;
        self.charge(bytes.len())?;
        Ok(bytes)
    }

    fn bytes_of(&self, value: Value<'a>) -> Result<Cow<'a, [u8]>, DataPickleError> {
        let wrong = || content("something that is not bytes where an array's bytes are expected");
        match (value, self.arena.node(value)) {
            (Value::Bytes(bytes), _) => Ok(Cow::Borrowed(bytes)),
            (Value::Str(text), _) => Ok(Cow::Borrowed(text.as_bytes())),
            (_, Some(Node::Text(text))) => latin1(text),
            (_, Some(Node::Object(object))) => {
                let (args, _) = parts(self.arena, object, &object.class)?;
                match (short(&object.class), args) {
                    ("bytes", []) => Ok(Cow::Borrowed(&[])),
                    ("encode", [text, codec]) => {
                        if !matches!(self.arena.text(*codec), Some("latin1" | "latin-1")) {
                            return Err(content("bytes in an encoding other than latin1"));
                        }
                        latin1(self.arena.text(*text).ok_or_else(wrong)?)
                    }
                    _ => Err(wrong()),
                }
            }
            _ => Err(wrong()),
        }
    }

    /// An array as nested lists; one without axes is its element.
    pub fn array(&mut self, object: &Object<'a>, depth: usize) -> Result<Json, DataPickleError> {
        let (args, state) = parts(self.arena, object, "a numpy array")?;
        let class = args.first().and_then(|class| match self.arena.node(*class) {
            Some(Node::Global(global)) => Some(global.name.as_str()),
            _ => None,
        });
        if class != Some("numpy.ndarray") {
            return Err(content("an array that is no numpy.ndarray"));
        }
        // Old arrays have no version before the shape.
        let (shape, dtype, is_fortran, data) = match state {
            Some(&[Value::Int(_), shape, dtype, fortran, data]) | Some(&[shape, dtype, fortran, data]) => {
                (shape, dtype, matches!(fortran, Value::Bool(true) | Value::Int(1)), data)
            }
            _ => return Err(content("a numpy array without shape, type and data")),
        };
        let shape = self.shape(shape)?;
        let dtype = self.element_type(dtype)?;
        // Whether the count of elements fits the data is known before anything is made of them.
        let count = shape.iter().try_fold(1usize, |count, side| count.checked_mul(*side));
        let count = count.ok_or_else(|| content("a numpy array with more elements than can be counted"))?;
        let misfit = |found: usize| {
            content(format!(
                "a numpy array of shape {shape:?} whose data are for another, {found} bytes or elements"
            ))
        };
        let mut elements = Vec::new();
        if dtype.kind == Kind::Object {
            let arena = self.arena;
            let items =
                arena.items(data).ok_or_else(|| content("a numpy array of objects without a list of them"))?;
            if items.len() != count {
                return Err(misfit(items.len()));
            }
            let Json::Array(all) = self.items(items, depth + 1)? else {
                return Err(misfit(items.len()));
            };
            elements = all;
        } else {
            let bytes = self.bytes(data)?;
            if count.checked_mul(dtype.size) != Some(bytes.len()) {
                return Err(misfit(bytes.len()));
            }
            self.charge(count.saturating_mul(VALUE))?;
            elements.reserve_exact(count);
            for element in bytes.chunks_exact(dtype.size) {
                elements.push(self.element(dtype, element)?);
            }
        }
        let strides = strides(&shape, is_fortran);
        self.nested(&mut elements, &shape, &strides, 0)
    }

    /// `scalar(dtype, data)`.
    pub fn scalar(&mut self, object: &Object<'a>) -> Result<Json, DataPickleError> {
        let (args, _) = parts(self.arena, object, "a numpy scalar")?;
        let &[dtype, data] = args else {
            return Err(content("a numpy scalar without type and data"));
        };
        let dtype = self.element_type(dtype)?;
        let bytes = self.bytes(data)?;
        if dtype.kind == Kind::Object || bytes.len() != dtype.size {
            return Err(content(format!("a numpy scalar of {} bytes whose data are {}", dtype.size, bytes.len())));
        }
        self.element(dtype, &bytes)
    }

    fn shape(&self, value: Value<'a>) -> Result<Vec<usize>, DataPickleError> {
        let side = |value: &Value<'a>| match value {
            Value::Int(i) => usize::try_from(*i).ok(),
            _ => None,
        };
        let sides = self.arena.items(value).filter(|sides| sides.len() <= MAX_AXES);
        let shape = sides.and_then(|sides| sides.iter().map(side).collect());
        shape.ok_or_else(|| content(format!("a numpy array whose shape is not up to {MAX_AXES} whole numbers")))
    }

    fn element_type(&mut self, value: Value<'a>) -> Result<ElementType, DataPickleError> {
        let arena = self.arena;
        let Some(Node::Object(object)) = arena.node(value) else {
            return Err(content("a numpy array without an element type"));
        };
        if object.class != "numpy.dtype" {
            return Err(content(format!("an object of {} where numpy.dtype is expected", object.class)));
        }
        let (args, state) = parts(arena, object, "a numpy type")?;
        let name = args.first().map(|name| self.bytes(*name)).transpose()?.unwrap_or_default();
        let name = String::from_utf8_lossy(&name).into_owned();
        let order = state.and_then(|state| state.get(1)).and_then(|order| self.bytes(*order).ok());
        let big_endian = order.is_some_and(|order| *order == *b">");
        let known = || {
            let mut letters = name.chars();
            let kind = letters.next()?;
            let number: usize = match letters.as_str() {
                "" if kind == 'O' => 0,
                digits => digits.parse().ok()?,
            };
            let (kind, size) = match (kind, number) {
                ('b', 1) => (Kind::Bool, 1),
                ('i', 1 | 2 | 4 | 8) => (Kind::Signed, number),
                ('u', 1 | 2 | 4 | 8) => (Kind::Unsigned, number),
                ('f', 2 | 4 | 8) => (Kind::Float, number),
                ('U', 1..=MAX_ELEMENT) => (Kind::Unicode, 4 * number),
                ('S', 1..=MAX_ELEMENT) => (Kind::Bytes, number),
                ('O', _) => (Kind::Object, 0),
                _ => return None,
            };
            Some(ElementType { kind, size, big_endian })
        };
        known().ok_or_else(|| {
            content(format!(
                "a numpy array of the type \"{name}\"; bools, integers, floats, text and objects are read"
            ))
        })
    }

    /// One element; `bytes` are as many as the type has.
    fn element(&mut self, dtype: ElementType, bytes: &[u8]) -> Result<Json, DataPickleError> {
        // Little-endian, zero beyond the element.
        let mut word = [0; 8];
        for (i, to) in word.iter_mut().enumerate().take(dtype.size) {
            let from = if dtype.big_endian { dtype.size - 1 - i } else { i };
            *to = bytes.get(from).copied().unwrap_or_default();
        }
        let unsigned = u64::from_le_bytes(word);
        match dtype.kind {
            Kind::Bool => Ok(Json::Bool(unsigned != 0)),
            Kind::Unsigned => Ok(Json::from(unsigned)),
            Kind::Signed => {
                // The sign goes to the top and comes back with its copies.
                let unused = 64 - 8 * dtype.size as u32;
                Ok(Json::from((unsigned << unused) as i64 >> unused))
            }
            Kind::Float => number(match dtype.size {
                2 => f64::from(f16::from_bits(unsigned as u16)),
                4 => f64::from(f32::from_bits(unsigned as u32)),
                _ => f64::from_bits(unsigned),
            }),
            Kind::Bytes => {
                let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
                self.utf8(&bytes[..end])
            }
            Kind::Unicode => {
                let mut text = String::new();
                self.charge(bytes.len())?;
                for code in bytes.as_chunks::<4>().0 {
                    let code =
                        if dtype.big_endian { u32::from_be_bytes(*code) } else { u32::from_le_bytes(*code) };
                    text.push(char::from_u32(code).ok_or_else(|| content("text with a character that is none"))?);
                }
                text.truncate(text.trim_end_matches('\0').len());
                Ok(Json::String(text))
            }
            Kind::Object => Err(content("a numpy array of objects without a list of them")),
        }
    }

    /// The elements by axes, the outermost first. Elements are moved out.
    fn nested(
        &mut self,
        elements: &mut [Json],
        shape: &[usize],
        strides: &[usize],
        offset: usize,
    ) -> Result<Json, DataPickleError> {
        let (Some((&side, inner)), Some((stride, rest))) = (shape.split_first(), strides.split_first()) else {
            return Ok(elements.get_mut(offset).map(Json::take).unwrap_or_default());
        };
        self.charge(side.saturating_mul(VALUE))?;
        let mut all = Vec::with_capacity(side);
        for i in 0..side {
            all.push(self.nested(elements, inner, rest, offset + i * stride)?);
        }
        Ok(Json::Array(all))
    }
}

/// Text in which every character is a byte.
fn latin1(text: &str) -> Result<Cow<'static, [u8]>, DataPickleError> {
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    bytes.map(Cow::Owned).ok_or_else(|| content("bytes written as text with characters beyond a byte"))
}

/// Elements from one place of an axis to the next.
fn strides(shape: &[usize], is_fortran: bool) -> Vec<usize> {
    let mut strides = vec![0; shape.len()];
    let mut step = 1usize;
    for i in 0..shape.len() {
        let axis = if is_fortran { i } else { shape.len() - 1 - i };
        strides[axis] = step;
        step = step.saturating_mul(shape[axis]);
    }
    strides
}
