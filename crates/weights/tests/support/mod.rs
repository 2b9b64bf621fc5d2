//! Small files of every kind, and ways to make bad ones.
#![allow(dead_code)]

use std::path::Path;

use ocelli_weights::{Dtype, HostTensor, StateDict, write_safetensors, write_safetensors_as};

/// A file made by `fixtures/make.py`.
pub fn fixture(name: &str) -> Vec<u8> {
    // Asked when the test runs: a cached build may have been made elsewhere.
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let path = Path::new(&root).join("tests/fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub const PTH: [&str; 6] =
    ["kinds.zip.pth", "kinds.legacy.pth", "kinds.protocol4.pth", "dino.pth", "backbone.f16.pth", "module.pth"];

/// Element i of every fixture's tensor.
pub fn ramp(count: usize, offset: f32) -> Vec<f32> {
    (0..count).map(|i| i as f32 / 8.0 + offset).collect()
}

/// Little files in safetensors.
pub fn safetensors() -> Vec<Vec<u8>> {
    let tensor = |shape: &[usize]| HostTensor { shape: shape.to_vec(), values: ramp(shape.iter().product(), 0.0) };
    let mut state = StateDict::default();
    state.tensors.push(("a".into(), tensor(&[2, 3])));
    state.tensors.push(("blocks.0.norm1.weight".into(), tensor(&[4])));
    state.tensors.push(("scalar".into(), tensor(&[])));
    state.metadata.insert("format".into(), "pt".into());
    let one = write_safetensors(&state).unwrap();
    state.tensors.push(("head.weight".into(), tensor(&[3, 2])));
    let eight_bits = write_safetensors_as(&state, Dtype::I8).unwrap();
    let two = header(
        r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"I64","shape":[1],"data_offsets":[4,12]}}"#,
        12,
    );
    vec![one, two, eight_bits]
}

/// A safetensors file with this header and so many bytes of tensors.
pub fn header(json: &str, data: usize) -> Vec<u8> {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.bytes());
    bytes.resize(bytes.len() + data, 1);
    bytes
}

/// What a zip entry says of itself; `None` for the truth.
#[derive(Default, Clone, Copy)]
pub struct Lies {
    pub size: Option<u32>,
    pub packed: Option<u32>,
    pub method: u16,
    pub offset: Option<u32>,
}

/// A zip of stored entries.
pub fn zip(files: &[(&str, &[u8], Lies)]) -> Vec<u8> {
    let (mut out, mut central) = (Vec::new(), Vec::new());
    for (name, bytes, lies) in files {
        let len = bytes.len() as u32;
        let offset = lies.offset.unwrap_or(out.len() as u32);
        let mut common = Vec::new();
        for field in [20u16, 0, lies.method, 0, 0x21] {
            common.extend(field.to_le_bytes());
        }
        for field in [0, lies.packed.unwrap_or(len), lies.size.unwrap_or(len)] {
            common.extend(field.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend([0; 2]);
        out.extend(name.bytes());
        out.extend(*bytes);
        central.extend(b"PK\x01\x02\x14\x00");
        central.extend(&common);
        central.extend([0; 12]);
        central.extend(offset.to_le_bytes());
        central.extend(name.bytes());
    }
    let (start, count) = (out.len() as u32, files.len() as u16);
    out.extend(&central);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend((central.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0; 2]);
    out
}

/// A PyTorch file of this pickle and one storage, `0`, of 16 bytes.
pub fn pth(pickle: &[u8]) -> Vec<u8> {
    let true_lies = Lies::default();
    zip(&[("a/data.pkl", pickle, true_lies), ("a/data/0", &[0; 16], true_lies), ("a/version", b"3\n", true_lies)])
}

/// Opcodes for a tensor of storage `0` (`storage` elements of f32): offset, size and stride of its one axis.
pub fn tensor(storage: i32, offset: i32, size: i32, stride: i32) -> Vec<u8> {
    let int = |v: i32| [b"J".as_slice(), &v.to_le_bytes()].concat();
    let mut out =
        b"ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpu".to_vec();
    out.extend(int(storage));
    out.extend(b"tQ");
    out.extend(int(offset));
    out.push(b'(');
    out.extend(int(size));
    out.extend(b"t(");
    out.extend(int(stride));
    out.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
    out
}
