//! Backbones of either kind out of any file, and how well their cells find each other.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_data::{Rng, Scratch, Source, ViewBox, ViewPlace, ViewPlan};
use ocelli_eval::correspondence::{Pck, nearest};
use ocelli_models::weights::{Family, Part};
use ocelli_models::{AnyBackbone, Arch, Backbone as _, Init, ResNet, ResNetArch, ResNetConfig, Vit};

use crate::backbone::Loaded;
use crate::resnet::load_resnet_with;
use crate::{RunConfig, TrainError, load_backbone_part};

/// A Vision Transformer or a ResNet and where it came from.
pub struct DenseNet {
    /// The network.
    pub encoder: AnyBackbone,
    /// What was loaded, in words.
    pub description: String,
    /// Pixels per cell.
    pub stride_px: usize,
    /// The run's configuration, where the file is a checkpoint.
    pub run: Option<RunConfig>,
}

impl DenseNet {
    /// `[batch, 3, height, width]` to `[batch, dim, rows, columns]`.
    pub fn feature_map(&self, images: Tensor<4>) -> Tensor<4> {
        self.encoder.feature_map(images, ocelli_models::Mode::Eval)
    }
}

/// Percentage of correct matches: two views of each image by `plan` (its first two), every cell of one matched to the
/// most similar cell of the other, against where the crops say it is. `map` gives the features of an image `[1, 3, side, side]`,
/// `[1, dim, rows, columns]`. The views depend on `seed` alone, so that several networks can be shown the same. `tick` is called
/// after every image.
///
/// # Errors
/// When an image cannot be read, views are no whole number of cells, or features are not finite.
pub fn correspondence(
    map: impl Fn(Tensor<4>) -> Tensor<4>,
    (source, indices): (&dyn Source, &[usize]),
    plan: &ViewPlan,
    seed: u64,
    device: &Device,
    mut tick: impl FnMut(),
) -> Result<Pck, TrainError> {
    plan.validate()?;
    let side = plan.views[0].size_px as usize;
    let (mut pck, mut scratch) = (Pck::default(), Scratch::default());
    for index in indices {
        let image = source.load(*index)?;
        let (mut a, mut b) = (vec![0.0; 3 * side * side], vec![0.0; 3 * side * side]);
        let mut rng = Rng::for_sample(seed, 0, *index as u64);
        let drawn = plan.draw_all(&image, &mut rng);
        plan.render_all(&image, &drawn, &mut scratch, &mut [&mut a, &mut b]);
        let [from, to] = [&drawn[0], &drawn[1]].map(|params| ViewBox::from(&ViewPlace::from(params)));
        let cells = |pixels: Vec<f32>| {
            let map = map(Tensor::from_data(TensorData::new(pixels, [1, 3, side, side]), device));
            let [_, dim, rows, cols] = map.dims();
            (map.reshape([dim, rows * cols]).transpose(), [rows, cols])
        };
        let ((a, grid), (b, other)) = (cells(a), cells(b));
        let truth: Vec<Option<(f32, f32)>> =
            (0..grid[0] * grid[1]).map(|cell| to.position_of(from.cell_centre(cell, grid), other)).collect();
        pck.add(&nearest(a, b)?, &truth, other);
        tick();
    }
    Ok(pck)
}

/// Loads a backbone of either kind as `load_backbone` and `load_resnet` do, or draws one: `random:vit-s/16`,
/// `random:resnet-50`. `stride_px` makes a ResNet's cells closer (16 or 8 in place of 32) by dilation; 0 leaves them.
///
/// # Errors
/// When there is no such file or architecture, or the file holds something else; for a stride other than a Vision
/// Transformer's patch.
pub fn load_dense(
    weights: &Path,
    part: Option<Part>,
    heads: Option<usize>,
    stride_px: usize,
    device: &Device,
) -> Result<DenseNet, TrainError> {
    let fail = |reason: String| TrainError::File { path: weights.to_owned(), reason };
    let of_vit = |vit: Vit, description: String, run| {
        let stride = vit.patch_size_px();
        if stride_px != 0 && stride_px != stride {
            return Err(fail(format!(
                "expected a stride of {stride} px, this network's patch; found {stride_px}"
            )));
        }
        Ok(DenseNet { encoder: AnyBackbone::Vit(vit), description, stride_px: stride, run })
    };
    let of_resnet = |net: ResNet, description: String, run| {
        let stride_px = net.stride_px();
        DenseNet { encoder: AnyBackbone::ResNet(net), description, stride_px, run }
    };
    let stride = |config: &mut ResNetConfig| {
        if stride_px != 0 {
            config.output_stride = stride_px;
        }
    };
    if let Some(name) = weights.to_str().and_then(|w| w.strip_prefix("random:")) {
        let mut init = Init::new(0, device);
        let description = format!("random {name}");
        if name.contains("resnet") {
            let arch: ResNetArch = name.parse().map_err(|e| fail(format!("{e}")))?;
            let mut config = ResNetConfig::from(arch);
            stride(&mut config);
            let net = config.init(&mut init).map_err(|e| fail(e.to_string()))?;
            return Ok(of_resnet(net, description, None));
        }
        let arch: Arch = name.parse()?;
        return of_vit(arch.config(224, 0.0).init(&mut init)?, description, None);
    }
    let loaded = Loaded::read_any(weights, part, |_| Ok(()))?;
    match loaded.network.family {
        Family::ResNet { .. } => {
            let run = loaded.run();
            let loaded = load_resnet_with(&loaded, device, stride)?;
            Ok(of_resnet(loaded.net, loaded.description, run))
        }
        Family::Vit { .. } => {
            let loaded = load_backbone_part(weights, part, heads, device)?;
            of_vit(loaded.vit, loaded.description, loaded.run)
        }
    }
}
