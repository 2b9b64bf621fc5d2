//! Position embeddings at any grid, computed inside the graph.
//!
//! ONNX has an operator that resizes, but runtimes differ in what they do with its factors, it antialiases only since opset 18,
//! and few do its cubic on a GPU. A bicubic resize is separable, so it is two products with small matrices here, `[target,
//! source]` for each axis, and plain arithmetic makes the matrices from the size of the picture. Any runtime does the same.

use crate::graph::{Graph, Setting};

/// How a network resamples its position embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PositionRule {
    /// DINO's: by the factor (cells + 0.1)/side, the cubic kernel with a = −¾ and taps clamped at the border. Positions stay as
    /// they are where a square picture has as many cells as are stored.
    Dino,
    /// PyTorch's bicubic to the size: the same without the 0.1.
    Bicubic,
    /// PyTorch's antialiased bicubic: a = −½, the kernel as wide as a target cell where cells get fewer, its weights over what
    /// lies inside the grid sum to 1.
    Antialiased,
}

/// Added to the number of cells in DINO's factor.
const SCALE_OFFSET: f32 = 0.1;
/// How far beyond the border a kernel of two cells on either side reaches.
const BEYOND: usize = 2;

/// The stored grid and the picture's.
pub struct Grid<'g> {
    /// Cells on a side of the stored grid.
    pub side: usize,
    pub dim: usize,
    /// The value whose last two axes are the picture's grid.
    pub maps: &'g str,
    /// The input.
    pub pixels: &'g str,
}

/// Adds the resampling of `stored`, `[side², dim]`, to the picture's grid: `[1, cells, dim]`.
pub fn resample(graph: &mut Graph, rule: PositionRule, grid: &Grid<'_>, stored: &[f32]) -> String {
    let Grid { side, dim, .. } = *grid;
    let axes = ["rows", "cols"].map(|name| Axis::new(graph, name, grid.maps));
    let offset = (rule == PositionRule::Dino).then(|| offset(graph, grid, &axes));
    let [vertical, horizontal] = axes.map(|axis| match rule {
        PositionRule::Antialiased => axis.antialiased(graph, side),
        PositionRule::Dino | PositionRule::Bicubic => axis.clamped(graph, side, offset.as_deref()),
    });
    let stored = graph.floats("pos_embed.stored", &[side, side * dim], stored);
    let rows = graph.node("pos_embed.resampled_rows", "MatMul", &[&vertical, &stored], &[]);
    let shape = graph.ints("pos_embed.by_row", &[-1, side as i64, dim as i64]);
    let rows = graph.node("pos_embed.rows_apart", "Reshape", &[&rows, &shape], &[]);
    // `[cols, side]` times every `[side, dim]` of `[rows, side, dim]`.
    let cells = graph.node("pos_embed.resampled", "MatMul", &[&horizontal, &rows], &[]);
    let shape = graph.ints("pos_embed.flat", &[1, -1, dim as i64]);
    graph.node("pos_embed.cells", "Reshape", &[&cells, &shape], &[])
}

/// DINO's 0.1, or 0 where positions stay as they are: then the matrices are the identity, exactly.
fn offset(graph: &mut Graph, grid: &Grid<'_>, [rows, cols]: &[Axis; 2]) -> String {
    let side_of = |graph: &mut Graph, name: &str, axis: i64| {
        let cut = [("start", Setting::Int(axis)), ("end", Setting::Int(axis + 1))];
        graph.node(name, "Shape", &[grid.pixels], &cut)
    };
    let height = side_of(graph, "pos_embed.height", 2);
    let width = side_of(graph, "pos_embed.width", 3);
    let square = graph.node("pos_embed.is_square", "Equal", &[&height, &width], &[]);
    let cells = graph.node("pos_embed.num_cells", "Mul", &[&rows.count, &cols.count], &[]);
    let stored = graph.ints("pos_embed.num_stored", &[(grid.side * grid.side) as i64]);
    let same = graph.node("pos_embed.is_same_number", "Equal", &[&cells, &stored], &[]);
    let kept = graph.node("pos_embed.is_kept", "And", &[&square, &same], &[]);
    let zero = graph.floats("pos_embed.no_offset", &[1], &[0.0]);
    let tenth = graph.floats("pos_embed.dino_offset", &[1], &[SCALE_OFFSET]);
    graph.node("pos_embed.offset", "Where", &[&kept, &zero, &tenth], &[])
}

/// One axis of the picture's grid.
struct Axis {
    name: &'static str,
    /// Cells, `[1]`.
    count: String,
    /// The same as floats.
    cells: String,
    /// Middles of the cells, in cells from the edge, `[cells]`: ½, 1½, …
    middles: String,
}

impl Axis {
    fn new(graph: &mut Graph, name: &'static str, maps: &str) -> Self {
        let at = |part: &str| format!("pos_embed.{name}.{part}");
        let axis = if name == "rows" { 2 } else { 3 };
        let cut = [("start", Setting::Int(axis)), ("end", Setting::Int(axis + 1))];
        let count = graph.node(&at("count"), "Shape", &[maps], &cut);
        let cells = graph.node(&at("cells"), "Cast", &[&count], &[("to", Setting::Int(1))]);
        let first_axis = graph.ints("pos_embed.first_axis", &[0]);
        let limit = graph.node(&at("limit"), "Squeeze", &[&count, &first_axis], &[]);
        let (zero, one) = (graph.int("pos_embed.zero", 0), graph.int("pos_embed.one", 1));
        let indices = graph.node(&at("indices"), "Range", &[&zero, &limit, &one], &[]);
        let indices = graph.node(&at("indices_as_floats"), "Cast", &[&indices], &[("to", Setting::Int(1))]);
        let half = graph.float("pos_embed.half", 0.5);
        let middles = graph.node(&at("middles"), "Add", &[&indices, &half], &[]);
        Self { name, count, cells, middles }
    }

    fn at(&self, part: &str) -> String {
        format!("pos_embed.{}.{part}", self.name)
    }

    /// `[cells, side]`: weights of taps also beyond the border, which a second matrix then adds to the border's.
    fn clamped(&self, graph: &mut Graph, side: usize, offset: Option<&str>) -> String {
        let float_side = graph.float("pos_embed.side", side as f32);
        let half = graph.float("pos_embed.half", 0.5);
        let cells = match offset {
            Some(offset) => graph.node(&self.at("cells_and_offset"), "Add", &[&self.cells, offset], &[]),
            None => self.cells.clone(),
        };
        let factor = graph.node(&self.at("factor"), "Div", &[&cells, &float_side], &[]);
        let edge = graph.node(&self.at("from_edge"), "Div", &[&self.middles, &factor], &[]);
        let places = graph.node(&self.at("places"), "Sub", &[&edge, &half], &[]);
        let beyond = BEYOND as f32;
        let taps: Vec<f32> = (0..side + 2 * BEYOND).map(|tap| tap as f32 - beyond).collect();
        let taps = graph.floats("pos_embed.taps", &[1, side + 2 * BEYOND], &taps);
        let apart = self.apart(graph, &places, &taps);
        let distances = graph.node(&self.at("distances"), "Abs", &[&apart], &[]);
        let weights = self.cubic(graph, &distances, -0.75);
        let mut clamp = vec![0.0; (side + 2 * BEYOND) * side];
        for (tap, row) in clamp.chunks_mut(side).enumerate() {
            row[tap.saturating_sub(BEYOND).min(side - 1)] = 1.0;
        }
        let clamp = graph.floats("pos_embed.clamp", &[side + 2 * BEYOND, side], &clamp);
        graph.node(&self.at("matrix"), "MatMul", &[&weights, &clamp], &[])
    }

    /// `[cells, side]`.
    fn antialiased(&self, graph: &mut Graph, side: usize) -> String {
        let float_side = graph.float("pos_embed.side", side as f32);
        let one = graph.float("pos_embed.unit", 1.0);
        let scale = graph.node(&self.at("scale"), "Div", &[&float_side, &self.cells], &[]);
        let width = graph.node(&self.at("kernel_width"), "Max", &[&scale, &one], &[]);
        let places = graph.node(&self.at("places"), "Mul", &[&self.middles, &scale], &[]);
        let taps: Vec<f32> = (0..side).map(|tap| tap as f32 + 0.5).collect();
        let taps = graph.floats("pos_embed.taps", &[1, side], &taps);
        let apart = self.apart(graph, &places, &taps);
        let apart = graph.node(&self.at("kernels_apart"), "Div", &[&apart, &width], &[]);
        let distances = graph.node(&self.at("distances"), "Abs", &[&apart], &[]);
        let weights = self.cubic(graph, &distances, -0.5);
        let second_axis = graph.ints("pos_embed.second_axis", &[1]);
        let sums =
            graph.node(&self.at("sums"), "ReduceSum", &[&weights, &second_axis], &[("keepdims", Setting::Int(1))]);
        graph.node(&self.at("matrix"), "Div", &[&weights, &sums], &[])
    }

    /// `[cells]` less `[1, taps]`: `[cells, taps]`.
    fn apart(&self, graph: &mut Graph, places: &str, taps: &str) -> String {
        let second_axis = graph.ints("pos_embed.second_axis", &[1]);
        let column = graph.node(&self.at("places_as_column"), "Unsqueeze", &[places, &second_axis], &[]);
        graph.node(&self.at("apart"), "Sub", &[&column, taps], &[])
    }

    /// The cubic kernel at distances x ≥ 0: ((a+2)x − (a+3))x² + 1 up to 1, ((ax − 5a)x + 8a)x − 4a up to 2, then 0.
    fn cubic(&self, graph: &mut Graph, x: &str, a: f32) -> String {
        let constants = [
            ("unit", 1.0),
            ("two", 2.0),
            ("nothing", 0.0),
            ("near.cubic", a + 2.0),
            ("near.square", a + 3.0),
            ("far.cubic", a),
            ("far.square", 5.0 * a),
            ("far.linear", 8.0 * a),
            ("far.constant", 4.0 * a),
        ];
        let [one, two, nothing, near3, near2, far3, far2, far1, far0] =
            constants.map(|(name, value)| graph.float(&format!("pos_embed.{name}"), value));
        let mut step = |name: &str, op: &str, a: &str, b: &str| graph.node(&self.at(name), op, &[a, b], &[]);
        let near = step("near.1", "Mul", x, &near3);
        let near = step("near.2", "Sub", &near, &near2);
        let near = step("near.3", "Mul", &near, x);
        let near = step("near.4", "Mul", &near, x);
        let near = step("near", "Add", &near, &one);
        let far = step("far.1", "Mul", x, &far3);
        let far = step("far.2", "Sub", &far, &far2);
        let far = step("far.3", "Mul", &far, x);
        let far = step("far.4", "Add", &far, &far1);
        let far = step("far.5", "Mul", &far, x);
        let far = step("far", "Sub", &far, &far0);
        let is_near = step("is_near", "LessOrEqual", x, &one);
        let is_far = step("is_far", "Less", x, &two);
        let outer = graph.node(&self.at("outer_weights"), "Where", &[&is_far, &far, &nothing], &[]);
        graph.node(&self.at("weights"), "Where", &[&is_near, &near, &outer], &[])
    }
}
