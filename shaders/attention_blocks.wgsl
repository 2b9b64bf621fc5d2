{# softmax(Q·Kᵀ·scale)·V, forward, in blocks (FlashAttention-2, arXiv 2307.08691): a workgroup of 8 × 8 invocations owns
   8·rows queries of one head and walks over the keys 32 at a time. Both products are tiled in registers and take what they
   multiply from workgroup memory: an invocation has `rows` queries and every eighth key of the scores, and of the result the
   same queries and every eighth vec4. What is there of the result follows a larger maximum once for every block of keys. Nothing
   of size tokens² is stored.

   Settings: head (numbers of a head, a multiple of 4), rows (4 or 8). #}
{%- from "attention_block_parts.wgsl" import bounded, stage, scores, product, column, of_rows %}
{%- set vecs = head // 4 %}
{%- set columns = (vecs + 7) // 8 %}
{%- set depth = 4 if vecs % 4 == 0 else 2 if vecs % 2 == 0 else 1 %}
{%- set quads = rows // 4 %}
{%- set block = rows * 8 %}
{#- A row of the tile: one number of every query. The vec4 of padding spreads rows over memory banks. #}
{%- set weights = block // 4 + 1 %}
{#- What the tile has for the scores: rows of the queries, then of 32 keys. For the result: probabilities of 8 keys, then the
    values of these keys. #}
{%- set key_at = 4 * depth * weights %}
{%- set for_scores = key_at + 36 * depth %}
{%- set for_result = 8 * weights + 64 * columns %}
{%- set shape = {"rows": rows, "depth": depth, "columns": columns, "weights": weights} %}
@group(0) @binding(0) var<storage, read_write> qkv: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
// [batch, heads, tokens]: the log-sum-exp of every row of scaled scores.
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;
// tokens, heads, batch·heads, bits of the scale.
@group(0) @binding(3) var<storage, read_write> sizes: array<u32, 4>;

var<workgroup> tile: array<vec4<f32>, {{ for_scores if for_scores > for_result else for_result }}>;
// Of every query its new maximum, then what its sums so far are multiplied by for it.
var<workgroup> tops: array<f32, {{ 2 * block }}>;
{%- from "uniform_parts.wgsl" import sizes_for_all, read_sizes %}
{{- sizes_for_all(true, 4) }}
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    {{- read_sizes(true) }}
    {{- bounded() }}
    let scale = bitcast<f32>(sizes[3]);
    let blocks = (tokens + {{ block - 1 }}u) / {{ block }}u;
    let work = wid.y * groups.x + wid.x;
    let bh = work / blocks;
    // The same for all invocations of the workgroup, so none is left behind at a barrier.
    if (bh >= sizes[2]) {
        return;
    }
    let first = (work % blocks) * {{ block }}u;
    // In vec4: a token's row of queries, keys and values, and where this head begins in it.
    let width = heads * {{ vecs }}u;
    let row = width * 3u;
    let head0 = (bh / heads) * tokens * row + (bh % heads) * {{ vecs }}u;
    {%- for i in range(rows) %}{% for c in range(columns) %}
    var o{{ i }}_{{ c }} = vec4<f32>(0.0);
    {%- endfor %}{% endfor %}
    // Of query ty·rows + tx: the largest score so far and the sum of exponentials.
    var m = -3.0e38;
    var l = 0.0;
    for (var t = 0u; t < tokens; t += 32u) {
        // Computed again in every round: across it, these would be registers that the tiles need.
        let ty = lid / 8u;
        let tx = lid % 8u;
        // Subgroups without a query among the tokens only help to load.
        let alive = first + ty * {{ rows }}u < tokens;
        {%- for i in range(rows) %}{% for j in range(4) %}
        var s{{ i }}_{{ j }} = 0.0;
        {%- endfor %}{% endfor %}
        for (var d = 0u; d < {{ vecs }}u; d += {{ depth }}u) {
            {{- stage(shape, "lid", "qkv", "head0", "row", "first", block // 4, 4, 1, "0u", weights) }}
            {{- stage(shape, "lid", "qkv", "head0 + width", "row", "t", 8, 1, 8, key_at ~ "u", 9) }}
            workgroupBarrier();
            if (alive) {
                {{- scores(shape, "0u", key_at ~ "u") }}
            }
            workgroupBarrier();
        }
        if (t + 32u > tokens) {
            {%- for j in range(4) %}
            if (t + tx + {{ 8 * j }}u >= tokens) {
                {%- for i in range(rows) %}
                s{{ i }}_{{ j }} = -3.0e38;
                {%- endfor %}
            }
            {%- endfor %}
        }
        {%- for q in range(quads) %}
        tile[tx * {{ weights }}u + ty * {{ quads }}u + {{ q }}u] = vec4<f32>(
            {%- for i in range(4 * q, 4 * q + 4) %}
            max(max(s{{ i }}_0, s{{ i }}_1), max(s{{ i }}_2, s{{ i }}_3)),
            {%- endfor %}
        );
        {%- endfor %}
        workgroupBarrier();
        let own = {{ "lid / 4u" if rows == 8 else "ty" }};
        var top = m;
        {%- for other in range(8) %}
        top = max(top, tile[own + {{ other * weights }}u][tx % 4u]);
        {%- endfor %}
        // Powers of two are what hardware has.
        let rate = scale * 1.442695041;
        let less = exp2((m - top) * rate);
        m = top;
        l *= less;
        if (tx < {{ rows }}u) {
            tops[ty * {{ rows }}u + tx] = top;
            tops[{{ block }}u + ty * {{ rows }}u + tx] = less;
        }
        workgroupBarrier();
        {%- for q in range(quads) %}
        let less{{ q }} = {{ of_rows("tops", block ~ "u + ty * " ~ rows ~ "u", q) }};
        {%- endfor %}
        {%- for i in range(rows) %}{% for c in range(columns) %}
        o{{ i }}_{{ c }} *= less{{ i // 4 }}.{{ "xyzw"[i % 4] }};
        {%- endfor %}{% endfor %}
        {%- for q in range(quads) %}
        let m{{ q }} = {{ of_rows("tops", "ty * " ~ rows ~ "u", q) }};
        {%- endfor %}
        {%- for i in range(rows) %}
        {%- for j in range(4) %}
        s{{ i }}_{{ j }} = exp2((s{{ i }}_{{ j }} - m{{ i // 4 }}.{{ "xyzw"[i % 4] }}) * rate);
        {%- endfor %}
        {%- endfor %}
        {%- for j in range(4) %}
        if (t + {{ 8 * j }}u < tokens) {
            {%- for q in range(quads) %}
            tile[tx * {{ weights }}u + ty * {{ quads }}u + {{ q }}u] = vec4<f32>(
                {%- for i in range(4 * q, 4 * q + 4) %}s{{ i }}_{{ j }}{{ ", " if not loop.last }}{% endfor -%}
            );
            {%- endfor %}
            {%- for c in range(columns) %}
            tile[lid + {{ 8 * weights + 64 * c }}u] = qkv[min(t + ty + {{ 8 * j }}u, last) * row + head0 + width * 2u + {{ column(vecs, c) }}];
            {%- endfor %}
            workgroupBarrier();
            {%- for key in range(8) %}
            l += tile[own + {{ key * weights }}u][tx % 4u];
            {%- endfor %}
            if (alive) {
                {{- product(shape, "0u", 8 * weights ~ "u") }}
            }
            workgroupBarrier();
        }
        {%- endfor %}
    }
    let ty = lid / 8u;
    let tx = lid % 8u;
    let query = first + ty * {{ rows }}u + tx;
    if (tx < {{ rows }}u) {
        tops[ty * {{ rows }}u + tx] = 1.0 / l;
        if (query < tokens) {
            lse[bh * tokens + query] = fma(m, scale, log(l));
        }
    }
    workgroupBarrier();
    {%- for q in range(quads) %}
    let r{{ q }} = {{ of_rows("tops", "ty * " ~ rows ~ "u", q) }};
    {%- endfor %}
    let to = (bh / heads) * tokens * width + (bh % heads) * {{ vecs }}u + tx;
    {%- for i in range(rows) %}
    if (first + ty * {{ rows }}u + {{ i }}u < tokens) {
        let at = to + (first + ty * {{ rows }}u + {{ i }}u) * width;
        {%- for c in range(columns) %}
        {%- if 8 * c + 8 > vecs %}
        if (tx < {{ vecs - 8 * c }}u) {
            y[at + {{ 8 * c }}u] = o{{ i }}_{{ c }} * r{{ i // 4 }}.{{ "xyzw"[i % 4] }};
        }
        {%- else %}
        y[at + {{ 8 * c }}u] = o{{ i }}_{{ c }} * r{{ i // 4 }}.{{ "xyzw"[i % 4] }};
        {%- endif %}
        {%- endfor %}
    }
    {%- endfor %}
}
