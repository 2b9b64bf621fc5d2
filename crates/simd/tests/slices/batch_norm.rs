use ocelli_simd::batch_norm::{Maps, Passed, backward, forward, statistics};

use crate::common::*;

const EPS: f32 = 1e-5;

/// The numbers of a channel, image by image.
fn channel(maps: &Maps, all: &[f64], c: usize) -> Vec<f64> {
    let image = maps.channels * maps.cells;
    all.chunks_exact(image).flat_map(|image| image[c * maps.cells..][..maps.cells].to_vec()).collect()
}

/// Numbers channel by channel as maps.
fn maps_of(maps: &Maps, channels: &[Vec<f64>]) -> Vec<f64> {
    let plane = |i: usize| {
        let (image, c) = (i / maps.channels, i % maps.channels);
        channels[c][image * maps.cells..][..maps.cells].to_vec()
    };
    (0..maps.images * maps.channels).flat_map(plane).collect()
}

#[test]
fn values_and_gradients() {
    for [images, channels, cells] in
        [[2, 1, 1], [3, 5, 3], [2, 4, 16], [1, 3, 49], [4, 2, 65], [2, 3, 300], [40, 2, 500]]
    {
        let maps = Maps { images, channels, cells };
        let count = images * channels * cells;
        // Far from zero, as sums of squares do not like it.
        let x: Vec<f32> = numbers(1, count, 2.0).iter().map(|x| x + 10.0).collect();
        let [dy, other] = [2, 3].map(|seed| numbers(seed, count, 1.0));
        let [gamma, beta] = [4, 5].map(|seed| numbers(seed, channels, 1.0));
        let stats = statistics(&maps, &x);
        for (residual, relu) in [(false, false), (false, true), (true, true)] {
            let what = format!("batch_norm {images}×{channels}×{cells}, residual {residual}, ReLU {relu}");
            let added = residual.then_some(&other[..]);
            let y = forward(&maps, &x, [&gamma, &beta, &stats], added, relu, EPS);
            let mut dother = vec![f32::NAN; count];
            let passed = Passed { dy: &dy, y: relu.then_some(&y[..]) };
            let room = residual.then_some(&mut dother[..]);
            let [dx, dgamma, dbeta] = backward(&maps, passed, &x, [&gamma, &stats], EPS, room);

            let mut want: [Vec<Vec<f64>>; 3] = Default::default();
            let mut sums: [Vec<f64>; 4] = Default::default();
            for c in 0..channels {
                let [x, dy, other] = [&x, &dy, &other].map(|v| channel(&maps, &wide(v), c));
                // ReLU as it was: what is nearly zero may be on either side.
                let after = channel(&maps, &wide(&y), c);
                let n = x.len() as f64;
                let mean = x.iter().sum::<f64>() / n;
                let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
                let rstd = 1.0 / (variance + f64::from(EPS)).sqrt();
                let (gamma, beta) = (f64::from(gamma[c]), f64::from(beta[c]));
                let hat: Vec<f64> = x.iter().map(|x| (x - mean) * rstd).collect();
                let plain =
                    hat.iter().zip(&other).map(|(h, o)| h * gamma + beta + if residual { *o } else { 0.0 });
                want[0].push(plain.map(|y| if relu { y.max(0.0) } else { y }).collect());
                let open = |(d, y): (&f64, &f64)| if relu && *y <= 0.0 { 0.0 } else { *d };
                let d: Vec<f64> = dy.iter().zip(&after).map(open).collect();
                let (sum, along) = (d.iter().sum::<f64>(), d.iter().zip(&hat).map(|(d, h)| d * h).sum::<f64>());
                let slope = |(d, h): (&f64, &f64)| gamma * rstd * (d - sum / n - h * along / n);
                want[1].push(d.iter().zip(&hat).map(slope).collect());
                want[2].push(d);
                for (sums, value) in sums.iter_mut().zip([mean, variance, along, sum]) {
                    sums.push(value);
                }
            }
            let [want_y, want_dx, want_dother] = want.map(|channels| maps_of(&maps, &channels));
            let [means, variances, want_dgamma, want_dbeta] = sums;
            close(&format!("{what}: means"), &stats[..channels], &means, 1e-6);
            close_or(&format!("{what}: variances"), &stats[channels..], &variances, 1e-5, 1e-3);
            // 10 is subtracted from numbers of its size before they are scaled.
            close_or(&what, &y, &want_y, 2e-5, 1.0);
            close_or(&format!("{what}: dx"), &dx, &want_dx, 2e-5, 1.0);
            close_or(&format!("{what}: dgamma"), &dgamma, &want_dgamma, 2e-5, 1.0);
            close_or(&format!("{what}: dbeta"), &dbeta, &want_dbeta, 1e-5, 1.0);
            if residual {
                close_or(&format!("{what}: the residual's"), &dother, &want_dother, 0.0, 0.0);
            }
        }
    }
}
