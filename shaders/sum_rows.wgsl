{# Sums over rows, in a fixed order: each invocation adds up one column (four where vec) over one span of rows. The second
   call, with one span, adds up what the first one left.

   Settings: vec, group. #}
{%- set elem = "vec4<f32>" if vec else "f32" %}
@group(0) @binding(0) var<storage, read_write> x: array<{{ elem }}>;
@group(0) @binding(1) var<storage, read_write> y: array<{{ elem }}>;
// rows, columns (in elements of the arrays), rows of a span.
@group(0) @binding(2) var<storage, read_write> sizes: array<u32, 4>;

@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let columns = sizes[1];
    let id = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    let span = id / columns;
    let column = id % columns;
    let begin = span * sizes[2];
    if (begin >= sizes[0]) {
        return;
    }
    let to = min(begin + sizes[2], sizes[0]);
    // Four chains of additions: adapters wait less on each.
    var s0 = {{ elem }}(0.0);
    var s1 = {{ elem }}(0.0);
    var s2 = {{ elem }}(0.0);
    var s3 = {{ elem }}(0.0);
    var row = begin;
    for (; row + 4u <= to; row += 4u) {
        s0 += x[row * columns + column];
        s1 += x[(row + 1u) * columns + column];
        s2 += x[(row + 2u) * columns + column];
        s3 += x[(row + 3u) * columns + column];
    }
    for (; row < to; row += 1u) {
        s0 += x[row * columns + column];
    }
    y[span * columns + column] = (s0 + s1) + (s2 + s3);
}
