//! The opcodes.

use std::collections::HashMap;
use std::mem::size_of;

use super::value::{Arena, Node, Object, Value};
use super::{Fault, Vocabulary, meaning, text};
use crate::WeightsError;

/// One pickle being read.
pub struct Reader<'r, 'a> {
    pub arena: &'r mut Arena<'a>,
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    /// The longest the stack was: only growth beyond it costs memory.
    high_water: usize,
    vocabulary: Vocabulary,
}

/// Reads the pickle at the start of `bytes`, of weights; returns its value and its length.
///
/// # Errors
/// [`WeightsError::Pickle`] and [`WeightsError::Code`], with the position in `bytes`.
pub fn read<'a>(bytes: &'a [u8], arena: &mut Arena<'a>) -> Result<(Value<'a>, usize), WeightsError> {
    read_with(bytes, arena, meaning::meaning_of)
}

/// The same with other names of classes and functions: [`WeightsError::Code`] is for those the vocabulary refuses.
///
/// # Errors
/// As [`read`].
pub fn read_with<'a>(
    bytes: &'a [u8],
    arena: &mut Arena<'a>,
    vocabulary: Vocabulary,
) -> Result<(Value<'a>, usize), WeightsError> {
    let (stack, marks, memo) = (Vec::new(), Vec::new(), HashMap::new());
    let mut reader = Reader { arena, bytes, at: 0, stack, marks, memo, high_water: 0, vocabulary };
    loop {
        let at = reader.at;
        match reader.step() {
            Ok(None) => {}
            Ok(Some(value)) => return Ok((value, reader.at)),
            Err(Fault::Bad(reason)) => return Err(WeightsError::Pickle { at, reason }),
            Err(Fault::Code(name)) => return Err(WeightsError::Code { at, name }),
        }
    }
}

impl<'a> Reader<'_, 'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let left = self.bytes.len() - self.at;
        if count > left {
            return Err(Fault::bad(format!("it ends early: {count} more bytes expected, {left} there")));
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u8(&mut self) -> Result<usize, Fault> {
        Ok(usize::from(self.array::<1>()?[0]))
    }

    fn u16(&mut self) -> Result<usize, Fault> {
        Ok(usize::from(u16::from_le_bytes(self.array()?)))
    }

    fn i32(&mut self) -> Result<i32, Fault> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<usize, Fault> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| Fault::bad("a length beyond this machine"))
    }

    fn line(&mut self) -> Result<&'a str, Fault> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|b| *b == b'\n').ok_or_else(|| Fault::bad("it ends within a line"))?;
        self.at += end + 1;
        let line = std::str::from_utf8(&rest[..end]).map_err(|_| Fault::bad("a line that is not UTF-8"))?;
        Ok(line.strip_suffix('\r').unwrap_or(line))
    }

    fn utf8(&mut self, count: usize) -> Result<Value<'a>, Fault> {
        let bytes = self.take(count)?;
        std::str::from_utf8(bytes).map(Value::Str).map_err(|_| Fault::bad("text that is not UTF-8"))
    }

    /// Python 2's strings are bytes; names are text all the same.
    fn old_string(&mut self, count: usize) -> Result<Value<'a>, Fault> {
        let bytes = self.take(count)?;
        Ok(std::str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::Str))
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), Fault> {
        self.stack.push(value);
        if self.stack.len() > self.high_water {
            self.high_water = self.stack.len();
            self.arena.charge_values(1)?;
        }
        Ok(())
    }

    fn pop(&mut self) -> Result<Value<'a>, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(Fault::bad("an opcode wants a value where none is on the stack"));
        }
        self.stack.pop().ok_or_else(|| Fault::bad("the stack is empty"))
    }

    fn top(&self) -> Result<Value<'a>, Fault> {
        self.stack.last().copied().ok_or_else(|| Fault::bad("the stack is empty"))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>, Fault> {
        let mark = self.marks.pop().ok_or_else(|| Fault::bad("an opcode wants a mark where none is"))?;
        self.arena.charge_values(self.stack.len() - mark)?;
        Ok(self.stack.split_off(mark))
    }

    fn add(&mut self, node: Node<'a>) -> Result<(), Fault> {
        let value = self.arena.add(node)?;
        self.push(value)
    }

    fn tuple(&mut self, items: Vec<Value<'a>>) -> Result<(), Fault> {
        if items.is_empty() { self.push(Value::EmptyTuple) } else { self.add(Node::Tuple(items)) }
    }

    fn remember(&mut self, key: u32) -> Result<(), Fault> {
        let value = self.top()?;
        if self.memo.insert(key, value).is_none() {
            self.arena.charge(4 * (size_of::<Value<'_>>() + 8))?;
        }
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<(), Fault> {
        let value = self.memo.get(&key).copied();
        self.push(
            value.ok_or_else(|| Fault::bad(format!("it recalls entry {key} of its memo, which is not there")))?,
        )
    }

    fn key_of_line(&mut self) -> Result<u32, Fault> {
        self.line()?.trim().parse().map_err(|_| Fault::bad("a memo entry that is no number"))
    }

    fn append(&mut self, list: Value<'a>, items: Vec<Value<'a>>) -> Result<(), Fault> {
        self.arena.charge_values(items.len())?;
        match self.arena.node_mut(list) {
            Some(Node::List(all)) => all.extend(items),
            // Appending to an object of an unknown class changes nothing that is read.
            Some(Node::Object(_)) => {}
            _ => return Err(Fault::bad("it appends to what is not a list")),
        }
        Ok(())
    }

    fn set_items(&mut self, dict: Value<'a>, items: &[Value<'a>]) -> Result<(), Fault> {
        if !items.len().is_multiple_of(2) {
            return Err(Fault::bad("a key without a value"));
        }
        self.arena.charge_values(items.len())?;
        match self.arena.node_mut(dict) {
            Some(Node::Dict(pairs)) => pairs.extend(items.chunks_exact(2).map(|p| (p[0], p[1]))),
            Some(Node::Object(_)) => {}
            _ => return Err(Fault::bad("it sets an entry of what is not a dict")),
        }
        Ok(())
    }

    fn long(&mut self, count: usize) -> Result<(), Fault> {
        let bytes = self.take(count)?;
        let value = match count {
            0 => Value::Int(0),
            1..=8 => {
                let sign = if bytes[count - 1] & 0x80 == 0 { 0 } else { 0xff };
                let mut wide = [sign; 8];
                wide[..count].copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(wide))
            }
            _ => Value::Long(bytes),
        };
        self.push(value)
    }

    /// An instance of `class`, made with `args`.
    fn instance(&mut self, class: Value<'a>, args: Value<'a>) -> Result<(), Fault> {
        // A class whose name means nothing becomes an object; so does what is no class at all (a persistent id).
        let value = match self.arena.node(class) {
            Some(Node::Global(_)) => meaning::reduce(self, class, args)?,
            _ => {
                let object = Object { class: "?".into(), args, state: Value::None };
                self.arena.add(Node::Object(Box::new(object)))?
            }
        };
        self.push(value)
    }

    /// One opcode; the value when it was the last.
    fn step(&mut self) -> Result<Option<Value<'a>>, Fault> {
        let opcode = self.array::<1>().map_err(|_| Fault::bad("it ends without a stop"))?[0];
        match opcode {
            b'.' => return self.pop().map(Some),
            0x80 => {
                let version = self.u8()?;
                if version > 5 {
                    return Err(Fault::bad(format!("protocol {version}; 0 to 5 are known")));
                }
            }
            // A frame only says how much may be read at once.
            0x95 => {
                self.u64()?;
            }
            b'(' => {
                self.marks.push(self.stack.len());
                self.arena.charge(3 * size_of::<usize>())?;
            }
            b'0' => {
                // Python lets a pop take a mark as well.
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => {
                let mark = self.marks.pop().ok_or_else(|| Fault::bad("an opcode wants a mark where none is"))?;
                self.stack.truncate(mark);
            }
            b'2' => {
                let value = self.top()?;
                self.push(value)?;
            }
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'I' | b'L' => {
                let line = self.line()?;
                let digits = line.trim().trim_end_matches('L');
                let value = match (opcode, line.trim(), digits.parse()) {
                    (b'I', "00", _) => Value::Bool(false),
                    (b'I', "01", _) => Value::Bool(true),
                    (_, _, Ok(number)) => Value::Int(number),
                    _ if digits.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit()) => {
                        Value::Digits(digits)
                    }
                    _ => return Err(Fault::bad("a number that is none")),
                };
                self.push(value)?;
            }
            b'J' => {
                let value = self.i32()?;
                self.push(Value::Int(i64::from(value)))?;
            }
            b'K' => {
                let value = self.u8()?;
                self.push(Value::Int(value as i64))?;
            }
            b'M' => {
                let value = self.u16()?;
                self.push(Value::Int(value as i64))?;
            }
            0x8a => {
                let count = self.u8()?;
                self.long(count)?;
            }
            0x8b => {
                let count = self.i32()?;
                let count = usize::try_from(count).map_err(|_| Fault::bad("a negative length"))?;
                self.long(count)?;
            }
            b'F' => {
                let value = self.line()?.trim().parse().map_err(|_| Fault::bad("a number that is none"))?;
                self.push(Value::Float(value))?;
            }
            b'G' => {
                let value = f64::from_be_bytes(self.array()?);
                self.push(Value::Float(value))?;
            }
            b'S' | b'V' => {
                let line = self.line()?;
                let plain = opcode == b'V' && !line.contains('\\');
                let unescaped = if opcode == b'V' { text::raw_unicode(line) } else { text::quoted(line) };
                match unescaped {
                    _ if plain => self.push(Value::Str(line))?,
                    Some(text) => self.add(Node::Text(text))?,
                    None => return Err(Fault::bad("text with a broken escape")),
                }
            }
            b'T' | b'U' => {
                let count = if opcode == b'U' { self.u8()? } else { self.u32()? as usize };
                let value = self.old_string(count)?;
                self.push(value)?;
            }
            b'X' | 0x8c | 0x8d => {
                let count = match opcode {
                    b'X' => self.u32()? as usize,
                    0x8c => self.u8()?,
                    _ => self.u64()?,
                };
                let value = self.utf8(count)?;
                self.push(value)?;
            }
            b'B' | b'C' | 0x8e | 0x96 => {
                let count = match opcode {
                    b'B' => self.u32()? as usize,
                    b'C' => self.u8()?,
                    _ => self.u64()?,
                };
                let bytes = self.take(count)?;
                self.push(Value::Bytes(bytes))?;
            }
            b']' | 0x8f => self.add(Node::List(Vec::new()))?,
            b'}' => self.add(Node::Dict(Vec::new()))?,
            b')' => self.push(Value::EmptyTuple)?,
            b'l' | 0x91 => {
                let items = self.pop_to_mark()?;
                self.add(Node::List(items))?;
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.tuple(items)?;
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let mut items = Vec::with_capacity(count);
                for _ in 0..count {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.tuple(items)?;
            }
            b'd' => {
                let items = self.pop_to_mark()?;
                self.add(Node::Dict(Vec::new()))?;
                let dict = self.top()?;
                self.set_items(dict, &items)?;
            }
            b'a' => {
                let item = self.pop()?;
                let list = self.top()?;
                self.append(list, vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                let list = self.top()?;
                self.append(list, items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                let dict = self.top()?;
                self.set_items(dict, &[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                let dict = self.top()?;
                self.set_items(dict, &items)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let value = meaning::global(self.arena, self.vocabulary, module, name)?;
                self.push(value)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let named = self.arena.text(module).zip(self.arena.text(name));
                let (module, name) = named.ok_or_else(|| Fault::bad("a class whose name is not text"))?;
                let (module, name) = (short(module)?, short(name)?);
                let value = meaning::global(self.arena, self.vocabulary, &module, &name)?;
                self.push(value)?;
            }
            b'R' | 0x81 => {
                let args = self.pop()?;
                let class = self.pop()?;
                self.instance(class, args)?;
            }
            0x92 => {
                self.pop()?;
                let args = self.pop()?;
                let class = self.pop()?;
                self.instance(class, args)?;
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let class = meaning::global(self.arena, self.vocabulary, module, name)?;
                let items = self.pop_to_mark()?;
                self.tuple(items)?;
                let args = self.pop()?;
                self.instance(class, args)?;
            }
            b'o' => {
                let mut items = self.pop_to_mark()?;
                if items.is_empty() {
                    return Err(Fault::bad("an object without a class"));
                }
                let class = items.remove(0);
                self.tuple(items)?;
                let args = self.pop()?;
                self.instance(class, args)?;
            }
            b'b' => {
                let state = self.pop()?;
                let object = self.top()?;
                meaning::build(self.arena, object, state);
            }
            b'Q' => {
                let id = self.pop()?;
                let value = meaning::storage(self, id)?;
                self.push(value)?;
            }
            b'P' => {
                return Err(Fault::bad("a persistent id in text (protocol 0), which PyTorch cannot read either"));
            }
            b'g' => {
                let key = self.key_of_line()?;
                self.recall(key)?;
            }
            b'h' => {
                let key = self.u8()?;
                self.recall(key as u32)?;
            }
            b'j' => {
                let key = self.u32()?;
                self.recall(key)?;
            }
            b'p' => {
                let key = self.key_of_line()?;
                self.remember(key)?;
            }
            b'q' => {
                let key = self.u8()?;
                self.remember(key as u32)?;
            }
            b'r' => {
                let key = self.u32()?;
                self.remember(key)?;
            }
            0x94 => {
                let key = u32::try_from(self.memo.len()).map_err(|_| Fault::bad("the memo is full"))?;
                self.remember(key)?;
            }
            0x82..=0x84 => return Err(Fault::bad("an extension code, whose meaning is not in the file")),
            0x97 | 0x98 => return Err(Fault::bad("a buffer outside the pickle")),
            other => return Err(Fault::bad(format!("{other:#04x} is no opcode"))),
        }
        Ok(None)
    }
}

/// A name of sensible length, copied.
fn short(text: &str) -> Result<String, Fault> {
    match text.len() {
        0..=512 => Ok(text.to_owned()),
        _ => Err(Fault::bad("the name of a class of more than 512 characters")),
    }
}
