//! What methods keep between steps: each saves, loads and weighs itself.

mod bank;
mod clusters;
mod ema;
mod embedding_queue;
mod followed;
mod key_queue;
mod trained;
mod vocabulary;

pub(crate) use bank::{Bank, Labels, MOST_IMAGES};
pub(crate) use clusters::{Clusters, Head};
pub use ema::ema_update;
pub use embedding_queue::EmbeddingQueue;
pub use followed::Draw;
pub(crate) use followed::{Followed, append, renamed};
pub use key_queue::{KeyQueue, check_queue};
pub(crate) use trained::Trained;
pub use vocabulary::Vocabulary;

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_models::weights::HostTensor;

use crate::MethodError;

/// A tensor's values on the host, for a checkpoint.
pub(crate) fn to_host<const D: usize>(tensor: &Tensor<D>, what: &str) -> Result<HostTensor, MethodError> {
    let values = tensor.clone().into_data().try_to_vec().map_err(|_| MethodError::Unreadable(what.into()))?;
    Ok(HostTensor { shape: tensor.dims().to_vec(), values })
}

/// A checkpoint's tensor on the device. Its number of axes has been looked at.
pub(crate) fn to_device<const D: usize>(tensor: &HostTensor, device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(tensor.values.clone(), tensor.shape.clone()), device)
}
