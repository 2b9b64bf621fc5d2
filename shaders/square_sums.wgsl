{# Sums of squares of spans of a flat buffer. Settings: vec, group. #}
{%- set elem = "vec4<f32>" if vec else "f32" %}
@group(0) @binding(0) var<storage, read_write> x: array<{{ elem }}>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;
// elements, elements of a span.
@group(0) @binding(2) var<storage, read_write> sizes: array<u32, 4>;

@compute @workgroup_size({{ group }})
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let span = wid.x * {{ group }}u + lid;
    let begin = span * sizes[1];
    if (begin >= sizes[0]) {
        return;
    }
    let to = min(begin + sizes[1], sizes[0]);
    var sum = {{ elem }}(0.0);
    for (var i = begin; i < to; i += 1u) {
        sum = fma(x[i], x[i], sum);
    }
    sums[span] = {{ "dot(sum, vec4<f32>(1.0))" if vec else "sum" }};
}
