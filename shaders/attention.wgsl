{# softmax(Q·Kᵀ·scale)·V, forward, for software adapters: each invocation owns a few queries of one head and walks over the
   keys once, with a running maximum and sum (Dao et al. 2022); nothing of size tokens² is stored. attention_blocks is for
   hardware.

   Settings: head (numbers of a head, a multiple of 4), queries, group, lanes (not 0: of a subgroup, which is the workgroup; each
   invocation loads one key and hands it round), wide (see vec4_parts). #}
{%- set vecs = head // 4 %}
{%- set block = queries * group if lanes else queries %}
{%- from "vec4_parts.wgsl" import four, vec4_of, unpack %}
{{ unpack(wide) }}
@group(0) @binding(0) var<storage, read_write> qkv: array<{{ four(wide) }}>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
// [batch, heads, tokens]: the log-sum-exp of every row of scaled scores.
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;
// tokens, heads, batch·heads, bits of the scale.
@group(0) @binding(3) var<storage, read_write> sizes: array<u32, 4>;
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
    // A workgroup stays within one head.
    let work = wid.y * groups.x + wid.x;
    let bh = work / blocks;
    let first = ((work % blocks) * {{ group }}u + lid) * {{ queries }}u;
    {%- else %}
    let work = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    let bh = work / blocks;
    let first = (work % blocks) * {{ queries }}u;
    {%- endif %}
    if (bh >= sizes[2]) {
        return;
    }
    // In vec4: a token's row of queries, keys and values, and where this head begins in it.
    let width = heads * {{ vecs }}u;
    let row = width * 3u;
    let token0 = (bh / heads) * tokens;
    let q0 = token0 * row + (bh % heads) * {{ vecs }}u;
    let k0 = q0 + width;
    let v0 = k0 + width;
    {%- for i in range(queries) %}
    let at{{ i }} = q0 + min(first + {{ i }}u, tokens - 1u) * row;
    {%- for d in range(vecs) %}
    let q{{ i }}_{{ d }} = {{ vec4_of("qkv[at" ~ i ~ " + " ~ d ~ "u]", wide) }} * scale;
    var o{{ i }}_{{ d }} = vec4<f32>(0.0);
    {%- endfor %}
    var m{{ i }} = -3.0e38;
    var l{{ i }} = 0.0;
    {%- endfor %}
    {%- macro step(k, v) %}
        {%- for d in range(vecs) %}
        let k_{{ d }} = {{ k(d) }};
        {%- endfor %}
        {%- for i in range(queries) %}
        var p{{ i }} = dot(q{{ i }}_0, k_0);
        {%- for d in range(1, vecs) %}
        p{{ i }} += dot(q{{ i }}_{{ d }}, k_{{ d }});
        {%- endfor %}
        let n{{ i }} = max(m{{ i }}, p{{ i }});
        let c{{ i }} = exp(m{{ i }} - n{{ i }});
        p{{ i }} = exp(p{{ i }} - n{{ i }});
        m{{ i }} = n{{ i }};
        l{{ i }} = l{{ i }} * c{{ i }} + p{{ i }};
        {%- endfor %}
        {%- for d in range(vecs) %}
        let v_{{ d }} = {{ v(d) }};
        {%- for i in range(queries) %}
        o{{ i }}_{{ d }} = fma(vec4<f32>(p{{ i }}), v_{{ d }}, o{{ i }}_{{ d }} * c{{ i }});
        {%- endfor %}
        {%- endfor %}
    {%- endmacro %}
    {%- if lanes %}
    {%- macro k_at(d) %}subgroupShuffle(own_k{{ d }}, j){% endmacro %}
    {%- macro v_at(d) %}subgroupShuffle(own_v{{ d }}, j){% endmacro %}
    for (var t = 0u; t < tokens; t += {{ lanes }}u) {
        let own = min(t + lid, tokens - 1u) * row;
        {%- for d in range(vecs) %}
        let own_k{{ d }} = {{ vec4_of("qkv[k0 + own + " ~ d ~ "u]", wide) }};
        let own_v{{ d }} = {{ vec4_of("qkv[v0 + own + " ~ d ~ "u]", wide) }};
        {%- endfor %}
        let here = min({{ lanes }}u, tokens - t);
        for (var j = 0u; j < here; j += 1u) {
            {{- step(k_at, v_at) }}
        }
    }
    {%- else %}
    {%- macro k_at(d) %}{{ vec4_of("qkv[k0 + j * row + " ~ d ~ "u]", wide) }}{% endmacro %}
    {%- macro v_at(d) %}{{ vec4_of("qkv[v0 + j * row + " ~ d ~ "u]", wide) }}{% endmacro %}
    for (var j = 0u; j < tokens; j += 1u) {
        {{- step(k_at, v_at) }}
    }
    {%- endif %}
    {% for i in range(queries) -%}
    if (first + {{ i }}u < tokens) {
        let to = (token0 + first + {{ i }}u) * width + (bh % heads) * {{ vecs }}u;
        let r = 1.0 / l{{ i }};
        {%- for d in range(vecs) %}
        y[to + {{ d }}u] = o{{ i }}_{{ d }} * r;
        {%- endfor %}
        lse[bh * tokens + first + {{ i }}u] = m{{ i }} + log(l{{ i }});
    }
    {% endfor -%}
}
