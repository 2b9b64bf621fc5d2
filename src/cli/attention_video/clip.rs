//! What a clip is written as: a GIF, an animated PNG, or a folder of frames.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use color_quant::NeuQuant;
use gif::{AnyExtension, Encoder, Frame, Repeat};
use ocelli::data::files::is_marked;
use ocelli::eval::picture::Picture;

use super::source::Frames;
use crate::cli::outputs;

/// Colours of a GIF's palette.
const COLOURS: usize = 256;
/// The label of a GIF's comment. Ours says who drew it, right behind the palette.
const COMMENT: u8 = 0xFE;
/// Pixels that the palette is learned from, at most.
const LEARNED: usize = 400_000;

/// How a clip is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Gif,
    Apng,
    Folder,
}

impl Format {
    /// By the ending; whatever has none of ours is a folder.
    pub fn of(out: &Path) -> Self {
        match out.extension().and_then(|e| e.to_str()).map(str::to_lowercase).as_deref() {
            Some("gif") => Self::Gif,
            Some("png" | "apng") => Self::Apng,
            _ => Self::Folder,
        }
    }

    /// Refuses what is there already and not ours.
    pub fn check(self, out: &Path, frames: &Frames) -> anyhow::Result<()> {
        match self {
            Self::Apng => outputs::check_picture(out),
            Self::Gif if out.exists() && !is_marked(out) => bail!(
                "{}: expected no file, or a clip that Ocelli drew; found another file. Move it away, or choose \
                 another --out",
                out.display()
            ),
            Self::Gif => Ok(()),
            Self::Folder => match out.is_file() {
                true => bail!(
                    "--out {}: expected a folder, or a name ending in .gif or .png; found a file",
                    out.display()
                ),
                false => {
                    (0..frames.len()).try_for_each(|i| outputs::check_picture(&in_folder(out, frames.name(i))))
                }
            },
        }
    }
}

fn in_folder(out: &Path, name: &str) -> PathBuf {
    out.join(format!("{name}.png"))
}

/// A clip being written. A file is kept in memory until it is whole.
pub struct Clip {
    out: PathBuf,
    frames: usize,
    fps: f64,
    size: Option<[usize; 2]>,
    writer: Writer,
}

enum Writer {
    Gif(Palette, Option<Encoder<Vec<u8>>>),
    Apng(Option<png::Writer<Shared>>, Shared),
    Folder,
}

/// Bytes that a writer fills and its owner takes.
#[derive(Clone, Default)]
struct Shared(std::rc::Rc<std::cell::RefCell<Vec<u8>>>);

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Clip {
    pub fn new(format: Format, out: &Path, frames: usize, fps: f64) -> Self {
        let writer = match format {
            Format::Gif => Writer::Gif(Palette::of(&[]), None),
            Format::Apng => Writer::Apng(None, Shared::default()),
            Format::Folder => Writer::Folder,
        };
        Self { out: out.to_owned(), frames, fps, size: None, writer }
    }

    /// Whether colours are to be chosen before the first frame: one palette for the whole clip, which then cannot
    /// flicker.
    pub fn wants_palette(&self) -> bool {
        matches!(self.writer, Writer::Gif(..))
    }

    /// Learns the palette from some of the frames.
    pub fn choose_palette(&mut self, frames: &[Picture]) {
        if let Writer::Gif(palette, _) = &mut self.writer {
            *palette = Palette::of(frames);
        }
    }

    /// Adds a frame.
    pub fn add(&mut self, name: &str, picture: &Picture) -> anyhow::Result<()> {
        let (width, height) = (picture.width(), picture.height());
        self.size.get_or_insert([width, height]);
        let failed = || format!("cannot encode {}", self.out.display());
        match &mut self.writer {
            Writer::Folder => outputs::write_png(&in_folder(&self.out, name), width, height, picture.data())?,
            Writer::Gif(palette, encoder) => {
                let (Ok(w), Ok(h)) = (u16::try_from(width), u16::try_from(height)) else {
                    bail!(
                        "a GIF has at most 65535 pixels a side, found {width} × {height}: choose another --size"
                    );
                };
                let encoder = match encoder {
                    Some(encoder) => encoder,
                    none => {
                        let mut new = Encoder::new(Vec::new(), w, h, &palette.colours).with_context(failed)?;
                        new.write_raw_extension(AnyExtension(COMMENT), &[b"Ocelli"]).with_context(failed)?;
                        new.set_repeat(Repeat::Infinite).with_context(failed)?;
                        none.insert(new)
                    }
                };
                // Hundredths of a second; viewers slow down what asks for less than two.
                let delay = (100.0 / self.fps).round().max(2.0) as u16;
                let buffer = palette.indices(picture).into();
                let frame = Frame { width: w, height: h, delay, buffer, ..Frame::default() };
                encoder.write_frame(&frame).with_context(failed)?;
            }
            Writer::Apng(writer, bytes) => {
                let writer = match writer {
                    Some(writer) => writer,
                    none => {
                        let mut new = png::Encoder::new(bytes.clone(), width as u32, height as u32);
                        new.set_color(png::ColorType::Rgb);
                        new.set_depth(png::BitDepth::Eight);
                        new.set_animated(self.frames as u32, 0).with_context(failed)?;
                        new.set_frame_delay((1000.0 / self.fps).round() as u16, 1000).with_context(failed)?;
                        none.insert(new.write_header().with_context(failed)?)
                    }
                };
                writer.write_image_data(picture.data()).with_context(failed)?;
            }
        }
        Ok(())
    }

    /// Writes the file. Width and height of the clip.
    pub fn finish(self) -> anyhow::Result<[usize; 2]> {
        let size = self.size.context("no frame was drawn")?;
        match self.writer {
            Writer::Folder => {}
            Writer::Gif(_, encoder) => {
                let encoder = encoder.context("no frame was drawn")?;
                outputs::write(&self.out, &encoder.into_inner()?)?;
            }
            Writer::Apng(writer, bytes) => {
                writer.context("no frame was drawn")?.finish()?;
                outputs::write_encoded_png(&self.out, &bytes.0.borrow())?;
            }
        }
        Ok(size)
    }
}

/// The colours of a GIF, and which of them is nearest to each colour: looked up once per 1/64 of a channel.
struct Palette {
    network: NeuQuant,
    /// Red, green, blue of each.
    colours: Vec<u8>,
    nearest: Vec<Option<u8>>,
}

impl Palette {
    /// Learned from pictures; of none, any colours.
    fn of(pictures: &[Picture]) -> Self {
        let pixels: usize = pictures.iter().map(|p| p.width() * p.height()).sum();
        let step = pixels.div_ceil(LEARNED).max(1);
        let all = pictures.iter().flat_map(|p| p.data().as_chunks::<3>().0);
        let mut sample: Vec<u8> = all.step_by(step).flat_map(|[r, g, b]| [*r, *g, *b, 255]).collect();
        // The algorithm wants to see something.
        if sample.len() < 4 * COLOURS {
            sample.extend((0..COLOURS).flat_map(|i| [i as u8, i as u8, i as u8, 255]));
        }
        let network = NeuQuant::new(3, COLOURS, &sample);
        let mut colours = network.color_map_rgb();
        colours.resize(3 * COLOURS, 0);
        Self { network, colours, nearest: vec![None; 1 << 18] }
    }

    fn indices(&mut self, picture: &Picture) -> Vec<u8> {
        let pixels = picture.data().as_chunks::<3>().0;
        let mut indices = Vec::with_capacity(pixels.len());
        for [r, g, b] in pixels {
            let key = usize::from(r >> 2) << 12 | usize::from(g >> 2) << 6 | usize::from(b >> 2);
            let index = match self.nearest[key] {
                Some(index) => index,
                None => {
                    let middle = |c: &u8| (c & !3) | 2;
                    let found = self.network.index_of(&[middle(r), middle(g), middle(b), 255]) as u8;
                    *self.nearest[key].insert(found)
                }
            };
            indices.push(index);
        }
        indices
    }
}
