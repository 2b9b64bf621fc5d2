{# One AdamW step over a flat parameter, in place: clip by its own norm, moments, decoupled decay (Loshchilov & Hutter 2019)
   and, with ema, the moving average that follows the parameter; every number read and written once.
   Settings: vec, each (elements of an invocation), ema, group. #}
{%- set elem = "vec4<f32>" if vec else "f32" %}
@group(0) @binding(0) var<storage, read_write> p: array<{{ elem }}>;
@group(0) @binding(1) var<storage, read_write> g: array<{{ elem }}>;
// All first moments, then all second ones.
@group(0) @binding(2) var<storage, read_write> moments: array<{{ elem }}>;
// Sums of squares of the gradient's spans.
@group(0) @binding(3) var<storage, read_write> squares: array<f32>;
{% if ema -%}
@group(0) @binding(4) var<storage, read_write> follower: array<{{ elem }}>;
{% endif -%}
// elements, spans; bits of: clip, β1, β2, ε, what decay leaves, lr / correction of the first moment,
// 1 / √correction of the second, 1 − β2, the follower's momentum m, 1 − m, 1 − β1.
@group(0) @binding({{ 5 if ema else 4 }}) var<storage, read_write> sizes: array<u32, 13>;

@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let id = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    let elements = sizes[0];
    let begin = id * {{ each }}u;
    if (begin >= elements) {
        return;
    }
    let clip = bitcast<f32>(sizes[2]);
    let beta1 = bitcast<f32>(sizes[3]);
    let beta2 = bitcast<f32>(sizes[4]);
    let epsilon = bitcast<f32>(sizes[5]);
    let keep = bitcast<f32>(sizes[6]);
    let rate = bitcast<f32>(sizes[7]);
    let unbias = bitcast<f32>(sizes[8]);
    let rest2 = bitcast<f32>(sizes[9]);
    let rest1 = bitcast<f32>(sizes[12]);
    {%- if ema %}
    let momentum = bitcast<f32>(sizes[10]);
    let share = bitcast<f32>(sizes[11]);
    {%- endif %}
    var factor = 1.0;
    if (clip > 0.0) {
        var sum = 0.0;
        for (var i = 0u; i < sizes[1]; i += 1u) {
            sum += squares[i];
        }
        factor = min(clip / (sqrt(sum) + 1e-6), 1.0);
    }
    for (var i = begin; i < min(begin + {{ each }}u, elements); i += 1u) {
        let gradient = g[i] * factor;
        let m = moments[i] * beta1 + gradient * rest1;
        let v = moments[elements + i] * beta2 + gradient * gradient * rest2;
        moments[i] = m;
        moments[elements + i] = v;
        let next = p[i] * keep - m / (sqrt(v) * unbias + epsilon) * rate;
        p[i] = next;
        {%- if ema %}
        follower[i] = follower[i] * momentum + next * share;
        {%- endif %}
    }
}
