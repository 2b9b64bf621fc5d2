{# The probabilities of one query in every head, softmax(q·Kᵀ·scale): what attention maps are made of. One head for each
   invocation, or (shared) for each workgroup. Settings: head, shared, group. #}
{%- set vecs = head // 4 %}
@group(0) @binding(0) var<storage, read_write> qkv: array<vec4<f32>>;
// [batch, heads, tokens]
@group(0) @binding(1) var<storage, read_write> p: array<f32>;
// tokens, heads, batch·heads, bits of the scale, query.
@group(0) @binding(2) var<storage, read_write> sizes: array<u32, 8>;
{% from "reduce_parts.wgsl" import room, reduce %}
{{- room(shared, group) }}
{%- from "uniform_parts.wgsl" import sizes_for_all, read_sizes %}
{{- sizes_for_all(shared, 8) }}
@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    {{- read_sizes(shared) }}
    let tokens = sizes[0];
    let heads = sizes[1];
    let scale = bitcast<f32>(sizes[3]);
    {%- if shared %}
    let bh = wid.y * groups.x + wid.x;
    let first = lid;
    let step = {{ group }}u;
    {%- else %}
    let bh = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    let first = 0u;
    let step = 1u;
    {%- endif %}
    if (bh >= sizes[2]) {
        return;
    }
    let width = heads * {{ vecs }}u;
    let q0 = (bh / heads) * tokens * width * 3u + (bh % heads) * {{ vecs }}u;
    let k0 = q0 + width;
    let q_at = q0 + sizes[4] * width * 3u;
    {%- for d in range(vecs) %}
    let v{{ d }} = qkv[q_at + {{ d }}u] * scale;
    {%- endfor %}
    let out = bh * tokens;
    var top = -3.0e38;
    for (var j = first; j < tokens; j += step) {
        let at = k0 + j * width * 3u;
        var s = dot(v0, qkv[at]);
        {%- for d in range(1, vecs) %}
        s += dot(v{{ d }}, qkv[at + {{ d }}u]);
        {%- endfor %}
        p[out + j] = s;
        top = max(top, s);
    }
    {{- reduce("top", true, shared, group) }}
    var sum = 0.0;
    for (var j = first; j < tokens; j += step) {
        let e = exp(p[out + j] - top);
        p[out + j] = e;
        sum += e;
    }
    {{- reduce("sum", false, shared, group) }}
    for (var j = first; j < tokens; j += step) {
        p[out + j] /= sum;
    }
}
