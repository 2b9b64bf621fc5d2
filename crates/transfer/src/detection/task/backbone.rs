//! The weights that a detector begins from.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Tensor;
use ocelli_methods::MethodError;
use ocelli_models::params::{self, FlatParam};
use ocelli_models::{AnyBackbone, BackboneConfig, ResNet, ResNetConfig};
use ocelli_train::{Loaded, Loading, TrainError, weights_crc32};

use super::super::network::{FasterRcnn, ResNetC4};
use super::DetectionTask;

impl DetectionTask {
    /// Puts the weights that the run began from into the network, where they are not there yet. Returns what was loaded, in words.
    ///
    /// # Errors
    /// When they cannot be opened, or are others by now.
    pub fn begin_again(&mut self) -> Result<Option<String>, TrainError> {
        if self.missing.is_none() {
            return Ok(None);
        }
        let config = &self.config;
        let path = config.weights_path.as_deref().unwrap_or_else(|| Path::new(&config.weights));
        let loaded = Loading::default().open(path, &self.device)?;
        let found = weights_crc32(&loaded.encoder)?;
        if !config.weights_crc32.is_empty() && config.weights_crc32 != found {
            let reason = format!("expected CRC-32 {}, found other weights with {found}", config.weights_crc32);
            return Err(TrainError::File { path: path.to_owned(), reason });
        }
        let shape = ResNetConfig { stem: config.stem, ..config.arch.into() };
        let theirs = resnet_of(&loaded, &shape)?;
        if let Some(net) = self.net.take() {
            self.net = Some(with_backbone(net, theirs));
        }
        self.missing = None;
        Ok(Some(loaded.description))
    }
}

/// The backbone of weights, where it has the configuration's shape.
pub(super) fn resnet_of<'a>(loaded: &'a Loaded, shape: &ResNetConfig) -> Result<&'a ResNet, TrainError> {
    let wrong = |found: String| {
        let expected = format!("{}, a ResNet in stages (C4)", shape.arch);
        TrainError::from(MethodError::Value { key: "weights", expected, found })
    };
    let (AnyBackbone::ResNet(backbone), BackboneConfig::ResNet(theirs)) = (&loaded.encoder, &loaded.config) else {
        return Err(wrong(format!("{}: {}", loaded.description, loaded.arch())));
    };
    if (theirs.arch, theirs.stem) != (shape.arch, shape.stem) {
        return Err(wrong(format!("{}: {}, another stem or shape", loaded.description, theirs.arch)));
    }
    Ok(backbone)
}

/// The network with this backbone in its place.
pub(super) fn with_backbone(net: FasterRcnn<ResNetC4>, backbone: &ResNet) -> FasterRcnn<ResNetC4> {
    let own = |p: FlatParam| (format!("network.backbone.{}", p.name), p.values);
    let mut values: BTreeMap<String, Tensor<1>> = params::collect(backbone).into_iter().map(own).collect();
    params::replace(net, |param| values.remove(&param.name))
}
