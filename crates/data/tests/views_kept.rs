//! Runs resume bit for bit: the views of today's plans stay what they were, draw by draw and level by level.
#![allow(clippy::unwrap_used, missing_docs)]

use ocelli_data::{DinoViews, Image, MocoViews, Rng, Scratch, ViewPlan, hash_words};

/// A picture that has every kind of edge and colour.
fn picture(width: u32, height: u32) -> Image {
    let level = |i: u32| {
        let (pixel, channel) = (i / 3, i % 3);
        let (x, y) = (pixel % width, pixel / width);
        ((7 * x * (channel + 1) + 11 * y + x * y % 23) % 256) as u8
    };
    Image::new(width, height, (0..width * height * 3).map(level).collect()).unwrap()
}

/// A number that depends on everything drawn and on every level rendered.
fn fingerprint(plan: &ViewPlan) -> u64 {
    let image = picture(61, 47);
    let mut words = Vec::new();
    for sample in 0..20 {
        let mut rng = Rng::for_sample(3, 5, sample);
        let drawn = plan.draw_all(&image, &mut rng);
        words.push(rng.next_u64());
        for (view, params) in plan.views.iter().zip(&drawn) {
            let crop = params.crop;
            words.extend([crop.top, crop.left, crop.height, crop.width].map(u64::from));
            words.push(u64::from(params.flip) + 2 * u64::from(params.grayscale) + 4 * u64::from(params.solarize));
            words.push(params.blur.unwrap_or(-1.0).to_bits());
            let mut out = vec![0.0; 3 * (view.size_px as usize).pow(2)];
            view.render_into(&image, params, plan.mean, plan.std, &mut Scratch::default(), &mut out);
            words.extend(out.iter().map(|x| u64::from(x.to_bits())));
        }
    }
    hash_words(&words)
}

#[test]
fn views_of_dino_and_moco_are_what_they_were() {
    let dino = DinoViews { global_size_px: 32, local_size_px: 16, local_crops: 3, ..DinoViews::default() };
    assert_eq!(fingerprint(&ViewPlan::dino(dino)), 3_637_676_974_832_831_759, "DINO's views have changed");
    let moco = MocoViews { size_px: 24, ..MocoViews::default() };
    assert_eq!(fingerprint(&ViewPlan::moco(moco)), 17_571_093_747_349_426_757, "MoCo's views have changed");
}
