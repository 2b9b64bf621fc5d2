//! Where the frames of a clip come from: a folder, or an animated GIF.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use image::codecs::gif::GifDecoder;
use image::{AnimationDecoder as _, ImageDecoder as _, Limits};
use ocelli::data::Image;
use ocelli::data::files::{DecodeLimits, decode_file};

use crate::cli::{frames, outputs};

/// The frames that are shown, numbered from 0; read when they are visited.
pub struct Frames {
    path: PathBuf,
    kind: Kind,
    /// The name of each frame that is shown: no two are the same.
    names: Vec<String>,
    /// Every so many frames are shown.
    stride: usize,
    len: usize,
}

enum Kind {
    Folder(Vec<PathBuf>),
    /// The file's bytes, and frames a second.
    Gif(Vec<u8>, Option<f64>),
}

impl Frames {
    /// A folder of images in the order of their numbers, or a GIF: every `stride`th frame, at most `limit` (0:
    /// all).
    pub fn open(path: &Path, stride: usize, limit: usize) -> anyhow::Result<Self> {
        let (kind, found) = if path.is_dir() {
            let files = frames::list(path)?;
            let count = files.len();
            (Kind::Folder(files), count)
        } else if path.is_file() {
            let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            if !bytes.starts_with(b"GIF8") {
                bail!(
                    "--video {}: expected a folder of frames or a GIF; found another file. Other programs make \
                     frames of a video, such as: ffmpeg -i {} -vf scale=480:-1 frames/%05d.png",
                    path.display(),
                    path.display()
                );
            }
            let (mut count, mut seconds) = (0, 0.0);
            for frame in gif(path, &bytes)?.into_frames() {
                let frame = frame.with_context(|| damaged(path, count))?;
                let (numerator, denominator) = frame.delay().numer_denom_ms();
                seconds += f64::from(numerator) / f64::from(denominator.max(1)) / 1000.0;
                count += 1;
            }
            let fps = (seconds > 0.0).then(|| (f64::from(count) / seconds).clamp(0.1, 50.0));
            (Kind::Gif(bytes, fps), count as usize)
        } else {
            bail!("--video {}: expected a folder of frames or a GIF, found nothing", path.display());
        };
        let len = found.div_ceil(stride.max(1));
        let len = if limit == 0 { len } else { len.min(limit) };
        if len == 0 {
            bail!("--video {}: expected at least one frame, found none", path.display());
        }
        let stride = stride.max(1);
        let name = |index: usize| match &kind {
            Kind::Folder(files) => {
                let file = files.get(index * stride).and_then(|f| f.file_name()).unwrap_or_default();
                file.to_string_lossy().into_owned()
            }
            Kind::Gif(..) => format!("{:05}", index * stride),
        };
        let names = outputs::stems(&(0..len).map(name).collect::<Vec<_>>(), &[".png"]);
        Ok(Self { path: path.to_owned(), kind, names, stride, len })
    }

    /// What was found, in words.
    pub fn understood(&self) -> String {
        let what = match self.kind {
            Kind::Folder(_) => "a folder of frames",
            Kind::Gif(..) => "a GIF",
        };
        format!("{}: {what}, {} shown", self.path.display(), self.len)
    }

    /// How many are shown.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Frames a second, where the file says. With a stride they go by as fast as before.
    pub fn fps(&self) -> Option<f64> {
        match self.kind {
            Kind::Folder(_) => None,
            // Its delays are hundredths of a second: no more digits than they have.
            Kind::Gif(_, fps) => Some(((fps? / self.stride as f64) * 100.0).round().max(10.0) / 100.0),
        }
    }

    /// The number of every frame.
    pub fn all(&self) -> Vec<usize> {
        (0..self.len).collect()
    }

    /// At most so many, evenly spaced.
    pub fn evenly(&self, most: usize) -> Vec<usize> {
        let count = most.min(self.len);
        (0..count).map(|i| i * self.len / count).collect()
    }

    /// A frame's name: its file's without ending, or its number.
    pub fn name(&self, index: usize) -> &str {
        self.names.get(index).map_or("", String::as_str)
    }

    /// Reads these frames, in rising order, one at a time.
    pub fn visit(
        &self,
        indices: &[usize],
        mut see: impl FnMut(usize, &Image) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match &self.kind {
            Kind::Folder(files) => {
                for index in indices {
                    let file = files.get(index * self.stride).context("no such frame")?;
                    see(*index, &decode_file(file, DecodeLimits::default())?)?;
                }
            }
            Kind::Gif(bytes, _) => {
                let mut wanted = indices.iter().copied().peekable();
                for (at, frame) in gif(&self.path, bytes)?.into_frames().enumerate() {
                    let Some(index) = wanted.peek().copied() else { break };
                    let frame = frame.with_context(|| damaged(&self.path, at as u32))?;
                    if at != index * self.stride {
                        continue;
                    }
                    wanted.next();
                    see(index, &on_white(&frame.into_buffer())?)?;
                }
            }
        }
        Ok(())
    }
}

fn gif<'a>(path: &Path, bytes: &'a [u8]) -> anyhow::Result<GifDecoder<Cursor<&'a [u8]>>> {
    let bad = || format!("{}: damaged GIF", path.display());
    let mut decoder = GifDecoder::new(Cursor::new(bytes)).with_context(bad)?;
    let (width, height) = decoder.dimensions();
    let limit = DecodeLimits::default().most_pixels();
    if u64::from(width) * u64::from(height) > limit {
        bail!(
            "{}: {width} × {height} pixels are more than {limit}; --max-pixels raises the limit",
            path.display()
        );
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(16 * u64::from(width) * u64::from(height) + (16 << 20));
    decoder.set_limits(limits).with_context(bad)?;
    Ok(decoder)
}

fn damaged(path: &Path, frame: u32) -> String {
    format!("{}: frame {frame} of the GIF is damaged", path.display())
}

/// Transparent pixels show the page.
fn on_white(rgba: &image::RgbaImage) -> anyhow::Result<Image> {
    let over = |[r, g, b, a]: [u8; 4]| {
        [r, g, b].map(|c| ((u32::from(c) * u32::from(a) + 255 * (255 - u32::from(a))) / 255) as u8)
    };
    let data = rgba.pixels().flat_map(|pixel| over(pixel.0)).collect();
    Ok(Image::new(rgba.width(), rgba.height(), data)?)
}
