{# The DINO loss from the log-sum-exps of its rows: for one span of one row of the student the part of the loss and, if
   asked, the gradient. Settings: vec, gradient, group. #}
{%- set elem = "vec4<f32>" if vec else "f32" %}
@group(0) @binding(0) var<storage, read_write> student: array<{{ elem }}>;
@group(0) @binding(1) var<storage, read_write> teacher: array<{{ elem }}>;
@group(0) @binding(2) var<storage, read_write> centre: array<{{ elem }}>;
@group(0) @binding(3) var<storage, read_write> student_lse: array<f32>;
@group(0) @binding(4) var<storage, read_write> teacher_lse: array<f32>;
// [spans, rows]
@group(0) @binding(5) var<storage, read_write> partial: array<f32>;
{% if gradient -%}
@group(0) @binding(6) var<storage, read_write> grad: array<{{ elem }}>;
{% endif -%}
// rows, batch, elements of a row, of a span; bits of 1/τs, of 1/τt, of 1/(pairs·batch).
@group(0) @binding({{ 7 if gradient else 6 }}) var<storage, read_write> sizes: array<u32, 8>;

@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let rows = sizes[0];
    let batch = sizes[1];
    let width = sizes[2];
    let spans = (width + sizes[3] - 1u) / sizes[3];
    let id = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    let row = id / spans;
    if (row >= rows) {
        return;
    }
    let begin = (id % spans) * sizes[3];
    let to = min(begin + sizes[3], width);
    let sharp = bitcast<f32>(sizes[4]);
    let sharper = bitcast<f32>(sizes[5]);
    let weight = bitcast<f32>(sizes[6]);
    let view = row / batch;
    let image = row % batch;
    // The teacher's views that this view learns from: both, or the other one.
    let w0 = select(1.0, 0.0, view == 0u);
    let w1 = select(1.0, 0.0, view == 1u);
    let ls = student_lse[row];
    let l0 = teacher_lse[image];
    let l1 = teacher_lse[batch + image];
    let s_at = row * width;
    let t0_at = image * width;
    let t1_at = (batch + image) * width;
    var loss = {{ elem }}(0.0);
    for (var i = begin; i < to; i += 1u) {
        let log_p = student[s_at + i] * sharp - ls;
        let c = centre[i];
        let target_p = w0 * exp((teacher[t0_at + i] - c) * sharper - l0) + w1 * exp((teacher[t1_at + i] - c) * sharper - l1);
        loss -= target_p * log_p;
        {%- if gradient %}
        grad[s_at + i] = ((w0 + w1) * exp(log_p) - target_p) * (weight * sharp);
        {%- endif %}
    }
    partial[(id % spans) * rows + row] = {{ "dot(loss, vec4<f32>(1.0))" if vec else "loss" }} * weight;
}
