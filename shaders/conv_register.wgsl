{# Convolution without workgroup memory or barriers: each invocation owns rows (channels) × py × px (cells) of the result in
   named registers. Cells of one row look at overlapping stretches of the input, so for each channel and row of taps a
   stretch is loaded once. What software adapters are fast at.

   Settings: rows, py, px; taps, step, gap along x; unroll (channels at a time, a divisor of inner); padded (something lies
   outside the input); group. #}
{%- include "conv_parts.wgsl" %}
{%- set reach = (px - 1) * step + (taps - 1) * gap + 1 %}

@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let inner = sizes[1];
    let outer = sizes[2];
    let in_h = sizes[3];
    let in_w = sizes[4];
    let grid_h = sizes[5];
    let grid_w = sizes[6];
    let tiles_x = (grid_w + {{ px - 1 }}u) / {{ px }}u;
    let tiles_y = (grid_h + {{ py - 1 }}u) / {{ py }}u;
    let tile = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    let spot = tile / tiles_x;
    let image = (spot / tiles_y) % sizes[0];
    let co = spot / (tiles_y * sizes[0]) * {{ rows }}u;
    if (co >= outer) {
        return;
    }
    let oy = (spot % tiles_y) * {{ py }}u;
    let ox = (tile % tiles_x) * {{ px }}u;
    let w_x = sizes[12];
    let w_inner = sizes[14];
    let channel = in_h * in_w;
    {%- for o in range(rows) %}
    let w_at{{ o }} = min(co + {{ o }}u, outer - 1u) * sizes[13] + sizes[10];
    {%- endfor %}
    let left = i32(ox) * {{ step }} + bitcast<i32>(sizes[18]);
    {%- for t in range(reach) if taps > 1 or t % step == 0 %}
    let col{{ t }} = u32(clamp(left + {{ t }}, 0, i32(in_w) - 1));
    {%- if padded %}
    let col_in{{ t }} = left + {{ t }} == i32(col{{ t }});
    {%- endif %}
    {%- endfor %}
    {% for o in range(rows) %}{% for r in range(py) %}{% for p in range(px) -%}
    var s{{ o }}_{{ r }}_{{ p }} = 0.0;
    {% endfor %}{% endfor %}{% endfor %}
    for (var i = 0u; i < sizes[9]; i += 1u) {
        {%- for r in range(py) %}
        let line{{ r }} = i32((oy + {{ r }}u) * sizes[15] + i * sizes[17]) + bitcast<i32>(sizes[16]);
        let row{{ r }} = clamp(line{{ r }}, 0, i32(in_h) - 1);
        {%- if padded %}
        let row_in{{ r }} = line{{ r }} == row{{ r }};
        {%- endif %}
        var x_at{{ r }} = (image * inner * in_h + u32(row{{ r }})) * in_w;
        {%- endfor %}
        var w_at = i * sizes[11];
        for (var k = 0u; k < inner; k += {{ unroll }}u) {
            {%- for u in range(unroll) %}
            {
                {%- for r in range(py) %}{% for t in range(reach) if taps > 1 or t % step == 0 %}
                let v{{ r }}_{{ t }} = {% if padded -%}
                    select(0.0, x[x_at{{ r }} + col{{ t }}], row_in{{ r }} && col_in{{ t }});
                {%- else -%}
                    x[x_at{{ r }} + col{{ t }}];
                {%- endif %}
                {%- endfor %}{% endfor %}
                {%- for j in range(taps) %}
                {
                    {%- for o in range(rows) %}
                    let a{{ o }} = w[w_at{{ o }} + w_at + {{ j }}u * w_x];
                    {%- endfor %}
                    {%- for o in range(rows) %}{% for r in range(py) %}{% for p in range(px) %}
                    s{{ o }}_{{ r }}_{{ p }} = fma(a{{ o }}, v{{ r }}_{{ p * step + j * gap }}, s{{ o }}_{{ r }}_{{ p }});
                    {%- endfor %}{% endfor %}{% endfor %}
                }
                {%- endfor %}
                {%- for r in range(py) %}
                x_at{{ r }} += channel;
                {%- endfor %}
                w_at += w_inner;
            }
            {%- endfor %}
        }
    }
    let out_step = sizes[20];
    {%- for o in range(rows) %}
    if (co + {{ o }}u < outer) {
        {%- for r in range(py) %}
        if (oy + {{ r }}u < grid_h) {
            let at = ((image * outer + co + {{ o }}u) * sizes[7] + (oy + {{ r }}u) * out_step + sizes[21]) * sizes[8] + ox * out_step + sizes[22];
            {%- for p in range(px) %}
            if (ox + {{ p }}u < grid_w) {
                y[at + {{ p }}u * out_step] = s{{ o }}_{{ r }}_{{ p }};
            }
            {%- endfor %}
        }
        {%- endfor %}
    }
    {%- endfor %}
}
