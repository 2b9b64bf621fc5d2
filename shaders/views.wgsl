{# Views of packed RGBA8 pictures, one pass of several; every level is what PIL computes on the CPU. A layer of workgroups is
   one view; an invocation does one pixel (one view in pass "mean").

   Passes: columns (crop, resize and mirror along x, 8 bits), rows (resize along y), grey (sums of the grey image before the
   contrast, by spans), mean (their mean), colour (jitter and greyscale), blur (one box along one axis), normalise (solarise,
   mean and deviation, into the batch).
   Settings: pass, group. #}
{%- set reads = {"columns": "pixels", "rows": "narrow", "grey": "view", "colour": "view", "blur": "view", "normalise": "view", "mean": "spans"}[pass] %}
@group(0) @binding(0) var<storage, read_write> {{ reads }}: array<u32>;
{% if pass != "colour" -%}
@group(0) @binding(1) var<storage, read_write> out: array<{{ "f32" if pass == "normalise" else "u32" }}>;
{% endif -%}
{%- set next = 1 if pass == "colour" else 2 %}
{% if pass != "mean" -%}
// For every view: see RECORD in views/gpu.rs.
@group(0) @binding({{ next }}) var<storage, read_write> records: array<u32>;
{% endif -%}
{% if pass in ["columns", "rows"] -%}
// For every output of an axis: first input, inputs, where the weights are; then the weights, 22 fractional bits.
@group(0) @binding({{ next + 1 }}) var<storage, read_write> taps: array<i32>;
{% elif pass in ["grey", "colour"] -%}
// Hues by (case, range, largest − middle), then saturations by (largest, range): four to a word.
@group(0) @binding({{ next + 1 }}) var<storage, read_write> hsv: array<u32>;
{% endif -%}
{% if pass == "colour" -%}
@group(0) @binding({{ next + 2 }}) var<storage, read_write> means: array<u32>;
{% endif -%}
{%- set last = {"columns": 4, "rows": 4, "grey": 4, "colour": 4, "mean": 2, "blur": 3, "normalise": 3}[pass] %}
// side, spans of a view, axis of a blur or number of views; bits of means and deviations from 4 on.
@group(0) @binding({{ last }}) var<storage, read_write> sizes: array<u32, 12>;

const RECORD = 24u;
{% if pass in ["columns", "rows", "blur"] %}
fn channels(p: u32) -> vec3<u32> {
    return vec3<u32>(p & 255u, (p >> 8u) & 255u, (p >> 16u) & 255u);
}
fn packed(c: vec3<u32>) -> u32 {
    return c.x | (c.y << 8u) | (c.z << 16u) | 0xff000000u;
}
{%- endif %}
{% if pass in ["columns", "rows"] %}
fn to_levels(sum: vec3<i32>) -> vec3<u32> {
    return vec3<u32>(clamp(sum >> vec3<u32>(22u), vec3<i32>(0), vec3<i32>(255)));
}
{%- endif %}
{%- if pass in ["grey", "colour"] %}
fn channels(p: u32) -> vec3<u32> {
    return vec3<u32>(p & 255u, (p >> 8u) & 255u, (p >> 16u) & 255u);
}
fn packed(c: vec3<u32>) -> u32 {
    return c.x | (c.y << 8u) | (c.z << 16u) | 0xff000000u;
}
fn grey_of(c: vec3<u32>) -> u32 {
    return (19595u * c.x + 38470u * c.y + 7471u * c.z + 32768u) >> 16u;
}
fn blend(base: f32, c: vec3<u32>, factor: f32) -> vec3<u32> {
    let v = base + factor * (vec3<f32>(c) - base);
    return vec3<u32>(clamp(v, vec3<f32>(0.0), vec3<f32>(255.0)));
}
fn entry(at: u32) -> u32 {
    return (hsv[at / 4u] >> (8u * (at % 4u))) & 255u;
}
fn turned(c: vec3<u32>, shift: u32) -> vec3<u32> {
    let largest = max(c.x, max(c.y, c.z));
    let smallest = min(c.x, min(c.y, c.z));
    let middle = c.x + c.y + c.z - largest - smallest;
    // Which is largest, and which of the other two is smallest.
    var case_ = 0u;
    if (c.x == largest) {
        case_ = select(1u, 0u, c.z == smallest);
    } else if (c.y == largest) {
        case_ = select(2u, 3u, c.x == smallest);
    } else {
        case_ = select(5u, 4u, c.y == smallest);
    }
    let range = largest - smallest;
    let hue = (entry(case_ * 65536u + range * 256u + largest - middle) + shift) & 255u;
    let saturation = f32(entry(6u * 65536u + largest * 256u + range)) / 255.0;
    // The place in the circle of 6·hue/255 sextants, in whole numbers.
    let sextant = (hue * 6u) / 255u;
    let part = f32(hue * 6u - sextant * 255u) / 255.0;
    let v = f32(largest);
    let p = u32(v * (1.0 - saturation) + 0.5);
    let q = u32(v * (1.0 - saturation * part) + 0.5);
    let t = u32(v * (1.0 - saturation * (1.0 - part)) + 0.5);
    switch (sextant % 6u) {
        case 0u: { return vec3<u32>(largest, t, p); }
        case 1u: { return vec3<u32>(q, largest, p); }
        case 2u: { return vec3<u32>(p, largest, t); }
        case 3u: { return vec3<u32>(p, q, largest); }
        case 4u: { return vec3<u32>(t, p, largest); }
        default: { return vec3<u32>(largest, p, q); }
    }
}
// One step of the jitter.
fn jittered(c: vec3<u32>, kind: u32, factor: u32, mean: f32) -> vec3<u32> {
    switch (kind) {
        case 1u: { return blend(0.0, c, bitcast<f32>(factor)); }
        case 2u: { return blend(mean, c, bitcast<f32>(factor)); }
        case 3u: { return blend(f32(grey_of(c)), c, bitcast<f32>(factor)); }
        case 4u: { return turned(c, factor); }
        default: { return c; }
    }
}
{%- endif %}

@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let id = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    let side = sizes[0];
    let area = side * side;
    {%- if pass != "mean" %}
    let record = wid.z * RECORD;
    {%- endif %}
    {%- if pass == "columns" %}
    let y = id / side;
    let x = id % side;
    if (y >= records[record + 4u]) {
        return;
    }
    let begin = records[record] + (records[record + 2u] + y) * records[record + 1u] + records[record + 3u];
    let table = records[record + 8u] + 3u * x;
    let start = begin + u32(taps[table]);
    let count = u32(taps[table + 1u]);
    let weights = u32(taps[table + 2u]);
    var sum = vec3<i32>(2097152);
    for (var i = 0u; i < count; i += 1u) {
        sum += taps[weights + i] * vec3<i32>(channels(pixels[start + i]));
    }
    let to = select(x, side - 1u - x, (records[record + 6u] & 1u) != 0u);
    out[records[record + 7u] + y * side + to] = packed(to_levels(sum));
    {%- elif pass == "rows" %}
    if (id >= area) {
        return;
    }
    let y = id / side;
    let x = id % side;
    let table = records[record + 9u] + 3u * y;
    let start = records[record + 7u] + u32(taps[table]) * side + x;
    let count = u32(taps[table + 1u]);
    let weights = u32(taps[table + 2u]);
    var sum = vec3<i32>(2097152);
    for (var i = 0u; i < count; i += 1u) {
        sum += taps[weights + i] * vec3<i32>(channels(narrow[start + i * side]));
    }
    out[wid.z * area + id] = packed(to_levels(sum));
    {%- elif pass == "grey" %}
    let count = sizes[1];
    if (id >= count) {
        return;
    }
    let span = (area + count - 1u) / count;
    var sum = 0u;
    for (var i = id * span; i < min(id * span + span, area); i += 1u) {
        var c = channels(view[wid.z * area + i]);
        for (var step = 0u; step < 4u; step += 1u) {
            let kind = records[record + 11u + step];
            if (kind == 2u) {
                break;
            }
            c = jittered(c, kind, records[record + 15u + step], 0.0);
        }
        sum += grey_of(c);
    }
    out[wid.z * count + id] = sum;
    {%- elif pass == "mean" %}
    let count = sizes[1];
    if (id >= sizes[2]) {
        return;
    }
    var sum = 0u;
    for (var i = 0u; i < count; i += 1u) {
        sum += spans[id * count + i];
    }
    // Rounded to the nearest, a half up.
    out[id] = (2u * sum + area) / (2u * area);
    {%- elif pass == "colour" %}
    if (id >= area) {
        return;
    }
    let at = wid.z * area + id;
    let mean = f32(means[wid.z]);
    var c = channels(view[at]);
    for (var step = 0u; step < 4u; step += 1u) {
        c = jittered(c, records[record + 11u + step], records[record + 15u + step], mean);
    }
    if ((records[record + 6u] & 2u) != 0u) {
        c = vec3<u32>(grey_of(c));
    }
    view[at] = packed(c);
    {%- elif pass == "blur" %}
    let whole = records[record + 20u];
    // A view without a blur stays where it is: six passes end there.
    if (id >= area || whole == 0u) {
        return;
    }
    let reach = i32(records[record + 19u]);
    let x = i32(id % side);
    let y = i32(id / side);
    let along = sizes[2] == 0u;
    let place = select(y, x, along);
    let base = wid.z * area + select(u32(x), u32(y) * side, along);
    let stride = select(side, 1u, along);
    let end = i32(side) - 1;
    var sum = vec3<u32>(0u);
    for (var i = -reach; i <= reach; i += 1) {
        sum += channels(view[base + u32(clamp(place + i, 0, end)) * stride]);
    }
    let ends = channels(view[base + u32(clamp(place - reach - 1, 0, end)) * stride])
        + channels(view[base + u32(clamp(place + reach + 1, 0, end)) * stride]);
    out[wid.z * area + id] = packed((sum * whole + ends * records[record + 21u] + vec3<u32>(8388608u)) >> vec3<u32>(24u));
    {%- else %}
    if (id >= area) {
        return;
    }
    let p = view[wid.z * area + id];
    let flags = records[record + 6u];
    for (var channel = 0u; channel < 3u; channel += 1u) {
        var level = (p >> (8u * channel)) & 255u;
        if ((flags & 4u) != 0u && level >= records[record + 10u]) {
            level = 255u - level;
        }
        let mean = bitcast<f32>(sizes[4u + channel]);
        let deviation = bitcast<f32>(sizes[7u + channel]);
        out[(wid.z * 3u + channel) * area + id] = (f32(level) / 255.0 - mean) / deviation;
    }
    {%- endif %}
}
