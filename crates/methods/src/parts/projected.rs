//! A backbone with an MLP after it.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use ocelli_models::mlp::{Mlp, MlpConfig, forward_mlp};
use ocelli_models::weights::{ModuleState as _, StateDict};
use ocelli_models::{Backbone, Init, Mode};

use crate::MethodError;

/// A backbone and the projector after its features.
#[derive(Module, Debug)]
pub struct Projected<B: Module> {
    /// The backbone.
    pub backbone: B,
    /// Layers with PyTorch's indices.
    pub projector: Mlp,
}

impl<B: Backbone> Projected<B> {
    /// Both drawn from `seed`: the backbone by `build`, the projector as `shape` makes it of the features' width. `device` is the
    /// plain device, the parameters are tracked. Also returns what goes on drawing.
    pub(crate) fn drawn<E: Into<MethodError>>(
        build: impl Fn(&mut Init) -> Result<B, E>,
        shape: impl FnOnce(usize) -> MlpConfig,
        seed: u64,
        device: &Device,
    ) -> Result<(Self, Init), MethodError> {
        let mut init = Init::new(seed, &device.clone().autodiff());
        let backbone = build(&mut init).map_err(Into::into)?;
        Ok((Self::new(backbone, shape, &mut init), init))
    }

    /// Draws the projector after a backbone; `shape` makes it of the features' width.
    pub fn new(backbone: B, shape: impl FnOnce(usize) -> MlpConfig, init: &mut Init) -> Self {
        let projector = shape(backbone.map_dim()).init(init);
        Self { backbone, projector }
    }

    /// Images `[batch, 3, height, width]` to projections `[batch, out]` and the backbone's features `[batch, dim]`.
    pub fn forward(&self, images: Tensor<4>, mode: Mode) -> (Tensor<2>, Tensor<2>) {
        let features = self.backbone.features(images, mode);
        (forward_mlp(&self.projector, features.clone(), mode), features)
    }

    /// Views of several sizes, `[views·batch, 3, side, side]` each: one pass of the backbone per size, and one of the projector
    /// over everything, so that its batch normalisation sees all views.
    pub fn forward_all(&self, views: &[Tensor<4>], mode: Mode) -> (Tensor<2>, Tensor<2>) {
        let features: Vec<Tensor<2>> = views.iter().map(|v| self.backbone.features(v.clone(), mode)).collect();
        let features = match <[Tensor<2>; 1]>::try_from(features) {
            Ok([only]) => only,
            Err(several) => Tensor::cat(several, 0),
        };
        (forward_mlp(&self.projector, features.clone(), mode), features)
    }

    /// The same projector after another backbone's values.
    ///
    /// # Errors
    /// When they are of another shape.
    pub fn with_backbone(self, state: &StateDict) -> Result<Self, MethodError> {
        Ok(Self { backbone: state.load_into(self.backbone)?, ..self })
    }
}
