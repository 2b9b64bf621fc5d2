{# Layer normalisation, forward or backward to x. One row for each invocation, or (shared) for each workgroup.

   Settings: vec, backward, past (something is added to the gradient of x), shared, group. #}
{%- set elem = "vec4<f32>" if vec else "f32" %}
@group(0) @binding(0) var<storage, read_write> x: array<{{ elem }}>;
@group(0) @binding(1) var<storage, read_write> gamma: array<{{ elem }}>;
{% if backward -%}
@group(0) @binding(2) var<storage, read_write> dy: array<{{ elem }}>;
@group(0) @binding(3) var<storage, read_write> dx: array<{{ elem }}>;
{%- else -%}
@group(0) @binding(2) var<storage, read_write> beta: array<{{ elem }}>;
@group(0) @binding(3) var<storage, read_write> y: array<{{ elem }}>;
{%- endif %}
// Mean of every row, then the reciprocal of its standard deviation.
@group(0) @binding(4) var<storage, read_write> stats: array<f32>;
{% if past -%}
@group(0) @binding(5) var<storage, read_write> past: array<{{ elem }}>;
{% endif -%}
// rows, dim, elements of a row, bits of epsilon.
@group(0) @binding({{ 6 if past else 5 }}) var<storage, read_write> sizes: array<u32, 4>;

fn total(v: {{ elem }}) -> f32 { return {{ "dot(v, vec4<f32>(1.0))" if vec else "v" }}; }

{% if shared -%}
var<workgroup> tree: array<vec2<f32>, {{ group }}>;

fn all_of(lid: u32, value: vec2<f32>) -> vec2<f32> {
    workgroupBarrier();
    tree[lid] = value;
    workgroupBarrier();
    for (var half = {{ group // 2 }}u; half > 0u; half /= 2u) {
        if (lid < half) {
            tree[lid] += tree[lid + half];
        }
        workgroupBarrier();
    }
    return tree[0];
}
{%- else -%}
fn all_of(lid: u32, value: vec2<f32>) -> vec2<f32> { return value; }
{%- endif %}

{%- from "uniform_parts.wgsl" import sizes_for_all, read_sizes %}
{{- sizes_for_all(shared, 4) }}
@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    {{- read_sizes(shared) }}
    let rows = sizes[0];
    let dim = f32(sizes[1]);
    let width = sizes[2];
    {%- if shared %}
    let row = wid.y * groups.x + wid.x;
    let first = lid;
    let step = {{ group }}u;
    {%- else %}
    let row = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    let first = 0u;
    let step = 1u;
    {%- endif %}
    if (row >= rows) {
        return;
    }
    let base = row * width;
    {%- if backward %}
    let mean = stats[row];
    let rstd = stats[rows + row];
    var plain = {{ elem }}(0.0);
    var along = {{ elem }}(0.0);
    for (var i = first; i < width; i += step) {
        let g = dy[base + i] * gamma[i];
        plain += g;
        along += g * ((x[base + i] - mean) * rstd);
    }
    let sums = all_of(lid, vec2<f32>(total(plain), total(along))) / dim;
    for (var i = first; i < width; i += step) {
        let g = dy[base + i] * gamma[i];
        dx[base + i] = {{ "past[base + i] + " if past }}rstd * (g - sums.x - (x[base + i] - mean) * rstd * sums.y);
    }
    {%- else %}
    var sum = {{ elem }}(0.0);
    for (var i = first; i < width; i += step) {
        sum += x[base + i];
    }
    let mean = all_of(lid, vec2<f32>(total(sum), 0.0)).x / dim;
    var squares = {{ elem }}(0.0);
    for (var i = first; i < width; i += step) {
        let d = x[base + i] - mean;
        squares += d * d;
    }
    let variance = all_of(lid, vec2<f32>(total(squares), 0.0)).x / dim;
    let rstd = 1.0 / sqrt(variance + bitcast<f32>(sizes[3]));
    for (var i = first; i < width; i += step) {
        y[base + i] = (x[base + i] - mean) * rstd * gamma[i] + beta[i];
    }
    if (first == 0u) {
        stats[row] = mean;
        stats[rows + row] = rstd;
    }
    {%- endif %}
}
