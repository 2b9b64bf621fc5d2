{# InfoNCE's gradient of the queries, from the mean of the queue's entries under the softmax: each invocation one row.
   Settings: group. #}
// [rows, dim]
@group(0) @binding(0) var<storage, read_write> key: array<f32>;
// [rows]
@group(0) @binding(1) var<storage, read_write> weights: array<f32>;
// [2, rows]: log-sum-exps, then the negatives' share of the softmax.
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;
// [rows, dim]
@group(0) @binding(3) var<storage, read_write> mean: array<f32>;
// [rows, dim]
@group(0) @binding(4) var<storage, read_write> grad: array<f32>;
// [1]
@group(0) @binding(5) var<storage, read_write> dloss: array<f32>;
// rows, dim; bits of 1/τ.
@group(0) @binding(6) var<storage, read_write> sizes: array<u32, 4>;

@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let dim = sizes[1];
    let factor = bitcast<f32>(sizes[2]);
    let row = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    if (row >= sizes[0]) {
        return;
    }
    let others = -lse[sizes[0] + row];
    let share = weights[row] * factor * dloss[0];
    for (var d = 0u; d < dim; d += 1u) {
        let at = row * dim + d;
        grad[at] = fma(others, key[at], mean[at]) * share;
    }
}
