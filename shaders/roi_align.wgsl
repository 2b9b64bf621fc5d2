{# Parts of maps under boxes, resampled. An invocation does one output of some channels: a sum over a few rows of the map of sums
   over a few cells, whose weights the host has worked out.

   Settings: each (channels of an invocation), group. #}
// [images, channels, height, width]
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
// [boxes, channels, rows, columns]
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
// The image of every box; then, for all its rows, and then for all its columns: first cell, cells, where the weights begin.
@group(0) @binding(2) var<storage, read_write> places: array<u32>;
@group(0) @binding(3) var<storage, read_write> weights: array<f32>;
// Boxes, channels; height and width of the maps; rows and columns of the result.
@group(0) @binding(4) var<storage, read_write> sizes: array<u32, 8>;

@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let boxes = sizes[0];
    let channels = sizes[1];
    let width = sizes[3];
    let area = sizes[2] * width;
    let rows = sizes[4];
    let cols = sizes[5];
    let cells = rows * cols;
    let i = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    let plane = i / cells;
    let box = plane / (channels / {{ each }}u);
    if (box >= boxes) {
        return;
    }
    let channel = plane % (channels / {{ each }}u) * {{ each }}u;
    let cell = i % cells;
    let down = boxes + (box * rows + cell / cols) * 3u;
    let across = boxes + (boxes * rows + box * cols + cell % cols) * 3u;
    let first = (places[box] * channels + channel) * area + places[down] * width + places[across];
    let height_ = places[down + 1u];
    let width_ = places[across + 1u];
    let down_weights = places[down + 2u];
    let across_weights = places[across + 2u];
    {%- for k in range(each) %}
    var sum{{ k }} = 0.0;
    {%- endfor %}
    for (var row = 0u; row < height_; row += 1u) {
        {%- for k in range(each) %}
        var line{{ k }} = 0.0;
        {%- endfor %}
        for (var col = 0u; col < width_; col += 1u) {
            let weight = weights[across_weights + col];
            let at = first + row * width + col;
            {%- for k in range(each) %}
            line{{ k }} = fma(weight, x[at + {{ k }}u * area], line{{ k }});
            {%- endfor %}
        }
        let weight = weights[down_weights + row];
        {%- for k in range(each) %}
        sum{{ k }} = fma(weight, line{{ k }}, sum{{ k }});
        {%- endfor %}
    }
    let to = (box * channels + channel) * cells + cell;
    {%- for k in range(each) %}
    y[to + {{ k }}u * cells] = sum{{ k }};
    {%- endfor %}
}
