{# What both families of the matrix product share: bindings, guarded loads, the end of a tile.

   Settings: layout "nn" | "nt" | "tn"; a_vec, b_vec, c_vec (rows of that matrix are whole vec4);
   ending "plain" | "bias" | "bias_residual" | "bias_gelu" | "bias_gelu_keep" | "slope"; wide (see vec4_parts, of a and b). #}
{%- set extra = {"plain": 0, "bias": 1, "bias_residual": 2, "bias_gelu": 1, "bias_gelu_keep": 2, "slope": 1}[ending] %}
{%- set c_elem = "vec4<f32>" if c_vec else "f32" %}
{%- from "vec4_parts.wgsl" import four, vec4_of, unpack %}
@group(0) @binding(0) var<storage, read_write> a: array<{{ four(wide) if a_vec else "f32" }}>;
@group(0) @binding(1) var<storage, read_write> b: array<{{ four(wide) if b_vec else "f32" }}>;
@group(0) @binding(2) var<storage, read_write> c: array<{{ c_elem }}>;
{% if ending == "slope" -%}
@group(0) @binding(3) var<storage, read_write> before: array<{{ c_elem }}>;
{% elif extra > 0 -%}
@group(0) @binding(3) var<storage, read_write> bias: array<{{ c_elem }}>;
{% endif %}
{%- if extra == 2 -%}
@group(0) @binding(4) var<storage, read_write> {{ "residual" if ending == "bias_residual" else "kept" }}: array<{{ c_elem }}>;
{% endif -%}
// See gemm_place.
@group(0) @binding({{ 3 + extra }}) var<storage, read_write> sizes: array<u32, 8>;

{{ unpack(wide and (a_vec or b_vec)) }}
{%- if a_vec -%}
fn a_at(i: u32) -> vec4<f32> {
    return {{ vec4_of("a[i]", wide) }};
}
{% else -%}
fn load_a(base: u32, at: u32, end: u32) -> vec4<f32> {
    let last = max(end, 1u) - 1u;
    let v = vec4<f32>(a[base + min(at, last)], a[base + min(at + 1u, last)], a[base + min(at + 2u, last)], a[base + min(at + 3u, last)]);
    return select(vec4<f32>(0.0), v, vec4<u32>(at, at + 1u, at + 2u, at + 3u) < vec4<u32>(end));
}
{% endif %}
{%- if b_vec -%}
fn b_at(i: u32) -> vec4<f32> {
    return {{ vec4_of("b[i]", wide) }};
}
{% else -%}
fn load_b(base: u32, at: u32, end: u32) -> vec4<f32> {
    let last = max(end, 1u) - 1u;
    let v = vec4<f32>(b[base + min(at, last)], b[base + min(at + 1u, last)], b[base + min(at + 2u, last)], b[base + min(at + 3u, last)]);
    return select(vec4<f32>(0.0), v, vec4<u32>(at, at + 1u, at + 2u, at + 3u) < vec4<u32>(end));
}
{% endif %}
{%- if "gelu" in ending or ending == "slope" -%}
{% include "gelu_parts.wgsl" %}
{% endif -%}
{%- if "bias" in ending %}
fn bias4(col: u32, n: u32) -> vec4<f32> {
    {% if c_vec -%}
    return bias[col / 4u];
    {%- else -%}
    let last = n - 1u;
    return vec4<f32>(bias[col], bias[min(col + 1u, last)], bias[min(col + 2u, last)], bias[min(col + 3u, last)]);
    {%- endif %}
}
{% endif %}
// Four columns of one row of the result, at a column inside the matrix.
fn finish(sum: vec4<f32>, row: u32, col: u32, n: u32, base: u32) {
    let at = base + row * n + col;
    {% if c_vec -%}
    let i = at / 4u;
    {% if ending == "plain" -%}
    c[i] = sum;
    {%- elif ending == "bias" -%}
    c[i] = sum + bias4(col, n);
    {%- elif ending == "bias_residual" -%}
    c[i] = sum + bias4(col, n) + residual[i];
    {%- elif ending == "bias_gelu" -%}
    c[i] = gelu(sum + bias4(col, n));
    {%- elif ending == "bias_gelu_keep" -%}
    let h = sum + bias4(col, n);
    kept[i] = h;
    c[i] = gelu(h);
    {%- else -%}
    c[i] = sum * gelu_slope(before[i]);
    {%- endif %}
    {%- else -%}
    {% if "bias" in ending -%}
    let h = sum + bias4(col, n);
    {%- elif ending == "slope" -%}
    let last = n - 1u - col;
    let h = sum * gelu_slope(vec4<f32>(before[at], before[at + min(1u, last)], before[at + min(2u, last)], before[at + min(3u, last)]));
    {%- else -%}
    let h = sum;
    {%- endif %}
    let y = {{ "gelu(h)" if "gelu" in ending else "h" }};
    {%- for part in range(4) %}
    if (col + {{ part }}u < n) {
        c[at + {{ part }}u] = y[{{ part }}]{{ " + residual[at + " ~ part ~ "u]" if ending == "bias_residual" }};
        {%- if ending == "bias_gelu_keep" %}
        kept[at + {{ part }}u] = h[{{ part }}];
        {%- endif %}
    }
    {%- endfor %}
    {%- endif %}
}
