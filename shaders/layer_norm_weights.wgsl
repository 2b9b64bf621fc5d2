{# First stage of the gradients of gamma and beta: each invocation adds up its columns over one span of rows, to
   [spans, width]; sum_rows adds up the spans. Settings: vec, group. #}
{%- set elem = "vec4<f32>" if vec else "f32" %}
@group(0) @binding(0) var<storage, read_write> x: array<{{ elem }}>;
@group(0) @binding(1) var<storage, read_write> dy: array<{{ elem }}>;
@group(0) @binding(2) var<storage, read_write> stats: array<f32>;
@group(0) @binding(3) var<storage, read_write> dgamma: array<{{ elem }}>;
@group(0) @binding(4) var<storage, read_write> dbeta: array<{{ elem }}>;
// rows, elements of a row, rows of a span.
@group(0) @binding(5) var<storage, read_write> sizes: array<u32, 4>;

@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let rows = sizes[0];
    let width = sizes[1];
    let id = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    let span = id / width;
    let column = id % width;
    let begin = span * sizes[2];
    if (begin >= rows) {
        return;
    }
    let to = min(begin + sizes[2], rows);
    var along = {{ elem }}(0.0);
    var plain = {{ elem }}(0.0);
    for (var row = begin; row < to; row += 1u) {
        let d = dy[row * width + column];
        along += d * ((x[row * width + column] - stats[row]) * stats[rows + row]);
        plain += d;
    }
    dgamma[span * width + column] = along;
    dbeta[span * width + column] = plain;
}
