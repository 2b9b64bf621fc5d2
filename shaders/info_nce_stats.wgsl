{# Largest logit and sum of exponentials of every row of a chunk of logits, one row for each invocation. Settings: vec (a row is
   whole vec4), group. #}
{%- set elem = "vec4<f32>" if vec else "f32" %}
// [rows, width]
@group(0) @binding(0) var<storage, read_write> products: array<{{ elem }}>;
// [chunks, 2, rows]: the largest logits, then the sums.
@group(0) @binding(1) var<storage, read_write> partial: array<f32>;
// rows, elements of a row, which chunk, bits of 1/τ.
@group(0) @binding(2) var<storage, read_write> sizes: array<u32, 4>;

@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let rows = sizes[0];
    let width = sizes[1];
    let factor = bitcast<f32>(sizes[3]);
    let row = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    if (row >= rows) {
        return;
    }
    let base = row * width;
    var most = {{ elem }}(-3.0e38);
    for (var i = 0u; i < width; i += 1u) {
        most = max(most, products[base + i] * factor);
    }
    let top = {{ "max(max(most.x, most.y), max(most.z, most.w))" if vec else "most" }};
    var sums = {{ elem }}(0.0);
    for (var i = 0u; i < width; i += 1u) {
        sums += exp(products[base + i] * factor - top);
    }
    let at = sizes[2] * 2u * rows + row;
    partial[at] = top;
    partial[at + rows] = {{ "sums.x + sums.y + sums.z + sums.w" if vec else "sums" }};
}
