//! `ocelli segment`.

use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::Args;
use ocelli::data::Source as _;
use ocelli::data::annotated::IGNORED;
use ocelli::eval::picture::{Picture, Rgb};
use ocelli::eval::segmentation::drawing::{ClassShare, class_shares, overlay, with_legend};
use ocelli::transfer::segmentation::Segmenter;
use serde_json::{Value, json};

use super::DeviceArgs;
use super::images::{self, Named};
use super::outputs;
use super::talk;

/// Classes named in a line at most.
const NAMED: usize = 6;
/// Colour of pixels without a class in an index PNG: PASCAL VOC's.
const VOID: Rgb = [224, 224, 192];

/// Assign a class to every pixel of a picture: colours with a legend, and an index PNG
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli segment street.jpg --weights runs/pixels\n  ocelli segment photos --weights runs/pixels --out coloured --alpha 0.4\n  ocelli segment photos --weights runs/pixels --json\n\nNetworks come from `ocelli finetune segmentation`. For street.jpg the command writes two files: street.png is the picture with its classes as colours and a legend, and street-index.png is a palette PNG whose pixels are the classes' numbers."
)]
pub struct SegmentArgs {
    /// Images, folders of images, or `scenes[:COUNT]`
    #[arg(required = true)]
    images: Vec<String>,
    /// The network: a run folder of `ocelli finetune segmentation`, or its segmenter.safetensors
    #[arg(long)]
    weights: PathBuf,
    /// Folder for the pictures (pictures that Ocelli drew are replaced, other files never)
    #[arg(long, default_value = "segmentations")]
    out: PathBuf,
    /// Opacity of the classes' colours over the picture, 0 to 1
    #[arg(long, default_value_t = 0.55)]
    alpha: f32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &SegmentArgs) -> anyhow::Result<()> {
    ensure!((0.0..=1.0).contains(&args.alpha), "--alpha: expected a share from 0 to 1, found {}", args.alpha);
    let inputs = Named::list(&args.images, 0)?;
    // Both names are taken together, so that no index PNG meets another image's picture.
    let ends = [".png", "-index.png"];
    let stems = outputs::stems(&inputs.names(), &ends);
    let files: Vec<[PathBuf; 2]> =
        stems.iter().map(|stem| ends.map(|end| args.out.join(format!("{stem}{end}")))).collect();
    files.iter().flatten().try_for_each(|path| outputs::check_picture(path))?;
    let device = args.device.open()?;
    let segmenter = Segmenter::open(&args.weights, &device.device)?;
    let (classes, palette) = (segmenter.classes(), segmenter.palette());
    if talk::notes(args.json) {
        inputs.lines().iter().for_each(|line| println!("{line}"));
        let accuracy = segmenter.accuracy().map(|a| format!("; {a}")).unwrap_or_default();
        println!("{} with {} classes on {}{accuracy}", segmenter.config().arch, classes.len(), device.name);
    }
    // The background is not painted over: black would only darken it.
    let background = classes.iter().position(|name| name.eq_ignore_ascii_case("background"));
    let background = background.or_else(|| palette.iter().position(|colour| *colour == [0; 3]));
    let background = background.and_then(|class| u8::try_from(class).ok());
    let bar = images::bar(inputs.len(), args.json);
    let (mut told, mut notes): (Vec<Value>, Vec<String>) = (Vec::new(), Vec::new());
    for (index, [picture_file, index_file]) in files.iter().enumerate() {
        let name = inputs.name(index);
        let input = match images::read_or_note(&inputs, index, &name, &bar, args.json) {
            Ok(input) => input,
            Err(note) => {
                notes.push(note);
                continue;
            }
        };
        let map = segmenter.segment(&input.image)?;
        let size = [map.width, map.height];
        let shares: Vec<ClassShare> = class_shares(&map.labels);
        let picture = Picture::new(map.width, map.height, input.image.data)?;
        let painted = overlay(&picture, &map.labels, palette, background, args.alpha)?;
        let painted = with_legend(&painted, &shares, classes, palette);
        outputs::write_png(picture_file, painted.width(), painted.height(), painted.data())?;
        let colours = (0..=255u8).map(|class| match class {
            IGNORED => VOID,
            class => palette.get(usize::from(class)).copied().unwrap_or_default(),
        });
        outputs::write_index_png(index_file, size, &map.labels, colours)?;
        let name_of = |class: u8| classes.get(usize::from(class)).map_or("", String::as_str);
        if args.json {
            let shares: Vec<Value> = shares
                .iter()
                .map(|s| json!({ "class": s.class, "name": name_of(s.class), "pixels": s.pixels, "share": s.share }))
                .collect();
            told.push(json!({
                "image": name,
                "width": map.width,
                "height": map.height,
                "picture": picture_file.display().to_string(),
                "index": index_file.display().to_string(),
                "classes": shares,
            }));
        } else {
            let some = shares.iter().take(NAMED).map(|s| format!("{} {:.1} %", name_of(s.class), 100.0 * s.share));
            let more = if shares.len() > NAMED { ", …" } else { "" };
            let line = format!("{name}: {}{more}", some.collect::<Vec<_>>().join(", "));
            bar.suspend(|| println!("{line}"));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let done = inputs.len() - notes.len();
    if args.json {
        let colours: Vec<Rgb> = palette.to_vec();
        let document = json!({
            "weights": args.weights.display().to_string(),
            "arch": segmenter.config().arch.to_string(),
            "accuracy": segmenter.accuracy(),
            "classes": classes,
            "palette": colours,
            "notes": notes,
            "images": told,
        });
        println!("{document}");
    } else {
        println!("{done} images: {}", args.out.display());
    }
    if done == 0 {
        bail!("no image could be read");
    }
    Ok(())
}
