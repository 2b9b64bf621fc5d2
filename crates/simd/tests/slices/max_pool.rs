use ocelli_simd::max_pool::{backward, forward, output};

/// Few different numbers, so that many are equal.
fn maps(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + i * i / 7) % 5) as f32 - 2.0).collect()
}

/// The largest cell of a window, the first of equal ones; one that is NaN is the largest.
fn largest(map: &[f32], [height, width]: [usize; 2], [row, col]: [usize; 2]) -> usize {
    let window = (0..9).filter_map(|i| {
        let (r, c) = ((2 * row + i / 3).checked_sub(1)?, (2 * col + i % 3).checked_sub(1)?);
        (r < height && c < width).then_some(r * width + c)
    });
    window.reduce(|best, cell| if map[cell] > map[best] || map[cell].is_nan() { cell } else { best }).unwrap()
}

fn check(x: &[f32], size: [usize; 2]) {
    let ([height, width], across) = (size, output(size[1]));
    let cells = output(height) * across;
    let count = x.len() / (height * width);
    let dy: Vec<f32> = (0..count * cells).map(|i| (i % 11) as f32 + 0.5).collect();
    let (y, dx) = (forward(x, size), backward(&dy, x, size));
    let mut expected = vec![0.0; x.len()];
    for (map, place) in x.chunks(height * width).zip(0..) {
        for i in 0..cells {
            let cell = largest(map, size, [i / across, i % across]);
            let (got, want) = (y[place * cells + i], map[cell]);
            assert!(got == want || got.is_nan() && want.is_nan(), "{size:?}: {got} is not {want}");
            expected[place * height * width + cell] += dy[place * cells + i];
        }
    }
    assert_eq!(*dx, *expected, "{size:?}");
}

#[test]
fn largest_cells_are_found_and_get_the_gradient() {
    for height in [1, 2, 5, 16] {
        for width in [1, 2, 3, 8, 15, 16, 31, 32, 33, 70] {
            check(&maps(3 * height * width), [height, width]);
        }
    }
}

#[test]
fn numbers_that_are_not_finite_stay_in_their_windows() {
    for (bad, cell) in [(f32::NAN, 14), (f32::INFINITY, 35), (f32::NEG_INFINITY, 0), (f32::MAX, 40)] {
        let mut x = maps(72);
        (x[cell], x[cell / 2]) = (bad, bad);
        check(&x, [6, 6]);
    }
    check(&[f32::NEG_INFINITY; 25], [5, 5]);
    check(&[f32::NAN; 25], [5, 5]);
}
