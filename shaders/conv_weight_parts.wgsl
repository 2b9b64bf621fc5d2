{# What both families of the convolution's weight gradient share: sums over the cells of the output, split among layers of
   workgroups; `sum_rows` adds up the splits. #}
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> dy: array<f32>;
// [splits, outer, inner, kernel height, kernel width]
@group(0) @binding(2) var<storage, read_write> dw: array<f32>;
// Images, inner, outer channels; height and width of the input, of the output; taps along y; stride, padding, dilation;
// what one split adds up (segments or cells).
@group(0) @binding(3) var<storage, read_write> sizes: array<u32, 12>;
