//! The built-in data set: labelled scenes drawn from (seed, index), with the exact mask of their object.
//!
//! Ten classes, each a family of outlines with a family of surface patterns. Place, size, tilt, colours, light and
//! background vary freely and say nothing about the class, so comparing pixels does not get far, while shape and texture
//! tell the classes apart. Nothing is stored: a scene takes a fraction of a millisecond to draw, on any platform alike.
//!
//! ```
//! use ocelli_data::scenes::{CLASS_NAMES, SceneConfig, SceneSource};
//!
//! let scenes = SceneSource::new(SceneConfig { count: 20, size_px: 32, ..SceneConfig::default() })?;
//! let scene = scenes.scene(13);
//! assert_eq!(scene.label as usize, 13 % CLASS_NAMES.len());
//! assert_eq!(scene, scenes.scene(13));
//! assert!(scene.mask.fraction() > 0.0 && scene.mask.fraction() < 1.0);
//! # Ok::<(), ocelli_data::DataError>(())
//! ```

mod backdrop;
mod noise;
mod paint;
mod palette;
mod shape;
mod texture;

use serde::{Deserialize, Serialize};

pub(crate) use paint::Plan;
pub use shape::CLASS_NAMES;

use crate::{DataError, Image, Mask, Rng, Source, Split, hash_words};

/// How hard the scenes are. Everything that tunes the data set is here.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Difficulty {
    /// Object area as a fraction of the image; drawn uniformly in its square root.
    pub object_area: [f32; 2],
    /// Largest tilt of the object either way, in radians.
    pub tilt_rad: f32,
    /// Largest stretch of one axis of the object against the other.
    pub stretch: f32,
    /// How far noise bends the outline, in object radii.
    pub warp: f32,
    /// Fraction of the object's radius that may lie outside the image.
    pub outside: f32,
    /// Smallest distance between the mean colours of object and background (RGB, 0..√3).
    pub colour_distance: f32,
    /// How often an object is of a material usual for its class, 0..1; the rest are of any.
    pub usual_material: f32,
    /// How far the background's colours are moved towards grey, 0..1.
    pub backdrop_muted: f32,
    /// Contrast of the pattern on the object, 0..1.
    pub texture_contrast: f32,
    /// Contrast of the background's pattern, 0..1.
    pub backdrop_contrast: f32,
    /// Fewest and most pieces of the background's patchwork.
    pub backdrop_pieces: [u32; 2],
    /// Fewest and most distracting shapes.
    pub clutter: [u32; 2],
    /// Smallest and largest radius of a distracting shape, as a fraction of the side.
    pub clutter_radius: [f32; 2],
    /// Largest darkening across the image by uneven light, 0..1.
    pub light_gradient: f32,
    /// Darkest and brightest exposure.
    pub exposure: [f32; 2],
    /// Largest tint of the light, 0..1: each channel is multiplied by a factor from 1 − this to 1 + this.
    pub light_cast: f32,
    /// Largest standard deviation of the pixel noise, in levels.
    pub noise_levels: f32,
}

impl Default for Difficulty {
    fn default() -> Self {
        Self {
            object_area: [0.12, 0.34],
            tilt_rad: std::f32::consts::PI,
            stretch: 1.25,
            warp: 0.07,
            outside: 0.15,
            colour_distance: 0.3,
            usual_material: 0.8,
            backdrop_muted: 0.75,
            texture_contrast: 1.0,
            backdrop_contrast: 0.5,
            backdrop_pieces: [10, 18],
            clutter: [1, 4],
            clutter_radius: [0.04, 0.12],
            light_gradient: 0.3,
            exposure: [0.9, 1.1],
            light_cast: 0.04,
            noise_levels: 6.0,
        }
    }
}

/// The built-in data set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SceneConfig {
    /// Number of scenes.
    pub count: usize,
    /// Side of the square scenes in pixels, 16 to 4096.
    pub size_px: u32,
    /// Which scenes: other seeds share none.
    pub seed: u64,
    /// How hard they are.
    pub difficulty: Difficulty,
}

impl Default for SceneConfig {
    /// 10000 scenes of 64 pixels.
    fn default() -> Self {
        Self { count: 10_000, size_px: 64, seed: 0, difficulty: Difficulty::default() }
    }
}

impl SceneConfig {
    /// The part of the data set for training (this very configuration) or the held-out one: other scenes, a quarter as
    /// many but at least 100.
    pub fn split(self, split: Split) -> Self {
        match split {
            Split::Train => self,
            Split::Val => Self {
                count: if self.count == 0 { 0 } else { (self.count / 4).max(100) },
                seed: hash_words(&[VAL_STREAM, self.seed]),
                ..self
            },
        }
    }
}

const SCENE_STREAM: u64 = 0x5343_454E;
pub(crate) const VAL_STREAM: u64 = 0x5641_4C49;

/// One scene with everything that is known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// What it looks like.
    pub image: Image,
    /// The pixels of which the object covers more than half.
    pub mask: Mask,
    /// The class, an index into [`CLASS_NAMES`].
    pub label: u32,
}

/// Scenes as a data set. Classes follow each other, so every run of ten scenes holds each class once.
#[derive(Debug, Clone)]
pub struct SceneSource {
    config: SceneConfig,
    classes: Vec<String>,
}

impl SceneSource {
    /// # Errors
    /// [`DataError::Config`] when there are no scenes or their size is out of range.
    pub fn new(config: SceneConfig) -> Result<Self, DataError> {
        if config.count == 0 {
            return Err(DataError::config("number of scenes", "at least 1", 0));
        }
        if !(16..=4096).contains(&config.size_px) {
            return Err(DataError::config("size of scenes", "16 to 4096 pixels", config.size_px));
        }
        Ok(Self { config, classes: CLASS_NAMES.map(str::to_owned).to_vec() })
    }

    /// The settings.
    pub fn config(&self) -> &SceneConfig {
        &self.config
    }

    /// Draws a scene; any index works.
    pub fn scene(&self, index: usize) -> Scene {
        let label = class_of(index);
        let rng = Rng::from_words(&[SCENE_STREAM, self.config.seed, index as u64]);
        let (image, mask) = paint::scene(label as usize, self.config.size_px, &self.config.difficulty, rng);
        Scene { image, mask, label }
    }
}

fn class_of(index: usize) -> u32 {
    (index % CLASS_NAMES.len()) as u32
}

impl Source for SceneSource {
    fn len(&self) -> usize {
        self.config.count
    }

    fn load(&self, index: usize) -> Result<Image, DataError> {
        if index >= self.config.count {
            return Err(DataError::OutOfRange { index, len: self.config.count });
        }
        Ok(self.scene(index).image)
    }

    fn label(&self, index: usize) -> Option<u32> {
        (index < self.config.count).then(|| class_of(index))
    }

    fn name(&self, index: usize) -> String {
        format!("scene-{index:06}")
    }

    fn class_names(&self) -> &[String] {
        &self.classes
    }

    fn mask(&self, index: usize) -> Option<Mask> {
        (index < self.config.count).then(|| self.scene(index).mask)
    }
}

#[cfg(test)]
mod tests;
