//! `ocelli attention --video`.

mod clip;
mod source;

use std::path::Path;

use anyhow::{Context as _, bail};
use burn::tensor::Device;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ocelli::data::{Image, fit_to_cells};
use ocelli::eval::colour::{Colormap, heatmap_between};
use ocelli::eval::pca::{ColourScale, Pca};
use ocelli::eval::picture::{Filter, Picture};
use ocelli::train::{Cells, Loaded, Loading, cells_of, image_tensor};

use super::attention::{self, AttentionArgs};
use super::images::{self, Input};
use super::opening;
use super::talk;
use clip::{Clip, Format};
use source::Frames;

/// Frames that the components are fitted to, evenly spaced over the clip.
const FITTED: usize = 12;
/// Share of all cells of a clip that lie beyond either end of the colour scale.
const CLIP_SHARE: f64 = 0.005;
/// Space between a frame and its map, pixels.
const GAP_PX: usize = 4;

/// A video instead of images.
#[derive(Args, Clone)]
#[command(next_help_heading = "Video")]
pub struct ClipArgs {
    /// PCA colours of the patch features instead of attention: like parts get like colours in every frame (ResNets
    /// too)
    #[arg(long, conflicts_with = "head")]
    pca: bool,
    /// This head's attention, counted from 1 (default: the mean of the heads)
    #[arg(long)]
    head: Option<usize>,
    /// Only the map, without the frame beside it
    #[arg(long)]
    map_only: bool,
    /// Frames a second (default: as the GIF says, else 10)
    #[arg(long, value_parser = a_rate)]
    fps: Option<f64>,
    /// Take every Nth frame
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = a_stride)]
    stride: usize,
    /// Largest number of frames (0: all)
    #[arg(long, default_value_t = 0)]
    frames: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn a_rate(text: &str) -> Result<f64, String> {
    let wrong = || "expected frames a second, a number from 0.1 to 50".to_owned();
    text.parse().ok().filter(|fps| (0.1..=50.0).contains(fps)).ok_or_else(wrong)
}

fn a_stride(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "expected a whole number of at least 1".to_owned())
}

/// What is shown of every frame, at the size of the grid.
enum Maps {
    /// Attention `[cells]` of each frame.
    Attention(Vec<Vec<f32>>),
    /// Scores `[cells, 3]` of each frame.
    Pca(Vec<Vec<f32>>),
}

/// How values become colours: the same in every frame.
enum Scale {
    Attention([f32; 2]),
    Pca(ColourScale),
}

struct Network<'a> {
    net: &'a Loaded,
    device: &'a Device,
    size: usize,
}

pub fn run(args: &AttentionArgs, video: &Path) -> anyhow::Result<()> {
    let options = &args.clip;
    let frames = Frames::open(video, options.stride, options.frames)?;
    let format = Format::of(&args.out);
    format.check(&args.out, &frames)?;
    let device = args.device.open()?;
    let loading = Loading {
        heads: args.heads,
        only_vit: !options.pca,
        given: args.normalise.given()?,
        ..Loading::default()
    };
    let net = loading.open(&args.weights, &device.device)?;
    if let (Some(head), false) = (options.head, options.pca) {
        let heads = net.vit()?.heads();
        if !(1..=heads).contains(&head) {
            bail!("--head: expected 1 to {heads}, this network's heads; found {head}");
        }
    }
    if talk::notes(options.json) {
        println!("{}", frames.understood());
        println!("{}", opening::lines(&net, &device.name, &opening::long_side(args.size)));
    }
    let network = Network { net: &net, device: &device.device, size: args.size };
    let maps = network.maps(&frames, options)?;
    let scale = maps.scale()?;
    let fps = options.fps.or(frames.fps()).unwrap_or(10.0);
    let mut clip = Clip::new(format, &args.out, frames.len(), fps);
    let draw = |index: usize, image: &Image| -> anyhow::Result<Picture> {
        let fitted = fit_to_cells(image, args.size, net.stride_px).image;
        let (width, height) = (fitted.width as usize, fitted.height as usize);
        let frame = Picture::new(width, height, fitted.data)?;
        let map = maps.drawn(index, &scale, width / net.stride_px, [width, height])?;
        Ok(if options.map_only { map } else { beside(&frame, &map) })
    };
    if clip.wants_palette() {
        let sample = frames.evenly(FITTED);
        let mut shown = Vec::new();
        frames.visit(&sample, |index, image| {
            shown.push(draw(index, image)?);
            Ok(())
        })?;
        clip.choose_palette(&shown);
    }
    frames.visit(&frames.all(), |index, image| clip.add(frames.name(index), &draw(index, image)?))?;
    let [width, height] = clip.finish()?;
    let shown = options.shown();
    if options.json {
        let json = serde_json::json!({
            "video": video, "out": args.out, "frames": frames.len(), "width": width, "height": height, "fps": fps,
            "shows": shown, "scale": scale.words(),
            "description": net.description, "normalisation": net.statistics.to_string(),
        });
        println!("{json}");
        return Ok(());
    }
    println!("{shown}; colours: {}", scale.words());
    println!("{} frames of {width} × {height} px, {fps} a second: {}", frames.len(), args.out.display());
    Ok(())
}

impl ClipArgs {
    /// Whether JSON is printed, of images as of a video.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Refuses what only a video has, where there is none. Clap does not: images exclude a video, and so lift
    /// whatever asks for one.
    pub fn check_unused(&self) -> anyhow::Result<()> {
        let given = [
            ("--pca", self.pca),
            ("--head", self.head.is_some()),
            ("--map-only", self.map_only),
            ("--fps", self.fps.is_some()),
            ("--stride", self.stride != 1),
            ("--frames", self.frames != 0),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((flag, _)) => {
                bail!("{flag}: goes with --video FRAMES, a folder of frames or a GIF; found images")
            }
            None => Ok(()),
        }
    }

    fn shown(&self) -> String {
        match self.head {
            _ if self.pca => "three principal components of the patch features".to_owned(),
            Some(head) => format!("attention of head {head} of the last block"),
            None => "attention of the last block, mean of the heads".to_owned(),
        }
    }
}

impl Network<'_> {
    /// Runs the network over the frames. Kept are numbers per cell, not per pixel: a long clip takes little
    /// memory.
    fn maps(&self, frames: &Frames, options: &ClipArgs) -> anyhow::Result<Maps> {
        let mut maps = Vec::with_capacity(frames.len());
        let mut size = None;
        let mut same = |index: usize, image: &Image| {
            let found = (image.width, image.height);
            let expected = *size.get_or_insert(found);
            if found != expected {
                bail!(
                    "{}: expected a frame of {} × {} like the first, found {} × {}",
                    frames.name(index),
                    expected.0,
                    expected.1,
                    found.0,
                    found.1
                );
            }
            Ok(())
        };
        if !options.pca {
            let bar = bar(frames.len());
            frames.visit(&frames.all(), |index, image| {
                same(index, image)?;
                let attended = attention::attend(
                    self.net.vit()?,
                    &input(image, index),
                    self.size,
                    &self.net.statistics.value,
                    self.device,
                )?;
                maps.push(match options.head {
                    Some(head) => attended.map.head(head - 1).to_vec(),
                    None => attended.map.mean(),
                });
                bar.inc(1);
                Ok(())
            })?;
            bar.finish_and_clear();
            return Ok(Maps::Attention(maps));
        }
        let sample = frames.evenly(FITTED);
        let bar = bar(frames.len() + sample.len());
        let (mut features, mut dim) = (Vec::new(), 0);
        frames.visit(&sample, |index, image| {
            same(index, image)?;
            let cells = self.features(image)?;
            features.extend(cells.values);
            dim = cells.dim;
            bar.inc(1);
            Ok(())
        })?;
        let pca = Pca::fit(&features, dim)?;
        drop(features);
        frames.visit(&frames.all(), |index, image| {
            same(index, image)?;
            maps.push(pca.scores(&self.features(image)?.values)?);
            bar.inc(1);
            Ok(())
        })?;
        bar.finish_and_clear();
        Ok(Maps::Pca(maps))
    }

    /// Features of a frame's cells.
    fn features(&self, image: &Image) -> anyhow::Result<Cells> {
        let fitted = fit_to_cells(image, self.size, self.net.stride_px);
        let pixels = image_tensor(&fitted.image, &self.net.statistics.value, self.device);
        Ok(cells_of(&self.net.encoder, pixels)?)
    }
}

impl Maps {
    /// One scale for the whole clip, so that a colour means the same in every frame.
    fn scale(&self) -> anyhow::Result<Scale> {
        Ok(match self {
            Self::Pca(scores) => Scale::Pca(ColourScale::of(&scores.concat())?),
            Self::Attention(maps) => {
                let mut values = maps.concat();
                if let Some(value) = values.iter().find(|v| !v.is_finite()) {
                    bail!("expected attention that is a number, found {value}");
                }
                values.sort_unstable_by(f32::total_cmp);
                let cut = (values.len() as f64 * CLIP_SHARE) as usize;
                let (low, high) = (values[cut], values[values.len() - 1 - cut]);
                // All alike: one colour, the first.
                Scale::Attention([low, if high > low { high } else { low + low.abs().max(1.0) }])
            }
        })
    }

    fn drawn(&self, index: usize, scale: &Scale, columns: usize, size: [usize; 2]) -> anyhow::Result<Picture> {
        match (self, scale) {
            (Self::Attention(maps), Scale::Attention(ends)) => {
                let map = maps.get(index).context("no map of this frame")?;
                Ok(heatmap_between(map, columns, size, *ends, Colormap::Inferno, Filter::Smooth)?)
            }
            (Self::Pca(maps), Scale::Pca(scale)) => {
                let map = maps.get(index).context("no map of this frame")?;
                let colours = Picture::new(columns, map.len() / 3 / columns.max(1), scale.rgb(map))?;
                Ok(colours.resize(size[0], size[1], Filter::Smooth))
            }
            _ => bail!("a scale of another kind than the maps"),
        }
    }
}

impl Scale {
    fn words(&self) -> String {
        match self {
            Self::Attention([low, high]) => format!(
                "one range over the clip, {low:.2e} to {high:.2e} (all but {:.1} % of the cells at either end)",
                CLIP_SHARE * 100.0
            ),
            Self::Pca(_) => {
                format!(
                    "components of up to {FITTED} frames, one range for the whole clip (first to last percentile)"
                )
            }
        }
    }
}

fn input(image: &Image, index: usize) -> Input {
    Input { name: format!("frame {index}"), class: String::new(), image: image.clone(), truth: None }
}

/// Two pictures of one size next to each other.
fn beside(left: &Picture, right: &Picture) -> Picture {
    let mut both = Picture::filled(2 * left.width() + GAP_PX, left.height(), [255; 3]);
    both.paste(left, 0, 0);
    both.paste(right, left.width() + GAP_PX, 0);
    both
}

fn bar(frames: usize) -> ProgressBar {
    let bar = images::bar(frames, false);
    if let Ok(style) = ProgressStyle::with_template("{bar:28} {pos}/{len} frames  {per_sec}  ETA {eta}") {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar
}
