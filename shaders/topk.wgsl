{# The k best of every row of scores, merged into the best so far: an invocation for each row keeps a heap whose root is the
   worst, or (shared) a workgroup for each row collects what passes the bar and sorts now and then. Best first, equal scores
   in the order of their indices, whatever the order of the work.

   Settings: shared, room (a power of two, not below k nor the group), group. #}
// [rows, width]: one tile of scores.
@group(0) @binding(0) var<storage, read_write> scores: array<f32>;
// [rows, k]: the best so far.
@group(0) @binding(1) var<storage, read_write> values: array<f32>;
@group(0) @binding(2) var<storage, read_write> indices: array<u32>;
// rows, width, k, index of the tile's first column, whether it is the first tile, whether it is the last.
@group(0) @binding(3) var<storage, read_write> sizes: array<u32, 8>;

// Below every score that is a number; beaten by everything.
const LOWEST = -3.4028234e38;
const NONE = 0xffffffffu;

fn better(a: f32, i: u32, b: f32, j: u32) -> bool {
    return a > b || (a == b && i < j);
}

{% if shared -%}
const ROOM = {{ room }}u;
var<workgroup> v: array<f32, {{ 2 * room }}>;
var<workgroup> at: array<u32, {{ 2 * room }}>;
var<workgroup> waiting: atomic<u32>;
var<workgroup> seen: u32;

// Bitonic, all of it: the best first.
fn sort(lid: u32) {
    for (var size = 2u; size <= 2u * ROOM; size *= 2u) {
        for (var stride = size / 2u; stride > 0u; stride /= 2u) {
            for (var pair = lid; pair < ROOM; pair += {{ group }}u) {
                let low = (pair / stride) * 2u * stride + pair % stride;
                let high = low + stride;
                let falling = (low & size) == 0u;
                if (better(v[high], at[high], v[low], at[low]) == falling) {
                    let value = v[low];
                    v[low] = v[high];
                    v[high] = value;
                    let index = at[low];
                    at[low] = at[high];
                    at[high] = index;
                }
            }
            workgroupBarrier();
        }
    }
}
{%- else -%}
// Puts an entry in place of the root of a heap of `count`, and the heap in order.
fn sift(base: u32, count: u32, value: f32, index: u32) {
    var hole = 0u;
    for (var child = 1u; child < count; child = 2u * hole + 1u) {
        if (child + 1u < count
            && better(values[base + child], indices[base + child], values[base + child + 1u], indices[base + child + 1u])) {
            child += 1u;
        }
        if (!better(value, index, values[base + child], indices[base + child])) {
            break;
        }
        values[base + hole] = values[base + child];
        indices[base + hole] = indices[base + child];
        hole = child;
    }
    values[base + hole] = value;
    indices[base + hole] = index;
}
{%- endif %}

{%- from "uniform_parts.wgsl" import sizes_for_all, read_sizes %}
{{- sizes_for_all(shared, 8) }}
@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    {{- read_sizes(shared) }}
    let rows = sizes[0];
    let width = sizes[1];
    let k = sizes[2];
    let first = sizes[3];
    {%- if shared %}
    let row = wid.y * groups.x + wid.x;
    // The same for all invocations of the workgroup.
    if (row >= rows) {
        return;
    }
    let base = row * k;
    for (var i = lid; i < 2u * ROOM; i += {{ group }}u) {
        v[i] = LOWEST;
        at[i] = NONE;
        if (i < k && sizes[4] == 0u) {
            v[i] = values[base + i];
            at[i] = indices[base + i];
        }
    }
    if (lid == 0u) {
        atomicStore(&waiting, 0u);
        seen = 0u;
    }
    workgroupBarrier();
    for (var begin = 0u; begin < width; begin += {{ group }}u) {
        let column = begin + lid;
        if (column < width) {
            let score = scores[row * width + column];
            // Later columns lose against equal ones.
            if (score > v[k - 1u]) {
                let slot = ROOM + atomicAdd(&waiting, 1u);
                v[slot] = score;
                at[slot] = first + column;
            }
        }
        workgroupBarrier();
        if (lid == 0u) {
            seen = atomicLoad(&waiting);
        }
        // A round more would not fit.
        if (workgroupUniformLoad(&seen) + {{ group }}u > ROOM) {
            sort(lid);
            for (var i = ROOM + lid; i < 2u * ROOM; i += {{ group }}u) {
                v[i] = LOWEST;
                at[i] = NONE;
            }
            if (lid == 0u) {
                atomicStore(&waiting, 0u);
            }
            workgroupBarrier();
        }
    }
    sort(lid);
    for (var i = lid; i < k; i += {{ group }}u) {
        values[base + i] = v[i];
        indices[base + i] = at[i];
    }
    {%- else %}
    let row = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    if (row >= rows) {
        return;
    }
    let base = row * k;
    if (sizes[4] == 1u) {
        for (var i = 0u; i < k; i += 1u) {
            values[base + i] = LOWEST;
            indices[base + i] = NONE;
        }
    }
    var bar = values[base];
    for (var column = 0u; column < width; column += 1u) {
        let score = scores[row * width + column];
        // Later columns lose against equal ones.
        if (score > bar) {
            sift(base, k, score, first + column);
            bar = values[base];
        }
    }
    if (sizes[5] == 1u) {
        for (var end = k - 1u; end > 0u; end -= 1u) {
            let value = values[base + end];
            let index = indices[base + end];
            values[base + end] = values[base];
            indices[base + end] = indices[base];
            sift(base, end, value, index);
        }
    }
    {%- endif %}
}
