//! `config.json` as timm writes it, `preprocessor_config.json` as Hugging Face does.

use serde_json::{Map, Value};

use super::{EvalSize, Preprocessing, Statistics, Told, by_name};

/// What such a text says; `None` where it is no JSON object or speaks of something else. `place` names it in words.
///
/// # Errors
/// When numbers are there and are none that pixels can be normalised by.
pub fn read_json(place: &str, text: &str) -> Result<Option<Preprocessing>, String> {
    let Ok(Value::Object(all)) = serde_json::from_str(text) else { return Ok(None) };
    let found = match all.contains_key("image_mean") || all.contains_key("do_normalize") {
        true => hugging_face(place, &all)?,
        false => timm(place, &all)?,
    };
    Ok(Some(found).filter(|f| *f != Preprocessing::default()))
}

fn timm(place: &str, all: &Map<String, Value>) -> Result<Preprocessing, String> {
    // Older files have what belongs to the weights beside what belongs to the network.
    let config = all.get("pretrained_cfg").and_then(Value::as_object).unwrap_or(all);
    let statistics = statistics(place, config.get("mean"), config.get("std"), "timm's pretrained_cfg")?;
    let size = match config.get("input_size").map(sides) {
        Some(Some([side, other])) if side == other => {
            let share = config.get("crop_pct").and_then(Value::as_f64).filter(|s| (0.1..=1.0).contains(s));
            let value = EvalSize { resize_px: (side as f64 / share.unwrap_or(1.0)) as usize, crop_px: side };
            let mut source = format!("timm's pretrained_cfg in {place}");
            for (key, usual) in [("interpolation", "bicubic"), ("crop_mode", "center")] {
                if let Some(other) = config.get(key).and_then(Value::as_str).filter(|v| *v != usual) {
                    source.push_str(&format!("; its {key} {other:?} is taken as {usual}"));
                }
            }
            Some(Told::new(value, source))
        }
        _ => None,
    };
    let word = |from: &Map<String, Value>, key: &str| from.get(key).and_then(Value::as_str).map(str::to_owned);
    let name = word(all, "architecture").or_else(|| word(config, "architecture")).map(|arch| {
        let tag = word(config, "tag").filter(|tag| !tag.is_empty());
        let name = tag.map_or(arch.clone(), |tag| format!("{arch}.{tag}"));
        by_name(&name, &format!("which {place} names")).unwrap_or_default()
    });
    Ok(Preprocessing { statistics, size }.or(name.unwrap_or_default()))
}

fn hugging_face(place: &str, all: &Map<String, Value>) -> Result<Preprocessing, String> {
    let says = |key: &str| all.get(key).and_then(Value::as_bool);
    let what = "Hugging Face's preprocessor";
    let statistics = match says("do_normalize") {
        Some(false) => Some(Told::new(Statistics::NONE, format!("{what} in {place} does not normalise"))),
        _ => statistics(place, all.get("image_mean"), all.get("image_std"), what)?,
    };
    let statistics = statistics.map(|told| rescaled(place, all, told)).transpose()?;
    let resize = all.get("size").filter(|_| says("do_resize") != Some(false)).and_then(sides);
    let crop = all.get("crop_size").filter(|_| says("do_center_crop") != Some(false)).and_then(sides);
    // A size of two sides is what images are squashed to; here they keep their shape and lose their margins.
    let squashed = all.get("size").is_some_and(|s| s.get("height").is_some()) && crop.is_none();
    // ConvNeXt's preprocessor, which ResNets have too: the crop's side, and its share of the resized image.
    let share = all.get("crop_pct").and_then(Value::as_f64).filter(|s| (0.1..=1.0).contains(s));
    let value = match (resize, crop) {
        (None, None) => None,
        (Some([edge, _]), None) if edge < 384 && share.is_some() => {
            Some(EvalSize { resize_px: (edge as f64 / share.unwrap_or(1.0)) as usize, crop_px: edge })
        }
        (resize, crop) => Some(EvalSize {
            resize_px: resize.map_or(0, |[a, b]| a.min(b)),
            crop_px: crop.or(resize).map_or(0, |[a, b]| a.min(b)),
        }),
    };
    let mut source = format!("{what} in {place}");
    if squashed {
        source.push_str("; it squashes images, here they are cropped");
    }
    // PIL's numbers of its filters.
    let filter = ["nearest", "Lanczos", "bilinear", "bicubic", "box", "Hamming"];
    let resample = all.get("resample").and_then(Value::as_u64).and_then(|n| filter.get(usize::try_from(n).ok()?));
    if let Some(other) = resample.filter(|name| **name != "bicubic") {
        source.push_str(&format!("; its {other} resampling is taken as bicubic"));
    }
    let size = value.map(|value| Told::new(value, source));
    Ok(Preprocessing { statistics, size })
}

/// The same statistics where levels of 0 to 255 are first multiplied by another factor than 1/255: for levels of 0 to 1, by
/// which everything here is normalised, mean and deviation are divided by 255 times the factor.
fn rescaled(place: &str, all: &Map<String, Value>, told: Told<Statistics>) -> Result<Told<Statistics>, String> {
    let factor = match all.get("do_rescale").and_then(Value::as_bool) {
        Some(false) => Some(1.0),
        _ => all.get("rescale_factor").and_then(Value::as_f64),
    };
    let Some(factor) = factor.filter(|factor| (255.0 * factor - 1.0).abs() > 1e-6) else { return Ok(told) };
    if !(1e-6..=1.0).contains(&factor) {
        return Err(format!("{place}: rescale_factor: expected a number such as 0.00392 (1/255), found {factor}"));
    }
    let by = |values: [f32; 3]| values.map(|v| (f64::from(v) / (255.0 * factor)) as f32);
    let value =
        Statistics::checked(by(told.value.mean), by(told.value.std)).map_err(|e| format!("{place}: {e}"))?;
    Ok(Told::new(value, format!("{}, which multiplies levels of 0 to 255 by {factor}", told.source)))
}

fn statistics(
    place: &str,
    mean: Option<&Value>,
    std: Option<&Value>,
    what: &str,
) -> Result<Option<Told<Statistics>>, String> {
    let (Some(mean), Some(std)) = (mean, std) else { return Ok(None) };
    let three = |key: &str, value: &Value| {
        // One number is the same for every channel.
        let all: Option<Vec<f32>> = match value {
            Value::Array(items) => items.iter().map(|v| v.as_f64().map(|v| v as f32)).collect(),
            one => one.as_f64().map(|v| vec![v as f32; 3]),
        };
        let all: Option<[f32; 3]> = all.and_then(|all| all.try_into().ok());
        all.ok_or_else(|| format!("{place}: {key}: expected three numbers, found {value}"))
    };
    let value = Statistics::checked(three("mean", mean)?, three("std", std)?);
    Ok(Some(Told::new(value.map_err(|e| format!("{place}: {e}"))?, format!("{what} in {place}"))))
}

/// Height and width: of `224`, `[3, 224, 224]`, `{"height": 224, "width": 224}` or `{"shortest_edge": 224}`.
fn sides(value: &Value) -> Option<[usize; 2]> {
    let px = |v: &Value| v.as_u64().filter(|v| (1..=1 << 14).contains(v)).map(|v| v as usize);
    match value {
        Value::Array(items) => match &items[..] {
            [_, height, width] => Some([px(height)?, px(width)?]),
            _ => None,
        },
        Value::Object(keys) => match (keys.get("shortest_edge"), keys.get("height"), keys.get("width")) {
            (Some(edge), ..) => px(edge).map(|e| [e, e]),
            (None, Some(height), Some(width)) => Some([px(height)?, px(width)?]),
            _ => None,
        },
        one => px(one).map(|e| [e, e]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Preprocessing {
        read_json("config.json", text).unwrap().unwrap()
    }

    #[test]
    fn timm_in_its_newer_and_its_older_form() {
        let inner = r#""input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.9, "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5]"#;
        let newer = format!(r#"{{"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {{{inner}}}}}"#);
        let older = format!(r#"{{"architecture": "vit_tiny_patch16_224", {inner}}}"#);
        for text in [newer, older] {
            let found = read(&text);
            assert_eq!(found.statistics.unwrap().value, Statistics::HALF);
            // ⌊224 / 0.9⌋, as timm has it.
            assert_eq!(found.size.unwrap().value, EvalSize { resize_px: 248, crop_px: 224 });
        }
        let other = read(
            r#"{"pretrained_cfg": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "crop_pct": 1.0,
                "input_size": [3, 384, 384], "interpolation": "bilinear", "crop_mode": "squash"}}"#,
        );
        assert_eq!(other.statistics.unwrap().value, Statistics::IMAGENET);
        let size = other.size.unwrap();
        assert_eq!(size.value, EvalSize { resize_px: 384, crop_px: 384 });
        assert!(
            size.source.contains("\"bilinear\" is taken as bicubic") && size.source.contains("squash"),
            "{size}"
        );
    }

    #[test]
    fn a_name_and_tag_alone() {
        let found = read(
            r#"{"architecture": "vit_small_patch16_224", "pretrained_cfg": {"tag": "augreg_in21k_ft_in1k"}}"#,
        );
        assert_eq!(found.statistics.unwrap().value, Statistics::HALF);
        let found = read(r#"{"architecture": "vit_small_patch16_224", "pretrained_cfg": {"tag": "dino"}}"#);
        assert_eq!(found.statistics.unwrap().value, Statistics::IMAGENET);
    }

    #[test]
    fn hugging_face_in_all_its_forms() {
        let vit = read(
            r#"{"do_normalize": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
                "size": 224}"#,
        );
        assert_eq!(vit.statistics.unwrap().value, Statistics::HALF);
        assert_eq!(vit.size.unwrap().value, EvalSize { resize_px: 224, crop_px: 224 });
        let cropped = read(
            r#"{"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "do_center_crop": true,
                "size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}"#,
        );
        assert_eq!(cropped.statistics.unwrap().value, Statistics::IMAGENET);
        assert_eq!(cropped.size.unwrap().value, EvalSize { resize_px: 256, crop_px: 224 });
        let plain = read(r#"{"do_normalize": false, "size": {"height": 96, "width": 96}}"#);
        assert_eq!(plain.statistics.unwrap().value, Statistics::NONE);
        assert!(plain.size.unwrap().source.contains("squashes"));
    }

    #[test]
    fn levels_that_are_scaled_otherwise_are_normalised_alike() {
        // What 255 · factor · level / std - mean / std says of level 1, for the usual factor and for twice that.
        let normalised = |rest: &str| {
            let text = format!(r#"{{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.5]{rest}}}"#);
            let told = read(&text).statistics.unwrap();
            let of = |i: usize| (1.0 - told.value.mean[i]) / told.value.std[i];
            (of(0), of(2), told.source)
        };
        let (first, last, source) = normalised(r#", "rescale_factor": 0.00392156862745098"#);
        assert!(
            (first - 2.5).abs() < 1e-6 && (last - 1.4).abs() < 1e-6 && !source.contains("multiplies"),
            "{source}"
        );
        let (first, last, source) = normalised(r#", "do_rescale": true, "rescale_factor": 0.00784313725490196"#);
        assert!(
            (first - 7.5).abs() < 1e-5 && (last - 3.4).abs() < 1e-5 && source.contains("multiplies"),
            "{source}"
        );
        let (first, ..) = normalised(r#", "do_rescale": false"#);
        assert!((first - (255.0 - 0.5) / 0.2).abs() < 1e-2, "{first}");
        let whole = read(r#"{"do_normalize": false, "rescale_factor": 0.00784313725490196}"#).statistics.unwrap();
        assert_eq!((whole.value.mean, whole.value.std), ([0.0; 3], [0.5; 3]));
        for wrong in ["0", "-1", "2", "1e300"] {
            let text = format!(r#"{{"image_mean": 0.5, "image_std": 0.5, "rescale_factor": {wrong}}}"#);
            assert!(read_json("p.json", &text).unwrap_err().contains("rescale_factor"), "{wrong}");
        }
    }

    #[test]
    fn other_files_say_nothing_and_wrong_numbers_are_refused() {
        for text in
            ["", "[]", "{", r#"{"name": "é"}"#, r#"{"input_size": [3, 0, 0]}"#, r#"{"input_size": "large"}"#]
        {
            assert_eq!(read_json("config.json", text), Ok(None), "{text}");
        }
        let error = read_json("config.json", r#"{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0, 0.5]}"#).unwrap_err();
        assert!(error.starts_with("config.json: std: expected three numbers above 0"), "{error}");
        let error = read_json("config.json", r#"{"mean": ["a"], "std": [0.5, 0, 0.5]}"#).unwrap_err();
        assert!(error.contains("config.json: mean: expected three numbers"), "{error}");
    }
}
