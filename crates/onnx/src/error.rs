//! What can go wrong when a graph is written.

/// Why a network did not become an ONNX file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OnnxError {
    /// Weights that are not those of the network to write.
    #[error("{0}")]
    Weights(String),
    /// A kind of network that no graph is written for.
    #[error("{0}")]
    Unsupported(String),
    /// More than the format can hold.
    #[error(
        "an ONNX file holds at most 2 GB, and this network needs {0} bytes; write safetensors, which has no such limit"
    )]
    TooLarge(usize),
    /// Bytes that are no ONNX file.
    #[error("expected an ONNX file: {0}")]
    Decode(String),
    /// A graph that no runtime would take: a mistake of ours.
    #[error("the graph that was made is not sound: {0}")]
    Graph(String),
}
