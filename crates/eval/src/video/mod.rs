//! Video object segmentation by label propagation: the first frame's mask is carried through a video by the
//! likeness of frozen features alone.
//!
//! The DAVIS protocol of Caron et al. 2021 (DINO, arXiv:2104.14294), after Jabri et al. 2020, *Space-Time
//! Correspondence as a Contrastive Random Walk* (arXiv:2006.14613). Every cell of a frame takes the labels of the
//! cells most like it in the context, which is the first frame and the last few:
//!
//! ```text
//! affinity(source, target) = exp(cosine / temperature)   within a square around the target cell, else 0
//! of these, per target, the top k over all sources of all context frames, divided by their sum
//! label(target) = Σ affinity · label(source)
//! ```
//!
//! Labels stay soft and at the size of the grid while they are carried on; masks are made of them only to be
//! looked at and scored ([`mask`]). Memory grows with the context, not with the video.
//!
//! ```
//! use ocelli_eval::video::{GridSize, Propagation, PropagationConfig};
//!
//! // Two cells; the object is in the second, and moves into the first.
//! let grid = GridSize { rows: 1, columns: 2 };
//! let (background, object) = ([1.0, 0.0], [0.0, 1.0]);
//! let labels = [background, object].concat();
//! let mut video = Propagation::new(PropagationConfig::default(), grid, &[1.0, 0.0, 0.0, 1.0], labels)?;
//! let next = video.next(&[0.0, 1.0, 1.0, 0.0])?;
//! assert!(next[2] > 0.99 && next[3] < 0.01);
//! # Ok::<(), ocelli_eval::EvalError>(())
//! ```

mod affinity;
mod frame;
pub mod mask;
mod neighbours;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::EvalError;
use affinity::{Affinity, Keys, affinities};

pub use frame::{DAVIS_STD, network_size, resize_bilinear};

/// Settings of the propagation. The defaults are those of the DINO evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PropagationConfig {
    /// Frames before the current one that are looked at, beside the first.
    pub last_frames: usize,
    /// Cells up, down, left and right of a cell within which its sources lie; 0 for the whole frame.
    pub radius: usize,
    /// Sources of a cell, over all context frames together. More where several are equally like it.
    pub top_k: usize,
    /// Temperature of the affinity, above 0.
    pub temperature: f64,
    /// Threads, at least 1: only the calling one with 1, as in a browser. Does not change the result.
    pub threads: usize,
}

impl Default for PropagationConfig {
    fn default() -> Self {
        Self { last_frames: 7, radius: 12, top_k: 5, temperature: 0.1, threads: 1 }
    }
}

impl PropagationConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`EvalError::Setting`] for a value outside its range.
    pub fn validate(&self) -> Result<(), EvalError> {
        for (name, value) in [("top_k", self.top_k), ("threads", self.threads)] {
            if value == 0 {
                return Err(EvalError::setting(name, "at least 1", value));
            }
        }
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return Err(EvalError::setting("temperature", "a finite number above 0", self.temperature));
        }
        Ok(())
    }
}

/// Cells over a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GridSize {
    /// Cells down.
    pub rows: usize,
    /// Cells across.
    pub columns: usize,
}

impl GridSize {
    /// All of them.
    pub fn cells(self) -> usize {
        self.rows * self.columns
    }
}

/// A frame whose labels are known: its features, and its labels `[channels, cells]`.
struct Labelled {
    keys: Keys,
    labels: Vec<f32>,
}

/// The labels of a video on their way through it.
pub struct Propagation {
    config: PropagationConfig,
    grid: GridSize,
    dim: usize,
    channels: usize,
    first: Labelled,
    /// The frames right before the current one, the oldest first; never the first frame.
    last: VecDeque<Labelled>,
}

impl Propagation {
    /// Starts with the first frame: features `[cells, dim]`, row by row, and labels `[channels, cells]`,
    /// background first (see [`mask::first_labels`]).
    ///
    /// # Errors
    /// [`EvalError::Setting`], [`EvalError::Empty`], [`EvalError::Shape`] or [`EvalError::NotFinite`].
    pub fn new(
        config: PropagationConfig,
        grid: GridSize,
        features: &[f32],
        labels: Vec<f32>,
    ) -> Result<Self, EvalError> {
        config.validate()?;
        let cells = grid.cells();
        if cells == 0 || features.is_empty() || labels.is_empty() {
            return Err(EvalError::Empty { what: "the first frame" });
        }
        if !features.len().is_multiple_of(cells) {
            return Err(EvalError::shape("features", format!("rows of {cells} cells"), features.len()));
        }
        if !labels.len().is_multiple_of(cells) {
            return Err(EvalError::shape("labels", format!("channels of {cells} cells"), labels.len()));
        }
        if labels.iter().any(|v| !v.is_finite()) {
            return Err(EvalError::NotFinite { what: "the first frame's labels", place: String::new() });
        }
        let (dim, channels) = (features.len() / cells, labels.len() / cells);
        let first = Labelled { keys: Keys::new(&normalised(features, dim)?, grid, dim), labels };
        Ok(Self { config, grid, dim, channels, first, last: VecDeque::new() })
    }

    /// Labels per cell, the background's included.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The soft labels `[channels, cells]` of the next frame, whose features are `[cells, dim]`.
    ///
    /// # Errors
    /// [`EvalError::Shape`] for features of another shape than the first frame's, [`EvalError::NotFinite`].
    pub fn next(&mut self, features: &[f32]) -> Result<&[f32], EvalError> {
        let queries = self.queries(features)?;
        let affinity = self.affinity(&queries);
        let context: Vec<&[f32]> = self.context().map(|frame| frame.labels.as_slice()).collect();
        let labels = carry(&affinity, &context, self.channels, self.grid.cells());
        let keys = Keys::new(&queries, self.grid, self.dim);
        while self.last.len() >= self.config.last_frames.max(1) {
            self.last.pop_front();
        }
        let newest = Labelled { keys, labels };
        self.last.push_back(newest);
        Ok(self.last.back().map_or(&[], |frame| &frame.labels))
    }

    fn queries(&self, features: &[f32]) -> Result<Vec<f32>, EvalError> {
        let expected = self.grid.cells() * self.dim;
        if features.len() != expected {
            let expected = format!("{} cells × {}, as in the first frame", self.grid.cells(), self.dim);
            return Err(EvalError::shape("features", expected, features.len()));
        }
        normalised(features, self.dim)
    }

    /// The first frame, then the last ones.
    fn context(&self) -> impl Iterator<Item = &Labelled> {
        let last = if self.config.last_frames == 0 { 0 } else { self.last.len() };
        std::iter::once(&self.first).chain(self.last.iter().take(last))
    }

    fn affinity(&self, queries: &[f32]) -> Vec<Affinity> {
        let keys: Vec<&Keys> = self.context().map(|frame| &frame.keys).collect();
        affinities(queries, &keys, self.grid, self.dim, &self.config)
    }
}

/// Rows of `dim` divided by their L2 norm; a row of zeros stays.
fn normalised(features: &[f32], dim: usize) -> Result<Vec<f32>, EvalError> {
    let mut rows = features.to_vec();
    for (cell, row) in rows.chunks_exact_mut(dim).enumerate() {
        let square: f64 = row.iter().map(|v| f64::from(*v).powi(2)).sum();
        if !square.is_finite() {
            return Err(EvalError::NotFinite { what: "the features", place: format!(" (cell {cell})") });
        }
        let scale = 1.0 / square.sqrt().max(1e-12);
        row.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32);
    }
    Ok(rows)
}

/// `[channels, cells]`: every cell's mean of its sources' labels.
fn carry(affinity: &[Affinity], context: &[&[f32]], channels: usize, cells: usize) -> Vec<f32> {
    let mut labels = vec![0.0; channels * cells];
    for (target, sources) in affinity.iter().enumerate() {
        for channel in 0..channels {
            let label = |source: u32| {
                let (frame, cell) = (source as usize / cells, source as usize % cells);
                f64::from(context[frame][channel * cells + cell])
            };
            let sum: f64 = sources.iter().map(|(source, weight)| f64::from(*weight) * label(*source)).sum();
            labels[channel * cells + target] = sum as f32;
        }
    }
    labels
}

#[cfg(test)]
mod tests;
