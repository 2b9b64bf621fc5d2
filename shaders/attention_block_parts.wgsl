{# What attention in blocks does in both directions. Invocations stand in squares of 8 × 8, `ty` and `tx`, of which each has
   `rows` of the block's rows and every eighth of the 32 rows walked over. `shape` has rows, depth (vec4 of a head loaded at a
   time), columns (vec4 of a result's row) and weights (vec4 from one row of weights to the next). #}

{#- Loads `depth` vec4 of rows, from vec4 `d` of a head on, and turns them: a row of the tile, `stride` vec4, is one number of
    all rows. Rows come by four: quad `i` of so many `quads` is rows begin + i·near + n·far, n = 0 to 3. Beyond the last token
    comes the last. #}
{%- macro stage(shape, who, from, head, row, begin, quads, near, far, into, stride) %}
{%- set depth = shape.depth %}
            {{ "if (" ~ who ~ " < " ~ quads * depth ~ "u) " if quads * depth < 64 }}{
                let at = {{ begin }} + {{ who }} / {{ depth }}u * {{ near }}u;
                let part = {{ head }} + d + {{ who }} % {{ depth }}u;
                {%- for n in range(4) %}
                let v{{ n }} = {{ from }}[min(at + {{ n * far }}u, last) * {{ row }} + part];
                {%- endfor %}
                {%- for n in range(4) %}
                tile[{{ into }} + ({{ who }} % {{ depth }}u * 4u + {{ n }}u) * {{ stride }}u + {{ who }} / {{ depth }}u] = vec4<f32>(v0.{{ "xyzw"[n] }}, v1.{{ "xyzw"[n] }}, v2.{{ "xyzw"[n] }}, v3.{{ "xyzw"[n] }});
                {%- endfor %}
            }
{%- endmacro %}

{#- Adds to the scores of `count` · 8 rows walked over, at `b`, what the loaded numbers give. #}
{%- macro some_scores(shape, a, b, count) %}
{%- set rows = shape.rows %}
                for (var e = 0u; e < {{ shape.depth * 4 }}u; e += 1u) {
                    let b = tile[{{ b }} + e * 9u + tx];
                    {%- for q in range(rows // 4) %}
                    let a{{ q }} = tile[{{ a }} + e * {{ shape.weights }}u + ty * {{ rows // 4 }}u + {{ q }}u];
                    {%- endfor %}
                    {%- for i in range(rows) %}{% for j in range(count) %}
                    s{{ i }}_{{ j }} = fma(a{{ i // 4 }}.{{ "xyzw"[i % 4] }}, b.{{ "xyzw"[j] }}, s{{ i }}_{{ j }});
                    {%- endfor %}{% endfor %}
                }
{%- endmacro %}

{#- As many scores as there are rows left, or all 32. #}
{%- macro scores(shape, a, b) %}
                if (tokens - t > 16u) {
                    {{- some_scores(shape, a, b, 4) }}
                } else {
                    {{- some_scores(shape, a, b, 2) }}
                }
{%- endmacro %}

{#- Tokens, heads and the last token, with as many bits as any model needs: hardware multiplies numbers of 24 bits faster. #}
{%- macro bounded() %}
    let tokens = min(sizes[0], 0xffffffu);
    let last = min(tokens - 1u, 0xffffffu);
    let heads = min(sizes[1], 0xffffu);
{%- endmacro %}

{#- Adds weights, at `a`, times 8 rows, at `b`, to the sums. #}
{%- macro product(shape, a, b) %}
{%- set rows = shape.rows %}
{%- set columns = shape.columns %}
{%- set quads = rows // 4 %}
                for (var k = 0u; k < 8u; k += 1u) {
                    {%- for q in range(quads) %}
                    let a{{ q }} = tile[{{ a }} + k * {{ shape.weights }}u + ty * {{ quads }}u + {{ q }}u];
                    {%- endfor %}
                    {%- for c in range(columns) %}
                    let b{{ c }} = tile[{{ b }} + k * 8u + tx + {{ 64 * c }}u];
                    {%- endfor %}
                    {%- for i in range(rows) %}{% for c in range(columns) %}
                    o{{ i }}_{{ c }} = fma(vec4<f32>(a{{ i // 4 }}.{{ "xyzw"[i % 4] }}), b{{ c }}, o{{ i }}_{{ c }});
                    {%- endfor %}{% endfor %}
                }
{%- endmacro %}

{#- Where in a row of `vecs` vec4 the invocation's `c`th is; where the row has no such, its last. #}
{%- macro column(vecs, c) -%}
{{ "min(tx + " ~ 8 * c ~ "u, " ~ (vecs - 1) ~ "u)" if 8 * c + 8 > vecs else "tx + " ~ 8 * c ~ "u" }}
{%- endmacro %}

{#- Four numbers of an array of numbers. #}
{%- macro of_rows(name, at, q) -%}
vec4<f32>({% for i in range(4 * q, 4 * q + 4) %}{{ name }}[{{ at }} + {{ i }}u]{{ ", " if not loop.last }}{% endfor %})
{%- endmacro %}
