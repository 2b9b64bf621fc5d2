//! A graph as it grows: an operation is named after the value it gives.

use crate::proto::{self, Attribute, Node, attribute_type, data_type};

/// Nodes and constants. Nodes come after what they read, because a name is only there once its node is.
#[derive(Default)]
pub struct Graph {
    nodes: Vec<Node>,
    constants: Vec<proto::Tensor>,
}

/// A setting of an operator.
pub enum Setting<'s> {
    Int(i64),
    Float(f32),
    Ints(&'s [i64]),
}

impl Graph {
    /// A constant of floats.
    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let mut raw_data = Vec::with_capacity(4 * values.len());
        values.iter().for_each(|v| raw_data.extend_from_slice(&v.to_le_bytes()));
        self.constant(name, data_type::FLOAT, shape.iter().map(|n| *n as i64).collect(), raw_data)
    }

    /// A constant of one float without axes.
    pub fn float(&mut self, name: &str, value: f32) -> String {
        self.floats(name, &[], &[value])
    }

    /// A constant list of whole numbers: a shape, axes, an order.
    pub fn ints(&mut self, name: &str, values: &[i64]) -> String {
        let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, data_type::INT64, vec![values.len() as i64], raw_data)
    }

    /// A constant of one whole number without axes.
    pub fn int(&mut self, name: &str, value: i64) -> String {
        self.constant(name, data_type::INT64, Vec::new(), value.to_le_bytes().to_vec())
    }

    /// A constant; where one of this name is there already with the same content, that one.
    fn constant(&mut self, name: &str, data_type: i32, dims: Vec<i64>, raw_data: Vec<u8>) -> String {
        let tensor = proto::Tensor { dims, data_type, name: name.to_owned(), raw_data };
        if !self.constants.contains(&tensor) {
            self.constants.push(tensor);
        }
        name.to_owned()
    }

    /// An operation with one output, which has its name.
    pub fn node(&mut self, name: &str, op: &str, inputs: &[&str], settings: &[(&str, Setting<'_>)]) -> String {
        self.push(name, op, inputs, vec![name.to_owned()], settings);
        name.to_owned()
    }

    /// A value cut into equal parts along an axis.
    pub fn split<const N: usize>(&mut self, name: &str, input: &str, axis: i64, parts: [&str; N]) -> [String; N] {
        let outputs = parts.map(|part| format!("{name}.{part}"));
        self.push(name, "Split", &[input], outputs.to_vec(), &[("axis", Setting::Int(axis))]);
        outputs
    }

    fn push(
        &mut self,
        name: &str,
        op: &str,
        inputs: &[&str],
        output: Vec<String>,
        settings: &[(&str, Setting<'_>)],
    ) {
        self.nodes.push(Node {
            input: inputs.iter().map(|&i| i.to_owned()).collect(),
            output,
            name: name.to_owned(),
            op_type: op.to_owned(),
            attribute: settings.iter().map(|(name, setting)| attribute(name, setting)).collect(),
        });
    }

    /// All of it.
    pub fn finish(self, name: &str, input: proto::ValueInfo, output: Vec<proto::ValueInfo>) -> proto::Graph {
        let name = name.to_owned();
        proto::Graph { node: self.nodes, name, initializer: self.constants, input: vec![input], output }
    }
}

fn attribute(name: &str, setting: &Setting<'_>) -> Attribute {
    let plain = Attribute { name: name.to_owned(), ..Attribute::default() };
    match *setting {
        Setting::Int(value) => Attribute { i: Some(value), r#type: attribute_type::INT, ..plain },
        Setting::Float(value) => Attribute { f: Some(value), r#type: attribute_type::FLOAT, ..plain },
        Setting::Ints(values) => Attribute { ints: values.to_vec(), r#type: attribute_type::INTS, ..plain },
    }
}
