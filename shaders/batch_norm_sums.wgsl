{# What batch normalisation's gradient needs of every channel, one for each invocation or (shared) workgroup: sums of the
   gradient g of its result (where relu: of what passed), and of g times the normalised numbers, and the coefficients of
   dx = a·g + b·(x − mean) + c. Settings: relu, shared, group. #}
@group(0) @binding(0) var<storage, read_write> dy: array<f32>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> gamma: array<f32>;
@group(0) @binding(3) var<storage, read_write> stats: array<f32>;
// [5, channels]: gradients of gamma and beta, a, b, c.
@group(0) @binding(4) var<storage, read_write> sums: array<f32>;
{% if relu -%}
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
{% endif -%}
// images, channels, area; bits of epsilon.
@group(0) @binding({{ 6 if relu else 5 }}) var<storage, read_write> sizes: array<u32, 4>;

{% if shared -%}
var<workgroup> tree: array<vec2<f32>, {{ group }}>;
{% endif %}
{%- from "uniform_parts.wgsl" import sizes_for_all, read_sizes %}
{{- sizes_for_all(shared, 4) }}
@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    {{- read_sizes(shared) }}
    let channels = sizes[1];
    let area = sizes[2];
    {%- if shared %}
    let channel = wid.y * groups.x + wid.x;
    {%- else %}
    let channel = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    {%- endif %}
    if (channel >= channels) {
        return;
    }
    let mean = stats[channel];
    let rstd = 1.0 / sqrt(stats[channels + channel] + bitcast<f32>(sizes[3]));
    var plain = 0.0;
    var along = 0.0;
    for (var image = 0u; image < sizes[0]; image += 1u) {
        let base = (image * channels + channel) * area;
        // Sums of one plane first: fewer numbers of different size are added up.
        var plane = vec2<f32>(0.0);
        for (var i = base{{ " + lid" if shared }}; i < base + area; i += {{ group if shared else 1 }}u) {
            let g = {{ "select(0.0, dy[i], y[i] > 0.0)" if relu else "dy[i]" }};
            plane += vec2<f32>(g, g * (x[i] - mean));
        }
        plain += plane.x;
        along += plane.y;
    }
    {%- if shared %}
    tree[lid] = vec2<f32>(plain, along);
    workgroupBarrier();
    for (var half = {{ group // 2 }}u; half > 0u; half /= 2u) {
        if (lid < half) {
            tree[lid] += tree[lid + half];
        }
        workgroupBarrier();
    }
    plain = tree[0].x;
    along = tree[0].y;
    if (lid > 0u) {
        return;
    }
    {%- endif %}
    let count = f32(sizes[0] * area);
    let a = gamma[channel] * rstd;
    sums[channel] = along * rstd;
    sums[channels + channel] = plain;
    sums[2u * channels + channel] = a;
    sums[3u * channels + channel] = -a * rstd * rstd * along / count;
    sums[4u * channels + channel] = -a * plain / count;
}
