{# Batch normalisation's gradient of its input, from the coefficients of `batch_norm_sums`, and of the residual. Each
   invocation (shared: workgroup) goes over one part of one plane of [images, channels, area].

   Settings: residual (only with relu: else it is dy), relu, shared, group. #}
@group(0) @binding(0) var<storage, read_write> dy: array<f32>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> stats: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
{% if relu -%}
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
{% endif -%}
{% if residual -%}
@group(0) @binding(6) var<storage, read_write> dother: array<f32>;
{% endif -%}
// planes, channels, area, cells of a part.
@group(0) @binding({{ 7 if residual else 6 if relu else 5 }}) var<storage, read_write> sizes: array<u32, 4>;

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
    let a = sums[2u * channels + channel];
    let b = sums[3u * channels + channel];
    let c = sums[4u * channels + channel];
    for (var i = base + begin{{ " + lid" if shared }}; i < to; i += {{ group if shared else 1 }}u) {
        let g = {{ "select(0.0, dy[i], y[i] > 0.0)" if relu else "dy[i]" }};
        dx[i] = fma(a, g, fma(b, x[i] - mean, c));
        {%- if residual %}
        dother[i] = g;
        {%- endif %}
    }
}
