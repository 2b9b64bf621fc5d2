{# The softmax of a chunk of logits in their place, from the log-sum-exp of every row. Settings: vec (a row is whole vec4), each
   (elements of an invocation, side by side), group. #}
// [rows, width]
@group(0) @binding(0) var<storage, read_write> products: array<{{ "vec4<f32>" if vec else "f32" }}>;
// [rows]
@group(0) @binding(1) var<storage, read_write> lse: array<f32>;
// rows, elements of a row, bits of 1/τ.
@group(0) @binding(2) var<storage, read_write> sizes: array<u32, 4>;

@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let width = sizes[1];
    let factor = bitcast<f32>(sizes[2]);
    let first = ((wid.y * groups.x + wid.x) * {{ group }}u + lid) * {{ each }}u;
    let to = min(first + {{ each }}u, sizes[0] * width);
    for (var i = first; i < to; i += 1u) {
        products[i] = exp(products[i] * factor - lse[i / width]);
    }
}
