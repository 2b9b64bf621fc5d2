{# Barriers want control flow that is the same for all invocations of a workgroup, and to the rules of WGSL what is read from
   memory that can be written to never is (browsers refuse such a kernel). So one invocation reads the sizes, and hands them to
   all. `sizes_for_all` goes outside of functions, `read_sizes` where `main` begins, which has `lid`. #}
{%- macro sizes_for_all(shared, count) %}
{%- if shared %}
var<workgroup> common_sizes: array<u32, {{ count }}>;
{%- endif %}
{%- endmacro %}
{%- macro read_sizes(shared) %}
{%- if shared %}
    if (lid == 0u) {
        common_sizes = sizes;
    }
    let sizes = workgroupUniformLoad(&common_sizes);
{%- endif %}
{%- endmacro %}
