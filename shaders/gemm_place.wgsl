{# Where in the product a workgroup is: which matrix of a batch, and which part along k of it.

   Sizes: m, n, k; k of one split; splits of a matrix; numbers from one matrix of a batch to the next in `a` and in `b`; numbers
   of a row of `b` where it lies across k (at least n). #}
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
{%- endmacro %}
