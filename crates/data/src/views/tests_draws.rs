//! What RandAugment, erasing and mixes draw.

use super::distribution::{beta, normal};
use super::*;
use crate::Rng;

/// Within five standard deviations of a binomial count.
#[track_caller]
pub(super) fn assert_frequency(what: &str, count: usize, draws: usize, p: f64) {
    let off = (count as f64 - draws as f64 * p).abs();
    assert!(off <= 5.0 * (draws as f64 * p * (1.0 - p)).sqrt(), "{what}: {count} of {draws}, p = {p}");
}

#[test]
fn randaugment_draws_have_the_stated_statistics() {
    const DRAWS: usize = 30_000;
    let config = RandAugment {
        magnitude: 5.0,
        interpolation: InterpolationChoice::Random,
        increasing: false,
        ..RandAugment::default()
    };
    let mut counts = [0usize; 4];
    let (mut sum, mut squares) = (0.0, 0.0);
    for i in 0..DRAWS {
        let rng = Rng::for_sample(1, 0, i as u64);
        let steps = config.draw(&mut rng.clone());
        assert_eq!(steps, config.draw(&mut rng.clone()));
        for step in steps {
            counts[0] += 1;
            match step {
                RandStep::Affine(Affine::Rotate(degrees), interpolation) => {
                    counts[3] += 1;
                    counts[1] += usize::from(degrees < 0.0);
                    counts[2] += usize::from(interpolation == Interpolation::Bilinear);
                    let magnitude = degrees.abs() / 3.0;
                    sum += magnitude;
                    squares += magnitude * magnitude;
                }
                RandStep::Affine(..) | RandStep::AutoContrast | RandStep::Equalize | RandStep::Invert => {}
                RandStep::Posterize(bits) => assert!(bits <= 4),
                RandStep::Solarize(threshold) => assert!(threshold <= 256),
                RandStep::SolarizeAdd(add) => assert!(add <= 110),
                RandStep::Colour(f) | RandStep::Contrast(f) | RandStep::Brightness(f) | RandStep::Sharpness(f) => {
                    assert!((0.1..=1.91).contains(&f));
                }
            }
        }
    }
    assert_frequency("applied", counts[0], 2 * DRAWS, 0.5);
    assert_frequency("turns", counts[3], counts[0], 1.0 / RandOp::ALL.len() as f64);
    assert_frequency("turns one way", counts[1], counts[3], 0.5);
    assert_frequency("bilinear turns", counts[2], counts[3], 0.5);
    let mean = sum / counts[3] as f64;
    let variance = squares / counts[3] as f64 - mean * mean;
    assert!((mean - 5.0).abs() < 0.06 && (variance - 0.25).abs() < 0.04, "{mean} {variance}");
    let never = RandAugment { prob: 0.0, ..config };
    assert!(never.draw(&mut Rng::from_words(&[1])).is_empty());
}

#[test]
fn erased_boxes_have_the_stated_statistics() {
    const DRAWS: usize = 20_000;
    let config = Erase::default();
    let (mut count, mut area) = (0usize, 0.0);
    for i in 0..DRAWS {
        for erased in config.draw(96, &mut Rng::for_sample(2, 0, i as u64)) {
            let CropBox { top, left, height, width } = erased.at;
            assert!(height < 96 && width < 96 && top + height <= 96 && left + width <= 96);
            area += f64::from(height * width) / 9216.0;
            count += 1;
        }
    }
    assert_frequency("erased", count, DRAWS, 0.25);
    // Uniform between 1/50 and 1/3, but large flat boxes are drawn again.
    let mean = area / count as f64;
    assert!((0.155..0.18).contains(&mean), "{mean}");
    let erased = EraseBox { at: CropBox { top: 3, left: 5, height: 40, width: 60 }, seed: 9 };
    let noise = erased.noise();
    let mean = noise.iter().sum::<f32>() / noise.len() as f32;
    let variance = noise.iter().map(|x| x * x).sum::<f32>() / noise.len() as f32;
    assert!(mean.abs() < 0.06 && (variance - 1.0).abs() < 0.09, "{mean} {variance}");
    let mut data = vec![7.0; 3 * 80 * 80];
    erased.apply(&mut data, 80);
    assert_eq!(data.iter().filter(|&&x| x != 7.0).count(), 3 * 40 * 60);
    assert_eq!((data[3 * 80 + 4], data[3 * 80 + 5]), (7.0, noise[0]));
}

#[test]
fn mixes_have_the_stated_statistics() {
    const DRAWS: u64 = 20_000;
    let mix = Mix { prob: 0.9, switch_prob: 0.3, ..Mix::default() };
    let (mut plain, mut cuts, mut blends, mut sum, mut squares) = (0, 0, 0, 0.0, 0.0);
    for i in 0..DRAWS {
        let drawn = mix.draw(4, 1, i, [32, 32]);
        assert_eq!(drawn, mix.draw(4, 1, i, [32, 32]));
        assert!((0.0..=1.0).contains(&drawn.lambda));
        match drawn.cut {
            Some(cut) => {
                cuts += 1;
                assert!(cut.top + cut.height <= 32 && cut.left + cut.width <= 32);
                assert!((drawn.lambda - 1.0 + f64::from(cut.width * cut.height) / 1024.0).abs() < 1e-12);
            }
            None if drawn.lambda == 1.0 => plain += 1,
            None => {
                blends += 1;
                sum += drawn.lambda;
                squares += drawn.lambda * drawn.lambda;
            }
        }
    }
    assert_frequency("not mixed", plain, DRAWS as usize, 0.1);
    assert_frequency("cutmix", cuts, DRAWS as usize, 0.27);
    let n = f64::from(blends);
    // Beta(a, a): mean 1/2, variance 1 / (4(2a + 1)).
    let (mean, variance) = (sum / n, squares / n - (sum / n) * (sum / n));
    assert!((mean - 0.5).abs() < 0.015 && (variance - 0.25 / 2.6).abs() < 0.005, "{mean} {variance}");
    let only = |mixup_alpha, cutmix_alpha| Mix { mixup_alpha, cutmix_alpha, ..Mix::default() };
    assert!((0..50).all(|i| only(0.2, 0.0).draw(1, 1, i, [8, 8]).cut.is_none()));
    assert!((0..50).all(|i| only(0.0, 1.0).draw(1, 1, i, [8, 8]).cut.is_some()));
    assert_eq!(only(0.0, 0.0).draw(1, 1, 1, [8, 8]), MixDraw { lambda: 1.0, cut: None });
    assert!(soft_targets(&[5], 5, 0.1).unwrap_err().to_string().contains("below 5"));
}

/// The same bits everywhere: a platform with other functions would fail here.
#[test]
fn draws_are_the_same_on_every_platform() {
    let mut rng = Rng::from_words(&[1]);
    let drawn = [normal(&mut rng), beta(0.2, 0.2, &mut rng), beta(0.8, 0.8, &mut rng), beta(3.0, 2.0, &mut rng)];
    let expected = [
        13_821_836_456_353_171_148u64,
        4_562_962_988_938_061_365,
        4_604_902_719_992_797_307,
        4_603_001_221_231_396_803,
    ];
    assert_eq!(drawn.map(f64::to_bits), expected, "{drawn:?}");
}
