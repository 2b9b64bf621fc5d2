{# For every row of attention the sum of its result times the result's gradient, which the backward pass subtracts from the
   gradient of each probability; for software adapters. Settings: head, group. #}
{%- set vecs = head // 4 %}
@group(0) @binding(0) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> dy: array<vec4<f32>>;
// [batch, heads, tokens]
@group(0) @binding(2) var<storage, read_write> delta: array<f32>;
// tokens, heads, batch·heads·tokens.
@group(0) @binding(3) var<storage, read_write> sizes: array<u32, 4>;

@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let id = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    if (id >= sizes[2]) {
        return;
    }
    let bh = id / sizes[0];
    let row = (bh / sizes[1]) * sizes[0] + id % sizes[0];
    let at = (row * sizes[1] + bh % sizes[1]) * {{ vecs }}u;
    var sum = 0.0;
    {%- for d in range(vecs) %}
    sum += dot(y[at + {{ d }}u], dy[at + {{ d }}u]);
    {%- endfor %}
    delta[id] = sum;
}
