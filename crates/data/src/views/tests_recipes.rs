//! The recipes of the baselines as plans, and what their crops show.

use super::tests_draws::assert_frequency;
use super::*;
use crate::{Image, Rng};

const SIZE: [u32; 2] = [97, 61];

fn picture([width, height]: [u32; 2]) -> Image {
    let level = |i: u32| ((i % 3 * 50 + i / 3 % width * 3 + i / 3 / width * 2) % 256) as u8;
    Image::new(width, height, (0..3 * width * height).map(level).collect()).unwrap()
}

fn jitter(strength: f32) -> Option<ColourJitter> {
    let [strong, hue] = [0.8 * strength, 0.2 * strength];
    Some(ColourJitter { prob: 0.8, brightness: strong, contrast: strong, saturation: strong, hue })
}

fn blur(prob: f32, kind: BlurKind) -> Option<Blur> {
    Some(Blur { kind, ..Blur::pil(prob, [0.1, 2.0]) })
}

fn of(views: Vec<ViewSpec>) -> ViewPlan {
    ViewPlan { views, mean: IMAGENET_MEAN, std: IMAGENET_STD }
}

fn simclr() -> ViewPlan {
    let view = ViewSpec {
        size_px: 40,
        jitter: jitter(1.0),
        grayscale_prob: 0.2,
        blur: blur(0.5, BlurKind::Convolution),
        colour: Colour::Floats { brightness: FloatBrightness::Multiply },
        ..ViewSpec::default()
    };
    ViewPlan { mean: [0.0; 3], std: [1.0; 3], ..of(vec![view.clone(), view]) }
}

fn byol() -> ViewPlan {
    let view = ViewSpec {
        colour: Colour::Floats { brightness: FloatBrightness::Add },
        blur: blur(1.0, BlurKind::Convolution),
        solarize_prob: 0.5,
        ..simclr().views[0].clone()
    };
    of(vec![view.clone(), view])
}

fn infomin() -> ViewPlan {
    let view = ViewSpec {
        size_px: 48,
        scale: [0.2, 1.0],
        jitter: jitter(1.0),
        grayscale_prob: 0.2,
        blur: blur(0.5, BlurKind::Reflect),
        randaugment: Some(RandAugment {
            magnitude: 10.0,
            increasing: false,
            interpolation: InterpolationChoice::Random,
            ..RandAugment::default()
        }),
        order: [ViewStep::Jitter, ViewStep::Blur, ViewStep::Randaugment, ViewStep::Grayscale, ViewStep::Solarize],
        ..ViewSpec::default()
    };
    let patch = ViewSpec { title: "patch".to_owned(), size_px: 64, scale: [0.6, 1.0], ..ViewSpec::default() };
    of([vec![view.clone(), view], Grid::JIGSAW.views(9, &patch)].concat())
}

fn obow() -> ViewPlan {
    let teacher = ViewSpec { size_px: 56, crop: Crop::Centre { resize_short_px: 64 }, ..ViewSpec::default() };
    let student = ViewSpec { size_px: 40, scale: [0.08, 0.6], jitter: jitter(0.5), ..ViewSpec::default() };
    let grid = Grid { canvas_px: 64, per_side: 3, stride_px: 17, jitter_px: 6, shuffled: true };
    let patch = ViewSpec { size_px: 24, scale: [0.6, 1.0], ..ViewSpec::default() };
    of([vec![teacher, student.clone(), student], grid.views(5, &patch)].concat())
}

fn deit() -> ViewPlan {
    let randaugment = Some(RandAugment::default());
    of(vec![ViewSpec { size_px: 48, randaugment, erase: Some(Erase::default()), ..ViewSpec::default() }])
}

fn draw(plan: &ViewPlan, image: &Image, sample: u64) -> Vec<ViewParams> {
    plan.draw_all(image, &mut Rng::for_sample(1, 2, sample))
}

#[test]
fn recipes_of_the_baselines_are_plans() {
    let image = picture(SIZE);
    for plan in [simclr(), byol(), infomin(), obow(), deit()] {
        plan.validate().unwrap();
        assert!(!plan.gpu_ready());
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<ViewPlan>(&text).unwrap(), plan);
        for sample in 0..30 {
            let drawn = draw(&plan, &image, sample);
            let text = serde_json::to_string(&drawn).unwrap();
            let again: Vec<ViewParams> = serde_json::from_str(&text).unwrap();
            for ((view, params), again) in plan.views.iter().zip(&drawn).zip(&again) {
                let render = |params: &ViewParams| {
                    let mut out = vec![f32::NAN; 3 * (view.size_px as usize).pow(2)];
                    view.render_into(&image, params, plan.mean, plan.std, &mut Scratch::default(), &mut out);
                    out
                };
                let out = render(params);
                assert!(out.iter().all(|x| x.is_finite()));
                assert_eq!(out, render(again), "{params:?}");
                let place = ViewPlace::from(params).crop;
                assert!(place.left + place.width <= SIZE[0] && place.top + place.height <= SIZE[1], "{place:?}");
            }
        }
    }
    assert!(ViewPlan::dino(DinoViews::default()).gpu_ready());
    assert!(ViewPlan::moco(MocoViews::default()).gpu_ready());
}

#[test]
fn plans_written_before_views_had_titles_are_read() {
    let old = r#"{"size_px":96,"scale":[0.05,0.4],"ratio":[0.75,1.3333334],"flip_prob":0.5,"jitter":null,
        "grayscale_prob":0.2,"blur":{"prob":0.5,"sigma_min":0.1,"sigma_max":2.0},"solarize_prob":0.0,
        "solarize_threshold":128,"filter":"bicubic"}"#;
    let view: ViewSpec = serde_json::from_str(old).unwrap();
    assert_eq!((view.title.as_str(), view.crop, view.blur.unwrap().kind), ("", Crop::Random, BlurKind::Pil));
    assert!(view.gpu_ready());
    let old = r#"{"crop":{"top":1,"left":2,"height":3,"width":4},"flip":true,"jitter":null,"grayscale":false,
        "blur":null,"solarize":false}"#;
    let crop = CropBox { top: 1, left: 2, height: 3, width: 4 };
    let params = ViewParams { flip: true, ..ViewParams::plain(crop) };
    assert_eq!(serde_json::from_str::<ViewParams>(old).unwrap(), params);
}

#[test]
fn views_have_titles() {
    let titles = |plan: ViewPlan| plan.views.into_iter().map(|v| v.title).collect::<Vec<_>>();
    let dino = ViewPlan::dino(DinoViews { local_crops: 2, ..DinoViews::default() });
    assert_eq!(titles(dino), ["global 1", "global 2", "local 1", "local 2"]);
    assert_eq!(titles(ViewPlan::moco(MocoViews::default())), ["query", "key"]);
    assert_eq!(titles(infomin())[2..4], ["patch 1", "patch 2"]);
}

#[test]
fn patches_of_a_grid_share_the_crop_and_no_cell() {
    let image = picture([120, 90]);
    let (plan, jigsaw) = (obow(), infomin());
    let mut firsts = [0usize; 9];
    for sample in 0..2000 {
        let drawn = draw(&plan, &image, sample);
        let windows: Vec<Window> = drawn[3..].iter().map(|p| p.window.unwrap()).collect();
        assert!(drawn[3..].iter().all(|p| (p.crop, p.flip) == (drawn[3].crop, drawn[3].flip)));
        let mut cells: Vec<u32> = windows.iter().map(|w| w.top / 17 * 3 + w.left / 17).collect();
        firsts[cells[0] as usize] += 1;
        cells.sort_unstable();
        cells.dedup();
        assert_eq!(cells.len(), 5);
        assert!(windows.iter().all(|w| w.left % 17 <= 6 && w.top % 17 <= 6));
        for (cell, params) in draw(&jigsaw, &image, sample)[2..].iter().enumerate() {
            let w = params.window.unwrap();
            assert_eq!((w.left / 85, w.top / 85), (cell as u32 % 3, cell as u32 / 3));
            assert!(w.left % 85 <= 21 && w.top % 85 <= 21);
        }
    }
    for count in firsts {
        assert_frequency("first cell", count, 2000, 1.0 / 9.0);
    }
    let mut broken = obow();
    broken.views.remove(4);
    let message = broken.validate().unwrap_err().to_string();
    assert!(message.contains("patch 2") && message.contains("patch 1 of the same grid"), "{message}");
}

/// A window is what cutting it out of the whole canvas gives, and lies where its place says.
#[test]
fn windows_are_cut_out_of_the_canvas() {
    let image = picture(SIZE);
    let plan = obow();
    for sample in 0..40 {
        for (view, params) in plan.views.iter().zip(draw(&plan, &image, sample)) {
            let Some(w) = params.window else { continue };
            let whole = resized_crop(&image, params.crop, w.canvas_width, w.canvas_height, view.filter);
            let ours = ViewSpec { jitter: None, ..view.clone() }.render(&image, &params);
            for y in 0..w.size_px {
                for x in 0..w.size_px {
                    let column = w.left + x;
                    let column = if params.flip { w.canvas_width - 1 - column } else { column };
                    assert_eq!(ours.pixel(x, y), whole.pixel(column, w.top + y), "{params:?}");
                }
            }
            let seen = ViewBox::from(&ViewPlace::from(&params));
            let px = params.crop.width as f32 / w.canvas_width as f32;
            let first = if params.flip { w.canvas_width - w.left - w.size_px } else { w.left };
            assert!((seen.left - params.crop.left as f32 - px * first as f32).abs() <= 0.51);
            assert!((seen.width - px * w.size_px as f32).abs() <= 1.01);
        }
    }
}

#[test]
fn a_centre_crop_is_that_of_evaluation() {
    for size in [SIZE, [61, 97], [80, 80], [40, 333]] {
        let image = picture(size);
        let crop = Crop::Centre { resize_short_px: 64 };
        let view = ViewSpec { size_px: 51, crop, flip_prob: 0.0, ..ViewSpec::default() };
        let params = view.sample(size[0], size[1], &mut Rng::from_words(&[1]));
        let transform = EvalTransform { resize_short_px: Some(64), crop_px: Some(51), ..EvalTransform::default() };
        let expected = transform.apply(&image);
        assert_eq!(view.render(&image, &params), expected, "{size:?}");
        let mirrored = ViewSpec { flip_prob: 1.0, ..view };
        let params = mirrored.sample(size[0], size[1], &mut Rng::from_words(&[1]));
        let ours = mirrored.render(&image, &params);
        assert!((0..51 * 51).all(|i| ours.pixel(i % 51, i / 51) == expected.pixel(50 - i % 51, i / 51)));
    }
}

#[test]
fn what_does_not_go_together_is_named() {
    let message = |change: fn(&mut ViewSpec)| {
        let mut view = ViewSpec::default();
        change(&mut view);
        view.validate().unwrap_err().to_string()
    };
    let floats = Colour::Floats { brightness: FloatBrightness::Add };
    assert!(message(|v| v.blur = blur(0.5, BlurKind::Convolution)).contains("pil or reflect"));
    assert!(message(|v| v.order[0] = ViewStep::Blur).contains("once"));
    assert!(message(|v| v.crop = Crop::Centre { resize_short_px: 200 }).contains("224 pixels"));
    assert!(message(|v| v.crop = Crop::Patch { grid: Grid::JIGSAW, number: 0 }).contains("415 pixels"));
    let view = ViewSpec { colour: floats, randaugment: Some(RandAugment::default()), ..ViewSpec::default() };
    assert!(view.validate().unwrap_err().to_string().contains("levels"));
    assert!(Mix { smoothing: 1.5, ..Mix::default() }.validate().is_err());
}
