//! Arguments, sizes and boxes that the description of the fixture `augment_more` lists.

use super::tests_golden::{Golden, cut_of, numbers, px};
use super::*;

#[test]
fn arguments_of_randaugment_are_those_of_the_fixture() {
    let golden = Golden::open();
    let config = golden.config("randaugment").as_object().unwrap();
    let op = |name: &str| match name.trim_end_matches("Increasing") {
        "Color" => RandOp::Colour,
        "TranslateXRel" => RandOp::TranslateX,
        "TranslateYRel" => RandOp::TranslateY,
        name => *RandOp::ALL.iter().find(|op| format!("{op:?}") == name).expect(name),
    };
    let mut tables = 0;
    for (what, value) in config {
        if what.starts_with("set ") {
            let names = value.as_array().unwrap().iter().map(|n| n.as_str().unwrap());
            let inc = names.clone().any(|n| n.ends_with("Increasing"));
            assert_eq!(inc, what.contains("-inc"), "{what}");
            assert_eq!(names.map(op).collect::<Vec<_>>(), RandOp::ALL, "{what}");
            continue;
        }
        assert!(what.starts_with("argument_at_magnitude"), "unknown entry {what}");
        for (name, table) in value.as_object().unwrap() {
            for (magnitude, expected) in table.as_object().unwrap() {
                let magnitude: f64 = magnitude.parse().unwrap();
                let at = |negative| {
                    op(name).at(magnitude, name.ends_with("Increasing"), negative, Interpolation::Bicubic)
                };
                let argument = |step| match step {
                    RandStep::Posterize(bits) => f64::from(bits),
                    RandStep::Solarize(threshold) => f64::from(threshold),
                    RandStep::SolarizeAdd(add) => f64::from(add),
                    RandStep::Colour(f)
                    | RandStep::Contrast(f)
                    | RandStep::Brightness(f)
                    | RandStep::Sharpness(f)
                    | RandStep::Affine(
                        Affine::Rotate(f)
                        | Affine::ShearX(f)
                        | Affine::ShearY(f)
                        | Affine::TranslateX(f)
                        | Affine::TranslateY(f),
                        _,
                    ) => f,
                    other => panic!("{name} gave {other:?}"),
                };
                let expected = expected.as_f64().unwrap();
                assert!((argument(at(false)) - expected).abs() < 1e-12, "{name} at {magnitude}: {:?}", at(false));
                let RandStep::Affine(..) = at(true) else { continue };
                assert_eq!(argument(at(true)), -argument(at(false)), "{name}");
            }
            tables += 1;
        }
    }
    assert!(tables >= RandOp::ALL.len(), "{tables}");
}

#[test]
fn sizes_and_boxes_are_those_of_the_fixture() {
    let golden = Golden::open();
    for (height, size) in golden.config("float_blur_kernel_size_by_height").as_object().unwrap() {
        assert_eq!(2 * blur_radius(height.parse().unwrap()) + 1, px(size), "{height}");
    }
    let config = golden.config("erase");
    let sides = numbers(&config["image"]);
    for entry in config["sizes"].as_array().unwrap() {
        let [area, aspect] = ["area_fraction", "aspect"].map(|key| entry[key].as_f64().unwrap());
        let expected = (px(&entry["height"]), px(&entry["width"]), entry["fits"].as_bool().unwrap());
        assert_eq!(erase_size(area, aspect, sides[0] as u32, sides[1] as u32), expected, "{entry}");
    }
    let (deit, ours) = (&config["DeiT"], Erase::default());
    let pair = |key: &str| numbers(&deit[key]).iter().map(|&x| x as f32).collect::<Vec<_>>();
    assert_eq!(deit["probability"].as_f64().unwrap() as f32, ours.prob);
    assert_eq!((pair("area"), pair("aspect")), (ours.area.to_vec(), ours.aspect.to_vec()));
    assert_eq!((deit["mode"].as_str(), px(&deit["count"])), (Some("pixel"), ours.count));
    for entry in golden.config("cutmix_boxes").as_array().unwrap() {
        let centre = [px(&entry["centre_y"]), px(&entry["centre_x"])];
        let (cut, lambda) = cutmix_box(entry["lambda"].as_f64().unwrap(), [px(&entry["size"]); 2], centre);
        assert_eq!(cut, cut_of(&entry["box_y0_y1_x0_x1"]), "{entry}");
        assert!((lambda - entry["effective_lambda"].as_f64().unwrap()).abs() < 1e-12, "{entry}");
    }
}
