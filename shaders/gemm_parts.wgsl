{# What both families of the matrix product share: bindings, guarded loads, where sums begin, the end of a tile.

   Settings: layout "nn" | "nt" | "tn"; a_vec, b_vec, c_vec (rows of that matrix are whole vec4);
   ending "plain" | "any" (what happens to sums is decided at run time by the bits below, so that one text serves all: each
   takes a second to compile on some adapters); wide (see vec4_parts; of every matrix whose rows are whole vec4). #}
{%- set any = ending == "any" %}
{%- from "vec4_parts.wgsl" import four, vec4_of, of_vec4, unpack, pack %}
{%- set c_elem = four(wide) if c_vec else "f32" %}
@group(0) @binding(0) var<storage, read_write> a: array<{{ four(wide) if a_vec else "f32" }}>;
@group(0) @binding(1) var<storage, read_write> b: array<{{ four(wide) if b_vec else "f32" }}>;
@group(0) @binding(2) var<storage, read_write> c: array<{{ c_elem }}>;
{% if any -%}
@group(0) @binding(3) var<storage, read_write> bias: array<{{ c_elem }}>;
// As large as the result: what is added to it, what its sums are kept in, or what they are multiplied by the slope at.
@group(0) @binding(4) var<storage, read_write> past: array<{{ c_elem }}>;
{% endif -%}
// See gemm_place.
@group(0) @binding({{ 5 if any else 3 }}) var<storage, read_write> sizes: array<u32, 9>;

// What happens to sums: they begin with a bias; are kept; go through GELU; something is added; they are multiplied by GELU's slope.
const BIAS = 1u;
const KEEP = 2u;
const GELU = 4u;
const RESIDUAL = 8u;
const SLOPE = 16u;

{{ unpack(wide and (a_vec or b_vec or c_vec)) }}
{{- pack(wide and c_vec) }}
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
{%- if any -%}
{% include "gelu_parts.wgsl" %}
{% endif -%}

{#- Four columns of one row of a matrix like the result, `left` of them inside it. #}
{%- macro got(name) %}
{%- if c_vec %}{{ vec4_of(name ~ "[at / 4u]", wide) }}{% else -%}
vec4<f32>({{ name }}[at]{% for part in range(1, 4) %}, {{ name }}[at + min({{ part }}u, left - 1u)]{% endfor %})
{%- endif %}{% endmacro %}
{%- macro put(name) %}
fn put_{{ name }}(v: vec4<f32>, at: u32, left: u32) {
    {%- if c_vec %}
    {{ name }}[at / 4u] = {{ of_vec4("v", wide) }};
    {%- else %}
    {{ name }}[at] = v.x;
    {%- for part in range(1, 4) %}
    if (left > {{ part }}u) {
        {{ name }}[at + {{ part }}u] = v[{{ part }}];
    }
    {%- endfor %}
    {%- endif %}
}
{% endmacro %}
{{- put("c") }}
{%- if any %}
{{- put("past") }}
// A sum that was written down.
fn sum_at(at: u32, left: u32) -> vec4<f32> {
    return {{ got("c") }};
}
{% endif %}
// What a sum of four columns begins with.
fn beginning(col: u32, n: u32, ends: u32) -> vec4<f32> {
    {%- if any %}
    if ((ends & BIAS) != 0u) {
        let at = min(col, {{ "n - 4u" if c_vec else "n - 1u" }});
        let left = n - at;
        return {{ got("bias") }};
    }
    {%- endif %}
    return vec4<f32>(0.0);
}
{% if any %}
fn with_gelu(sum: vec4<f32>, at: u32, left: u32, ends: u32) -> vec4<f32> {
    if ((ends & KEEP) != 0u) {
        put_past(sum, at, left);
    }
    return gelu(sum);
}

fn with_residual(sum: vec4<f32>, at: u32, left: u32, ends: u32) -> vec4<f32> {
    return sum + {{ got("past") }};
}

fn with_slope(sum: vec4<f32>, at: u32, left: u32, ends: u32) -> vec4<f32> {
    return sum * gelu_slope({{ got("past") }});
}
{% endif %}
