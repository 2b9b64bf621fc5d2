use burn::tensor::Tensor;
use ocelli_kernels::conv::conv2d_reference;
use ocelli_kernels::{ConvShape, conv2d};

use crate::common::*;

type Results = (Tensor<4>, Tensor<4>, Tensor<4>, Option<Tensor<1>>);
type Conv = fn(Tensor<4>, Tensor<4>, Option<Tensor<1>>, ConvShape) -> Tensor<4>;

/// Batch, channels in and out, height, width.
type Maps = [usize; 5];

fn shape(stride: usize, padding: usize, dilation: usize) -> ConvShape {
    ConvShape { stride, padding, dilation }
}

fn run(f: Conv, x: Tensor<4>, w: Tensor<4>, b: Option<Tensor<1>>, shape: ConvShape) -> Results {
    let (x, w, b) = (x.require_grad(), w.require_grad(), b.map(Tensor::require_grad));
    let y = f(x.clone(), w.clone(), b.clone(), shape);
    let grads = weigh(y.clone()).backward();
    (y, x.grad(&grads).unwrap(), w.grad(&grads).unwrap(), b.map(|b| b.grad(&grads).unwrap()))
}

fn check(x: Tensor<4>, w: Tensor<4>, b: Option<Tensor<1>>, how: ConvShape) {
    let what = format!("conv {:?} {:?} {how:?}", x.dims(), w.dims());
    let want = run(conv2d_reference, double(&x), double(&w), b.as_ref().map(double), how);
    let got = run(conv2d, x.detach(), w.detach(), b.map(Tensor::detach), how);
    close(&what, &got.0, &want.0, 4e-6);
    close(&format!("{what} dx"), &got.1, &want.1, 4e-6);
    close(&format!("{what} dw"), &got.2, &want.2, 4e-6);
    if let (Some(got), Some(want)) = (&got.3, &want.3) {
        close(&format!("{what} db"), got, want, 4e-6);
    }
}

fn inputs([batch, from, to, height, width]: Maps, [kernel_h, kernel_w]: [usize; 2]) -> (Tensor<4>, Tensor<4>) {
    (random(1, [batch, from, height, width], 1.0), random(2, [to, from, kernel_h, kernel_w], 0.3))
}

#[test]
fn agrees_with_the_reference_at_the_sizes_of_resnets() {
    for (maps, side, how) in [
        ([1, 3, 16, 29, 30], 7, shape(2, 3, 1)),
        ([2, 16, 24, 14, 14], 1, shape(1, 0, 1)),
        ([2, 16, 24, 14, 14], 1, shape(2, 0, 1)),
        ([2, 8, 16, 14, 14], 3, shape(1, 1, 1)),
        ([1, 16, 8, 28, 28], 3, shape(2, 1, 1)),
        ([2, 12, 8, 14, 14], 3, shape(1, 2, 2)),
        ([3, 32, 16, 7, 7], 3, shape(1, 1, 1)),
        ([1, 8, 8, 32, 32], 3, shape(1, 1, 1)),
        // More images, channels or columns than one task or one block of the CPU's holds.
        ([17, 48, 24, 16, 16], 3, shape(1, 1, 1)),
        ([35, 50, 12, 2, 2], 3, shape(1, 1, 1)),
        ([33, 6, 10, 8, 8], 3, shape(2, 1, 1)),
        ([18, 5, 7, 8, 8], 1, shape(2, 0, 1)),
        ([2, 3, 4, 5, 401], 3, shape(1, 1, 1)),
        // What fills no whole vector, of several images together.
        ([5, 64, 40, 7, 7], 1, shape(1, 0, 1)),
        ([3, 20, 72, 9, 11], 1, shape(1, 0, 1)),
        // More channels than one pass over the sums takes.
        ([2, 600, 9, 5, 4], 1, shape(1, 0, 1)),
        ([1, 70, 9, 6, 10], 3, shape(2, 1, 1)),
        // By squares of 2×2 on the CPU: odd sizes, few and many blocks of them, and each border.
        ([3, 32, 40, 15, 13], 3, shape(1, 1, 1)),
        ([70, 33, 32, 4, 6], 3, shape(1, 1, 1)),
        ([4, 64, 48, 7, 7], 3, shape(1, 1, 1)),
        ([1, 40, 33, 30, 22], 3, shape(1, 0, 1)),
        ([1, 33, 50, 12, 19], 3, shape(1, 2, 1)),
        ([9, 32, 32, 56, 21], 3, shape(1, 1, 1)),
        // Maps whose rows of squares are shorter than vectors, with one cell around them and otherwise.
        ([5, 33, 36, 16, 16], 3, shape(1, 1, 1)),
        ([13, 34, 32, 8, 8], 3, shape(1, 1, 1)),
        ([50, 32, 35, 4, 4], 3, shape(1, 1, 1)),
        ([6, 32, 32, 10, 16], 3, shape(1, 2, 1)),
        ([6, 32, 32, 10, 18], 3, shape(1, 0, 1)),
        // The widest maps that go so by blocks of the usual size, the widest that go so at all, and wider ones.
        ([1, 32, 32, 4, 416], 3, shape(1, 1, 1)),
        ([1, 32, 32, 4, 832], 3, shape(1, 1, 1)),
        ([1, 32, 32, 4, 840], 3, shape(1, 1, 1)),
        // Few blocks with many sums, and so many squares that the weight gradient shares them out.
        ([5, 136, 129, 14, 13], 3, shape(1, 1, 1)),
        ([18, 32, 33, 23, 25], 3, shape(1, 1, 1)),
    ] {
        let (x, w) = inputs(maps, [side, side]);
        check(x, w, None, how);
    }
}

#[test]
fn agrees_with_the_reference_where_taps_lie_apart() {
    for (maps, how) in [
        // As in networks that dilate in place of a stride: sides that are multiples of the dilation or not, one image and more.
        ([4, 64, 32, 14, 14], shape(1, 2, 2)),
        ([1, 33, 32, 17, 29], shape(1, 4, 4)),
        // Other dilations, and padding that is not the dilation.
        ([2, 32, 33, 20, 25], shape(1, 3, 3)),
        ([1, 35, 32, 25, 31], shape(1, 0, 2)),
        // Maps smaller than the dilation or than what a kernel reaches.
        ([1, 32, 32, 3, 70], shape(1, 4, 4)),
        ([40, 32, 32, 2, 3], shape(1, 4, 4)),
    ] {
        let (x, w) = inputs(maps, [3, 3]);
        check(x, w, None, how);
    }
}

/// On the CPU, 3×3 kernels whose taps lie apart go by squares of 4 × 4, each phase of the map by itself. Whatever device is under
/// test, this is about the CPU.
#[test]
fn squares_of_phases_agree_with_the_reference() {
    for (maps, how) in [
        ([2, 32, 41, 20, 27], shape(1, 2, 2)),
        ([1, 40, 36, 34, 45], shape(1, 4, 4)),
        ([19, 32, 32, 10, 13], shape(1, 2, 2)),
        ([1, 32, 32, 25, 51], shape(1, 6, 6)),
        ([1, 35, 32, 25, 31], shape(1, 3, 2)),
        ([1, 32, 34, 40, 29], shape(1, 5, 4)),
        // Phases too short for squares.
        ([2, 32, 32, 70, 3], shape(1, 4, 4)),
        ([20, 32, 32, 5, 6], shape(1, 4, 4)),
        ([7, 40, 32, 7, 9], shape(1, 2, 2)),
        // The widest maps that go by squares, and wider ones; many squares in few blocks.
        ([1, 32, 32, 9, 208], shape(1, 4, 4)),
        ([1, 32, 32, 9, 210], shape(1, 4, 4)),
        ([1, 32, 32, 6, 416], shape(1, 2, 2)),
        ([1, 32, 32, 90, 200], shape(1, 4, 4)),
        // Fewer channels than are worth squares.
        ([2, 12, 40, 14, 15], shape(1, 4, 4)),
    ] {
        let (x, w) = inputs(maps, [3, 3]);
        let on_cpu = |x: Tensor<4>| Tensor::from_data(x.to_data(), &cpu());
        check(on_cpu(x), on_cpu(w), None, how);
    }
}

#[test]
fn agrees_with_the_reference_at_odd_sizes() {
    for (maps, kernel, how) in [
        ([1, 1, 1, 1, 1], [1, 1], shape(1, 0, 1)),
        ([1, 1, 1, 1, 1], [3, 3], shape(1, 1, 1)),
        ([2, 3, 5, 1, 1], [7, 7], shape(2, 3, 1)),
        ([1, 5, 3, 7, 7], [3, 3], shape(1, 0, 1)),
        ([2, 5, 3, 7, 5], [3, 3], shape(2, 1, 1)),
        ([1, 3, 1, 9, 7], [3, 3], shape(3, 2, 1)),
        ([1, 1, 5, 8, 11], [3, 3], shape(2, 2, 2)),
        ([2, 3, 9, 7, 8], [3, 3], shape(1, 3, 3)),
        ([1, 5, 17, 6, 9], [2, 2], shape(2, 0, 1)),
        ([1, 3, 4, 9, 6], [1, 5], shape(1, 1, 1)),
        ([1, 9, 3, 5, 4], [3, 1], shape(2, 1, 2)),
        ([3, 5, 5, 7, 7], [1, 1], shape(2, 1, 1)),
        ([1, 5, 7, 9, 9], [1, 1], shape(3, 0, 1)),
    ] {
        let (x, w) = inputs(maps, kernel);
        check(x, w, Some(random(3, [maps[2]], 1.0)), how);
    }
}

#[test]
fn takes_strided_inputs_and_one_tensor_twice() {
    let (x, w) = (random::<4>(4, [9, 2, 8, 6], 1.0), random::<4>(5, [3, 3, 6, 8], 0.3));
    check(
        x.clone().permute([1, 0, 3, 2]),
        w.permute([3, 2, 1, 0]).slice([0..7, 0..6]).repeat_dim(1, 2).slice([0..7, 0..9]),
        None,
        shape(1, 1, 1),
    );
    let part = x.slice([2..8, 0..2, 1..7, 2..6]);
    check(part, random(6, [4, 2, 3, 3], 0.3), None, shape(2, 1, 1));
    // The same numbers as maps and as kernels.
    let x = random::<4>(7, [3, 5, 3, 3], 1.0).require_grad();
    let grads = weigh(conv2d(x.clone(), x.clone(), None, shape(1, 1, 1))).backward();
    let wide = double(&x).require_grad();
    let expected = weigh(conv2d_reference(wide.clone(), wide.clone(), None, shape(1, 1, 1))).backward();
    close("gradient of x∗x", &x.grad(&grads).unwrap(), &wide.grad(&expected).unwrap(), 1e-5);
}

#[test]
fn nothing_gives_nothing() {
    let (x, w) = inputs([1, 4, 6, 5, 5], [3, 3]);
    assert_eq!(conv2d(x.clone().slice_dim(0, 0..0), w.clone(), None, shape(1, 1, 1)).dims(), [0, 6, 5, 5]);
    // A kernel that does not fit.
    assert_eq!(conv2d(x.slice([0..1, 0..4, 0..2]), w, None, shape(1, 0, 1)).dims(), [1, 6, 0, 3]);
}

#[test]
fn survives_large_and_tiny_numbers() {
    let (x, w) = inputs([1, 8, 8, 9, 9], [3, 3]);
    let got = run(conv2d, x.clone() * 1e18, w.clone() * 1e18, None, shape(1, 1, 1));
    finite("large", &got.0);
    check(x.clone() * 1e4, w.clone(), None, shape(1, 1, 1));
    let got = run(conv2d, x * 1e-40, w, None, shape(1, 1, 1));
    finite("tiny", &got.0);
    finite("tiny dw", &got.2);
}

#[test]
fn padding_is_zero_and_not_what_lies_beside_it() {
    // Infinite borders must not reach cells whose taps do not see them.
    let mut pixels = vec![1.0f32; 2 * 6 * 6];
    for at in [0, 5, 30, 35] {
        pixels[at] = f32::INFINITY;
    }
    let x: Tensor<4> = Tensor::from_data(burn::tensor::TensorData::new(pixels, [1, 2, 6, 6]), &device());
    let y = list(&conv2d(x, random::<4>(2, [3, 2, 3, 3], 1.0).abs() + 0.1, None, shape(1, 1, 1)));
    for (i, v) in y.iter().enumerate() {
        let (row, col) = (i / 6 % 6, i % 6);
        let near = |c: usize| c <= 1 || c >= 4;
        assert_eq!(v.is_finite(), !(near(row) && near(col)), "{i}: {v}");
    }
}

#[test]
fn a_hundred_calls_give_the_same_bits() {
    let (x, w) = inputs([1, 24, 8, 14, 7], [3, 3]);
    let all = || {
        let (y, dx, dw, _) = run(conv2d, x.clone().detach(), w.clone().detach(), None, shape(1, 1, 1));
        vec![bits(&y), bits(&dx), bits(&dw)]
    };
    let first = all();
    for call in 1..100 {
        assert!(all() == first, "call {call} differs");
    }
}

#[test]
fn is_the_same_on_any_number_of_threads() {
    // Many images, and one whose channels are shared out.
    for (maps, how) in [
        ([20, 24, 40, 9, 8], shape(1, 1, 1)),
        ([1, 24, 40, 30, 30], shape(2, 1, 1)),
        ([2, 64, 40, 14, 14], shape(1, 1, 1)),
        ([18, 32, 40, 16, 25], shape(1, 1, 1)),
        ([20, 32, 40, 17, 18], shape(1, 2, 2)),
        ([1, 32, 40, 90, 200], shape(1, 4, 4)),
    ] {
        same_bits("conv", || {
            let (x, w) = inputs(maps, [3, 3]);
            let (y, dx, dw, _) = run(conv2d, x, w, None, how);
            vec![bits(&y), bits(&dx), bits(&dw)]
        });
    }
}

#[test]
fn reference_passes_finite_differences() {
    let (x, w) = inputs([1, 2, 3, 5, 4], [3, 3]);
    for how in [shape(1, 1, 1), shape(2, 1, 1), shape(1, 2, 2), shape(1, 4, 4)] {
        let w64 = double(&w);
        differences("x", &x, |x| conv2d_reference(x, w64.clone(), None, how));
        let x64 = double(&x);
        differences("w", &w, |w| conv2d_reference(x64.clone(), w, None, how));
    }
}

#[test]
fn gradients_only_where_asked() {
    let (x, w) = inputs([1, 3, 4, 8, 8], [3, 3]);
    let w = w.require_grad();
    let grads = weigh(conv2d(x.clone(), w.clone(), None, shape(2, 1, 1))).backward();
    assert!(x.grad(&grads).is_none());
    assert!(w.grad(&grads).is_some());
}
