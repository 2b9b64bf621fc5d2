//! How images become features for the SVMs.

use anyhow::bail;
use burn::tensor::Tensor;
use clap::ValueEnum;
use ocelli::data::views::{CropBox, Filter, normalise_into, resized_crop};
use ocelli::data::{EvalTransform, Image};
use ocelli::models::{AnyBackbone, Backbone as _, BackboneKind, Mode};
use ocelli::train::{Loaded, eval_transform};

use super::super::extraction::{Planes, read_back};

/// Which features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Feature {
    /// The class token; of a ResNet, the mean of its cells
    Cls,
    /// A ResNet's last stage, averaged over four overlapping windows: 2×2 cells (8,192 numbers of a ResNet-50)
    #[value(name = "res5-2x2")]
    Res5,
}

/// How images become squares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fit {
    /// Short side to 8/7 of the square, then both sides squashed to it (bilinear), as published
    Squash,
    /// Short side and centre crop, as for k-NN
    Crop,
}

/// From an image to its feature.
#[derive(Debug, Clone)]
pub struct View {
    feature: Feature,
    /// Side of the square that images are squashed to, pixels; none where they are cropped.
    side_px: Option<u32>,
    transform: EvalTransform,
    /// What images become, in words.
    size: String,
    kind: BackboneKind,
    dim: usize,
    /// Rows of the last stage's map, where the square has a side.
    cells: Option<usize>,
}

impl View {
    /// # Errors
    /// Where the network has no such feature, or the image no size.
    pub fn new(backbone: &Loaded, feature: Option<Feature>, fit: Fit) -> anyhow::Result<Self> {
        let kind = backbone.config.kind();
        let published = if kind == BackboneKind::ResNet { Feature::Res5 } else { Feature::Cls };
        let feature = feature.unwrap_or(published);
        if feature == Feature::Res5 && kind != BackboneKind::ResNet {
            bail!("--features res5-2x2: expected a ResNet, whose last stage is pooled; found {}", backbone.arch());
        }
        let size = &backbone.size;
        let side = match (fit, size.value.crop_px, size.value.resize_px) {
            (Fit::Crop, crop, _) => (crop > 0).then_some(crop),
            (Fit::Squash, 0, 0) => Some(backbone.image_side_px()),
            (Fit::Squash, 0, resize) => Some(resize),
            (Fit::Squash, crop, _) => Some(crop),
        };
        let cells = side.map(|side| backbone.config.cells(side).isqrt());
        if let (Feature::Res5, Some(cells @ ..2), Some(side)) = (feature, cells, side) {
            bail!("--features res5-2x2: expected images of two cells each way at least; {side} px make {cells}");
        }
        let words = match (fit, side) {
            (Fit::Squash, Some(side)) => format!(
                "short side {} px, then squashed to {side}×{side} px ({})",
                before_squash(side as u32),
                size.source
            ),
            _ => size.to_string(),
        };
        Ok(Self {
            feature,
            side_px: side.filter(|_| fit == Fit::Squash).map(|side| side as u32),
            transform: eval_transform(&backbone.eval_config()),
            size: words,
            kind,
            dim: backbone.config.dim(),
            cells,
        })
    }

    /// What images become, in words.
    pub fn size(&self) -> String {
        self.size.clone()
    }

    /// The feature's name.
    pub fn name(&self) -> &'static str {
        match (self.feature, self.kind) {
            (Feature::Res5, _) => "res5-2x2",
            (Feature::Cls, BackboneKind::Vit) => "cls",
            (Feature::Cls, BackboneKind::ResNet) => "mean",
        }
    }

    /// What the features are, and where they are not the published ones.
    pub fn lines(&self) -> Vec<String> {
        let dim = self.dim;
        let what = match (self.feature, self.kind) {
            (Feature::Res5, _) => format!("the last stage pooled to 2×2 cells, {} numbers", 4 * dim),
            (Feature::Cls, BackboneKind::Vit) => format!("the class token, {dim} numbers"),
            (Feature::Cls, BackboneKind::ResNet) => format!("the mean over the cells, {dim} numbers"),
        };
        let window = match (self.feature, self.cells) {
            (Feature::Res5, Some(cells)) if cells != 7 => {
                let window = cells - 1;
                format!(
                    " (windows of {window}×{window} of {cells}×{cells} cells; the published ones are 6×6 of 7×7, \
                     at 224 px)"
                )
            }
            _ => String::new(),
        };
        vec![format!("features: {what}{window}")]
    }

    /// The pixels of an image as the network takes them.
    pub fn planes(&self, image: &Image) -> Planes {
        let (data, width, height) = match self.side_px {
            None => self.transform.apply_normalised(image),
            Some(side) => {
                let square = squash(image, side);
                let mut data = vec![0.0; square.data.len()];
                normalise_into(&square, self.transform.mean, self.transform.std, &mut data);
                (data, side, side)
            }
        };
        (data, height as usize, width as usize)
    }

    /// Features of images `[batch, 3, height, width]`, by rows.
    pub fn features(&self, encoder: &AnyBackbone, images: Tensor<4>) -> anyhow::Result<Vec<f32>> {
        match self.feature {
            Feature::Cls => read_back(encoder.features(images, Mode::Eval)),
            Feature::Res5 => read_back(two_by_two(&encoder.feature_map(images, Mode::Eval))?),
        }
    }
}

/// The short side before an image is squashed to a square: 256 for 224.
fn before_squash(side: u32) -> u32 {
    (f64::from(side) * 256.0 / 224.0).round() as u32
}

/// Short side to 8/7 of the square's, then to the square.
fn squash(image: &Image, side: u32) -> Image {
    let (short, long) = (image.width.min(image.height), image.width.max(image.height));
    let target = before_squash(side);
    let long = (u64::from(target) * u64::from(long) / u64::from(short.max(1))) as u32;
    let (width, height) = if image.width <= image.height { (target, long) } else { (long, target) };
    let to =
        |image: &Image, width, height| resized_crop(image, CropBox::whole(image), width, height, Filter::Bilinear);
    match short == target {
        true => to(image, side, side),
        false => to(&to(image, width, height), side, side),
    }
}

/// `[batch, dim, rows, cols]` averaged over the four windows of all rows but one and all columns but one, `[batch,
/// 4·dim]`: channel by channel, each with its windows row by row.
fn two_by_two(map: &Tensor<4>) -> anyhow::Result<Tensor<2>> {
    let [_, _, rows, cols] = map.dims();
    if rows < 2 || cols < 2 {
        bail!("--features res5-2x2: expected a map of two cells each way at least, found {rows}×{cols}");
    }
    let window = |top: usize, left: usize| {
        let cut = map.clone().narrow(2, top, rows - 1).narrow(3, left, cols - 1);
        cut.flatten::<3>(2, 3).mean_dim(2)
    };
    Ok(Tensor::cat(vec![window(0, 0), window(0, 1), window(1, 0), window(1, 1)], 2).flatten(1, 2))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn windows_overlap_and_channels_come_first() {
        let values: Vec<f32> = (0..2 * 9).map(|i| i as f32).collect();
        let map = Tensor::from_data(TensorData::new(values, [1, 2, 3, 3]), &Device::flex());
        let pooled = read_back(two_by_two(&map).unwrap()).unwrap();
        // Windows of 2×2 cells: the first one of the first channel holds 0, 1, 3 and 4.
        assert_eq!(pooled, [2.0, 3.0, 5.0, 6.0, 11.0, 12.0, 14.0, 15.0]);
        assert!(two_by_two(&map.narrow(2, 0, 1)).unwrap_err().to_string().contains("found 1×3"));
    }

    #[test]
    fn images_are_squashed_whole() {
        let mut image = Image::filled(400, 100, [10; 3]);
        // A bright right edge survives, which a centre crop would lose.
        for row in image.data.chunks_exact_mut(1200) {
            row[1050..].fill(250);
        }
        let square = squash(&image, 28);
        assert_eq!((square.width, square.height, square.data[27 * 3], square.data[0]), (28, 28, 250, 10));
        assert_eq!(before_squash(224), 256);
    }
}
