{# The convolution's weight gradient without workgroup memory or barriers: each invocation owns rows (outer channels) ×
   columns (inner channels) × taps (of one row of the kernel) in named registers, and goes along the output in segments of
   one row, whose stretch of the input is loaded once for all taps. What software adapters are fast at.

   Settings: rows, columns; taps, step, gap along x; segment (cells); guarded (a segment or a tap may lie outside); group. #}
{%- include "conv_weight_parts.wgsl" %}
{%- set reach = (segment - 1) * step + (taps - 1) * gap + 1 %}

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
    let out_h = sizes[5];
    let out_w = sizes[6];
    let kernel_h = sizes[7];
    let padding = i32(sizes[9]);
    let tiles_i = (inner + {{ columns - 1 }}u) / {{ columns }}u;
    let tile = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    let ci = (tile % tiles_i) * {{ columns }}u;
    let ky = (tile / tiles_i) % kernel_h;
    let co = tile / (tiles_i * kernel_h) * {{ rows }}u;
    if (co >= outer) {
        return;
    }
    {%- for o in range(rows) %}
    let d_at{{ o }} = min(co + {{ o }}u, outer - 1u) * out_h * out_w;
    {%- endfor %}
    {%- for c in range(columns) %}
    let x_at{{ c }} = min(ci + {{ c }}u, inner - 1u) * in_h * in_w;
    {%- endfor %}
    {% for o in range(rows) %}{% for c in range(columns) %}{% for j in range(taps) -%}
    var s{{ o }}_{{ c }}_{{ j }} = 0.0;
    {% endfor %}{% endfor %}{% endfor %}
    let segments = (out_w + {{ segment - 1 }}u) / {{ segment }}u;
    let begin = wid.z * sizes[11];
    let to = min(begin + sizes[11], sizes[0] * out_h * segments);
    var ox = (begin % segments) * {{ segment }}u;
    var oy = (begin / segments) % out_h;
    var image = begin / (segments * out_h);
    for (var g = begin; g < to; g += 1u) {
        let line = i32(oy * sizes[8] + ky * sizes[10]) - padding;
        let row = clamp(line, 0, i32(in_h) - 1);
        let left = i32(ox * sizes[8]) - padding;
        let d_row = (image * outer * out_h + oy) * out_w;
        let x_row = (image * inner * in_h + u32(row)) * in_w;
        {%- if guarded %}
        {%- for p in range(segment) %}
        let cell{{ p }} = d_row + min(ox + {{ p }}u, out_w - 1u);
        let cell_in{{ p }} = ox + {{ p }}u < out_w;
        {%- endfor %}
        {%- for t in range(reach) if taps > 1 or t % step == 0 %}
        let col{{ t }} = clamp(left + {{ t }}, 0, i32(in_w) - 1);
        let col_in{{ t }} = left + {{ t }} == col{{ t }} && line == row;
        {%- endfor %}
        {%- endif %}
        {%- for o in range(rows) %}{% for p in range(segment) %}
        let d{{ o }}_{{ p }} = {% if guarded -%}
            select(0.0, dy[d_at{{ o }} + cell{{ p }}], cell_in{{ p }});
        {%- else -%}
            dy[d_at{{ o }} + d_row + ox + {{ p }}u];
        {%- endif %}
        {%- endfor %}{% endfor %}
        {%- for c in range(columns) %}
        {
            {%- for t in range(reach) if taps > 1 or t % step == 0 %}
            let v{{ t }} = {% if guarded -%}
                select(0.0, x[x_at{{ c }} + x_row + u32(col{{ t }})], col_in{{ t }});
            {%- else -%}
                x[x_at{{ c }} + x_row + u32(left) + {{ t }}u];
            {%- endif %}
            {%- endfor %}
            {%- for j in range(taps) %}{% for p in range(segment) %}{% for o in range(rows) %}
            s{{ o }}_{{ c }}_{{ j }} = fma(d{{ o }}_{{ p }}, v{{ p * step + j * gap }}, s{{ o }}_{{ c }}_{{ j }});
            {%- endfor %}{% endfor %}{% endfor %}
        }
        {%- endfor %}
        // To the next segment; divisions would cost as much as the loads.
        ox += {{ segment }}u;
        if (ox >= out_w) {
            ox = 0u;
            oy += 1u;
        }
        if (oy == out_h) {
            oy = 0u;
            image += 1u;
        }
    }
    let base = wid.z * outer * inner;
    {%- for o in range(rows) %}
    if (co + {{ o }}u < outer) {
        {%- for c in range(columns) %}
        if (ci + {{ c }}u < inner) {
            let at = ((base + (co + {{ o }}u) * inner + ci + {{ c }}u) * kernel_h + ky) * {{ taps }}u;
            {%- for j in range(taps) %}
            dw[at + {{ j }}u] = s{{ o }}_{{ c }}_{{ j }};
            {%- endfor %}
        }
        {%- endfor %}
    }
    {%- endfor %}
}
