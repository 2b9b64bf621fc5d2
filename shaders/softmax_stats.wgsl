{# Log-sum-exp of every row of (x − centre)·factor. One row for each invocation, or (shared) for each workgroup.

   Settings: vec, centred, shared, group. #}
{%- set elem = "vec4<f32>" if vec else "f32" %}
@group(0) @binding(0) var<storage, read_write> x: array<{{ elem }}>;
@group(0) @binding(1) var<storage, read_write> lse: array<f32>;
{% if centred -%}
@group(0) @binding(2) var<storage, read_write> centre: array<{{ elem }}>;
{% endif -%}
// rows, elements of a row, bits of the factor.
@group(0) @binding({{ 3 if centred else 2 }}) var<storage, read_write> sizes: array<u32, 4>;

fn largest(v: {{ elem }}) -> f32 { return {{ "max(max(v.x, v.y), max(v.z, v.w))" if vec else "v" }}; }
fn total(v: {{ elem }}) -> f32 { return {{ "dot(v, vec4<f32>(1.0))" if vec else "v" }}; }
{% from "reduce_parts.wgsl" import room, reduce %}
{{- room(shared, group) }}
{%- from "uniform_parts.wgsl" import sizes_for_all, read_sizes %}
{{- sizes_for_all(shared, 4) }}
@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    {{- read_sizes(shared) }}
    let width = sizes[1];
    let factor = bitcast<f32>(sizes[2]);
    {%- if shared %}
    let row = wid.y * groups.x + wid.x;
    let first = lid;
    let step = {{ group }}u;
    {%- else %}
    let row = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    let first = 0u;
    let step = 1u;
    {%- endif %}
    if (row >= sizes[0]) {
        return;
    }
    let base = row * width;
    {%- set number = "(x[base + i] - centre[i])" if centred else "x[base + i]" %}
    var most = {{ elem }}(-3.0e38);
    for (var i = first; i < width; i += step) {
        most = max(most, {{ number }});
    }
    var top = largest(most);
    {{- reduce("top", true, shared, group) }}
    var sums = {{ elem }}(0.0);
    for (var i = first; i < width; i += step) {
        sums += exp(({{ number }} - top) * factor);
    }
    var sum = total(sums);
    {{- reduce("sum", false, shared, group) }}
    if (first == 0u) {
        lse[row] = top * factor + log(sum);
    }
}
