{# Four numbers of a buffer at once. Where a load of any width costs the same (software adapters), two of 64 bits are half
   the cost of four of 32: `wide` buffers are declared and read that way. #}
{%- macro four(wide) %}{{ "vec2<u64>" if wide else "vec4<f32>" }}{% endmacro %}
{%- macro vec4_of(loaded, wide) %}{{ "unpack(" ~ loaded ~ ")" if wide else loaded }}{% endmacro %}
{%- macro unpack(wide) %}
{%- if wide %}
fn unpack(v: vec2<u64>) -> vec4<f32> {
    return vec4<f32>(bitcast<f32>(u32(v.x)), bitcast<f32>(u32(v.x >> 32u)), bitcast<f32>(u32(v.y)), bitcast<f32>(u32(v.y >> 32u)));
}
{% endif %}
{%- endmacro %}
{%- macro of_vec4(value, wide) %}{{ "pack(" ~ value ~ ")" if wide else value }}{% endmacro %}
{%- macro pack(wide) %}
{%- if wide %}
fn pack(v: vec4<f32>) -> vec2<u64> {
    let b = bitcast<vec4<u32>>(v);
    return vec2<u64>(u64(b.x) | (u64(b.y) << 32u), u64(b.z) | (u64(b.w) << 32u));
}
{% endif %}
{%- endmacro %}
