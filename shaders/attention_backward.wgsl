{# The gradient of attention for software adapters, with the probabilities computed again from the log-sum-exp. Either of
   queries (each invocation owns a few queries and walks over the keys) or of keys and values (it owns a few keys and walks over
   the queries). attention_backward_blocks is for hardware.

   Settings: head, of ("queries" | "keys"), own (queries or keys of an invocation), group, lanes, wide (as in attention). #}
{%- set vecs = head // 4 %}
{%- set block = own * group if lanes else own %}
{%- from "vec4_parts.wgsl" import four, vec4_of, unpack %}
{{ unpack(wide) }}
@group(0) @binding(0) var<storage, read_write> qkv: array<{{ four(wide) }}>;
@group(0) @binding(1) var<storage, read_write> dy: array<{{ four(wide) }}>;
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> delta: array<f32>;
@group(0) @binding(4) var<storage, read_write> dqkv: array<vec4<f32>>;
// tokens, heads, batch·heads, bits of the scale.
@group(0) @binding(5) var<storage, read_write> sizes: array<u32, 4>;
@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let tokens = sizes[0];
    let heads = sizes[1];
    let scale = bitcast<f32>(sizes[3]);
    let blocks = (tokens + {{ block - 1 }}u) / {{ block }}u;
    {%- if lanes %}
    let work = wid.y * groups.x + wid.x;
    let bh = work / blocks;
    let first = ((work % blocks) * {{ group }}u + lid) * {{ own }}u;
    {%- else %}
    let work = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    let bh = work / blocks;
    let first = (work % blocks) * {{ own }}u;
    {%- endif %}
    if (bh >= sizes[2]) {
        return;
    }
    let width = heads * {{ vecs }}u;
    let row = width * 3u;
    let token0 = (bh / heads) * tokens;
    let head0 = (bh % heads) * {{ vecs }}u;
    let q0 = token0 * row + head0;
    let k0 = q0 + width;
    let v0 = k0 + width;
    let dy0 = token0 * width + head0;
    let stat0 = bh * tokens;
    {%- if of == "queries" %}
    {%- for i in range(own) %}
    let t{{ i }} = min(first + {{ i }}u, tokens - 1u);
    {%- for d in range(vecs) %}
    let q{{ i }}_{{ d }} = {{ vec4_of("qkv[q0 + t" ~ i ~ " * row + " ~ d ~ "u]", wide) }} * scale;
    let g{{ i }}_{{ d }} = {{ vec4_of("dy[dy0 + t" ~ i ~ " * width + " ~ d ~ "u]", wide) }};
    var dq{{ i }}_{{ d }} = vec4<f32>(0.0);
    {%- endfor %}
    let l{{ i }} = lse[stat0 + t{{ i }}];
    let e{{ i }} = delta[stat0 + t{{ i }}];
    {%- endfor %}
    {%- macro step(a, b, j) %}
        {%- for d in range(vecs) %}
        let k_{{ d }} = {{ a(d) }};
        let v_{{ d }} = {{ b(d) }};
        {%- endfor %}
        {%- for i in range(own) %}
        var s{{ i }} = dot(q{{ i }}_0, k_0);
        var dp{{ i }} = dot(g{{ i }}_0, v_0);
        {%- for d in range(1, vecs) %}
        s{{ i }} += dot(q{{ i }}_{{ d }}, k_{{ d }});
        dp{{ i }} += dot(g{{ i }}_{{ d }}, v_{{ d }});
        {%- endfor %}
        let ds{{ i }} = exp(s{{ i }} - l{{ i }}) * (dp{{ i }} - e{{ i }});
        {%- for d in range(vecs) %}
        dq{{ i }}_{{ d }} = fma(vec4<f32>(ds{{ i }}), k_{{ d }}, dq{{ i }}_{{ d }});
        {%- endfor %}
        {%- endfor %}
    {%- endmacro %}
    {%- else %}
    {%- for i in range(own) %}
    let t{{ i }} = min(first + {{ i }}u, tokens - 1u);
    {%- for d in range(vecs) %}
    let k{{ i }}_{{ d }} = {{ vec4_of("qkv[k0 + t" ~ i ~ " * row + " ~ d ~ "u]", wide) }} * scale;
    let v{{ i }}_{{ d }} = {{ vec4_of("qkv[v0 + t" ~ i ~ " * row + " ~ d ~ "u]", wide) }};
    var dk{{ i }}_{{ d }} = vec4<f32>(0.0);
    var dv{{ i }}_{{ d }} = vec4<f32>(0.0);
    {%- endfor %}
    {%- endfor %}
    {%- macro step(a, b, j) %}
        {%- if lanes %}
        let l = subgroupShuffle(own_l, {{ j }});
        let e = subgroupShuffle(own_e, {{ j }});
        {%- else %}
        let l = lse[stat0 + {{ j }}];
        let e = delta[stat0 + {{ j }}];
        {%- endif %}
        {%- for d in range(vecs) %}
        let q_{{ d }} = {{ a(d) }};
        let g_{{ d }} = {{ b(d) }};
        {%- endfor %}
        {%- for i in range(own) %}
        var s{{ i }} = dot(k{{ i }}_0, q_0);
        var dp{{ i }} = dot(v{{ i }}_0, g_0);
        {%- for d in range(1, vecs) %}
        s{{ i }} += dot(k{{ i }}_{{ d }}, q_{{ d }});
        dp{{ i }} += dot(v{{ i }}_{{ d }}, g_{{ d }});
        {%- endfor %}
        let p{{ i }} = exp(s{{ i }} - l);
        let ds{{ i }} = p{{ i }} * (dp{{ i }} - e);
        {%- for d in range(vecs) %}
        dk{{ i }}_{{ d }} = fma(vec4<f32>(ds{{ i }}), q_{{ d }}, dk{{ i }}_{{ d }});
        dv{{ i }}_{{ d }} = fma(vec4<f32>(p{{ i }}), g_{{ d }}, dv{{ i }}_{{ d }});
        {%- endfor %}
        {%- endfor %}
    {%- endmacro %}
    {%- endif %}
    {#- What is walked over: keys and values, or queries and gradients of the result. #}
    {%- set over_a = "qkv[k0 + " if of == "queries" else "qkv[q0 + " %}
    {%- set over_b = "qkv[v0 + " if of == "queries" else "dy[dy0 + " %}
    {%- set b_row = "row" if of == "queries" else "width" %}
    {%- if lanes %}
    {%- macro a_at(d) %}subgroupShuffle(own_a{{ d }}, j){% endmacro %}
    {%- macro b_at(d) %}subgroupShuffle(own_b{{ d }}, j){% endmacro %}
    for (var t = 0u; t < tokens; t += {{ lanes }}u) {
        let own = min(t + lid, tokens - 1u);
        {%- if of == "keys" %}
        let own_l = lse[stat0 + own];
        let own_e = delta[stat0 + own];
        {%- endif %}
        {%- for d in range(vecs) %}
        let own_a{{ d }} = {{ vec4_of(over_a ~ "own * row + " ~ d ~ "u]", wide) }};
        let own_b{{ d }} = {{ vec4_of(over_b ~ "own * " ~ b_row ~ " + " ~ d ~ "u]", wide) }};
        {%- endfor %}
        let here = min({{ lanes }}u, tokens - t);
        for (var j = 0u; j < here; j += 1u) {
            {{- step(a_at, b_at, "j") }}
        }
    }
    {%- else %}
    {%- macro a_at(d) %}{{ vec4_of(over_a ~ "j * row + " ~ d ~ "u]", wide) }}{% endmacro %}
    {%- macro b_at(d) %}{{ vec4_of(over_b ~ "j * " ~ b_row ~ " + " ~ d ~ "u]", wide) }}{% endmacro %}
    for (var j = 0u; j < tokens; j += 1u) {
        {{- step(a_at, b_at, "j") }}
    }
    {%- endif %}
    {% for i in range(own) -%}
    if (first + {{ i }}u < tokens) {
        let to = q0 + (first + {{ i }}u) * row;
        {%- for d in range(vecs) %}
        {%- if of == "queries" %}
        dqkv[to + {{ d }}u] = dq{{ i }}_{{ d }} * scale;
        {%- else %}
        dqkv[to + width + {{ d }}u] = dk{{ i }}_{{ d }} * scale;
        dqkv[to + width * 2u + {{ d }}u] = dv{{ i }}_{{ d }};
        {%- endif %}
        {%- endfor %}
    }
    {% endfor -%}
}
