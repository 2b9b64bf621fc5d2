{# What both families of the convolution share: one gathered product, the whole of a forward pass or the part of an input
   gradient that falls on every s-th cell. `inner` channels are summed over, `outer` ones result; cell (r, c) of a grid of
   results looks at the input's rows r·y_step + y_off + i·y_gap, and likewise along x. #}
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
// Images, inner, outer channels; height and width of the input, of the grid, of the output; taps along y; the weight's
// first tap, distances between its taps along y and x, between outer and inner channels; y_step, y_off, y_gap, x_off;
// cells of the output from one of the grid to the next, and where the grid's first lies (y, x).
@group(0) @binding(3) var<storage, read_write> sizes: array<u32, 24>;
