{# Where in the product a workgroup is: which matrix of a batch, and which part along k of it.

   Sizes: m, n, k; k of one split; splits of a matrix; numbers from one matrix of a batch to the next in `a` and in `b`; numbers
   of a row of `b` where it lies across k (at least n); what happens to sums, see gemm_parts. #}
{%- macro place(b_vec) %}
    let m = sizes[0];
    let n = sizes[1];
    let k_all = sizes[2];
    let begin = min(wid.z % sizes[4] * sizes[3], k_all);
    let to = min(begin + sizes[3], k_all);
    let a_first = wid.z / sizes[4] * sizes[5];
    let b_first = wid.z / sizes[4] * sizes[6];
    let b_width = sizes[7];
    // The last column that may be read; a row of whole vec4 may go on behind the matrix.
    let b_last = {{ "(n + 3u) / 4u * 4u - 4u" if b_vec else "n - 1u" }};
    let c_base = wid.z * m * n;
    let ends = sizes[8];
{%- endmacro %}
{#- Sums s`row`_`column` of a software adapter's tile, `step` numbers from one column's vec4 to the next, written down. What an
   ending does to them is a loop over what was written: written out for each of them it takes longer to compile than the
   product, and registers cannot be counted through. #}
{%- macro write_tile(rows, columns, step, any) %}
    {%- for i in range(rows) %}
    if (row0 + {{ i }}u < m) {
        {%- for j in range(columns) %}
        if (col0 + {{ step * j }}u < n) {
            put_c(s{{ i }}_{{ j }}, c_base + (row0 + {{ i }}u) * n + col0 + {{ step * j }}u, n - col0 - {{ step * j }}u);
        }
        {%- endfor %}
    }
    {%- endfor %}
    {#- A loop for each ending: an adapter that computes both sides of a branch would compute all endings in a common one. #}
    {%- for bit, function in [("GELU", "with_gelu"), ("RESIDUAL", "with_residual"), ("SLOPE", "with_slope")] if any %}
    if ((ends & {{ bit }}) != 0u) {
        for (var i = 0u; i < {{ rows * columns }}u; i += 1u) {
            let row = row0 + i / {{ columns }}u;
            let col = col0 + i % {{ columns }}u * {{ step }}u;
            if (row < m && col < n) {
                let at = c_base + row * n + col;
                put_c({{ function }}(sum_at(at, n - col), at, n - col, ends), at, n - col);
            }
        }
    }
    {%- endfor %}
{%- endmacro %}
