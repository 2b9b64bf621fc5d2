{# Matrix product through workgroup memory: 64 × 64 numbers of the result for each workgroup of 64 invocations, 8 × 8 each
   in registers, 16 of k at a time. What hardware is fast at (Boehm's ladder: shared tile, register tile, vector loads).

   Settings: those of gemm_parts. #}
{%- include "gemm_parts.wgsl" %}
{%- from "gemm_place.wgsl" import place %}
{%- set lane = ["x", "y", "z", "w"] %}
const TILE = 64u;
const DEPTH = 16u;
// One vec4 of padding keeps stores of neighbouring invocations in different banks.
const STRIDE = 17u;
var<workgroup> as_: array<vec4<f32>, 272>;
var<workgroup> bs_: array<vec4<f32>, 272>;

{%- from "uniform_parts.wgsl" import sizes_for_all, read_sizes %}
{{- sizes_for_all(true, 9) }}
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    {{- read_sizes(true) }}
    {{- place(b_vec and layout != "nt") }}
    let tiles_n = (n + TILE - 1u) / TILE;
    let tile = wid.y * groups.x + wid.x;
    let row0 = (tile / tiles_n) * TILE;
    let col0 = (tile % tiles_n) * TILE;
    // The same for all invocations of the workgroup, so none is left behind at a barrier.
    if (row0 >= m) {
        return;
    }
    let ty = lid / 8u;
    let tx = lid % 8u;

    {% for j in range(2) -%}
    let s_{{ j }} = beginning(col0 + tx * 4u + {{ 32 * j }}u, n, ends);
    {% for i in range(8) -%}
    var s{{ i }}_{{ j }} = s_{{ j }};
    {% endfor %}{% endfor %}
    for (var k = begin; k < to; k += DEPTH) {
        {#- A matrix stored along k comes in blocks of 4 × 4, one for each invocation, and is turned in registers, so that
            only whole vec4 are written. #}
        {%- macro turned(name, into, row0, limit, vec) %}
        {
            let i = (lid / 4u) * 4u;
            let q = (lid % 4u) * 4u;
            {%- for r in range(4) %}
            var v{{ r }} = vec4<f32>(0.0);
            if (k + q < to && {{ row0 }} + i + {{ r }}u < {{ limit }}) {
                {%- set at = name ~ "_first + (" ~ row0 ~ " + i + " ~ r ~ "u) * k_all" %}
                v{{ r }} = {% if vec %}{{ name }}_at(({{ at }} + k + q) / 4u){% else %}load_{{ name }}({{ at }}, k + q, to){% endif %};
            }
            {%- endfor %}
            {%- for part in lane %}
            {{ into }}[(q + {{ loop.index0 }}u) * STRIDE + i / 4u] = vec4<f32>(v0.{{ part }}, v1.{{ part }}, v2.{{ part }}, v3.{{ part }});
            {%- endfor %}
        }
        {%- endmacro %}
        {#- A matrix stored across k already has its vec4 the right way round. #}
        {%- macro straight(name, into, col0, limit, width, vec) %}
        {%- for load in range(4) %}
        {
            let q = lid / 16u + {{ load * 4 }}u;
            let i = (lid % 16u) * 4u;
            var v = vec4<f32>(0.0);
            if (k + q < to && {{ col0 }} + i < {{ limit }}) {
                {%- set at = name ~ "_first + (k + q) * " ~ width %}
                v = {% if vec %}{{ name }}_at(({{ at }} + {{ col0 }} + i) / 4u){% else %}load_{{ name }}({{ at }}, {{ col0 }} + i, {{ limit }}){% endif %};
            }
            {{ into }}[q * STRIDE + i / 4u] = v;
        }
        {%- endfor %}
        {%- endmacro %}
        {%- if layout == "tn" %}{{ straight("a", "as_", "row0", "m", "m", a_vec) }}{% else %}{{ turned("a", "as_", "row0", "m", a_vec) }}{% endif %}
        {%- if layout == "nt" %}{{ turned("b", "bs_", "col0", "n", b_vec) }}{% else %}{{ straight("b", "bs_", "col0", "n", "b_width", b_vec) }}{% endif %}
        workgroupBarrier();
        for (var kk = 0u; kk < DEPTH; kk += 1u) {
            let a0 = as_[kk * STRIDE + ty * 2u];
            let a1 = as_[kk * STRIDE + ty * 2u + 1u];
            let b0 = bs_[kk * STRIDE + tx];
            let b1 = bs_[kk * STRIDE + tx + 8u];
            {%- for i in range(8) %}{% for j in range(2) %}
            s{{ i }}_{{ j }} = fma(vec4<f32>(a{{ i // 4 }}.{{ lane[i % 4] }}), b{{ j }}, s{{ i }}_{{ j }});
            {%- endfor %}{% endfor %}
        }
        workgroupBarrier();
    }
    {% for i in range(8) -%}
    if (row0 + ty * 8u + {{ i }}u < m) {
        {%- for j in range(2) %}
        if (col0 + tx * 4u + {{ 32 * j }}u < n) {
            let left = n - col0 - tx * 4u - {{ 32 * j }}u;
            let at = c_base + (row0 + ty * 8u + {{ i }}u) * n + n - left;
            var sum = s{{ i }}_{{ j }};
            {%- for bit, function in [("GELU", "with_gelu"), ("RESIDUAL", "with_residual"), ("SLOPE", "with_slope")] if ending == "any" %}
            if ((ends & {{ bit }}) != 0u) {
                sum = {{ function }}(sum, at, left, ends);
            }
            {%- endfor %}
            put_c(sum, at, left);
        }
        {%- endfor %}
    }
    {% endfor -%}
}
