//! Mutated pictures, records, labels, configurations, names on the command line, metrics and reports: no panic, no hang, and never more
//! memory than twice the input and 64 MB. (Weight files have the same in `crates/weights`, which this command runs as well.)
//!
//!     OCELLI_FUZZ=1000000 cargo test --release --workspace --test fuzz -- --nocapture
//!
//! A quick run without `OCELLI_FUZZ` (inputs per reader); `OCELLI_FUZZ_SEED` for another seed.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/fuzz_labels.rs"]
mod labels;
#[path = "support/fuzz_pictures.rs"]
mod odd;
#[path = "support/fuzz.rs"]
mod support;

use std::fs;
use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, Rgba};
use ocelli::data::Source;
use ocelli::data::Split;
use ocelli::data::files::{CifarSource, DecodeLimits, decode_bytes, open_source, open_split};
use ocelli::eval::features::TableFormat;
use ocelli::kernels::Mode;
use ocelli::models::{Arch, BackboneArch, ResNetArch, ResNetConfig};
use ocelli::report::{History, Run, compare_html, report_html, tensorboard};
use ocelli::train::config::{annotated, changes, presets, resolve, resolve_over};
use ocelli::train::device::DeviceChoice;
use support::{fuzz, fuzz_text, settings};

/// One test, because the allocator counts for the whole process.
#[test]
fn readers_keep_their_bounds() {
    let (count, seed) = settings(3000);
    pictures(count, seed);
    records(count, seed);
    labels::labels(count, seed);
    configurations(count, seed);
    settings_by_name(count, seed);
    names(count, seed);
    metrics(count, seed);
}

fn pictures(count: usize, seed: u64) {
    let noise = image::RgbImage::from_fn(31, 17, |x, y| Rgb([(x * 37 + y) as u8, (y * x) as u8, (x ^ y) as u8]));
    let alpha = image::RgbaImage::from_fn(16, 9, |x, y| Rgba([(x * 16) as u8, (y * 28) as u8, 9, (x * y) as u8]));
    let wide: image::ImageBuffer<Rgb<u16>, _> =
        image::ImageBuffer::from_fn(8, 8, |x, y| Rgb([(x * 8000) as u16, (y * 8000) as u16, 77]));
    let pictures =
        [DynamicImage::ImageRgb8(noise), DynamicImage::ImageRgba8(alpha), DynamicImage::ImageRgb16(wide)];
    let mut corpus = Vec::new();
    for picture in &pictures {
        let mut add = |picture: &DynamicImage, format: ImageFormat| {
            let mut bytes = Cursor::new(Vec::new());
            if picture.write_to(&mut bytes, format).is_ok() {
                corpus.push(bytes.into_inner());
            }
        };
        add(picture, ImageFormat::Png);
        add(picture, ImageFormat::Tiff);
        for format in [ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Gif] {
            add(&DynamicImage::ImageRgb8(picture.to_rgb8()), format);
        }
    }
    assert_eq!(corpus.len(), 18, "every format");
    corpus.extend(odd::pictures());
    // The bound is in pixels: a few bytes may be a large blank page.
    let limits = DecodeLimits { max_pixels: Some(1 << 20) };
    assert!(corpus.iter().all(|bytes| decode_bytes("input", bytes, limits).is_ok()), "each is read");
    // Markers of JPEG, tags of TIFF.
    let letters = b"\xff\xd8\xd9\xda\xc0\xc2\xc4\xdb\xe1\x00\x01\x02\x03\x04\x08\x10II*MM";
    fuzz("pictures", &corpus, letters, (count, seed), &|_| None, &|bytes| match decode_bytes(
        "input", bytes, limits,
    ) {
        Ok(image) => {
            assert_eq!(image.data.len(), 3 * (image.width * image.height) as usize);
            true
        }
        Err(error) => {
            assert!(error.to_string().starts_with("input"), "{error}");
            false
        }
    });
}

fn records(count: usize, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let (plain, packed) = (folder.path().join("r.bin"), folder.path().join("r.bin.xz"));
    let ten: Vec<u8> = (0..2 * 3073).map(|i| if i % 3073 == 0 { 3 } else { (i * i) as u8 }).collect();
    let hundred: Vec<u8> = (0..3074).map(|i| if i < 2 { 7 } else { (i / 12) as u8 }).collect();
    let read = |path: &std::path::Path, bytes: &[u8]| {
        fs::write(path, bytes).unwrap();
        match CifarSource::open(path) {
            Ok(source) => (0..source.len()).all(|i| source.load(i).is_ok() && source.label(i).is_some()),
            Err(error) => {
                assert!(error.to_string().contains("r.bin"), "{error}");
                false
            }
        }
    };
    let packs: Vec<Vec<u8>> = [&ten, &hundred].map(|bytes| pack(bytes)).to_vec();
    fuzz("records", &[ten, hundred], b"\x00\x05\x09\x0a\xff", (count, seed), &|_| None, &|bytes| {
        read(&plain, bytes)
    });
    fuzz("packed records", &packs, b"\xfd7zXZ\x00\x01\x21\x28\xff", (count, seed), &|_| None, &|bytes| {
        read(&packed, bytes)
    });
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn configurations(count: usize, seed: u64) {
    let mut corpus: Vec<Vec<u8>> = presets().map(|(_, p)| p.toml.as_bytes().to_vec()).collect();
    corpus.push(
        b"epochs = 3\n[views]\nglobal_scale = [0.25, 1.0]\n[dino.head]\nout_dim = 64\nnorm_last_layer = false\n"
            .to_vec(),
    );
    let letters = b"[]{}=\"'.,#\n0123456789-+eE_ta";
    let base = resolve(None, None, &[]).unwrap();
    fuzz("configurations", &corpus, letters, (count, seed), &|_| None, &|bytes| {
        let text = String::from_utf8_lossy(bytes);
        let sets: Vec<String> = text.lines().map(|l| l.replace(' ', "")).take(3).collect();
        if let Err(error) = resolve_over(&base, None, &sets) {
            assert!(!error.to_string().is_empty());
        }
        match resolve(None, Some(("input", &text)), &[]) {
            Ok(config) => config.check().is_ok() && config.view_plan().validate().is_ok(),
            Err(_) => false,
        }
    });
}

/// A whole configuration as text, with characters of several bytes anywhere.
fn accepts(text: &str) -> bool {
    match resolve(None, Some(("input", text)), &[]) {
        Ok(config) => {
            // What is accepted can be shown and compared.
            assert!(annotated(&config).is_ok_and(|text| !text.is_empty()));
            assert!(changes(&config, &config).is_ok_and(|none| none.is_empty()));
            config.check().is_ok() && config.view_plan().validate().is_ok()
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

/// `--set KEY=VALUE`, and files with characters of several bytes.
fn settings_by_name(count: usize, seed: u64) {
    let letters =
        ["=", ".", "\"", "[", "]", "{", "}", ",", "#", "\n", "-", "0", "9", "e", "_", " ", "x", "/", "'"];
    let files: Vec<String> = presets().map(|(_, p)| p.toml.to_owned()).collect();
    fuzz_text("configurations in Unicode", &files, &letters, (count, seed), &accepts);
    let base = resolve(None, None, &[]).unwrap();
    let sets = [
        "arch=resnet-18",
        "arch=\"vit-s/16\"",
        "arch=vit-192x6x3/8",
        "method=dino",
        "dino.head.out_dim=64",
        "views.global_scale=[0.25, 1.0]",
        "optim.optimizer=lars",
        "optim.lr=1e-3",
        "loader.views=auto",
        "watch.collapse=warn",
        "dino.head.norm_last_layer=false",
        "epochs=3",
    ];
    fuzz_text("--set", &sets.map(str::to_owned), &letters, (count, seed), &|set| match resolve_over(
        &base,
        None,
        &[set.to_owned()],
    ) {
        Ok(config) => changes(&base, &config).is_ok(),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    });
}

/// Names of architectures, devices, kernels, tables, and the built-in data set. What is accepted means the same when it is
/// written again.
fn names(count: usize, seed: u64) {
    let letters = [
        "-",
        "x",
        "c",
        "/",
        ":",
        "0",
        "1",
        "8",
        "9",
        "64",
        "18446744073709551615",
        "sk",
        "wide-",
        "vit",
        " ",
        "+",
    ];
    let of = |texts: &[&str]| -> Vec<String> { texts.iter().map(|t| (*t).to_owned()).collect() };
    let often = (count, seed);
    let vits = of(&["vit-ti/16", "vit-s/8", "vit-b/16", "vit-192x6x3/8", "vit-64x2x2/4"]);
    fuzz_text("Vision Transformers", &vits, &letters, often, &|name| {
        name.parse::<Arch>().is_ok_and(|arch| {
            assert_eq!(arch.to_string().parse::<Arch>().unwrap(), arch, "{name}");
            let config = arch.config(arch.patch_size_px, 0.0);
            config.check().is_ok() && config.num_parameters() > 0
        })
    });
    let resnets =
        of(&["resnet-18", "resnet-50x4", "wide-resnet-50", "resnet-152x3-sk", "resnet-34c6", "resnet-200c2"]);
    fuzz_text("ResNets", &resnets, &letters, often, &|name| {
        name.parse::<ResNetArch>().is_ok_and(|arch| {
            assert_eq!(arch.to_string().parse::<ResNetArch>().unwrap(), arch, "{name}");
            ResNetConfig::from(arch).num_parameters() > 0
        })
    });
    let both = [vits, resnets, of(&["resnet50", "wide-resnet50", "resnet50x2"])].concat();
    fuzz_text("backbones", &both, &letters, often, &|name| {
        name.parse::<BackboneArch>().is_ok_and(|arch| {
            assert_eq!(arch.to_string().parse::<BackboneArch>().unwrap(), arch, "{name}");
            true
        })
    });
    fuzz_text("devices", &of(&["auto", "gpu", "gpu:0", "gpu:12", "cpu"]), &letters, often, &|name| {
        name.parse::<DeviceChoice>().is_ok()
    });
    let kernels = ["auto", "wgsl", "stock"];
    fuzz_text("kernels", &of(&kernels), &letters, often, &|name| {
        let found = name.parse::<Mode>();
        assert_eq!(found.is_ok(), kernels.contains(&name), "{name}");
        found.is_ok()
    });
    fuzz_text("tables", &of(&["npy", "csv", "safetensors"]), &letters, often, &|name| {
        TableFormat::from_extension(name).is_some()
    });
    let scenes = of(&["scenes", "scenes:1", "scenes:5000:64", "scenes:100:4096"]);
    fuzz_text("scenes", &scenes, &letters, often, &|spec| {
        // Anything else is a path, and there may be something there.
        if spec != "scenes" && !spec.starts_with("scenes:") {
            return false;
        }
        let Ok(source) = open_source(spec) else { return false };
        assert!(open_split(spec, Split::Val).is_ok_and(|part| part.is_some()), "{spec}");
        source.is_empty() || (source.label(source.len() - 1).is_some() && !source.name(0).is_empty())
    });
}

/// `metrics.jsonl`, and the pages and event files made of it.
fn metrics(count: usize, seed: u64) {
    let corpus: Vec<Vec<u8>> = [
        "{\"event\":\"started\",\"images\":640,\"steps_per_epoch\":20,\"epochs\":3,\"uniform_entropy\":5.5,\
         \"backbone_parameters\":469728,\"head_parameters\":123456,\"unix_s\":1790000000.0}\n\
         {\"event\":\"step\",\"epoch\":0,\"step\":9,\"loss\":4.9,\"teacher_entropy\":4.5,\"kl\":0.5,\"lr\":0.001,\
         \"images_per_second\":321.0,\"unix_s\":1790000001.5}\n\
         {\"event\":\"baseline\",\"raw_pixels\":{\"10\":21.5,\"20\":22.5},\"untrained\":{\"10\":17.0},\"unix_s\":1790000002}\n\
         {\"event\":\"epoch\",\"epoch\":0,\"loss\":4.8,\"knn\":{\"10\":29.0,\"20\":30.0},\"wall_s\":2.0,\"unix_s\":1790000003}\n",
        "{\"event\":\"resumed\",\"from\":\"checkpoints/epoch-0001.safetensors\",\"unix_s\":1790000100}\n\
         {\"event\":\"warning\",\"message\":\"bäd → picture\"}\n{\"event\":\"stopped\",\"reason\":\"collapse\"}\n\
         {\"event\":\"step\",\"epoch\":1,\"step\":29,\"loss\":null,\"queue_fill\":0.5}\n\
         {\"event\":\"checkpoint\",\"file\":\"a\"}\n{\"event\":\"finished\",\"wall_s\":100.0}\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    let letters = "{}[]\":,.-+eE0123456789\n\\ué".as_bytes();
    let read = |bytes: &[u8]| {
        let history = History::parse(bytes);
        assert!(history.steps_per_epoch() >= 1.0 && history.epochs_done() >= 0.0);
        let _ = (history.quoted_k(), history.best_knn());
        history
    };
    fuzz("metrics", &corpus, letters, (count, seed), &|_| None, &|bytes| read(bytes).damaged_lines == 0);
    fuzz("reports", &corpus, letters, (count, seed), &|_| None, &|bytes| {
        // Of the very bytes, what a person might have written over the configuration.
        let text = String::from_utf8_lossy(bytes);
        let run = Run {
            history: read(bytes),
            config: text.lines().next_back().and_then(|line| line.parse().ok()),
            manifest: text.lines().next().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default(),
            ..Run::default()
        };
        let now = 1_790_000_200.0;
        let page = report_html(&run, None, now);
        assert!(page.ends_with("</html>\n") || page.contains("</html>"), "the page is not whole");
        let events = tensorboard::event_file(&run);
        let both = compare_html(&[run.clone(), run], now);
        !events.is_empty() && both.contains("</html>")
    });
}
