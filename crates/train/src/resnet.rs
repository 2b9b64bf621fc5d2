//! Trained ResNets, wherever they came from.

use std::path::Path;

use burn::tensor::Device;
use ocelli_models::weights::{Family, ModuleState as _, Part};
use ocelli_models::{Init, ResNet, ResNetConfig};

use crate::TrainError;
use crate::backbone::Loaded;

/// A ResNet and where it came from.
#[derive(Debug, Clone)]
pub struct LoadedResNet {
    /// The network, on a plain device.
    pub net: ResNet,
    /// Its shape.
    pub config: ResNetConfig,
    /// What was loaded, in words.
    pub description: String,
}

/// Loads a ResNet in torchvision's names from a file of torchvision, DINO (the teacher's backbone), MoCo or DenseCL (the
/// query encoder), raw or extracted, or a checkpoint of Ocelli. Heads, queues and classifiers are left out. Of a file with
/// two networks, `part` names the other.
///
/// # Errors
/// When there is no such file, or it holds something else: the message counts and names what is missing, unexpected and of
/// another shape.
pub fn load_resnet(path: &Path, part: Option<Part>, device: &Device) -> Result<LoadedResNet, TrainError> {
    let loaded = Loaded::read_any(path, part, |family| match family {
        Family::ResNet { .. } => Ok(()),
        Family::Vit { .. } => Err("a ResNet"),
    })?;
    load_resnet_with(&loaded, device, |_| ())
}

/// Loads a file's backbone into a ResNet of a given shape, to start a run from it. Returns the network and what was loaded,
/// in words.
///
/// # Errors
/// When there is no such file, or its tensors are not this network's: the message counts and names what is missing,
/// unexpected and of another shape.
pub fn load_resnet_into(
    path: &Path,
    config: &ResNetConfig,
    device: &Device,
) -> Result<(ResNet, String), TrainError> {
    let loaded = Loaded::read_any(path, None, |family| match family {
        Family::ResNet { .. } => Ok(()),
        Family::Vit { .. } => Err("a ResNet"),
    })?;
    let net = config.init(&mut Init::new(0, device)).map_err(|e| loaded.fail(e.to_string()))?;
    let net = loaded.state.load_into(net).map_err(|e| loaded.fail(e.to_string()))?;
    Ok((net, loaded.describe(&config.arch.to_string())))
}

/// The same as [`load_resnet`] of tensors already read; `change` may set what files do not tell.
pub(crate) fn load_resnet_with(
    loaded: &Loaded,
    device: &Device,
    mut change: impl FnMut(&mut ResNetConfig),
) -> Result<LoadedResNet, TrainError> {
    let mut config = ResNetConfig::of(&loaded.state).map_err(|e| loaded.fail(e.to_string()))?;
    change(&mut config);
    let net = config.init(&mut Init::new(0, device)).map_err(|e| loaded.fail(e.to_string()))?;
    let net = loaded.state.load_into(net).map_err(|e| loaded.fail(e.to_string()))?;
    Ok(LoadedResNet { net, config, description: loaded.describe(&config.arch.to_string()) })
}
