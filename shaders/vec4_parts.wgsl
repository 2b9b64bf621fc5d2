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
