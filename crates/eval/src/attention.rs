//! What the heads of the last block look at: attention-mass masks and their agreement with an object's mask.
//!
//! After Caron et al. 2021 (DINO, arXiv:2104.14294): the attention of the class token to the patches is thresholded so
//! that each head keeps the cells holding the given share of its mass. The paper's figures keep 60 %, its Jaccard
//! table keeps 80 % and counts, per image, the head that agrees best with the object.
//!
//! ```
//! use ocelli_eval::attention::AttentionMap;
//! use ocelli_eval::mask::Mask;
//!
//! // One head that looks at the upper two of 2×2 patches.
//! let map = AttentionMap::new(1, 2, 2, vec![0.5, 0.3, 0.1, 0.1])?;
//! let object = Mask::new(2, 2, vec![true, true, false, false])?;
//! assert_eq!(map.jaccard(&object, 1, 0.6)?.best(), (0, 1.0));
//! # Ok::<(), ocelli_eval::EvalError>(())
//! ```

use serde::{Deserialize, Serialize};

use crate::EvalError;
use crate::mask::Mask;

/// Attention of the class token to the patches of one image: `[heads, rows, columns]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionMap {
    heads: usize,
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

impl AttentionMap {
    /// From patch attention, `[heads, rows × columns]`, finite and not negative.
    ///
    /// # Errors
    /// [`EvalError::Empty`], [`EvalError::Shape`], [`EvalError::NotFinite`], or [`EvalError::Setting`] for a negative
    /// value or a head without any mass.
    pub fn new(heads: usize, rows: usize, columns: usize, values: Vec<f32>) -> Result<Self, EvalError> {
        let cells = rows * columns;
        if heads == 0 || cells == 0 {
            return Err(EvalError::Empty { what: "the attention map" });
        }
        if values.len() != heads * cells {
            let expected = format!("{heads} heads × {rows} rows × {columns} columns");
            return Err(EvalError::shape("attention map", expected, values.len()));
        }
        for (head, values) in values.chunks_exact(cells).enumerate() {
            if values.iter().any(|v| !v.is_finite()) {
                return Err(EvalError::NotFinite { what: "the attention map", place: format!(" (head {head})") });
            }
            if let Some(value) = values.iter().find(|v| **v < 0.0) {
                return Err(EvalError::setting("attention", "0 or more", format!("{value} in head {head}")));
            }
            if values.iter().all(|v| *v == 0.0) {
                return Err(EvalError::setting("attention mass", "more than 0", format!("0 in head {head}")));
            }
        }
        Ok(Self { heads, rows, columns, values })
    }

    /// From the class token's row of the attention matrix, `[heads, 1 + rows × columns]`: its column for the class
    /// token itself is dropped.
    ///
    /// # Errors
    /// As [`AttentionMap::new`].
    pub fn from_cls_row(heads: usize, rows: usize, columns: usize, row: &[f32]) -> Result<Self, EvalError> {
        let width = 1 + rows * columns;
        if row.len() != heads * width {
            let expected = format!("{heads} heads × (1 + {rows} rows × {columns} columns)");
            return Err(EvalError::shape("class attention", expected, row.len()));
        }
        let patches = row.chunks_exact(width).flat_map(|head| head[1..].iter().copied()).collect();
        Self::new(heads, rows, columns, patches)
    }

    /// Number of heads.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Patches down.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Patches across.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Attention of one head, `[rows, columns]` row-major.
    pub fn head(&self, head: usize) -> &[f32] {
        let cells = self.rows * self.columns;
        &self.values[head * cells..][..cells]
    }

    /// Mean of the heads, `[rows, columns]` row-major.
    pub fn mean(&self) -> Vec<f32> {
        let mut sum = vec![0.0f64; self.rows * self.columns];
        for head in 0..self.heads {
            for (sum, value) in sum.iter_mut().zip(self.head(head)) {
                *sum += f64::from(*value);
            }
        }
        sum.into_iter().map(|sum| (sum / self.heads as f64) as f32).collect()
    }

    /// The cells of one head that hold the top `mass` (in 0..=1) of its attention. See [`mass_mask`].
    ///
    /// # Errors
    /// [`EvalError::Setting`] if `mass` lies outside 0..=1.
    pub fn head_mask(&self, head: usize, mass: f64) -> Result<Mask, EvalError> {
        Mask::new(self.columns, self.rows, mass_mask(self.head(head), mass)?)
    }

    /// [`AttentionMap::head_mask`] of every head.
    ///
    /// # Errors
    /// As [`AttentionMap::head_mask`].
    pub fn head_masks(&self, mass: f64) -> Result<Vec<Mask>, EvalError> {
        (0..self.heads).map(|head| self.head_mask(head, mass)).collect()
    }

    /// The mask of the mean of the heads.
    ///
    /// # Errors
    /// As [`AttentionMap::head_mask`].
    pub fn mean_mask(&self, mass: f64) -> Result<Mask, EvalError> {
        Mask::new(self.columns, self.rows, mass_mask(&self.mean(), mass)?)
    }

    /// Compares the masks of all heads, and that of their mean, with an object's mask.
    ///
    /// `truth` is at pixel level and as large as the patches are: `columns · patch × rows · patch` (see
    /// [`Mask::crop`] and [`Mask::resize`]). The attention masks are upsampled to it, each cell repeated.
    ///
    /// # Errors
    /// [`EvalError::Shape`] if the truth has another size, [`EvalError::Setting`] if `mass` is outside 0..=1.
    pub fn jaccard(&self, truth: &Mask, patch: usize, mass: f64) -> Result<AttentionJaccard, EvalError> {
        let masks = self.head_masks(mass)?;
        let per_head =
            masks.iter().map(|mask| mask.upsample(patch).jaccard(truth)).collect::<Result<Vec<f64>, _>>()?;
        let mean_map = self.mean_mask(mass)?.upsample(patch).jaccard(truth)?;
        Ok(AttentionJaccard { per_head, mean_map })
    }
}

/// The cells that hold the top `mass` of all `values` (`[cells]`, finite, not negative).
///
/// Values are sorted rising, divided by their sum and summed up; a cell is kept if its running sum, itself included,
/// is greater than `1 − mass`. Equal values keep their order, so the later one is kept first. A mass of 0 keeps
/// nothing, a mass of 1 keeps every cell that is not 0.
///
/// # Errors
/// [`EvalError::Setting`] if `mass` lies outside 0..=1.
pub fn mass_mask(values: &[f32], mass: f64) -> Result<Vec<bool>, EvalError> {
    if !(0.0..=1.0).contains(&mass) {
        return Err(EvalError::setting("attention mass", "between 0 and 1", mass));
    }
    let mut keep = vec![false; values.len()];
    if mass == 0.0 {
        // The last running sum may round to just above 1.
        return Ok(keep);
    }
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let total: f64 = values.iter().map(|v| f64::from(*v)).sum();
    let mut running = 0.0;
    for cell in order {
        running += f64::from(values[cell]) / total;
        keep[cell] = running > 1.0 - mass;
    }
    Ok(keep)
}

/// Jaccard indices of one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionJaccard {
    /// Of each head's mask, in 0..=1.
    pub per_head: Vec<f64>,
    /// Of the mask of the heads' mean.
    pub mean_map: f64,
}

impl AttentionJaccard {
    /// The head that agrees best and its Jaccard index; the first of equals.
    pub fn best(&self) -> (usize, f64) {
        let mut best = (0, self.per_head.first().copied().unwrap_or(0.0));
        for (head, value) in self.per_head.iter().copied().enumerate() {
            if value > best.1 {
                best = (head, value);
            }
        }
        best
    }
}

/// Means over images, each image counting the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JaccardSummary {
    /// Number of images.
    pub images: usize,
    /// Of the head that agrees best with each image: the figure of the DINO paper.
    pub best_head: f64,
    /// Of each head over all images.
    pub per_head: Vec<f64>,
    /// Of the mask of the heads' mean.
    pub mean_map: f64,
}

impl JaccardSummary {
    /// Averages the figures of several images.
    ///
    /// # Errors
    /// [`EvalError::Empty`] without images, [`EvalError::Shape`] if their numbers of heads differ.
    pub fn of(images: &[AttentionJaccard]) -> Result<Self, EvalError> {
        let Some(first) = images.first() else {
            return Err(EvalError::Empty { what: "the list of images" });
        };
        let heads = first.per_head.len();
        if let Some(other) = images.iter().find(|image| image.per_head.len() != heads) {
            return Err(EvalError::shape("heads", heads, other.per_head.len()));
        }
        let mean = |f: &dyn Fn(&AttentionJaccard) -> f64| images.iter().map(f).sum::<f64>() / images.len() as f64;
        Ok(Self {
            images: images.len(),
            best_head: mean(&|image| image.best().1),
            per_head: (0..heads).map(|head| mean(&|image| image.per_head[head])).collect(),
            mean_map: mean(&|image| image.mean_map),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::Fixture;

    #[test]
    fn fixture_is_matched_exactly() {
        let fixture = Fixture::load("attention_mask");
        for case in fixture.json["config"]["cases"].as_array().unwrap() {
            let size = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
            let key = case["key"].as_str().unwrap();
            let (rows, columns) = (size(&case["grid"][0]), size(&case["grid"][1]));
            let (heads, patch) = (size(&case["heads"]), size(&case["patch"]));
            let attention = fixture.f32s(&format!("{key}.attention"));
            let map = AttentionMap::from_cls_row(heads, rows, columns, &attention).unwrap();
            for (got, want) in map.mean().iter().zip(fixture.f32s(&format!("{key}.mean_over_heads"))) {
                assert!((got - want).abs() <= 1e-6 * want.abs(), "{got} for {want}");
            }
            let mut masks = 0;
            for name in fixture.names() {
                let Some((stored, what)) =
                    name.strip_prefix(&format!("{key}.th")).and_then(|rest| rest.rsplit_once('.'))
                else {
                    continue;
                };
                let mass: f64 = stored.parse().unwrap();
                let want = fixture.u8s(name);
                match what {
                    "mask" => {
                        let got = map.head_masks(mass).unwrap();
                        let got: Vec<u8> = got.iter().flat_map(|m| m.cells()).map(|c| u8::from(*c)).collect();
                        assert_eq!(got, want, "{name}");
                        let kept = fixture.json["cross_checks"][format!("{key}.th{stored}.kept_cells_per_head")]
                            .as_array()
                            .unwrap();
                        for (head, kept) in kept.iter().enumerate() {
                            assert_eq!(
                                map.head_mask(head, mass).unwrap().count(),
                                size(kept),
                                "{name} head {head}"
                            );
                        }
                        masks += 1;
                    }
                    "upsampled_head0" => {
                        let up = map.head_mask(0, mass).unwrap().upsample(patch);
                        assert_eq!(fixture.shape(name), [up.height(), up.width()]);
                        assert_eq!(up, Mask::from_bytes(up.width(), up.height(), &want).unwrap());
                    }
                    other => panic!("unknown tensor {other}"),
                }
            }
            assert!(masks > 0, "{key}: no masks were compared");
        }
    }

    #[test]
    fn the_mass_is_what_is_kept() {
        let values = [0.1, 0.4, 0.2, 0.3];
        assert_eq!(mass_mask(&values, 0.35).unwrap(), [false, true, false, false]);
        assert_eq!(mass_mask(&values, 0.65).unwrap(), [false, true, false, true]);
        assert_eq!(mass_mask(&values, 0.0).unwrap(), [false; 4]);
        assert_eq!(mass_mask(&[0.0, 0.5, 0.5], 1.0).unwrap(), [false, true, true]);
        assert_eq!(mass_mask(&[0.25; 4], 0.5).unwrap(), [false, false, true, true]);
        assert!(mass_mask(&values, 1.2).is_err());
        assert!(mass_mask(&values, f64::NAN).is_err());
    }

    #[test]
    fn jaccard_of_heads_mean_and_images() {
        // Head 0 looks at the left half, head 1 at the top left cell alone; the object is the left half.
        let map = AttentionMap::new(2, 2, 2, vec![0.5, 0.0, 0.5, 0.0, 1.0, 0.0, 0.0, 0.0]).unwrap();
        let truth = Mask::new(2, 2, vec![true, false, true, false]).unwrap().upsample(8);
        let image = map.jaccard(&truth, 8, 0.9).unwrap();
        assert_eq!(image.per_head, [1.0, 0.5]);
        assert_eq!(image.best(), (0, 1.0));
        assert_eq!(image.mean_map, 1.0);
        let other = AttentionJaccard { per_head: vec![0.2, 0.6], mean_map: 0.4 };
        let summary = JaccardSummary::of(&[image, other]).unwrap();
        assert_eq!(summary.images, 2);
        assert_eq!(summary.best_head, 0.8);
        assert_eq!(summary.per_head, [0.6, 0.55]);
        assert_eq!(summary.mean_map, 0.7);
        assert!(map.jaccard(&truth, 16, 0.9).is_err());
        assert!(JaccardSummary::of(&[]).is_err());
    }

    #[test]
    fn bad_maps_are_refused() {
        assert!(AttentionMap::new(0, 2, 2, vec![]).is_err());
        assert!(AttentionMap::new(1, 2, 2, vec![0.5; 3]).is_err());
        assert!(AttentionMap::new(1, 1, 2, vec![f32::NAN, 1.0]).is_err());
        assert!(AttentionMap::new(1, 1, 2, vec![-0.1, 1.0]).is_err());
        assert!(AttentionMap::new(1, 1, 2, vec![0.0, 0.0]).is_err());
        assert!(AttentionMap::from_cls_row(1, 1, 2, &[0.0, 0.5]).is_err());
    }
}
