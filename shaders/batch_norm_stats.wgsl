{# Mean and (biased) variance of every channel of maps [images, channels, area], one channel for each invocation or (shared)
   workgroup: by stretches of eight numbers, each with its own mean (Chan, Golub and LeVeque 1983), so that nothing large
   cancels. Settings: shared, group. #}
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
// [2, channels]
@group(0) @binding(1) var<storage, read_write> stats: array<f32>;
// images, channels, area.
@group(0) @binding(2) var<storage, read_write> sizes: array<u32, 4>;

// Count, mean, sum of squares around it, of two parts together.
fn both(a: vec3<f32>, b: vec3<f32>) -> vec3<f32> {
    let n = max(a.x + b.x, 1.0);
    let apart = b.y - a.y;
    return vec3<f32>(a.x + b.x, a.y + apart * (b.x / n), a.z + b.z + apart * apart * (a.x * b.x / n));
}

{% if shared -%}
var<workgroup> tree: array<vec3<f32>, {{ group }}>;
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
    {%- set first, step = "lid", group %}
    {%- else %}
    let channel = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    {%- set first, step = "0u", 1 %}
    {%- endif %}
    if (channel >= channels) {
        return;
    }
    var all = vec3<f32>(0.0);
    for (var image = 0u; image < sizes[0]; image += 1u) {
        let base = (image * channels + channel) * area;
        var i = {{ first }};
        for (; i + {{ 7 * step }}u < area; i += {{ 8 * step }}u) {
            {%- for k in range(8) %}
            let v{{ k }} = x[base + i + {{ k * step }}u];
            {%- endfor %}
            let mean = (((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7))) * 0.125;
            var squares = 0.0;
            {%- for k in range(8) %}
            squares = fma(v{{ k }} - mean, v{{ k }} - mean, squares);
            {%- endfor %}
            all = both(all, vec3<f32>(8.0, mean, squares));
        }
        for (; i < area; i += {{ step }}u) {
            all = both(all, vec3<f32>(1.0, x[base + i], 0.0));
        }
    }
    {%- if shared %}
    tree[lid] = all;
    workgroupBarrier();
    for (var half = {{ group // 2 }}u; half > 0u; half /= 2u) {
        if (lid < half) {
            tree[lid] = both(tree[lid], tree[lid + half]);
        }
        workgroupBarrier();
    }
    all = tree[0];
    if (lid > 0u) {
        return;
    }
    {%- endif %}
    stats[channel] = all.y;
    stats[channels + channel] = all.z / max(all.x, 1.0);
}
