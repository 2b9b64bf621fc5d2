//! Element types of stored tensors.

use half::{bf16, f16};

/// An element type, under safetensors' name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Dtype {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
    C64,
    F8,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 | Self::C64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool | Self::F8 => 1,
        }
    }

    /// Whether it is a floating-point type that [`crate::Weights::values`] turns into f32.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }

    /// Lower-case name, as in `f16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U64 => "u64",
            Self::U32 => "u32",
            Self::U16 => "u16",
            Self::U8 => "u8",
            Self::Bool => "bool",
            Self::C64 => "c64",
            Self::F8 => "f8",
        }
    }

    /// The element type of a PyTorch storage class (`FloatStorage`) or dtype (`float32`).
    pub(crate) fn of_torch(name: &str) -> Option<Self> {
        Some(match name.strip_suffix("Storage").unwrap_or(name) {
            "Double" | "float64" | "double" => Self::F64,
            "Float" | "float32" | "float" => Self::F32,
            "Half" | "float16" | "half" => Self::F16,
            "BFloat16" | "bfloat16" => Self::BF16,
            "Long" | "int64" | "long" => Self::I64,
            "Int" | "int32" | "int" => Self::I32,
            "Short" | "int16" | "short" => Self::I16,
            "Char" | "int8" => Self::I8,
            "Byte" | "uint8" => Self::U8,
            "Bool" | "bool" => Self::Bool,
            "ComplexFloat" | "complex64" | "cfloat" => Self::C64,
            "uint16" => Self::U16,
            "uint32" => Self::U32,
            "uint64" => Self::U64,
            "float8_e4m3fn" | "float8_e5m2" | "float8_e4m3fnuz" | "float8_e5m2fnuz" => Self::F8,
            _ => return None,
        })
    }

    /// Decodes the elements at `starts` (byte positions in `bytes`, each a whole element) to f32; `None` for types
    /// that are not converted.
    pub(crate) fn decode(self, bytes: &[u8], starts: impl ExactSizeIterator<Item = usize>) -> Option<Vec<f32>> {
        fn all<const N: usize>(
            bytes: &[u8],
            starts: impl ExactSizeIterator<Item = usize>,
            convert: impl Fn([u8; N]) -> f32,
        ) -> Option<Vec<f32>> {
            let mut out = Vec::with_capacity(starts.len());
            for start in starts {
                out.push(convert(*bytes.get(start..)?.first_chunk::<N>()?));
            }
            Some(out)
        }
        match self {
            Self::F64 => all(bytes, starts, |b| f64::from_le_bytes(b) as f32),
            Self::F32 => all(bytes, starts, f32::from_le_bytes),
            Self::F16 => all(bytes, starts, |b| f16::from_le_bytes(b).to_f32()),
            Self::BF16 => all(bytes, starts, |b| bf16::from_le_bytes(b).to_f32()),
            _ => None,
        }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
