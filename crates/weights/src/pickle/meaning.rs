//! What names in a pickle mean. Everything is data: a name is looked up in a table, never imported or called.

use super::value::{Arena, Global, Meaning, Node, Object, RawTensor, Storage, Value};
use super::{Fault, Reader, Vocabulary};
use crate::dtype::Dtype;

/// Modules whose functions do something to the machine they run on. A weight file that names one is an attack (or
/// a mistake worth knowing of), so it is refused rather than read past.
const DANGEROUS_MODULES: [&str; 35] = [
    "os",
    "posix",
    "nt",
    "posixpath",
    "ntpath",
    "subprocess",
    "sys",
    "shutil",
    "socket",
    "pty",
    "codeop",
    "importlib",
    "runpy",
    "pkgutil",
    "pickle",
    "_pickle",
    "cPickle",
    "marshal",
    "ctypes",
    "cffi",
    "popen2",
    "webbrowser",
    "urllib",
    "requests",
    "ftplib",
    "smtplib",
    "asyncio",
    "multiprocessing",
    "threading",
    "_thread",
    "signal",
    "pdb",
    "bdb",
    "operator",
    "_operator",
];

/// Python's built-in names that only hold data.
const DATA_BUILTINS: [&str; 17] = [
    "set",
    "frozenset",
    "dict",
    "list",
    "tuple",
    "int",
    "float",
    "bool",
    "str",
    "bytes",
    "bytearray",
    "complex",
    "slice",
    "range",
    "object",
    "Ellipsis",
    "NotImplemented",
];

/// The meaning of `module.name`; an error where it is one of those that run code.
pub fn meaning_of(module: &str, name: &str) -> Result<Meaning, ()> {
    let root = module.split('.').next().unwrap_or_default();
    let builtins = matches!(root, "builtins" | "__builtin__" | "__builtins__");
    let calls = builtins && !DATA_BUILTINS.contains(&name);
    // A dotted name reaches through a module's attributes: `os` is an attribute of many harmless modules.
    let reaches = name.contains('.') && name.split('.').any(|part| DANGEROUS_MODULES.contains(&part));
    // People have folders called `code`; Python's own module of that name is one without parts.
    if DANGEROUS_MODULES.contains(&root) || module == "code" || calls || reaches {
        return Err(());
    }
    Ok(match (module, name) {
        ("collections", "OrderedDict" | "defaultdict" | "Counter") => Meaning::Dict,
        ("torch", "Size") => Meaning::Sequence,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Meaning::Tensor,
        ("torch._utils", "_rebuild_tensor_v3") => Meaning::TypedTensor,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Meaning::Parameter,
        ("torch._tensor", "_rebuild_from_type_v2") => Meaning::FromType,
        ("torch.storage", "UntypedStorage" | "_UntypedStorage") | ("torch", "UntypedStorage") => {
            Meaning::StorageOf(None)
        }
        ("_codecs", "encode") => Meaning::Encode,
        ("torch" | "torch.cuda" | "torch.storage", _) => match Dtype::of_torch(name) {
            Some(dtype) if name.ends_with("Storage") => Meaning::StorageOf(Some(dtype)),
            Some(dtype) => Meaning::ElementType(dtype),
            None => Meaning::Inert,
        },
        _ if builtins => match name {
            "dict" => Meaning::Dict,
            "set" | "frozenset" | "list" | "tuple" => Meaning::Sequence,
            _ => Meaning::Inert,
        },
        _ => Meaning::Inert,
    })
}

/// What the class or function `callee` makes of `args`, as data.
pub fn reduce<'a>(r: &mut Reader<'_, 'a>, callee: Value<'a>, args: Value<'a>) -> Result<Value<'a>, Fault> {
    let Some(Node::Global(global)) = r.arena.node(callee) else {
        return Err(Fault::bad("expected a class or function to build an object with"));
    };
    let global = (**global).clone();
    let first = r.arena.items(args).and_then(|a| a.first()).copied();
    match global.meaning {
        Meaning::Dict => {
            // `OrderedDict([[key, value], …])` is how Python 2 writes one; other arguments (a default factory) are
            // not contents.
            let count = first.and_then(|f| r.arena.items(f)).map_or(0, <[_]>::len);
            r.arena.charge_values(2 * count)?;
            let pair = |arena: &Arena<'a>, item| match arena.items(item) {
                Some(&[key, value]) => Some((key, value)),
                _ => None,
            };
            let items = first.and_then(|f| r.arena.items(f)).unwrap_or_default();
            let pairs = items.iter().filter_map(|i| pair(r.arena, *i)).collect();
            Ok(r.arena.add(Node::Dict(pairs))?)
        }
        Meaning::Sequence => Ok(first.filter(|f| r.arena.items(*f).is_some()).unwrap_or(Value::EmptyTuple)),
        Meaning::Parameter => first.ok_or_else(|| Fault::bad("a parameter without a tensor")),
        Meaning::Tensor => tensor(r, args, None),
        Meaning::TypedTensor => {
            let dtype = r.arena.items(args).and_then(|a| a.get(6)).and_then(|d| element_type(r.arena, *d));
            let dtype = dtype.ok_or_else(|| Fault::bad("a tensor without an element type"))?;
            tensor(r, args, Some(dtype))
        }
        Meaning::FromType => {
            let (function, inner) = match r.arena.items(args) {
                Some(&[function, _, inner, ..]) => (function, inner),
                _ => return Err(Fault::bad("a tensor of a class of its own without arguments")),
            };
            let nested = matches!(r.arena.node(function), Some(Node::Global(g)) if g.meaning == Meaning::FromType);
            if nested {
                return Err(Fault::bad("a tensor rebuilt through itself"));
            }
            reduce(r, function, inner)
        }
        // Python 2 writes bytes as text in which every character is one byte.
        Meaning::Encode => Ok(first.unwrap_or(Value::None)),
        Meaning::StorageOf(_) | Meaning::ElementType(_) | Meaning::Inert => {
            let object = Object { class: global.name, args, state: Value::None };
            Ok(r.arena.add(Node::Object(Box::new(object)))?)
        }
    }
}

fn element_type<'a>(arena: &Arena<'a>, value: Value<'a>) -> Option<Dtype> {
    match arena.node(value) {
        Some(Node::Global(global)) => match global.meaning {
            Meaning::ElementType(dtype) => Some(dtype),
            _ => None,
        },
        _ => None,
    }
}

fn size(value: Value<'_>) -> Option<usize> {
    match value {
        Value::Int(i) => usize::try_from(i).ok(),
        Value::Bool(b) => Some(usize::from(b)),
        _ => None,
    }
}

/// Axes of a tensor at most (PyTorch's own limit).
const MAX_AXES: usize = 64;

/// storage, first element, sizes, strides, …
fn tensor<'a>(r: &mut Reader<'_, 'a>, args: Value<'a>, dtype: Option<Dtype>) -> Result<Value<'a>, Fault> {
    let Some(&[storage, offset, sizes, strides, ..]) = r.arena.items(args) else {
        return Err(Fault::bad("a tensor needs a storage, an offset, sizes and strides"));
    };
    let Some(Node::Storage(storage)) = r.arena.node(storage) else {
        return Err(Fault::bad("a tensor's first part is not a storage"));
    };
    let axes = |value| -> Option<Vec<usize>> {
        let items = r.arena.items(value).filter(|i| i.len() <= MAX_AXES)?;
        items.iter().map(|i| size(*i)).collect()
    };
    let (Some(offset), Some(shape), Some(stride)) = (size(offset), axes(sizes), axes(strides)) else {
        return Err(Fault::bad("a tensor's offset, sizes and strides must be whole numbers, of at most 64 axes"));
    };
    if shape.len() != stride.len() {
        return Err(Fault::bad(format!("a tensor with {} sizes and {} strides", shape.len(), stride.len())));
    }
    let Some(dtype) = dtype.or(storage.dtype) else {
        return Err(Fault::bad("a tensor over a storage without an element type"));
    };
    let raw = RawTensor { storage: (**storage).clone(), dtype, offset, shape, stride };
    Ok(r.arena.add(Node::Tensor(Box::new(raw)))?)
}

/// A persistent id: ("storage", class, key, device, number of elements[, (view, offset, length)]), or, in old files, a
/// class and its source text: ("module", class, file, text).
pub fn storage<'a>(r: &mut Reader<'_, 'a>, id: Value<'a>) -> Result<Value<'a>, Fault> {
    let (class, key, len, view) = match r.arena.items(id) {
        Some(&[tag, class, ..]) if r.arena.text(tag) == Some("module") => return Ok(class),
        Some(&[tag, class, key, _, len, ref rest @ ..]) if r.arena.text(tag) == Some("storage") => {
            (class, key, len, rest.first().copied())
        }
        _ => {
            return Err(Fault::bad(
                "expected a persistent id of the form (\"storage\", class, key, device, length)",
            ));
        }
    };
    let Some(Node::Global(global)) = r.arena.node(class) else {
        return Err(Fault::bad("a storage's class is not a class"));
    };
    let Meaning::StorageOf(dtype) = global.meaning else {
        return Err(Fault::bad(format!("a storage of the class {}, which is none known", global.name)));
    };
    let (Some(key), Some(len)) = (r.arena.text(key).map(str::to_owned), size(len)) else {
        return Err(Fault::bad("a storage's key must be text, its length a whole number"));
    };
    let (offset, len) = match view.and_then(|v| r.arena.items(v)) {
        Some(&[_, offset, view_len]) => match (size(offset), size(view_len)) {
            (Some(offset), Some(view_len)) => (offset, view_len),
            _ => return Err(Fault::bad("the offset and length of a part of a storage must be whole numbers")),
        },
        _ => (0, len),
    };
    Ok(r.arena.add(Node::Storage(Box::new(Storage { key, dtype, len, offset })))?)
}

/// Gives `object` its state. Only objects without a meaning keep it; what a dict or tensor carries beside its
/// contents (`_metadata`, hooks) is of no use here.
pub fn build<'a>(arena: &mut Arena<'a>, object: Value<'a>, state: Value<'a>) {
    if let Some(Node::Object(object)) = arena.node_mut(object) {
        object.state = state;
    }
}

/// The class or function `module.name`.
pub fn global<'a>(
    arena: &mut Arena<'a>,
    vocabulary: Vocabulary,
    module: &str,
    name: &str,
) -> Result<Value<'a>, Fault> {
    const LONGEST: usize = 512;
    if module.len() + name.len() > LONGEST {
        return Err(Fault::bad("the name of a class of more than 512 characters"));
    }
    let full = format!("{module}.{name}");
    match vocabulary(module, name) {
        Ok(meaning) => Ok(arena.add(Node::Global(Box::new(Global { meaning, name: full })))?),
        Err(()) => Err(Fault::Code(full)),
    }
}
