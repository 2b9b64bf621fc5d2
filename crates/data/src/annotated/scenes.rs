//! The built-in scenes with several objects each: boxes and label maps that are exact, as everything is drawn.

use serde::{Deserialize, Serialize};

use super::{IGNORED, LabelMap, LabelMaps, ObjectBox};
use crate::scenes::{CLASS_NAMES, Difficulty, Plan, VAL_STREAM};
use crate::{DataError, Image, Rng, Source, Split, hash_words};

const MANY_STREAM: u64 = 0x4D41_4E59;

/// An object of which less than this share is visible is difficult.
const DIFFICULT_BELOW: f32 = 0.3;

/// Scenes with several objects.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ManyScenesConfig {
    /// Number of scenes.
    pub count: usize,
    /// Side of the square scenes in pixels, 16 to 4096.
    pub size_px: u32,
    /// Which scenes: other seeds share none.
    pub seed: u64,
    /// Fewest and most objects that a scene is planned with; one that finds no place is left out, the first always finds one.
    pub objects: [u32; 2],
    /// How hard they are.
    pub difficulty: Difficulty,
}

impl Default for ManyScenesConfig {
    /// 1000 scenes of 128 pixels with 1 to 5 objects, each of a fiftieth to a tenth of the scene.
    fn default() -> Self {
        let difficulty = Difficulty { object_area: [0.02, 0.1], ..Difficulty::default() };
        Self { count: 1000, size_px: 128, seed: 0, objects: [1, 5], difficulty }
    }
}

impl ManyScenesConfig {
    /// The part for training (this very configuration) or the held-out one: other scenes, a quarter as many but at least 100.
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

/// Scenes of several objects of the ten classes of [`SceneSource`](crate::SceneSource), drawn from (seed, index): other scenes than
/// those, which have one object each.
#[derive(Debug, Clone)]
pub struct ManyScenes {
    config: ManyScenesConfig,
    classes: Vec<String>,
}

impl ManyScenes {
    /// # Errors
    /// [`DataError::Config`] when there are no scenes, or their size or their numbers of objects are out of range.
    pub fn new(config: ManyScenesConfig) -> Result<Self, DataError> {
        if config.count == 0 {
            return Err(DataError::config("number of scenes", "at least 1", 0));
        }
        if !(16..=4096).contains(&config.size_px) {
            return Err(DataError::config("size of scenes", "16 to 4096 pixels", config.size_px));
        }
        let [few, many] = config.objects;
        if few == 0 || few > many || many > 100 {
            let found = format!("{few} to {many}");
            return Err(DataError::config("objects of a scene", "from 1 to 100, the fewer first", found));
        }
        Ok(Self { config, classes: CLASS_NAMES.map(str::to_owned).to_vec() })
    }

    /// The settings.
    pub fn config(&self) -> &ManyScenesConfig {
        &self.config
    }

    fn plan(&self, index: usize) -> Plan {
        let mut rng = Rng::from_words(&[MANY_STREAM, self.config.seed, index as u64]);
        let [few, many] = self.config.objects;
        let count = few as usize + rng.below(u64::from(many - few) + 1) as usize;
        // The first objects take turns, so that no class is rare.
        let first = index % CLASS_NAMES.len();
        let classes: Vec<usize> = (0..count)
            .map(|i| if i == 0 { first } else { rng.below(CLASS_NAMES.len() as u64) as usize })
            .collect();
        Plan::of_many(&classes, &self.config.difficulty, rng)
    }

    /// The objects of a scene, from the back to the front: bounds and number of the pixels where each is seen. One that is hidden by
    /// others for the most part is difficult, one that is hidden wholly is left out.
    pub fn objects(&self, index: usize) -> Vec<ObjectBox> {
        let plan = self.plan(index);
        let side = self.config.size_px as usize;
        let covered = plan.covered(self.config.size_px);
        let owners = owners(&covered, side * side);
        let object = |(at, (class, covered)): (usize, (u32, &Vec<bool>))| {
            let mut bounds = [side, side, 0, 0];
            let mut seen = 0_usize;
            for pixel in (0..side * side).filter(|pixel| owners[*pixel] == Some(at)) {
                let (x, y) = (pixel % side, pixel / side);
                bounds = [bounds[0].min(x), bounds[1].min(y), bounds[2].max(x + 1), bounds[3].max(y + 1)];
                seen += 1;
            }
            let all = covered.iter().filter(|on| **on).count();
            (seen > 0).then(|| ObjectBox {
                class,
                xyxy: bounds.map(|edge| edge as f32),
                is_difficult: (seen as f32) < DIFFICULT_BELOW * all as f32,
                is_crowd: false,
                area_px: Some(seen as f32),
            })
        };
        plan.classes().into_iter().zip(&covered).enumerate().filter_map(object).collect()
    }

    fn check(&self, index: usize) -> Result<(), DataError> {
        match index < self.config.count {
            true => Ok(()),
            false => Err(DataError::OutOfRange { index, len: self.config.count }),
        }
    }
}

/// The object that is seen at each pixel: the foremost that covers it.
fn owners(covered: &[Vec<bool>], pixels: usize) -> Vec<Option<usize>> {
    let mut owners = vec![None; pixels];
    for (at, covered) in covered.iter().enumerate() {
        for (owner, _) in owners.iter_mut().zip(covered).filter(|(_, on)| **on) {
            *owner = Some(at);
        }
    }
    owners
}

impl Source for ManyScenes {
    fn len(&self) -> usize {
        self.config.count
    }

    fn load(&self, index: usize) -> Result<Image, DataError> {
        self.check(index)?;
        Ok(self.plan(index).image(self.config.size_px, &self.config.difficulty, |_, _| {}))
    }

    fn name(&self, index: usize) -> String {
        format!("scene-{index:06}")
    }

    fn class_names(&self) -> &[String] {
        &self.classes
    }
}

impl LabelMaps for ManyScenes {
    /// 0 where there is no object, else 1 more than the object's class.
    fn label_map(&self, index: usize) -> Result<LabelMap, DataError> {
        self.check(index)?;
        let plan = self.plan(index);
        let side = self.config.size_px as usize;
        let classes = plan.classes();
        let label = |owner: Option<usize>| match owner.and_then(|at| classes.get(at)) {
            Some(class) => u8::try_from(class + 1).unwrap_or(IGNORED),
            None => 0,
        };
        let owners = owners(&plan.covered(self.config.size_px), side * side);
        Ok(LabelMap { width: side, height: side, labels: owners.into_iter().map(label).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenes(count: usize, size_px: u32) -> ManyScenes {
        ManyScenes::new(ManyScenesConfig { count, size_px, ..ManyScenesConfig::default() }).unwrap()
    }

    #[test]
    fn boxes_bound_what_maps_show() {
        let scenes = scenes(60, 64);
        let (mut objects, mut numbers) = (0, [0; 6]);
        let mut classes = [0; CLASS_NAMES.len()];
        for i in 0..60 {
            let map = scenes.label_map(i).unwrap();
            let boxes = scenes.objects(i);
            numbers[boxes.len()] += 1;
            objects += boxes.len();
            for one in &boxes {
                classes[one.class as usize] += 1;
                let [x1, y1, x2, y2] = one.xyxy.map(|edge| edge as usize);
                assert!(x1 < x2 && x2 <= 64 && y1 < y2 && y2 <= 64, "{one:?}");
                // On each of its four sides lies a pixel of its class.
                let is_its = |x: usize, y: usize| map.labels[y * 64 + x] == one.class as u8 + 1;
                assert!((x1..x2).any(|x| is_its(x, y1)) && (x1..x2).any(|x| is_its(x, y2 - 1)), "{i} {one:?}");
                assert!((y1..y2).any(|y| is_its(x1, y)) && (y1..y2).any(|y| is_its(x2 - 1, y)), "{i} {one:?}");
            }
            let area: f32 = boxes.iter().filter_map(|one| one.area_px).sum();
            assert_eq!(area as usize, map.labels.iter().filter(|label| **label > 0).count());
        }
        assert!(objects > 120 && numbers[1..].iter().all(|n| *n > 0), "{objects} objects: {numbers:?}");
        assert!(numbers[0] == 0 && classes.iter().all(|n| *n >= 6), "{classes:?}");
    }

    #[test]
    fn pictures_show_the_objects_of_their_maps() {
        let scenes = scenes(10, 96);
        for i in 0..10 {
            // Planned once more and drawn, each pixel of which an object covers more than half is told of.
            let mut told = vec![0; 96 * 96];
            let plan = scenes.plan(i);
            let classes = plan.classes();
            let image =
                plan.image(96, &scenes.config.difficulty, |object, pixel| told[pixel] = classes[object] as u8 + 1);
            assert_eq!(image, scenes.load(i).unwrap());
            assert_eq!(told, scenes.label_map(i).unwrap().labels);
        }
        assert_ne!(scenes.load(0).unwrap(), scenes.load(1).unwrap());
        assert!(scenes.load(10).is_err() && scenes.label_map(10).is_err());
        let none = ManyScenesConfig { objects: [0, 2], ..ManyScenesConfig::default() };
        assert!(ManyScenes::new(none).is_err());
    }
}
