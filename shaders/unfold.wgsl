{# What every tap of a convolution's kernel sees, as a matrix: a row for each channel and tap, a column for each result, the
   results of an image padded to whole vec4 with zeros.

   Settings: kernel_h, kernel_w, each (vec4 of an invocation), group. #}
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
// Images, channels, height, width; height and width of the results, vec4 of an image's results; stride, padding, dilation.
@group(0) @binding(2) var<storage, read_write> sizes: array<u32, 12>;

@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let images = sizes[0];
    let height = sizes[2];
    let width = sizes[3];
    let out_w = sizes[5];
    let cells = sizes[4] * out_w;
    let quads = sizes[6];
    let spans = (quads + {{ each - 1 }}u) / {{ each }}u;
    let i = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    let line = i / spans;
    let row = line / images;
    let image = line % images;
    let channel = row / {{ kernel_h * kernel_w }}u;
    if (channel >= sizes[1]) {
        return;
    }
    let tap = row % {{ kernel_h * kernel_w }}u;
    // Zeros in front wrap round to more than any size.
    let down = tap / {{ kernel_w }}u * sizes[9] - sizes[8];
    let right = tap % {{ kernel_w }}u * sizes[9] - sizes[8];
    let plane = (image * sizes[1] + channel) * height * width;
    var quad = i % spans * {{ each }}u;
    let to = min(quad + {{ each }}u, quads);
    var cell = quad * 4u;
    var out_x = cell % out_w;
    var top = cell / out_w * sizes[7] + down;
    var left = out_x * sizes[7] + right;
    for (; quad < to; quad += 1u) {
        var v = vec4<f32>(0.0);
        {%- for part in ["x", "y", "z", "w"] %}
        if (top < height && left < width && cell < cells) {
            v.{{ part }} = x[plane + top * width + left];
        }
        cell += 1u;
        out_x += 1u;
        left += sizes[7];
        if (out_x == out_w) {
            out_x = 0u;
            left = right;
            top += sizes[7];
        }
        {%- endfor %}
        y[line * quads + quad] = v;
    }
}
