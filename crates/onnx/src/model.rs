//! The file around a graph: what goes in and out, versions, bytes, and whether a runtime would take it.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;

use crate::OnnxError;
use crate::graph::Graph;
use crate::proto::{self, Dimension, OperatorSet, Property, Size, ValueInfo, data_type};

/// Version of the format that is written: the one that belongs to the operators.
pub const IR_VERSION: i64 = 8;
/// Version of the operators: the first with layer normalisation.
pub const OPSET: i64 = 17;

/// Most bytes of one message of protocol buffers.
const MAX_BYTES: usize = i32::MAX as usize;

/// What of the input's shape is fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axes {
    /// Images of a batch; none for any number.
    pub batch: Option<usize>,
    /// Height and width in pixels; none for any.
    pub size: Option<[usize; 2]>,
}

/// Size of an axis of an input or output.
#[derive(Clone, Copy)]
pub(crate) enum Axis {
    Fixed(usize),
    Any(&'static str),
}

impl Axes {
    pub(crate) fn batch(self) -> Axis {
        self.batch.map_or(Axis::Any("batch"), Axis::Fixed)
    }

    /// `pixels`, `[batch, 3, height, width]`.
    pub(crate) fn pixels(self) -> ValueInfo {
        let [height, width] = match self.size {
            Some([height, width]) => [Axis::Fixed(height), Axis::Fixed(width)],
            None => [Axis::Any("height"), Axis::Any("width")],
        };
        let words = "RGB, normalised as the metadata say: (level / 255 - mean) / std";
        value("pixels", &[self.batch(), Axis::Fixed(3), height, width], words)
    }
}

/// A float tensor that goes in or out.
pub(crate) fn value(name: &str, axes: &[Axis], words: &str) -> ValueInfo {
    let dim = axes.iter().map(|axis| Dimension {
        value: Some(match *axis {
            Axis::Fixed(size) => Size::Value(size as i64),
            Axis::Any(name) => Size::Param(name.to_owned()),
        }),
    });
    let shape = Some(proto::Shape { dim: dim.collect() });
    let tensor_type = Some(proto::TensorType { elem_type: data_type::FLOAT, shape });
    ValueInfo { name: name.to_owned(), r#type: Some(proto::Type { tensor_type }), doc_string: words.to_owned() }
}

/// A file of a graph, checked.
pub(crate) fn model(
    graph: Graph,
    axes: Axes,
    outputs: Vec<ValueInfo>,
    metadata: &BTreeMap<String, String>,
) -> Result<proto::Model, OnnxError> {
    let property = |(key, value): (&String, &String)| Property { key: key.clone(), value: value.clone() };
    let model = proto::Model {
        ir_version: IR_VERSION,
        producer_name: "ocelli".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: "A backbone without a classifier: pixels in, features out.".into(),
        graph: Some(graph.finish("backbone", axes.pixels(), outputs)),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        metadata_props: metadata.iter().map(property).collect(),
    };
    match unsound(&model) {
        None => Ok(model),
        Some(reason) => Err(OnnxError::Graph(reason)),
    }
}

/// The bytes of a file.
///
/// # Errors
/// When they are more than the format can hold.
pub fn encode(model: &proto::Model) -> Result<Vec<u8>, OnnxError> {
    match model.encoded_len() {
        bytes if bytes > MAX_BYTES => Err(OnnxError::TooLarge(bytes)),
        _ => Ok(model.encode_to_vec()),
    }
}

/// A file out of its bytes, as far as [`proto`] knows it.
///
/// # Errors
/// When they are no such file.
pub fn decode(bytes: &[u8]) -> Result<proto::Model, OnnxError> {
    proto::Model::decode(bytes).map_err(|e| OnnxError::Decode(e.to_string()))
}

/// The shape of an input or output in words, such as `[batch, 3, 224, 224]`.
pub fn shape_of(value: &ValueInfo) -> String {
    let shape = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).and_then(|t| t.shape.as_ref());
    let sizes = shape.map_or(&[][..], |shape| &shape.dim).iter().map(|dim| match &dim.value {
        Some(Size::Value(size)) => size.to_string(),
        Some(Size::Param(name)) => name.clone(),
        None => "?".into(),
    });
    format!("[{}]", sizes.collect::<Vec<_>>().join(", "))
}

/// What is wrong with a model's structure, if something is: a value that is read before it is made, made twice or never made,
/// a node without a name of its own, a constant that nobody reads or whose bytes are not those of its shape.
pub fn unsound(model: &proto::Model) -> Option<String> {
    let Some(graph) = &model.graph else { return Some("there is no graph".into()) };
    let mut made: BTreeSet<&str> = graph.input.iter().map(|v| v.name.as_str()).collect();
    let mut read = BTreeSet::new();
    for tensor in &graph.initializer {
        let values: i64 = tensor.dims.iter().product();
        let width = if tensor.data_type == data_type::INT64 { 8 } else { 4 };
        if tensor.raw_data.len() as i64 != width * values {
            return Some(format!(
                "constant {} has {} bytes for {:?}",
                tensor.name,
                tensor.raw_data.len(),
                tensor.dims
            ));
        }
        if !made.insert(&tensor.name) {
            return Some(format!("two values are called {}", tensor.name));
        }
    }
    let mut names = BTreeSet::new();
    for node in &graph.node {
        if !names.insert(&node.name) {
            return Some(format!("two nodes are called {}", node.name));
        }
        if let Some(input) = node.input.iter().find(|input| !made.contains(input.as_str())) {
            return Some(format!("node {} reads {input}, which nothing before it makes", node.name));
        }
        read.extend(node.input.iter().map(String::as_str));
        for output in &node.output {
            if !made.insert(output) {
                return Some(format!("two values are called {output}"));
            }
        }
    }
    if let Some(output) = graph.output.iter().find(|output| !made.contains(output.name.as_str())) {
        return Some(format!("nothing makes the output {}", output.name));
    }
    let unread = graph.initializer.iter().find(|tensor| !read.contains(tensor.name.as_str()));
    unread.map(|tensor| format!("no node reads the constant {}", tensor.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Setting;

    const ANY: Axes = Axes { batch: None, size: None };

    /// y = relu(pixels) · k.
    fn small(spoil: impl FnOnce(&mut Graph)) -> Result<proto::Model, OnnxError> {
        let mut graph = Graph::default();
        let relu = graph.node("relu", "Relu", &["pixels"], &[]);
        let k = graph.float("k", 2.0);
        graph.node("y", "Mul", &[&relu, &k], &[]);
        spoil(&mut graph);
        let outputs = vec![value("y", &[ANY.batch(), Axis::Fixed(3)], "")];
        model(graph, ANY, outputs, &BTreeMap::from([("mean".to_owned(), "[0,0,0]".to_owned())]))
    }

    #[test]
    fn a_file_reads_back() {
        let model = small(|_| ()).unwrap();
        let bytes = encode(&model).unwrap();
        assert_eq!(decode(&bytes).unwrap(), model);
        let graph = model.graph.unwrap();
        assert_eq!(shape_of(&graph.input[0]), "[batch, 3, height, width]");
        assert_eq!(shape_of(&graph.output[0]), "[batch, 3]");
        assert!(matches!(decode(&bytes[..bytes.len() - 1]), Err(OnnxError::Decode(_))));
    }

    #[test]
    fn a_zero_that_is_meant_is_written() {
        let model =
            small(|graph| drop(graph.node("flat", "Flatten", &["y"], &[("axis", Setting::Int(0))]))).unwrap();
        let graph = decode(&encode(&model).unwrap()).unwrap().graph.unwrap();
        assert_eq!(graph.node[2].attribute[0].i, Some(0));
    }

    #[test]
    fn what_no_runtime_would_take_is_found() {
        let found = |spoil: fn(&mut Graph)| match small(spoil) {
            Err(OnnxError::Graph(reason)) => reason,
            other => panic!("expected an error, found {other:?}"),
        };
        let early = found(|graph| drop(graph.node("a", "Add", &["y", "later"], &[])));
        assert_eq!(early, "node a reads later, which nothing before it makes");
        assert_eq!(found(|graph| drop(graph.node("y", "Relu", &["y"], &[]))), "two nodes are called y");
        let twice = found(|graph| drop(graph.split("z", "y", 1, ["q", "q"])));
        assert_eq!(twice, "two values are called z.q");
        assert_eq!(found(|graph| drop(graph.float("k", 3.0))), "two values are called k");
        assert_eq!(found(|graph| drop(graph.int("j", 3))), "no node reads the constant j");
        let wrong = found(|graph| drop(graph.floats("w", &[2, 2], &[1.0])));
        assert_eq!(wrong, "constant w has 4 bytes for [2, 2]");
    }
}
