{# The gradient of attention in blocks (FlashAttention-2, arXiv 2307.08691), with the probabilities computed again from the
   log-sum-exp. A workgroup owns 8·rows queries (of "queries") or keys and values (of "keys") of one head, and walks over the
   others 32 at a time. Its first half, 8 × 8 invocations, computes scores and probabilities P. Its second half computes what the
   result's gradient says of each probability, dO·Vᵀ, and from both dS = P·(dO·Vᵀ − delta). So neither half has more to keep than
   one tile of scores and one of sums. For keys, the first half sums up Pᵀ·dO, the gradient of the values, and the second dSᵀ·Q.
   For queries, both sum up dS·K, each over half of the keys. Every sum has one order, so results repeat to the bit.

   The kernel of queries also computes delta, the sum of each row of the result times its gradient; the kernel of keys reads it.

   Settings: head (numbers of a head, a multiple of 4), rows (4 or 8), of ("queries" | "keys"). #}
{%- from "attention_block_parts.wgsl" import bounded, stage, scores, product, column, of_rows %}
{%- set vecs = head // 4 %}
{%- set columns = (vecs + 7) // 8 %}
{%- set depth = 4 if vecs % 4 == 0 else 2 if vecs % 2 == 0 else 1 %}
{%- set quads = rows // 4 %}
{%- set block = rows * 8 %}
{%- set weights = block // 4 + 1 %}
{%- set shape = {"rows": rows, "depth": depth, "columns": columns, "weights": weights} %}
{#- What the tile has of each half for the scores; then for the sums: weights of the 32 rows walked over (for keys, and 8 of
    the second half), and 8 rows of each half. #}
{%- set walked_at = 4 * depth * weights %}
{%- set for_scores = walked_at + 36 * depth %}
{%- set rows_at = (40 if of == "keys" else 32) * weights %}
{%- set for_sums = rows_at + 128 * columns %}
@group(0) @binding(0) var<storage, read_write> qkv: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> dy: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> delta: array<f32>;
@group(0) @binding(4) var<storage, read_write> dqkv: array<vec4<f32>>;
{%- if of == "queries" %}
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;
{%- endif %}
// tokens, heads, batch·heads, bits of the scale.
@group(0) @binding({{ 6 if of == "queries" else 5 }}) var<storage, read_write> sizes: array<u32, 4>;

var<workgroup> tile: array<vec4<f32>, {{ 2 * for_scores if 2 * for_scores > for_sums else for_sums }}>;
{%- if of == "queries" %}
// Of every query the log-sum-exp, then delta.
var<workgroup> stats: array<f32, {{ 2 * block }}>;
{%- endif %}
{%- from "uniform_parts.wgsl" import sizes_for_all, read_sizes %}
{{- sizes_for_all(true, 4) }}
{#- Writes the scores of the rows 8·j to 8·j + 7 walked over, of which the invocation has one, to row `at` of the weights. #}
{%- macro put(j, at) %}
        {%- for q in range(quads) %}
        tile[{{ at }} + ty * {{ quads }}u + {{ q }}u] = vec4<f32>(
            {%- for i in range(4 * q, 4 * q + 4) %}s{{ i }}_{{ j }}{{ ", " if not loop.last }}{% endfor -%}
        );
        {%- endfor %}
{%- endmacro %}
{#- Loads 8 rows for the sums, from row t + step on. #}
{%- macro stage_rows(from, head, row, step) %}
        {%- for c in range(columns) %}
        tile[{{ rows_at + 64 * c }}u + sums_half + id] = {{ from }}[min(t + ty + {{ step }}, last) * {{ row }} + {{ head }} + {{ column(vecs, c) }}];
        {%- endfor %}
{%- endmacro %}
@compute @workgroup_size(128)
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
    let second = lid >= 64u;
    // In vec4: a token's rows, and where this head begins.
    let width = heads * {{ vecs }}u;
    let row = width * 3u;
    let head0 = (bh / heads) * tokens * row + (bh % heads) * {{ vecs }}u;
    let dy0 = (bh / heads) * tokens * width + (bh % heads) * {{ vecs }}u;
    let stat0 = bh * tokens;
    {%- for i in range(rows) %}{% for c in range(columns) %}
    var o{{ i }}_{{ c }} = vec4<f32>(0.0);
    {%- endfor %}{% endfor %}
    {%- if of == "queries" %}
    let id = lid % 64u;
    if (id < {{ block }}u) {
        let query = min(first + id, last);
        if (second) {
            // The sum of the row of the result times its gradient, in the order of dO·Vᵀ: where one key has all the
            // probability, both are the same number, and their difference nothing.
            var e = 0.0;
            let at = dy0 + query * width;
            for (var d = 0u; d < {{ vecs }}u; d += 1u) {
                let a = y[at + d];
                let b = dy[at + d];
                {%- for part in ["x", "y", "z", "w"] %}
                e = fma(b.{{ part }}, a.{{ part }}, e);
                {%- endfor %}
            }
            stats[{{ block }}u + id] = e;
            if (first + id < tokens) {
                delta[stat0 + query] = e;
            }
        } else {
            stats[id] = lse[stat0 + query];
        }
    }
    workgroupBarrier();
    {%- endif %}
    for (var t = 0u; t < tokens; t += 32u) {
        // Computed again in every round: across it, these would be registers that the tiles need.
        let id = lid % 64u;
        let ty = id / 8u;
        let tx = id % 8u;
        // Subgroups without a row among the tokens only help to load.
        let alive = first + ty * {{ rows }}u < tokens;
        let scores_half = select(0u, {{ for_scores }}u, second);
        {%- for i in range(rows) %}{% for j in range(4) %}
        var s{{ i }}_{{ j }} = 0.0;
        {%- endfor %}{% endfor %}
        for (var d = 0u; d < {{ vecs }}u; d += {{ depth }}u) {
            {%- macro stage_own(from, head, row) %}{{ stage(shape, "id", from, head, row, "first", block // 4, 4, 1, "scores_half", weights) }}{% endmacro %}
            {%- macro stage_walked(from, head, row) %}{{ stage(shape, "id", from, head, row, "t", 8, 1, 8, "scores_half + " ~ walked_at ~ "u", 9) }}{% endmacro %}
            if (second) {
                {%- if of == "keys" %}
                {{- stage_own("qkv", "head0 + width * 2u", "row") }}
                {{- stage_walked("dy", "dy0", "width") }}
                {%- else %}
                {{- stage_own("dy", "dy0", "width") }}
                {{- stage_walked("qkv", "head0 + width * 2u", "row") }}
                {%- endif %}
            } else {
                {{- stage_own("qkv", "head0 + width" if of == "keys" else "head0", "row") }}
                {{- stage_walked("qkv", "head0" if of == "keys" else "head0 + width", "row") }}
            }
            workgroupBarrier();
            if (alive) {
                {{- scores(shape, "scores_half", "scores_half + " ~ walked_at ~ "u") }}
            }
            workgroupBarrier();
        }
        if (!second) {
            {%- if of == "queries" %}
            {%- for q in range(quads) %}
            let l{{ q }} = {{ of_rows("stats", "ty * " ~ rows ~ "u", q) }};
            {%- endfor %}
            {%- endif %}
            {%- for j in range(4) %}
            {
                let at = t + tx + {{ 8 * j }}u;
                {%- if of == "keys" %}
                let l = lse[stat0 + min(at, last)];
                {%- endif %}
                // No more than one, however a large log-sum-exp was rounded.
                {%- for i in range(rows) %}
                s{{ i }}_{{ j }} = select(0.0, exp(min(fma(s{{ i }}_{{ j }}, scale, -{{ "l" if of == "keys" else "l" ~ i // 4 ~ "." ~ "xyzw"[i % 4] }}), 0.0)), at < tokens);
                {%- endfor %}
                {{- put(j, "(tx + " ~ 8 * j ~ "u) * " ~ weights ~ "u") }}
            }
            {%- endfor %}
        }
        workgroupBarrier();
        if (second) {
            {%- if of == "queries" %}
            {%- for q in range(quads) %}
            let e{{ q }} = {{ of_rows("stats", block ~ "u + ty * " ~ rows ~ "u", q) }};
            {%- endfor %}
            {%- endif %}
            {%- for j in range(4) %}
            {
                {%- if of == "keys" %}
                let e = delta[stat0 + min(t + tx + {{ 8 * j }}u, last)];
                {%- endif %}
                {%- for q in range(quads) %}
                let p{{ q }} = tile[(tx + {{ 8 * j }}u) * {{ weights }}u + ty * {{ quads }}u + {{ q }}u];
                {%- endfor %}
                {%- for i in range(rows) %}
                s{{ i }}_{{ j }} = p{{ i // 4 }}.{{ "xyzw"[i % 4] }} * (s{{ i }}_{{ j }} - {{ "e" if of == "keys" else "e" ~ i // 4 ~ "." ~ "xyzw"[i % 4] }});
                {%- endfor %}
                {%- if of == "queries" %}
                {{- put(j, "(tx + " ~ 8 * j ~ "u) * " ~ weights ~ "u") }}
                {%- endif %}
            }
            {%- endfor %}
        }
        let sums_half = select(0u, {{ 64 * columns }}u, second);
        {%- if of == "keys" %}
        {%- for j in range(4) %}
        if (t + {{ 8 * j }}u < tokens) {
            if (second) {
                {{- put(j, 32 * weights ~ "u + tx * " ~ weights ~ "u") }}
                {{- stage_rows("qkv", "head0", "row", 8 * j ~ "u") }}
            } else {
                {{- stage_rows("dy", "dy0", "width", 8 * j ~ "u") }}
            }
            workgroupBarrier();
            if (alive) {
                let of_half = select({{ 8 * j * weights }}u, {{ 32 * weights }}u, second);
                {{- product(shape, "of_half", rows_at ~ "u + sums_half") }}
            }
            workgroupBarrier();
        }
        {%- endfor %}
        {%- else %}
        {%- for p in range(2) %}
        if (t + {{ 16 * p }}u < tokens) {
            let of_half = {{ 16 * p }}u + select(0u, 8u, second);
            {{- stage_rows("qkv", "head0 + width", "row", "of_half") }}
            workgroupBarrier();
            if (alive) {
                {{- product(shape, "of_half * " ~ weights ~ "u", rows_at ~ "u + sums_half") }}
            }
            workgroupBarrier();
        }
        {%- endfor %}
        {%- endif %}
    }
    {%- if of == "queries" %}
    // The second half's sums come to the first.
    {%- for c in range(columns) %}
    if (second) {
        {%- for i in range(rows) %}
        tile[{{ 64 * i }}u + id] = o{{ i }}_{{ c }};
        {%- endfor %}
    }
    workgroupBarrier();
    if (!second) {
        {%- for i in range(rows) %}
        o{{ i }}_{{ c }} += tile[{{ 64 * i }}u + id];
        {%- endfor %}
    }
    {%- if not loop.last %}
    workgroupBarrier();
    {%- endif %}
    {%- endfor %}
    if (second) {
        return;
    }
    let to = head0 + id % 8u;
    let factor = scale;
    {%- else %}
    let id = lid % 64u;
    let to = head0 + id % 8u + select(width * 2u, width, second);
    let factor = select(1.0, scale, second);
    {%- endif %}
    let row0 = first + id / 8u * {{ rows }}u;
    {%- for i in range(rows) %}
    if (row0 + {{ i }}u < tokens) {
        let at = to + (row0 + {{ i }}u) * row;
        {%- for c in range(columns) %}
        {%- if 8 * c + 8 > vecs %}
        if (id % 8u < {{ vecs - 8 * c }}u) {
            dqkv[at + {{ 8 * c }}u] = o{{ i }}_{{ c }} * factor;
        }
        {%- else %}
        dqkv[at + {{ 8 * c }}u] = o{{ i }}_{{ c }} * factor;
        {%- endif %}
        {%- endfor %}
    }
    {%- endfor %}
}
