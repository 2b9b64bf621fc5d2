{# The gradient of maps from that of their parts under boxes. An invocation does one cell of some channels: it goes over the boxes
   of its image that look at its row, in their order, and sums what it gave to each.

   Settings: each (channels of an invocation), group. #}
// [boxes, channels, rows, columns]
@group(0) @binding(0) var<storage, read_write> dy: array<f32>;
// [images, channels, height, width]
@group(0) @binding(1) var<storage, read_write> dx: array<f32>;
// For every row of every image where its list begins, and where the last one ends; for every box its first column, how many
// columns, and where in here these are: first output, outputs, where the weights begin; then the lists: box, and the same.
@group(0) @binding(2) var<storage, read_write> places: array<u32>;
@group(0) @binding(3) var<storage, read_write> weights: array<f32>;
// Images, channels; height and width of the maps; rows and columns of a part.
@group(0) @binding(4) var<storage, read_write> sizes: array<u32, 8>;

@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let images = sizes[0];
    let channels = sizes[1];
    let height = sizes[2];
    let width = sizes[3];
    let area = height * width;
    let cols = sizes[5];
    let cells = sizes[4] * cols;
    let i = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    let plane = i / area;
    let image = plane / (channels / {{ each }}u);
    if (image >= images) {
        return;
    }
    let channel = plane % (channels / {{ each }}u) * {{ each }}u;
    let cell = i % area;
    let column = cell % width;
    let list = image * height + cell / width;
    let end = places[list + 1u];
    let records = images * height + 1u;
    {%- for k in range(each) %}
    var sum{{ k }} = 0.0;
    {%- endfor %}
    for (var entry = places[list]; entry < end; entry += 4u) {
        let box = places[entry];
        let record = records + box * 3u;
        // Before the first column it wraps round to more than any number of them.
        let right = column - places[record];
        if (right < places[record + 1u]) {
            let across = places[record + 2u] + right * 3u;
            let rows_ = places[entry + 2u];
            let cols_ = places[across + 1u];
            let down_weights = places[entry + 3u];
            let across_weights = places[across + 2u];
            let first = (box * channels + channel) * cells + places[entry + 1u] * cols + places[across];
            for (var row = 0u; row < rows_; row += 1u) {
                {%- for k in range(each) %}
                var line{{ k }} = 0.0;
                {%- endfor %}
                for (var col = 0u; col < cols_; col += 1u) {
                    let weight = weights[across_weights + col];
                    let at = first + row * cols + col;
                    {%- for k in range(each) %}
                    line{{ k }} = fma(weight, dy[at + {{ k }}u * cells], line{{ k }});
                    {%- endfor %}
                }
                let weight = weights[down_weights + row];
                {%- for k in range(each) %}
                sum{{ k }} = fma(weight, line{{ k }}, sum{{ k }});
                {%- endfor %}
            }
        }
    }
    let to = (image * channels + channel) * area + cell;
    {%- for k in range(each) %}
    dx[to + {{ k }}u * area] = sum{{ k }};
    {%- endfor %}
}
