{# InfoNCE's logits without workgroup memory or barriers: each invocation owns rows × columns of them in named registers.
   What software adapters are fast at.

   Settings beside those of info_nce_parts: rows, columns, group. #}
{%- include "info_nce_parts.wgsl" %}

@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let rows = sizes[0];
    let dim = sizes[1];
    let len = sizes[2];
    let factor = bitcast<f32>(sizes[3]);
    let id = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    let tiles = (rows + {{ rows - 1 }}u) / {{ rows }}u;
    let row0 = (id % tiles) * {{ rows }}u;
    {%- if ending == "stats" %}
    let begin = (id / tiles) * sizes[5];
    let to = min(begin + sizes[5], len);
    if (begin >= len) {
        return;
    }
    {%- for i in range(rows) %}
    var most{{ i }} = -3.0e38;
    var sum{{ i }} = 0.0;
    {%- endfor %}
    {%- else %}
    let begin = sizes[4] + (id / tiles) * {{ columns }}u;
    let to = min(sizes[4] + sizes[5], len);
    if (begin >= to) {
        return;
    }
    {%- endif %}
    {%- for i in range(rows) %}
    let q_at{{ i }} = min(row0 + {{ i }}u, rows - 1u) * dim;
    {%- endfor %}
    {% if ending == "stats" -%}
    for (var j = begin; j < to; j += {{ columns }}u) {
    {%- else -%}
    {
        let j = begin;
    {%- endif %}
        {%- for c in range(columns) %}
        let col{{ c }} = min(j + {{ c }}u, len - 1u);
        {%- endfor %}
        {%- for i in range(rows) %}{% for c in range(columns) %}
        var s{{ i }}_{{ c }} = 0.0;
        {%- endfor %}{% endfor %}
        for (var d = 0u; d < dim; d += 1u) {
            let line = d * len;
            {%- for i in range(rows) %}
            let a{{ i }} = query[q_at{{ i }} + d];
            {%- endfor %}
            {%- for c in range(columns) %}
            let b{{ c }} = queue[line + col{{ c }}];
            {%- endfor %}
            {%- for i in range(rows) %}{% for c in range(columns) %}
            s{{ i }}_{{ c }} = fma(a{{ i }}, b{{ c }}, s{{ i }}_{{ c }});
            {%- endfor %}{% endfor %}
        }
        {%- for i in range(rows) %}
        {
            {%- for c in range(columns) %}
            {%- if ending == "stats" %}
            let l{{ c }} = select(-3.0e38, s{{ i }}_{{ c }} * factor, j + {{ c }}u < to);
            {%- else %}
            if (row0 + {{ i }}u < rows && j + {{ c }}u < to) {
                weights[(row0 + {{ i }}u) * sizes[5] + j + {{ c }}u - sizes[4]] = exp(s{{ i }}_{{ c }} * factor - lse[row0 + {{ i }}u]);
            }
            {%- endif %}
            {%- endfor %}
            {%- if ending == "stats" %}
            var top = most{{ i }};
            {%- for c in range(columns) %}
            top = max(top, l{{ c }});
            {%- endfor %}
            var sum = sum{{ i }} * exp(most{{ i }} - top);
            {%- for c in range(columns) %}
            sum += exp(l{{ c }} - top);
            {%- endfor %}
            most{{ i }} = top;
            sum{{ i }} = sum;
            {%- endif %}
        }
        {%- endfor %}
    }
    {%- if ending == "stats" %}
    let at = (id / tiles) * 2u * rows;
    {%- for i in range(rows) %}
    if (row0 + {{ i }}u < rows) {
        partial[at + row0 + {{ i }}u] = most{{ i }};
        partial[at + rows + row0 + {{ i }}u] = sum{{ i }};
    }
    {%- endfor %}
    {%- endif %}
}
