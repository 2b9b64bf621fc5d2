{# Matrix product of software adapters with subgroups: a subgroup owns rows × (4·lanes·columns) numbers of the result, every
   invocation its own columns of them, in named registers. What all invocations need of `a` each of them loads once for all
   and hands round: a load costs such an adapter as much as thirty products.

   Settings beside those of gemm_parts: rows (lanes, or a multiple of twice as many), columns (vec4s of an invocation), lanes (of a
   subgroup, which is the workgroup). #}
{%- include "gemm_parts.wgsl" %}
{%- from "gemm_place.wgsl" import place, write_tile %}
{%- set part = ["x", "y", "z", "w"] %}
{%- set width = lanes * 4 * columns %}
{%- set loads = rows // lanes %}
{%- set quads = rows // 4 %}

@compute @workgroup_size({{ lanes }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    {{- place(b_vec and layout != "nt") }}
    let tiles_n = (n + {{ width - 1 }}u) / {{ width }}u;
    let tile = wid.y * groups.x + wid.x;
    let row0 = (tile / tiles_n) * {{ rows }}u;
    let col0 = (tile % tiles_n) * {{ width }}u + lane * 4u;
    if (row0 >= m) {
        return;
    }

    {% for j in range(columns) -%}
    let s_{{ j }} = beginning(col0 + {{ 4 * lanes * j }}u, n, ends);
    {% for i in range(rows) -%}
    var s{{ i }}_{{ j }} = s_{{ j }};
    {% endfor %}{% endfor %}
    {#- An invocation's share of 4·rows numbers of `a`: whole rows of 4 along k, or 4 rows at one of the four k. #}
    {%- for g in range(loads) %}
    {%- if layout != "tn" %}
    let a_row{{ g }} = a_first + min(row0 + {{ g * lanes }}u + lane, m - 1u) * k_all;
    {%- else %}
    let a_k{{ g }} = ({{ g * lanes }}u + lane) / {{ quads }}u;
    let a_col{{ g }} = min(row0 + ({{ g * lanes }}u + lane) % {{ quads }}u * 4u, {{ "m - 4u" if a_vec else "m - 1u" }});
    {%- endif %}
    {%- endfor %}
    {%- for j in range(columns) %}
    {%- if layout == "nt" %}
    {%- for p in range(4) %}
    let b_row{{ j }}_{{ p }} = min(col0 + {{ 4 * lanes * j + p }}u, n - 1u) * k_all + b_first;
    {%- endfor %}
    {%- else %}
    let b_col{{ j }} = min(col0 + {{ 4 * lanes * j }}u, b_last);
    {%- endif %}
    {%- endfor %}

    for (var k = begin; k < to; k += 4u) {
        {%- for g in range(loads) %}
        {%- if layout != "tn" %}
        let a{{ g }} = {% if a_vec %}a_at((a_row{{ g }} + k) / 4u){% else %}load_a(a_row{{ g }}, k, to){% endif %};
        {%- else %}
        let ka{{ g }} = a_first + min(k + a_k{{ g }}, to - 1u) * m;
        let a{{ g }} = select(vec4<f32>(0.0), {% if a_vec %}a_at((ka{{ g }} + a_col{{ g }}) / 4u){% else %}load_a(ka{{ g }}, a_col{{ g }}, m){% endif %}, k + a_k{{ g }} < to);
        {%- endif %}
        {%- endfor %}
        {%- if layout == "nt" %}
        {%- for j in range(columns) %}{% for p in range(4) %}
        let t{{ j }}_{{ p }} = {% if b_vec %}b_at((b_row{{ j }}_{{ p }} + k) / 4u){% else %}load_b(b_row{{ j }}_{{ p }}, k, to){% endif %};
        {%- endfor %}{% endfor %}
        {%- endif %}
        // Two k at a time: half the code to compile, and a number of the result is still read and written once for both.
        for (var half = 0u; half < 2u; half += 1u) {
            {%- for g in range(loads) %}
            {%- if layout != "tn" %}
            let h{{ g }} = select(a{{ g }}.xy, a{{ g }}.zw, half == 1u);
            {%- elif 2 * g + 1 < loads %}
            let a_half{{ g }} = select(a{{ g }}, a{{ g + loads // 2 }}, half == 1u);
            {%- endif %}
            {%- endfor %}
            {%- for kk in range(2) %}
            {%- if layout != "nt" %}
            let kb{{ kk }} = b_first + min(k + half * 2u + {{ kk }}u, to - 1u) * b_width;
            {%- endif %}
            {%- for j in range(columns) %}
            {%- if layout == "nt" %}
            let b{{ kk }}_{{ j }} = select({% for pair in [part[kk], part[kk + 2]] %}vec4<f32>({% for p in range(4) %}t{{ j }}_{{ p }}.{{ pair }}{{ ", " if p < 3 }}{% endfor %}), {% endfor %}half == 1u);
            {%- else %}
            let b{{ kk }}_{{ j }} = {% if b_vec %}b_at((kb{{ kk }} + b_col{{ j }}) / 4u){% else %}load_b(kb{{ kk }}, b_col{{ j }}, n){% endif %};
            {%- endif %}
            {%- endfor %}
            {%- endfor %}
            {%- macro products(i, x0, x1) %}
            {%- for j in range(columns) %}
            s{{ i }}_{{ j }} = {{ x1 }} * b1_{{ j }} + ({{ x0 }} * b0_{{ j }} + s{{ i }}_{{ j }});
            {%- endfor %}
            {%- endmacro %}
            {%- if layout != "tn" %}
            {%- for i in range(rows) %}
            {
                let x = subgroupBroadcast(h{{ i // lanes }}, {{ i % lanes }}u);
                {{- products(i, "x.x", "x.y") }}
            }
            {%- endfor %}
            {%- else %}
            {%- for q in range(quads) %}
            {
                {%- for kk in range(2) %}
                {%- set f = kk * quads + q %}
                {%- if loads == 1 %}
                let x{{ kk }} = subgroupShuffle(a0, half * {{ 2 * quads }}u + {{ f }}u);
                {%- else %}
                let x{{ kk }} = subgroupBroadcast(a_half{{ f // lanes }}, {{ f % lanes }}u);
                {%- endif %}
                {%- endfor %}
                {%- for p in range(4) %}{{ products(4 * q + p, "x0." ~ part[p], "x1." ~ part[p]) }}{% endfor %}
            }
            {%- endfor %}
            {%- endif %}
        }
    }
    {{- write_tile(rows, columns, 4 * lanes, ending == "any") }}
}
