{# Matrix product without workgroup memory or barriers: each invocation owns rows × (4·columns) numbers of the result in
   named registers. What software adapters are fast at.

   Settings beside those of gemm_parts: rows (a multiple of 4), columns (vec4s), group. #}
{%- include "gemm_parts.wgsl" %}
{%- from "gemm_place.wgsl" import place, write_tile %}
{%- set lane = ["x", "y", "z", "w"] %}

@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    {{- place(b_vec and layout != "nt") }}
    let tiles_n = (n + {{ columns * 4 - 1 }}u) / {{ columns * 4 }}u;
    let tile = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    let row0 = (tile / tiles_n) * {{ rows }}u;
    let col0 = (tile % tiles_n) * {{ columns * 4 }}u;
    if (row0 >= m) {
        return;
    }

    {% for j in range(columns) -%}
    let s_{{ j }} = beginning(col0 + {{ 4 * j }}u, n, ends);
    {% for i in range(rows) -%}
    var s{{ i }}_{{ j }} = s_{{ j }};
    {% endfor %}{% endfor %}
    {%- if layout != "tn" %}
    {%- for i in range(rows) %}
    let a_row{{ i }} = min(row0 + {{ i }}u, m - 1u) * k_all + a_first;
    {%- endfor %}
    {%- else %}
    {%- for i in range(rows // 4) %}
    let a_col{{ i }} = min(row0 + {{ 4 * i }}u, {{ "m - 4u" if a_vec else "m - 1u" }});
    {%- endfor %}
    {%- endif %}
    {%- if layout == "nt" %}
    {%- for j in range(columns) %}{% for part in range(4) %}
    let b_row{{ j }}_{{ part }} = min(col0 + {{ 4 * j + part }}u, n - 1u) * k_all + b_first;
    {%- endfor %}{% endfor %}
    {%- else %}
    {%- for j in range(columns) %}
    let b_col{{ j }} = min(col0 + {{ 4 * j }}u, b_last);
    {%- endfor %}
    {%- endif %}

    {%- if layout == "tn" %}
    for (var k = begin; k < to; k += 1u) {
        {%- for i in range(rows // 4) %}
        let a{{ i }} = {% if a_vec %}a_at((a_first + k * m + a_col{{ i }}) / 4u){% else %}load_a(a_first + k * m, a_col{{ i }}, m){% endif %};
        {%- endfor %}
        {%- for j in range(columns) %}
        let b{{ j }} = {% if b_vec %}b_at((b_first + k * b_width + b_col{{ j }}) / 4u){% else %}load_b(b_first + k * b_width, b_col{{ j }}, n){% endif %};
        {%- endfor %}
        {%- for i in range(rows) %}{% for j in range(columns) %}
        s{{ i }}_{{ j }} = fma(vec4<f32>(a{{ i // 4 }}.{{ lane[i % 4] }}), b{{ j }}, s{{ i }}_{{ j }});
        {%- endfor %}{% endfor %}
    }
    {%- else %}
    for (var k = begin; k < to; k += 4u) {
        {%- for i in range(rows) %}
        let a{{ i }} = {% if a_vec %}a_at((a_row{{ i }} + k) / 4u){% else %}load_a(a_row{{ i }}, k, to){% endif %};
        {%- endfor %}
        {%- if layout == "nt" %}
        {%- for j in range(columns) %}{% for part in range(4) %}
        let t{{ j }}_{{ part }} = {% if b_vec %}b_at((b_row{{ j }}_{{ part }} + k) / 4u){% else %}load_b(b_row{{ j }}_{{ part }}, k, to){% endif %};
        {%- endfor %}{% endfor %}
        {%- endif %}
        {%- for kk in range(4) %}
        {
            {%- if layout == "nn" and not a_vec %}
            let kb = b_first + min(k + {{ kk }}u, to - 1u) * b_width;
            {%- elif layout == "nn" %}
            let kb = b_first + (k + {{ kk }}u) * b_width;
            {%- endif %}
            {%- for j in range(columns) %}
            {%- if layout == "nn" %}
            let b{{ j }} = {% if b_vec %}b_at((kb + b_col{{ j }}) / 4u){% else %}load_b(kb, b_col{{ j }}, n){% endif %};
            {%- else %}
            let b{{ j }} = vec4<f32>({% for part in range(4) %}t{{ j }}_{{ part }}.{{ lane[kk] }}{{ ", " if part < 3 }}{% endfor %});
            {%- endif %}
            {%- endfor %}
            {%- for i in range(rows) %}{% for j in range(columns) %}
            s{{ i }}_{{ j }} = fma(vec4<f32>(a{{ i }}.{{ lane[kk] }}), b{{ j }}, s{{ i }}_{{ j }});
            {%- endfor %}{% endfor %}
        }
        {%- endfor %}
    }
    {%- endif %}
    {{- write_tile(rows, columns, 4, ending == "any") }}
}
