{# InfoNCE row by row, where the splits of the queue and the positive come together. Settings: group. #}
// [rows, dim]
@group(0) @binding(0) var<storage, read_write> query: array<f32>;
// [rows, dim]
@group(0) @binding(1) var<storage, read_write> key: array<f32>;
// [rows]
@group(0) @binding(2) var<storage, read_write> weights: array<f32>;
// [splits, 2, rows]: the largest logits of each split, then the sums.
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;
// [2, rows]: log-sum-exps with the positive, then the negatives' share of the softmax.
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;
// [rows]: weighted losses.
@group(0) @binding(5) var<storage, read_write> losses: array<f32>;
// [rows]: weights of the rows whose positive is above every negative.
@group(0) @binding(6) var<storage, read_write> won: array<f32>;
// rows, dim, splits; bits of 1/τ.
@group(0) @binding(7) var<storage, read_write> sizes: array<u32, 4>;

// log(1 + x) of 0 to 1: 2 artanh(x / (2 + x)), whose series needs nothing that rounds to 1.
fn log_of_one_and(x: f32) -> f32 {
    let y = x / (2.0 + x);
    let z = y * y;
    let series = 1.0 / 3.0 + z * (0.2 + z * (1.0 / 7.0 + z * (1.0 / 9.0 + z * (1.0 / 11.0 + z * (1.0 / 13.0)))));
    return 2.0 * y * (1.0 + z * series);
}

@compute @workgroup_size({{ group }})
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let rows = sizes[0];
    let dim = sizes[1];
    let row = (wid.y * groups.x + wid.x) * {{ group }}u + lid;
    if (row >= rows) {
        return;
    }
    var dot = 0.0;
    for (var d = 0u; d < dim; d += 1u) {
        dot = fma(query[row * dim + d], key[row * dim + d], dot);
    }
    let positive = dot * bitcast<f32>(sizes[3]);
    var hardest = -3.0e38;
    for (var s = 0u; s < sizes[2]; s += 1u) {
        hardest = max(hardest, partial[s * 2u * rows + row]);
    }
    var sum = 0.0;
    for (var s = 0u; s < sizes[2]; s += 1u) {
        sum += partial[(s * 2u + 1u) * rows + row] * exp(partial[s * 2u * rows + row] - hardest);
    }
    // How far all negatives together are above the positive; the loss is softplus of it. The positive stays apart, so that loss
    // and share are exact by their own size where it wins by far and they are nearly nothing.
    let negatives = hardest + log(sum);
    let margin = negatives - positive;
    let small = exp(-abs(margin));
    let rest = log_of_one_and(small);
    let loss = max(margin, 0.0) + rest;
    lse[row] = max(negatives, positive) + rest;
    lse[rows + row] = exp(min(margin, 0.0)) / (1.0 + small);
    losses[row] = loss * weights[row];
    won[row] = select(0.0, weights[row], positive > hardest);
}
