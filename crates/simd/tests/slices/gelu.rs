use ocelli_simd::gelu::{activate_and_slope, backward, forward};

use crate::common::*;

/// `gelu(x)` and its derivative.
pub fn reference(x: f64) -> [f64; 2] {
    let below = (1.0 + libm::erf(x / 2f64.sqrt())) / 2.0;
    [x * below, below + x * (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt()]
}

#[test]
fn values_and_gradients() {
    // Two tasks at the end.
    for count in [0, 1, 3, 4, 15, 16, 17, 100, (1 << 15) + 5] {
        let (x, dy) = (numbers(1, count, 6.0), numbers(2, count, 1.0));
        let want: Vec<f64> = x.iter().map(|x| reference(f64::from(*x))[0]).collect();
        let slope: Vec<f64> =
            x.iter().zip(&dy).map(|(x, d)| reference(f64::from(*x))[1] * f64::from(*d)).collect();
        close_or("gelu", &forward(&x), &want, 1e-6, 1.0);
        close_or("gelu: dx", &backward(&dy, &x), &slope, 1e-6, 1.0);
        let (mut y, mut d) = (vec![f32::NAN; count], dy.clone());
        activate_and_slope(&x, &mut y, &mut d);
        close_or("gelu of both", &y, &want, 1e-6, 1.0);
        close_or("gelu of both: dx", &d, &slope, 1e-6, 1.0);
    }
}

#[test]
fn far_out_it_is_the_number_or_nothing() {
    let y = forward(&[30.0, -30.0, 1e30, f32::NAN, 0.0]);
    assert_eq!(y[..3], [30.0, 0.0, 1e30]);
    assert!(y[3].is_nan() && y[4] == 0.0);
}
