{# Batch normalisation by given statistics and what follows it in a residual network: plus a residual, ReLU. Each invocation
   (shared: workgroup) goes over one part of one plane of [images, channels, area].

   Settings: residual, relu, shared, group. #}
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> gamma: array<f32>;
@group(0) @binding(2) var<storage, read_write> beta: array<f32>;
// [2, channels]: means, variances.
@group(0) @binding(3) var<storage, read_write> stats: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
{% if residual -%}
@group(0) @binding(5) var<storage, read_write> other: array<f32>;
{% endif -%}
// planes, channels, area, cells of a part; bits of epsilon.
@group(0) @binding({{ 6 if residual else 5 }}) var<storage, read_write> sizes: array<u32, 8>;

@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let channels = sizes[1];
    let area = sizes[2];
    let span = sizes[3];
    let parts = (area + span - 1u) / span;
    {%- if shared %}
    let id = wid.y * groups.x + wid.x;
    {%- else %}
    let id = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    {%- endif %}
    let plane = id / parts;
    if (plane >= sizes[0]) {
        return;
    }
    let channel = plane % channels;
    let begin = (id % parts) * span;
    let base = plane * area;
    let to = base + min(begin + span, area);
    let mean = stats[channel];
    let scale = gamma[channel] / sqrt(stats[channels + channel] + bitcast<f32>(sizes[4]));
    let shift = beta[channel];
    for (var i = base + begin{{ " + lid" if shared }}; i < to; i += {{ group if shared else 1 }}u) {
        let v = fma(x[i] - mean, scale, shift){{ " + other[i]" if residual }};
        y[i] = {{ "max(v, 0.0)" if relu else "v" }};
    }
}
