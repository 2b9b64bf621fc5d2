{# InfoNCE's logits through workgroup memory: 64 rows × 64 entries at a time for each workgroup of 64 invocations, 8 × 8 each
   in registers. What hardware is fast at.

   Settings: those of info_nce_parts. #}
{%- include "info_nce_parts.wgsl" %}
{%- set lane = ["x", "y", "z", "w"] %}
const TILE = 64u;
const DEPTH = 16u;
// One vec4 of padding keeps stores of neighbouring invocations in different banks.
const STRIDE = 17u;
var<workgroup> as_: array<vec4<f32>, 272>;
var<workgroup> bs_: array<vec4<f32>, 272>;
{%- if ending == "stats" %}
// Largest logit and sum of every row, of the eight invocations that have a part of it.
var<workgroup> parts: array<vec2<f32>, 512>;
{%- endif %}

fn load_query(row: u32, d: u32) -> f32 {
    if (row >= sizes[0] || d >= sizes[1]) {
        return 0.0;
    }
    return query[row * sizes[1] + d];
}

fn load_queue(d: u32, at: u32, to: u32) -> f32 {
    if (d >= sizes[1] || at >= to) {
        return 0.0;
    }
    return queue[d * sizes[2] + at];
}

{%- from "uniform_parts.wgsl" import sizes_for_all, read_sizes %}
{{- sizes_for_all(true, 8) }}
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    {{- read_sizes(true) }}
    let rows = sizes[0];
    let dim = sizes[1];
    let len = sizes[2];
    let factor = bitcast<f32>(sizes[3]);
    let id = wid.y * groups.x + wid.x;
    let tiles = (rows + TILE - 1u) / TILE;
    let row0 = (id % tiles) * TILE;
    // The same for all invocations of the workgroup, so none is left behind at a barrier.
    {%- if ending == "stats" %}
    let begin = (id / tiles) * sizes[5];
    let to = min(begin + sizes[5], len);
    if (begin >= len) {
        return;
    }
    {%- else %}
    let begin = sizes[4] + (id / tiles) * TILE;
    let to = min(sizes[4] + sizes[5], len);
    if (begin >= to) {
        return;
    }
    {%- endif %}
    let ty = lid / 8u;
    let tx = lid % 8u;
    let own = row0 + (lid / 4u) * 4u;
    let q = (lid % 4u) * 4u;
    {%- if ending == "stats" %}
    {%- for i in range(8) %}
    var most{{ i }} = -3.0e38;
    var sum{{ i }} = 0.0;
    {%- endfor %}
    for (var j = begin; j < to; j += TILE) {
    {%- else %}
    {
        let j = begin;
    {%- endif %}
        {%- for i in range(8) %}
        var s{{ i }}_0 = vec4<f32>(0.0);
        var s{{ i }}_1 = vec4<f32>(0.0);
        {%- endfor %}
        for (var d = 0u; d < dim; d += DEPTH) {
            {%- for c in range(4) %}
            as_[(q + {{ c }}u) * STRIDE + lid / 4u] = vec4<f32>(
                load_query(own, d + q + {{ c }}u),
                load_query(own + 1u, d + q + {{ c }}u),
                load_query(own + 2u, d + q + {{ c }}u),
                load_query(own + 3u, d + q + {{ c }}u),
            );
            {%- endfor %}
            {%- for load in range(4) %}
            {
                let line = lid / 16u + {{ load * 4 }}u;
                let at = j + (lid % 16u) * 4u;
                bs_[line * STRIDE + lid % 16u] = vec4<f32>(
                    load_queue(d + line, at, to),
                    load_queue(d + line, at + 1u, to),
                    load_queue(d + line, at + 2u, to),
                    load_queue(d + line, at + 3u, to),
                );
            }
            {%- endfor %}
            workgroupBarrier();
            for (var kk = 0u; kk < DEPTH; kk += 1u) {
                let a0 = as_[kk * STRIDE + ty * 2u];
                let a1 = as_[kk * STRIDE + ty * 2u + 1u];
                let b0 = bs_[kk * STRIDE + tx];
                let b1 = bs_[kk * STRIDE + tx + 8u];
                {%- for i in range(8) %}{% for c in range(2) %}
                s{{ i }}_{{ c }} = fma(vec4<f32>(a{{ i // 4 }}.{{ lane[i % 4] }}), b{{ c }}, s{{ i }}_{{ c }});
                {%- endfor %}{% endfor %}
            }
            workgroupBarrier();
        }
        let at0 = vec4<u32>(j + tx * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
        let at1 = at0 + 32u;
        {%- for i in range(8) %}
        {%- if ending == "stats" %}
        {
            let l0 = select(vec4<f32>(-3.0e38), s{{ i }}_0 * factor, at0 < vec4<u32>(to));
            let l1 = select(vec4<f32>(-3.0e38), s{{ i }}_1 * factor, at1 < vec4<u32>(to));
            let m = max(l0, l1);
            let top = max(most{{ i }}, max(max(m.x, m.y), max(m.z, m.w)));
            sum{{ i }} = sum{{ i }} * exp(most{{ i }} - top) + dot(exp(l0 - top) + exp(l1 - top), vec4<f32>(1.0));
            most{{ i }} = top;
        }
        {%- else %}
        if (row0 + ty * 8u + {{ i }}u < rows) {
            let row = row0 + ty * 8u + {{ i }}u;
            let base = row * sizes[5] - sizes[4];
            {%- for c in range(2) %}
            let p{{ c }} = exp(s{{ i }}_{{ c }} * factor - lse[row]);
            {%- for part in range(4) %}
            if (at{{ c }}.{{ lane[part] }} < to) {
                weights[base + at{{ c }}.{{ lane[part] }}] = p{{ c }}.{{ lane[part] }};
            }
            {%- endfor %}{% endfor %}
        }
        {%- endif %}
        {%- endfor %}
    }
    {%- if ending == "stats" %}
    {%- for i in range(8) %}
    parts[(ty * 8u + {{ i }}u) * 8u + tx] = vec2<f32>(most{{ i }}, sum{{ i }});
    {%- endfor %}
    workgroupBarrier();
    if (row0 + lid < rows) {
        var top = -3.0e38;
        for (var t = 0u; t < 8u; t += 1u) {
            top = max(top, parts[lid * 8u + t].x);
        }
        var sum = 0.0;
        for (var t = 0u; t < 8u; t += 1u) {
            sum += parts[lid * 8u + t].y * exp(parts[lid * 8u + t].x - top);
        }
        let at = (id / tiles) * 2u * rows + row0 + lid;
        partial[at] = top;
        partial[at + rows] = sum;
    }
    {%- endif %}
}
