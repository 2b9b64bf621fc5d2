{# GELU of every number, or the gradient of its input. Settings: vec, slope, group. #}
{%- set elem = "vec4<f32>" if vec else "f32" %}
@group(0) @binding(0) var<storage, read_write> x: array<{{ elem }}>;
@group(0) @binding(1) var<storage, read_write> y: array<{{ elem }}>;
{% if slope -%}
@group(0) @binding(2) var<storage, read_write> dy: array<{{ elem }}>;
{% endif -%}
@group(0) @binding({{ 3 if slope else 2 }}) var<storage, read_write> sizes: array<u32, 4>;
{% include "gelu_parts.wgsl" %}

@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    if (i >= sizes[0]) {
        return;
    }
    {%- set part = "" if vec else ".x" %}
    {%- if slope %}
    y[i] = dy[i] * gelu_slope(vec4<f32>(x[i])){{ part }};
    {%- else %}
    y[i] = gelu(vec4<f32>(x[i])){{ part }};
    {%- endif %}
}
