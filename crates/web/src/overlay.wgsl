// One map of attention, from what the softmax left on the device to colours on a canvas of one pixel a patch.
//
// levels:  attention [heads, 1 + cells] -> levels [cells], 0 to 1 between the map's least and greatest value, -1 outside the
//          share that is asked for; one workgroup
// corners, colours: levels -> premultiplied colours
//
// The picture is that of `heatmap` and `massMask` in web/src/draw.ts, which the tests compare it with.

struct Settings {
    heads: u32,
    cells: u32,
    columns: u32,
    /// A head, or beyond them: their mean.
    head: u32,
    /// Share of the attention that stays; all of it from 1 on.
    mass: f32,
}

@group(0) @binding(0) var<storage, read> attention: array<f32>;
@group(0) @binding(1) var<uniform> settings: Settings;
@group(0) @binding(2) var<storage, read_write> map: array<f32>;
@group(0) @binding(3) var<storage, read_write> levels: array<f32>;

const GROUP = 64u;
var<workgroup> lows: array<f32, GROUP>;
var<workgroup> highs: array<f32, GROUP>;
var<workgroup> sums: array<f32, GROUP>;

@compute @workgroup_size(64)
fn find_levels(@builtin(local_invocation_index) lane: u32) {
    let stride = settings.cells + 1u;
    var low = 3.4e38;
    var high = -3.4e38;
    var sum = 0.0;
    for (var i = lane; i < settings.cells; i += GROUP) {
        var value = 0.0;
        if settings.head < settings.heads {
            value = attention[settings.head * stride + 1u + i];
        } else {
            for (var h = 0u; h < settings.heads; h++) {
                value += attention[h * stride + 1u + i];
            }
            value /= f32(settings.heads);
        }
        map[i] = value;
        low = min(low, value);
        high = max(high, value);
        sum += value;
    }
    lows[lane] = low;
    highs[lane] = high;
    sums[lane] = sum;
    storageBarrier();
    workgroupBarrier();
    sum = 0.0;
    for (var i = 0u; i < GROUP; i++) {
        low = min(low, lows[i]);
        high = max(high, highs[i]);
        sum += sums[i];
    }
    for (var i = lane; i < settings.cells; i += GROUP) {
        let value = map[i];
        var level = 0.0;
        if high > low {
            level = (value - low) / (high - low);
        }
        if settings.mass < 1.0 {
            // What the cells up to this one, in order of their values, hold together.
            var below = 0.0;
            for (var j = 0u; j < settings.cells; j++) {
                let other = map[j];
                if other < value || (other == value && j <= i) {
                    below += other;
                }
            }
            if below <= (1.0 - settings.mass) * sum {
                level = -1.0;
            }
        }
        levels[i] = level;
    }
}

@group(0) @binding(1) var<uniform> shown: Settings;
@group(0) @binding(3) var<storage, read> shown_levels: array<f32>;

@vertex
fn corners(@builtin(vertex_index) index: u32) -> @builtin(position) vec4f {
    // A triangle that covers everything.
    return vec4f(f32(index & 1u) * 4.0 - 1.0, f32(index >> 1u) * 4.0 - 1.0, 0.0, 1.0);
}

/// Inferno at nine places, after matplotlib's table.
const INFERNO = array<vec3f, 9>(
    vec3f(0.0, 0.0, 4.0), vec3f(27.0, 12.0, 65.0), vec3f(74.0, 12.0, 107.0), vec3f(120.0, 28.0, 109.0),
    vec3f(165.0, 44.0, 96.0), vec3f(207.0, 68.0, 70.0), vec3f(237.0, 105.0, 37.0), vec3f(251.0, 155.0, 6.0),
    vec3f(252.0, 255.0, 164.0),
);

@fragment
fn colours(@builtin(position) at: vec4f) -> @location(0) vec4f {
    let level = shown_levels[u32(at.y) * shown.columns + u32(at.x)];
    if level < 0.0 {
        return vec4f(0.0);
    }
    var table = INFERNO;
    let place = level * 8.0;
    let low = min(u32(place), 7u);
    let colour = mix(table[low], table[low + 1u], place - f32(low)) / 255.0;
    let alpha = min(1.0, 0.15 + sqrt(level));
    return vec4f(colour * alpha, alpha);
}
