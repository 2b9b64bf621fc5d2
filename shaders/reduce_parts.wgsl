{# One value out of the values of a workgroup's invocations, its sum or its largest, in a fixed order; without a workgroup to
   share with (not shared) each keeps its own. Wants `lid` and, if shared, `tree` from `room`. #}
{%- macro room(shared, group) %}
{%- if shared %}
var<workgroup> tree: array<f32, {{ group }}>;
{% endif %}
{%- endmacro %}
{%- macro reduce(value, largest, shared, group) %}
    {%- if shared %}
    workgroupBarrier();
    tree[lid] = {{ value }};
    workgroupBarrier();
    for (var half = {{ group // 2 }}u; half > 0u; half /= 2u) {
        if (lid < half) {
            tree[lid] = {{ "max(tree[lid], tree[lid + half])" if largest else "tree[lid] + tree[lid + half]" }};
        }
        workgroupBarrier();
    }
    {{ value }} = tree[0];
    {%- endif %}
{%- endmacro %}
