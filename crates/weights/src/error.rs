//! What is wrong with weights.

/// An error of reading, writing or fitting weights.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// Bytes of none of the formats.
    #[error("expected weights (.safetensors, or a PyTorch .pth, .pt or .tar), found {}", clean(.0))]
    Unrecognised(String),
    /// A safetensors file that contradicts itself.
    #[error("not a readable safetensors file: {}", clean(.0))]
    Safetensors(String),
    /// A PyTorch file that contradicts itself.
    #[error("not a readable PyTorch file: {}", clean(.0))]
    Torch(String),
    /// A pickle that is broken or asks for too much.
    #[error("the pickle in this PyTorch file cannot be read: {} (byte {at})", clean(.reason))]
    Pickle {
        /// Position in the pickle, bytes.
        at: usize,
        /// What was expected and what was found.
        reason: String,
    },
    /// A pickle that wants something executed.
    #[error(
        "refused: the pickle in this file names {} (byte {at}), which runs code when Python loads it; weights need \
         nothing of the kind. Nothing was run",
        clean(.name)
    )]
    Code {
        /// Module and name, as the file has it.
        name: String,
        /// Position in the pickle, bytes.
        at: usize,
    },
    /// One tensor whose numbers do not hold.
    #[error("tensor {}: {}", clean(.name), clean(.reason))]
    Tensor {
        /// Its name.
        name: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// Readable weights without what was asked for.
    #[error("{}", clean(.0))]
    Layout(String),
    /// Weights of another network.
    #[error("{}", .0)]
    Mismatch(Mismatch),
    /// Reading values back from the device failed.
    #[error("cannot read parameter {name} from the device: {reason}")]
    Device {
        /// The parameter.
        name: String,
        /// What the device said.
        reason: String,
    },
}

/// A text out of a file without what would move a terminal's cursor.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// How a file's tensors differ from the network's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// In the network, not in the file.
    pub missing: Vec<String>,
    /// In the file, not in the network.
    pub unexpected: Vec<String>,
    /// In both with different shapes: name, expected, found.
    pub shapes: Vec<(String, Vec<usize>, Vec<usize>)>,
}

/// Names of each kind a message shows.
const SHOWN: usize = 5;

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |what: &str, names: &[String], f: &mut std::fmt::Formatter<'_>| match names.len() {
            0 => Ok(()),
            count => {
                write!(f, "; {count} {what}: {}", clean(&names[..count.min(SHOWN)].join(", ")))?;
                if count > SHOWN { write!(f, " and {} more", count - SHOWN) } else { Ok(()) }
            }
        };
        write!(f, "the weights do not fit this network")?;
        list("missing", &self.missing, f)?;
        list("unexpected", &self.unexpected, f)?;
        let shapes: Vec<String> = self
            .shapes
            .iter()
            .map(|(name, expected, found)| format!("{name} (expected shape {expected:?}, found {found:?})"))
            .collect();
        list("of another shape", &shapes, f)
    }
}
