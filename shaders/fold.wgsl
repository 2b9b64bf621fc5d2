{# The other way round from unfold: every cell of an image gets the sum of what the taps that saw it have.

   Settings: kernel_h, kernel_w, stride, each (cells of an invocation), group. #}
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
// Images, channels, height, width; height and width of the results, numbers of a row of `x`; padding, dilation.
@group(0) @binding(2) var<storage, read_write> sizes: array<u32, 12>;

@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let height = sizes[2];
    let width = sizes[3];
    let out_h = sizes[4];
    let out_w = sizes[5];
    let row = sizes[6];
    let padding = sizes[7];
    let dilation = sizes[8];
    let area = height * width;
    let spans = (area + {{ each - 1 }}u) / {{ each }}u;
    let i = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    // Image and channel, as one.
    let plane = i / spans;
    if (plane >= sizes[0] * sizes[1]) {
        return;
    }
    let first = plane * {{ kernel_h * kernel_w }}u * row;
    var cell = i % spans * {{ each }}u;
    let to = min(cell + {{ each }}u, area);
    var top = cell / width + padding;
    var left = cell % width + padding;
    for (; cell < to; cell += 1u) {
        var sum = 0.0;
        {%- for ky in range(kernel_h) %}
        {
            // Above the first result it wraps round to more than any size.
            let down = top - {{ ky }}u * dilation;
            let out_y = {% if stride == 1 %}down{% else %}down / {{ stride }}u{% endif %};
            if (out_y < out_h{% if stride > 1 %} && down % {{ stride }}u == 0u{% endif %}) {
                {%- for kx in range(kernel_w) %}
                {
                    let right = left - {{ kx }}u * dilation;
                    let out_x = {% if stride == 1 %}right{% else %}right / {{ stride }}u{% endif %};
                    if (out_x < out_w{% if stride > 1 %} && right % {{ stride }}u == 0u{% endif %}) {
                        sum += x[first + {{ ky * kernel_w + kx }}u * row + out_y * out_w + out_x];
                    }
                }
                {%- endfor %}
            }
        }
        {%- endfor %}
        y[plane * area + cell] = sum;
        left += 1u;
        if (left == width + padding) {
            left = padding;
            top += 1u;
        }
    }
}
