//! What an epoch's clustering of the memory bank found.

use burn::tensor::{Device, Tensor};
use ocelli_models::weights::{HostTensor, StateDict};

use super::{Labels, to_device, to_host};
use crate::MethodError;
use crate::parts::kmeans::sizes;

const EPOCH: &str = "clustered_epoch";
const ASSIGNMENTS: &str = "assignments";
const CENTROIDS: &str = "centroids";

/// The clusters of every head.
pub(crate) struct Clusters {
    /// The epoch they were made for.
    pub epoch: usize,
    /// One for each head.
    pub heads: Vec<Head>,
    /// Entropy of the clusters' sizes, the mean of the heads, `[1]`.
    pub entropy: Tensor<1>,
    /// Share of empty clusters, the mean of the heads, `[1]`.
    pub empty: Tensor<1>,
}

/// One head's clusters.
pub(crate) struct Head {
    /// Unit vectors `[K, dim]`.
    pub centroids: Tensor<2>,
    /// The images in them.
    pub labels: Labels,
}

impl Clusters {
    /// What was found for an epoch.
    pub fn new(epoch: usize, heads: Vec<Head>) -> Self {
        let of = |head: &Head| spread(&sizes(&head.labels.all(), head.centroids.dims()[0]));
        let (entropy, empty): (Vec<_>, Vec<_>) = heads.iter().map(of).unzip();
        let mean = |values| Tensor::cat(values, 0).mean();
        Self { epoch, heads, entropy: mean(entropy), empty: mean(empty) }
    }

    /// Adds `centroids0` and so on `[K, dim]`, `assignments` `[heads, images]` (−100: none) and `clustered_epoch`.
    pub fn add_to(&self, state: &mut StateDict) -> Result<(), MethodError> {
        let mut assigned = Vec::new();
        for (h, head) in self.heads.iter().enumerate() {
            assigned.extend(head.labels.to_values()?);
            state.tensors.push((format!("{CENTROIDS}{h}"), to_host(&head.centroids, "the centroids")?));
        }
        let shape = vec![self.heads.len(), assigned.len() / self.heads.len().max(1)];
        state.tensors.push((ASSIGNMENTS.into(), HostTensor { shape, values: assigned }));
        let epoch = HostTensor { shape: vec![1], values: vec![self.epoch as f32] };
        state.tensors.push((EPOCH.into(), epoch));
        Ok(())
    }

    /// Reads what [`Clusters::add_to`] wrote for prototypes of every head, width and images; nothing where nothing is stored.
    pub fn restored(
        (heads, dim, images): (&[usize], usize, usize),
        state: &StateDict,
        device: &Device,
    ) -> Result<Option<Self>, MethodError> {
        let Some(epoch) = state.get(EPOCH).and_then(|t| t.values.first()) else { return Ok(None) };
        let fits = |what: String, stored: &HostTensor, own: [usize; 2]| match stored.shape == own {
            true => Ok(()),
            false => Err(MethodError::Value {
                key: "deepcluster.heads",
                expected: format!("the checkpoint's {what}, {:?}", stored.shape),
                found: format!("{own:?}"),
            }),
        };
        let assigned = state.get(ASSIGNMENTS).ok_or(MethodError::Missing("assignments of images to clusters"))?;
        fits("assignments (heads, images)".into(), assigned, [heads.len(), images])?;
        let head = |(h, k): (usize, &usize)| -> Result<Head, MethodError> {
            let centroids = state.get(&format!("{CENTROIDS}{h}")).ok_or(MethodError::Missing("centroids"))?;
            fits(format!("centroids of head {h}"), centroids, [*k, dim])?;
            let labels = Labels::restored(&assigned.values[h * images..][..images], device);
            Ok(Head { centroids: to_device(centroids, device), labels })
        };
        let heads = heads.iter().enumerate().map(head).collect::<Result<_, _>>()?;
        Ok(Some(Self::new(*epoch as usize, heads)))
    }
}

/// Entropy of clusters' sizes `[K]`, and the share of empty ones: `[1]` each.
fn spread(sizes: &Tensor<1>) -> (Tensor<1>, Tensor<1>) {
    let share = sizes.clone() / sizes.clone().sum().clamp_min(1.0);
    let entropy = (share.clone() * share.clamp_min(1e-30).log()).sum().neg();
    (entropy, sizes.clone().equal_elem(0.0).float().mean())
}
