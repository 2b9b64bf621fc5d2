{# The convolution's weight gradient through workgroup memory, as an implicit matrix product: 64 outer channels × 64 inner
   channels and taps for each workgroup of 64 invocations, 8 × 8 each in registers, 16 cells of the output at a time.
   What hardware is fast at.

   Settings: taps along x. #}
{%- include "conv_weight_parts.wgsl" %}
{%- set lane = ["x", "y", "z", "w"] %}
const TILE = 64u;
const DEPTH = 16u;
// One vec4 of padding keeps stores of neighbouring invocations in different banks.
const STRIDE = 17u;
var<workgroup> as_: array<vec4<f32>, 272>;
var<workgroup> bs_: array<vec4<f32>, 272>;

// A cell of the output: image, row, column.
fn cell(at: u32) -> vec3<u32> {
    let area = sizes[5] * sizes[6];
    let rest = at % area;
    return vec3<u32>(at / area, rest / sizes[6], rest % sizes[6]);
}

// A column of the result: channel, taps along y and x.
fn column(at: u32) -> vec3<u32> {
    let rest = at % (sizes[7] * {{ taps }}u);
    return vec3<u32>(at / (sizes[7] * {{ taps }}u), rest / {{ taps }}u, rest % {{ taps }}u);
}

fn load_dy(c: vec3<u32>, row: u32) -> f32 {
    if (row >= sizes[2]) {
        return 0.0;
    }
    return dy[((c.x * sizes[2] + row) * sizes[5] + c.y) * sizes[6] + c.z];
}

fn load_x(c: vec3<u32>, t: vec3<u32>) -> f32 {
    let row = i32(c.y * sizes[8] + t.y * sizes[10]) - i32(sizes[9]);
    let col = i32(c.z * sizes[8] + t.z * sizes[10]) - i32(sizes[9]);
    if (t.x >= sizes[1] || row < 0 || row >= i32(sizes[3]) || col < 0 || col >= i32(sizes[4])) {
        return 0.0;
    }
    return x[((c.x * sizes[1] + t.x) * sizes[3] + u32(row)) * sizes[4] + u32(col)];
}

{%- from "uniform_parts.wgsl" import sizes_for_all, read_sizes %}
{{- sizes_for_all(true, 12) }}
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    {{- read_sizes(true) }}
    let m = sizes[2];
    let n = sizes[1] * sizes[7] * {{ taps }}u;
    let k_all = sizes[0] * sizes[5] * sizes[6];
    let tiles_n = (n + TILE - 1u) / TILE;
    let tile = wid.y * groups.x + wid.x;
    let row0 = (tile / tiles_n) * TILE;
    let col0 = (tile % tiles_n) * TILE;
    // The same for all invocations of the workgroup, so none is left behind at a barrier.
    if (row0 >= m) {
        return;
    }
    let begin = wid.z * sizes[11];
    let to = min(begin + sizes[11], k_all);
    let ty = lid / 8u;
    let tx = lid % 8u;
    let i = (lid / 4u) * 4u;
    let q = (lid % 4u) * 4u;
    {%- for c in range(4) %}
    let column{{ c }} = column(col0 + i + {{ c }}u);
    {%- endfor %}
    {% for i in range(8) -%}
    var s{{ i }}_0 = vec4<f32>(0.0);
    var s{{ i }}_1 = vec4<f32>(0.0);
    {% endfor %}
    for (var k = begin; k < to; k += DEPTH) {
        {%- for c in range(4) %}
        {
            var d = vec4<f32>(0.0);
            var v = vec4<f32>(0.0);
            if (k + q + {{ c }}u < to) {
                let at = cell(k + q + {{ c }}u);
                d = vec4<f32>(load_dy(at, row0 + i), load_dy(at, row0 + i + 1u), load_dy(at, row0 + i + 2u), load_dy(at, row0 + i + 3u));
                v = vec4<f32>(load_x(at, column0), load_x(at, column1), load_x(at, column2), load_x(at, column3));
            }
            as_[(q + {{ c }}u) * STRIDE + i / 4u] = d;
            bs_[(q + {{ c }}u) * STRIDE + i / 4u] = v;
        }
        {%- endfor %}
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
    let base = wid.z * m * n;
    {% for i in range(8) -%}
    if (row0 + ty * 8u + {{ i }}u < m) {
        let at = base + (row0 + ty * 8u + {{ i }}u) * n;
        {%- for j in range(2) %}{% for part in range(4) %}
        if (col0 + tx * 4u + {{ 32 * j + part }}u < n) {
            dw[at + col0 + tx * 4u + {{ 32 * j + part }}u] = s{{ i }}_{{ j }}.{{ lane[part] }};
        }
        {%- endfor %}{% endfor %}
    }
    {% endfor -%}
}
