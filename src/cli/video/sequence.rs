//! One sequence: frames through the network, labels from frame to frame, masks to files, scores.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use burn::tensor::{Device, Tensor, TensorData};
use indicatif::ProgressBar;
use ocelli::data::files::{DecodeLimits, decode_file};
use ocelli::data::{Image, normalise_into};
use ocelli::eval::mask::Mask;
use ocelli::eval::segmentation::{BOUNDARY_THRESHOLD, SequenceStatistics, boundary, region_similarity};
use ocelli::eval::video::mask::{first_labels, hard_mask};
use ocelli::eval::video::{GridSize, Propagation, PropagationConfig, network_size, resize_bilinear};
use ocelli::models::{Backbone as _, Mode};
use ocelli::train::Loaded;

use super::drawing::Sheets;
use super::masks::Objects;
use super::tree::{Sequence, Year};
use crate::cli::outputs;

/// What all sequences have in common.
pub struct Runner<'a> {
    pub net: &'a Loaded,
    pub device: &'a Device,
    pub config: PropagationConfig,
    pub short_px: usize,
    pub year: Year,
    pub out: Option<&'a Path>,
}

/// Scores of one object over a sequence.
pub struct ObjectScores {
    pub object: u8,
    pub j: SequenceStatistics,
    pub f: SequenceStatistics,
}

/// What came of a sequence.
pub struct Outcome {
    pub name: String,
    pub frames: usize,
    /// Frames that were scored, 0 where there are no masks to compare with.
    pub scored: usize,
    /// Width and height of the frames.
    pub size: [usize; 2],
    /// Width and height as the network saw them.
    pub network: [usize; 2],
    /// One of each object, where it was scored.
    pub objects: Vec<ObjectScores>,
    /// Objects that the grid is too coarse to show in the first frame. They are scored as missing.
    pub vanished: Vec<u8>,
    pub times: Times,
}

/// Where the time went.
#[derive(Clone, Copy, Default)]
pub struct Times {
    pub network: Duration,
    pub propagation: Duration,
    pub scoring: Duration,
}

/// J and F of every object, frame by frame.
struct Scores {
    j: Vec<Vec<f64>>,
    f: Vec<Vec<f64>>,
}

impl Runner<'_> {
    /// Looks at what can be wrong before the first frame passes the network: sizes, the first mask, files in the
    /// way.
    pub fn check(&self, sequence: &Sequence) -> anyhow::Result<()> {
        let first = self.first_mask(sequence)?;
        let size = [first.width, first.height];
        for (frame, mask) in sequence.frames.iter().zip(&sequence.masks) {
            let found = dimensions(frame)?;
            if found != size && frame == &sequence.frames[0] {
                bail!("{}", mask_size(mask.as_deref().unwrap_or(frame), size, found));
            }
            if found != size {
                bail!("{}", frame_size(frame, found, size));
            }
            if let Some(path) = mask {
                let found = dimensions(path)?;
                if found != size {
                    bail!("{}", mask_size(path, found, size));
                }
            }
            if let Some(path) = self.mask_path(sequence, frame) {
                outputs::check_picture(&path)?;
            }
        }
        if let Some(path) = self.sheet_path(sequence) {
            outputs::check_picture(&path)?;
        }
        Ok(())
    }

    fn first_mask(&self, sequence: &Sequence) -> anyhow::Result<Objects> {
        let path = sequence.masks.first().and_then(Option::as_ref).context("no mask of the first frame")?;
        let mask = Objects::read(path, self.year)?;
        if mask.largest() == 0 {
            let hint = match (self.year, mask.data.contains(&255)) {
                (Year::Davis2017, true) => ". Its pixels are 0 and 255: DAVIS-2016's masks want --year 2016",
                _ => "",
            };
            bail!("{}: expected an object in the mask of the first frame, found none{hint}", path.display());
        }
        Ok(mask)
    }

    /// Carries the first mask through the sequence.
    pub fn run(&self, sequence: &Sequence, bar: &ProgressBar) -> anyhow::Result<Outcome> {
        let first = self.first_mask(sequence)?;
        let (size, objects) = ([first.width, first.height], first.largest());
        let network = network_size(size[0], size[1], self.short_px, self.net.stride_px)?;
        let cell = self.net.stride_px;
        let grid = GridSize { rows: network[1] / cell, columns: network[0] / cell };
        let is_scored = sequence.is_scored();
        let mut times = Times::default();
        let mut scores = Scores { j: vec![Vec::new(); objects.into()], f: vec![Vec::new(); objects.into()] };
        let mut sheets = Sheets::new(sequence.frames.len(), self.out.is_some());

        let mut video: Option<Propagation> = None;
        let mut vanished = Vec::new();
        for (index, path) in sequence.frames.iter().enumerate() {
            let image = decode_file(path, DecodeLimits::default())?;
            let found = [image.width as usize, image.height as usize];
            if found != size {
                // Only once it is decoded is it known that its metadata turn it.
                bail!("{}", frame_size(path, found, size));
            }
            let started = Instant::now();
            let features = self.features(&image, network, grid).with_context(|| format!("{}", path.display()))?;
            times.network += started.elapsed();
            let started = Instant::now();
            let predicted = match &mut video {
                None => {
                    let labels = first_labels(&first.data, size, grid)?;
                    vanished = absent(&labels, grid, &first);
                    video = Some(Propagation::new(self.config, grid, &features, labels)?);
                    first.clone()
                }
                Some(video) => {
                    let data = hard_mask(video.next(&features)?, grid, cell, size)?;
                    Objects { data, ..first }
                }
            };
            times.propagation += started.elapsed();
            if let Some(path) = self.mask_path(sequence, path) {
                predicted.write(&path)?;
            }
            let truth = match &sequence.masks[index] {
                Some(path) if index > 0 => Some(Objects::read(path, self.year)?),
                _ => None,
            };
            // The first frame was given; the last has no annotation in some sequences.
            let mut fit = None;
            if let (true, Some(truth)) = (is_scored && index + 1 < sequence.frames.len(), &truth) {
                let started = Instant::now();
                fit = Some(scores.add(&predicted, truth)?);
                times.scoring += started.elapsed();
            }
            sheets.add(index, path, &image, truth.as_ref(), &predicted, fit)?;
            bar.inc(1);
        }
        if let Some(path) = self.sheet_path(sequence) {
            sheets.write(&path, &sequence.name)?;
        }
        Ok(Outcome {
            name: sequence.name.clone(),
            frames: sequence.frames.len(),
            scored: scores.j.first().map_or(0, Vec::len),
            size,
            network,
            objects: scores.finish()?,
            vanished,
            times,
        })
    }

    /// Features of a frame, `[cells, dim]`.
    fn features(&self, image: &Image, [width, height]: [usize; 2], grid: GridSize) -> anyhow::Result<Vec<f32>> {
        let from = [image.width as usize, image.height as usize];
        let resized =
            Image::new(width as u32, height as u32, resize_bilinear(&image.data, from, [width, height])?)?;
        let mut pixels = vec![0.0; 3 * width * height];
        let statistics = &self.net.statistics.value;
        normalise_into(&resized, statistics.mean, statistics.std, &mut pixels);
        let input = Tensor::from_data(TensorData::new(pixels, [1, 3, height, width]), self.device);
        let map = self.net.encoder.feature_map(input, Mode::Eval);
        let [_, _, rows, columns] = map.dims();
        if (rows, columns) != (grid.rows, grid.columns) {
            bail!("expected {} × {} cells of the network, found {rows} × {columns}", grid.rows, grid.columns);
        }
        map.flatten::<3>(2, 3)
            .swap_dims(1, 2)
            .into_data()
            .try_to_vec::<f32>()
            .map_err(|e| anyhow!("cannot read features back: {e:?}"))
    }

    fn mask_path(&self, sequence: &Sequence, frame: &Path) -> Option<PathBuf> {
        let name = Path::new(frame.file_stem()?).with_extension("png");
        Some(self.out?.join(&sequence.name).join(name))
    }

    fn sheet_path(&self, sequence: &Sequence) -> Option<PathBuf> {
        Some(self.out?.join(format!("{}.png", sequence.name)))
    }
}

impl Scores {
    /// Scores a frame; the means over its objects, J and F.
    fn add(&mut self, predicted: &Objects, truth: &Objects) -> anyhow::Result<(f64, f64)> {
        let (mut all_j, mut all_f) = (0.0, 0.0);
        let objects = self.j.len() as f64;
        for (object, (j, f)) in (1u8..).zip(self.j.iter_mut().zip(&mut self.f)) {
            let of =
                |m: &Objects| Mask::new(m.width, m.height, m.data.iter().map(|label| *label == object).collect());
            let (predicted, truth) = (of(predicted)?, of(truth)?);
            j.push(region_similarity(&predicted, &truth, None)?);
            f.push(boundary(&predicted, &truth, None, BOUNDARY_THRESHOLD)?.f);
            all_j += j.last().copied().unwrap_or_default() / objects;
            all_f += f.last().copied().unwrap_or_default() / objects;
        }
        Ok((all_j, all_f))
    }

    fn finish(self) -> anyhow::Result<Vec<ObjectScores>> {
        let objects = (1u8..).zip(self.j.iter().zip(&self.f)).filter(|(_, (j, _))| !j.is_empty());
        objects
            .map(|(object, (j, f))| {
                Ok(ObjectScores { object, j: SequenceStatistics::of(j)?, f: SequenceStatistics::of(f)? })
            })
            .collect()
    }
}

/// Objects of the mask that have no cell.
fn absent(labels: &[f32], grid: GridSize, mask: &Objects) -> Vec<u8> {
    let there = |object: u8| {
        let channel = labels.get(usize::from(object) * grid.cells()..).unwrap_or_default();
        channel.iter().take(grid.cells()).any(|v| *v > 0.0)
    };
    (1..=mask.largest()).filter(|object| mask.data.contains(object) && !there(*object)).collect()
}

/// Width and height of an image file, without decoding its pixels.
fn dimensions(path: &Path) -> anyhow::Result<[usize; 2]> {
    let (width, height) =
        image::image_dimensions(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok([width as usize, height as usize])
}

fn frame_size(frame: &Path, [width, height]: [usize; 2], [first_width, first_height]: [usize; 2]) -> String {
    format!(
        "{}: expected a frame of {first_width} × {first_height} like the first of the sequence, found {width} × \
         {height}",
        frame.display()
    )
}

fn mask_size(mask: &Path, [width, height]: [usize; 2], [frame_width, frame_height]: [usize; 2]) -> String {
    format!(
        "{}: expected a mask as large as its frame, {frame_width} × {frame_height}, found {width} × {height}",
        mask.display()
    )
}
