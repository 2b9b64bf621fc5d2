{# Convolution through workgroup memory, as an implicit matrix product: 64 channels × 64 cells of the result for each
   workgroup of 64 invocations, 8 × 8 each in registers, 16 of the sum over channels and taps at a time. What hardware is
   fast at.

   Settings: taps, step, gap along x. #}
{%- include "conv_parts.wgsl" %}
{%- set lane = ["x", "y", "z", "w"] %}
const TILE = 64u;
const DEPTH = 16u;
// One vec4 of padding keeps stores of neighbouring invocations in different banks.
const STRIDE = 17u;
var<workgroup> as_: array<vec4<f32>, 272>;
var<workgroup> bs_: array<vec4<f32>, 272>;

// A cell of the grid: where its image begins in the input, then its row and column.
fn cell(at: u32) -> vec3<u32> {
    let area = sizes[5] * sizes[6];
    let rest = at % area;
    return vec3<u32>(at / area, rest / sizes[6], rest % sizes[6]);
}

// One of the sum: its channel, its taps along y and x.
fn tap(k: u32) -> vec3<u32> {
    let rest = k % (sizes[9] * {{ taps }}u);
    return vec3<u32>(k / (sizes[9] * {{ taps }}u), rest / {{ taps }}u, rest % {{ taps }}u);
}

fn load_w(row: u32, k: u32, k_all: u32) -> f32 {
    if (row >= sizes[2] || k >= k_all) {
        return 0.0;
    }
    let t = tap(k);
    return w[sizes[10] + row * sizes[13] + t.x * sizes[14] + t.y * sizes[11] + t.z * sizes[12]];
}

fn load_x(c: vec3<u32>, t: vec3<u32>) -> f32 {
    let row = i32(c.y * sizes[15] + t.y * sizes[17]) + bitcast<i32>(sizes[16]);
    let col = i32(c.z * {{ step }}u + t.z * {{ gap }}u) + bitcast<i32>(sizes[18]);
    if (row < 0 || row >= i32(sizes[3]) || col < 0 || col >= i32(sizes[4])) {
        return 0.0;
    }
    return x[((c.x * sizes[1] + t.x) * sizes[3] + u32(row)) * sizes[4] + u32(col)];
}

fn store(value: f32, row: u32, at: u32) {
    let c = cell(at);
    let line = (c.x * sizes[2] + row) * sizes[7] + c.y * sizes[20] + sizes[21];
    y[line * sizes[8] + c.z * sizes[20] + sizes[22]] = value;
}

{%- from "uniform_parts.wgsl" import sizes_for_all, read_sizes %}
{{- sizes_for_all(true, 24) }}
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    {{- read_sizes(true) }}
    let m = sizes[2];
    let n = sizes[0] * sizes[5] * sizes[6];
    let k_all = sizes[1] * sizes[9] * {{ taps }}u;
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
    let own = (lid % 16u) * 4u;
    {%- for i in range(4) %}
    let cell{{ i }} = cell(min(col0 + own + {{ i }}u, n - 1u));
    {%- endfor %}
    {% for i in range(8) -%}
    var s{{ i }}_0 = vec4<f32>(0.0);
    var s{{ i }}_1 = vec4<f32>(0.0);
    {% endfor %}
    for (var k = 0u; k < k_all; k += DEPTH) {
        {
            let i = row0 + (lid / 4u) * 4u;
            let q = (lid % 4u) * 4u;
            {%- for c in range(4) %}
            as_[(q + {{ c }}u) * STRIDE + lid / 4u] = vec4<f32>(
                load_w(i, k + q + {{ c }}u, k_all),
                load_w(i + 1u, k + q + {{ c }}u, k_all),
                load_w(i + 2u, k + q + {{ c }}u, k_all),
                load_w(i + 3u, k + q + {{ c }}u, k_all),
            );
            {%- endfor %}
        }
        {%- for load in range(4) %}
        {
            let q = lid / 16u + {{ load * 4 }}u;
            var v = vec4<f32>(0.0);
            if (k + q < k_all) {
                let t = tap(k + q);
                v = vec4<f32>(load_x(cell0, t), load_x(cell1, t), load_x(cell2, t), load_x(cell3, t));
            }
            bs_[q * STRIDE + lid % 16u] = v;
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
    {% for i in range(8) -%}
    if (row0 + ty * 8u + {{ i }}u < m) {
        {%- for j in range(2) %}{% for part in range(4) %}
        if (col0 + tx * 4u + {{ 32 * j + part }}u < n) {
            store(s{{ i }}_{{ j }}.{{ lane[part] }}, row0 + ty * 8u + {{ i }}u, col0 + tx * 4u + {{ 32 * j + part }}u);
        }
        {%- endfor %}{% endfor %}
    }
    {% endfor -%}
}
