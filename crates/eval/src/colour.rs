//! Colormaps and heat-maps.
//!
//! ```
//! use ocelli_eval::colour::{Colormap, heatmap, min_max};
//! use ocelli_eval::picture::Filter;
//!
//! assert_eq!(min_max(&[2.0, 4.0, 3.0])?, [0.0, 1.0, 0.5]);
//! let map = heatmap(&[2.0, 4.0], 2, 4, 2, Colormap::Grey, Filter::Nearest)?;
//! assert_eq!((map.get(0, 0), map.get(3, 1)), (Some([0, 0, 0]), Some([255, 255, 255])));
//! # Ok::<(), ocelli_eval::EvalError>(())
//! ```

use serde::{Deserialize, Serialize};

use crate::EvalError;
use crate::picture::{Filter, Picture, Rgb, mix, resample};

/// A colormap from 0..=1 to RGB. The three coloured ones are perceptually uniform: equal steps look equal, also in
/// print and to most colour-blind eyes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colormap {
    /// Violet to yellow: the map of the DINO attention pictures.
    #[default]
    Viridis,
    /// Black over red to pale yellow: the map of the DINO attention videos.
    Inferno,
    /// Black over purple to cream.
    Magma,
    /// Black to white.
    Grey,
}

impl Colormap {
    /// The colour at `level`, clamped to 0..=1; NaN counts as 0. At most 2 of 255 levels away from the original maps.
    pub fn rgb(self, level: f32) -> Rgb {
        let level = if level.is_nan() { 0.0 } else { level.clamp(0.0, 1.0) };
        let points: &[u32] = match self {
            Self::Viridis => &VIRIDIS,
            Self::Inferno => &INFERNO,
            Self::Magma => &MAGMA,
            Self::Grey => &[0x00_0000, 0xff_ffff],
        };
        let place = level * (points.len() - 1) as f32;
        let below = (place as usize).min(points.len() - 2);
        let bytes = |point: u32| [(point >> 16) as u8, (point >> 8) as u8, point as u8];
        mix(bytes(points[below]), bytes(points[below + 1]), place - below as f32)
    }
}

/// Stretches values to 0..=1, from the smallest to the largest; equal values become 0.
///
/// # Errors
/// [`EvalError::NotFinite`].
pub fn min_max(values: &[f32]) -> Result<Vec<f32>, EvalError> {
    if values.iter().any(|v| !v.is_finite()) {
        return Err(EvalError::NotFinite { what: "the heat-map", place: String::new() });
    }
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let range = high - low;
    Ok(values.iter().map(|value| if range > 0.0 { (value - low) / range } else { 0.0 }).collect())
}

/// A heat-map of `values`, `[rows, columns]` row-major, as a picture of `width × height` pixels. The values are
/// stretched from their smallest to their largest; interpolation comes before colouring, so that colours stay true.
///
/// # Errors
/// [`EvalError::Empty`], [`EvalError::Shape`] or [`EvalError::NotFinite`].
pub fn heatmap(
    values: &[f32],
    columns: usize,
    width: usize,
    height: usize,
    colormap: Colormap,
    filter: Filter,
) -> Result<Picture, EvalError> {
    drawn(&min_max(values)?, columns, [width, height], colormap, filter)
}

/// The same with the ends of the scale given: `low` and below is the first colour, `high` and above the last. For pictures
/// whose colours are to mean the same, such as the frames of a video.
///
/// # Errors
/// As [`heatmap`], and [`EvalError::Setting`] for a scale that is not one.
pub fn heatmap_between(
    values: &[f32],
    columns: usize,
    [width, height]: [usize; 2],
    [low, high]: [f32; 2],
    colormap: Colormap,
    filter: Filter,
) -> Result<Picture, EvalError> {
    if !(low.is_finite() && high.is_finite() && low < high) {
        return Err(EvalError::setting(
            "colour scale",
            "from a smaller to a larger number",
            format!("{low} to {high}"),
        ));
    }
    if values.iter().any(|v| !v.is_finite()) {
        return Err(EvalError::NotFinite { what: "the heat-map", place: String::new() });
    }
    let levels: Vec<f32> = values.iter().map(|value| ((value - low) / (high - low)).clamp(0.0, 1.0)).collect();
    drawn(&levels, columns, [width, height], colormap, filter)
}

/// Levels from 0 to 1, enlarged and coloured.
fn drawn(
    levels: &[f32],
    columns: usize,
    [width, height]: [usize; 2],
    colormap: Colormap,
    filter: Filter,
) -> Result<Picture, EvalError> {
    if levels.is_empty() || columns == 0 || width == 0 || height == 0 {
        return Err(EvalError::Empty { what: "the heat-map" });
    }
    if !levels.len().is_multiple_of(columns) {
        return Err(EvalError::shape("heat-map", format!("rows of {columns}"), levels.len()));
    }
    let levels = resample(levels, 1, [columns, levels.len() / columns], [width, height], filter);
    Picture::new(width, height, levels.into_iter().flat_map(|level| colormap.rgb(level)).collect())
}

// Every eighth of the 256 colours of the maps of matplotlib (by Stéfan van der Walt and Nathaniel Smith, CC0).

#[rustfmt::skip]
const VIRIDIS: [u32; 33] = [
    0x440154, 0x470d60, 0x48186a, 0x482374, 0x472d7b, 0x453781, 0x424086, 0x3e4989, 0x3b528b, 0x375b8d, 0x33638d,
    0x2f6b8e, 0x2c728e, 0x297a8e, 0x26828e, 0x23898e, 0x21918c, 0x1f978b, 0x1f9f88, 0x21a685, 0x27ad81, 0x31b57b,
    0x3dbc74, 0x4cc26c, 0x5cc863, 0x6ece58, 0x81d34d, 0x95d840, 0xaadc32, 0xc0df25, 0xd5e21a, 0xeae51a, 0xfde725,
];

#[rustfmt::skip]
const INFERNO: [u32; 33] = [
    0x000004, 0x040312, 0x0b0724, 0x150b37, 0x210c4a, 0x2f0a5b, 0x3d0965, 0x4a0c6b, 0x57106e, 0x64156e, 0x71196e,
    0x7d1e6d, 0x8a226a, 0x972766, 0xa32c61, 0xb0315b, 0xbc3754, 0xc63d4d, 0xd04545, 0xda4e3c, 0xe35933, 0xeb6429,
    0xf1711f, 0xf67e14, 0xf98c0a, 0xfb9b06, 0xfcaa0f, 0xfbba1f, 0xf9c932, 0xf5d949, 0xf2e865, 0xf3f586, 0xfcffa4,
];

#[rustfmt::skip]
const MAGMA: [u32; 33] = [
    0x000004, 0x030312, 0x0a0822, 0x130d34, 0x1d1147, 0x29115a, 0x36106b, 0x440f76, 0x51127c, 0x5d177f, 0x6a1c81,
    0x762181, 0x832681, 0x902a81, 0x9c2e7f, 0xaa337d, 0xb73779, 0xc23b75, 0xcf4070, 0xdb476a, 0xe55064, 0xee5b5e,
    0xf4695c, 0xf9785d, 0xfb8761, 0xfd9668, 0xfea571, 0xfeb47b, 0xfec287, 0xfed194, 0xfde0a1, 0xfceeb0, 0xfcfdbf,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_close_to_the_originals() {
        // Colours 0, 64, 128, 192 and 255 of the 256.
        let known = [
            (Colormap::Viridis, [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]),
            (Colormap::Inferno, [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]]),
            (Colormap::Magma, [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]]),
        ];
        for (map, colours) in known {
            for (place, want) in [0.0f32, 64.0, 128.0, 192.0, 255.0].into_iter().zip(colours) {
                let got = map.rgb(place / 255.0);
                let off = (0..3).map(|i| i32::from(got[i]).abs_diff(want[i])).max().unwrap();
                assert!(off <= 2, "{map:?} at {place}: {got:?} for {want:?}");
            }
        }
        assert_eq!(Colormap::Grey.rgb(0.5), [128; 3]);
        assert_eq!(Colormap::Grey.rgb(f32::NAN), [0; 3]);
        assert_eq!(Colormap::Grey.rgb(7.0), [255; 3]);
    }

    #[test]
    fn heatmaps_stretch_and_enlarge() {
        let map = heatmap(&[2.0, 4.0, 3.0, 2.0], 2, 4, 4, Colormap::Grey, Filter::Nearest).unwrap();
        let reds: Vec<u8> = map.data().iter().step_by(3).copied().collect();
        assert_eq!(reds[..8], [0, 0, 255, 255, 0, 0, 255, 255]);
        assert_eq!(reds[8..12], [128, 128, 0, 0]);
        let same =
            |scale| heatmap_between(&[2.0, 4.0, 3.0, 2.0], 2, [4, 4], scale, Colormap::Grey, Filter::Nearest);
        assert_eq!(same([2.0, 4.0]).unwrap(), map);
        let wider: Vec<u8> = same([3.0, 7.0]).unwrap().data().iter().step_by(3).copied().collect();
        assert_eq!(wider[..4], [0, 0, 64, 64], "what lies below the scale is its first colour");
        assert!(same([2.0, 2.0]).is_err() && same([f32::NAN, 1.0]).is_err());
        let flat = heatmap(&[0.3; 4], 2, 2, 2, Colormap::Grey, Filter::Smooth).unwrap();
        assert!(flat.data().iter().all(|v| *v == 0));
        assert!(heatmap(&[f32::NAN], 1, 1, 1, Colormap::Grey, Filter::Smooth).is_err());
        assert!(heatmap(&[1.0; 3], 2, 1, 1, Colormap::Grey, Filter::Smooth).is_err());
        assert!(heatmap(&[], 2, 1, 1, Colormap::Grey, Filter::Smooth).is_err());
    }
}
