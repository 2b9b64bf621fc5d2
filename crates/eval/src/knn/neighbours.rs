//! Exact search for the most similar training rows, in tiles.

use burn::tensor::{Device, Int, Tensor};
use ocelli_kernels::similarity_topk::{MAX_K, Nearest, Ranked, similarity_topk};
use serde::{Deserialize, Serialize};

use super::KnnConfig;
use crate::EvalError;

/// Largest k that is picked out with burn's own top-k with [`Selection::Auto`]. It keeps k running values per lane, so its
/// cost and its local memory grow with k; past this, reading the tile back is the safer way.
const STOCK_K_LIMIT: usize = 32;

/// Where the nearest rows of a similarity tile are picked out. Does not change which rows are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    /// On the device for a GPU and a k up to 256, else on the host.
    #[default]
    Auto,
    /// Read every tile back and select on the host: the quick way on the CPU, where a tensor top-k sorts whole rows.
    Host,
    /// On the device; only the neighbours are read back.
    Device,
}

/// The nearest training rows of every test row, most similar first; equal similarities in training order.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbours {
    k: usize,
    train_rows: usize,
    indices: Vec<u32>,
    similarities: Vec<f32>,
}

impl Neighbours {
    /// Neighbours per test row.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Test rows.
    pub fn rows(&self) -> usize {
        self.indices.len() / self.k
    }

    /// Training rows that were searched.
    pub fn train_rows(&self) -> usize {
        self.train_rows
    }

    /// Training rows nearest to test row `row`, `[k]`.
    pub fn indices(&self, row: usize) -> &[u32] {
        &self.indices[row * self.k..][..self.k]
    }

    /// Cosine similarities of these rows, `[k]`, falling.
    pub fn similarities(&self, row: usize) -> &[f32] {
        &self.similarities[row * self.k..][..self.k]
    }

    /// Votes per class, `[classes]`, of the nearest `k` rows: the sum of `exp(similarity / temperature)`.
    ///
    /// `labels` are those of the training set, `[train]`, each below `classes`; `k` at most [`Neighbours::k`].
    pub fn votes(&self, row: usize, k: usize, labels: &[u32], classes: usize, temperature: f64) -> Vec<f64> {
        let mut votes = vec![0.0; classes];
        for (&index, &similarity) in self.indices(row).iter().zip(self.similarities(row)).take(k) {
            votes[labels[index as usize] as usize] += (f64::from(similarity) / temperature).exp();
        }
        votes
    }
}

/// Divides every row by its L2 norm, `[rows, dim]`. A row of zeros stays zero.
pub fn l2_normalise(features: Tensor<2>) -> Tensor<2> {
    let norm = features.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
    features / norm
}

/// Finds the `k` most similar training rows of every test row.
///
/// Shapes: `[train, dim]` and `[test, dim]` on the same device; `k` is clamped to the training rows. Of `config`, the
/// chunk sizes, `normalise` and `selection` are used.
///
/// # Errors
/// [`EvalError::Empty`], [`EvalError::Shape`], [`EvalError::NotFinite`] or [`EvalError::Device`].
pub async fn find_neighbours_async(
    train: Tensor<2>,
    test: Tensor<2>,
    k: usize,
    config: &KnnConfig,
) -> Result<Neighbours, EvalError> {
    config.validate()?;
    let ([train_rows, train_dim], [test_rows, test_dim]) = (train.dims(), test.dims());
    for (what, size) in [
        ("the training set", train_rows),
        ("the test set", test_rows),
        ("a feature row", train_dim),
        ("the list of neighbours (k = 0)", k),
    ] {
        if size == 0 {
            return Err(EvalError::Empty { what });
        }
    }
    if train_dim != test_dim {
        return Err(EvalError::shape("test features", format!("{train_dim} columns as in training"), test_dim));
    }
    let k = k.min(train_rows);
    let on_device = match config.selection {
        Selection::Auto => k <= device_k_limit() && !sorts_whole_rows(&train.device()),
        Selection::Host => false,
        Selection::Device => true,
    };
    // Evaluation never needs gradients, and a tape over every tile would hold them all in memory.
    let (train, test) = (train.detach(), test.detach());
    let (train, test) = if config.normalise { (l2_normalise(train), l2_normalise(test)) } else { (train, test) };

    let mut indices = Vec::with_capacity(test_rows * k);
    let mut similarities = Vec::with_capacity(test_rows * k);
    for start in (0..test_rows).step_by(config.test_chunk) {
        let chunk = test.clone().narrow(0, start, config.test_chunk.min(test_rows - start));
        let found = if on_device {
            select_on_device(chunk, &train, k, config.train_chunk).await?
        } else {
            select_on_host(chunk, &train, k, config.train_chunk).await?
        };
        for (row, candidates) in found.into_iter().enumerate() {
            // A short row comes from similarities of -inf, which pass no bar. A NaN that a device's top-k sorts behind
            // its k best stays unseen: that training row is simply never a neighbour.
            if candidates.len() < k || candidates.iter().any(|c| !c.similarity.is_finite()) {
                let place = format!(" (seen at test row {})", start + row);
                return Err(EvalError::NotFinite { what: "a training or test feature", place });
            }
            indices.extend(candidates.iter().map(|c| c.index));
            similarities.extend(candidates.iter().map(|c| c.similarity));
        }
    }
    Ok(Neighbours { k, train_rows, indices, similarities })
}

/// Whether the device's tensor top-k is a full sort: so it is on the CPU backend.
fn sorts_whole_rows(device: &Device) -> bool {
    device.clone().inner() == Device::flex()
}

/// Largest k for the device with [`Selection::Auto`].
fn device_k_limit() -> usize {
    match ocelli_kernels::mode() {
        ocelli_kernels::Mode::Stock => STOCK_K_LIMIT,
        _ => MAX_K,
    }
}

/// `chunk [rows, dim]`, `train [train, dim]`.
async fn select_on_host(
    chunk: Tensor<2>,
    train: &Tensor<2>,
    k: usize,
    tile: usize,
) -> Result<Vec<Vec<Ranked>>, EvalError> {
    let [rows, _] = chunk.dims();
    let [train_rows, _] = train.dims();
    let mut nearest: Vec<Nearest> = (0..rows).map(|_| Nearest::new(k)).collect();
    for start in (0..train_rows).step_by(tile) {
        let width = tile.min(train_rows - start);
        let similarities = read(chunk.clone().matmul(train.clone().narrow(0, start, width).transpose())).await?;
        for (nearest, row) in nearest.iter_mut().zip(similarities.chunks_exact(width)) {
            nearest.extend(row, start);
        }
    }
    Ok(nearest.into_iter().map(Nearest::finish).collect())
}

/// `chunk [rows, dim]`, `train [train, dim]`. Nothing is read back before the last tile.
async fn select_on_device(
    chunk: Tensor<2>,
    train: &Tensor<2>,
    k: usize,
    tile: usize,
) -> Result<Vec<Vec<Ranked>>, EvalError> {
    let (values, indices) = similarity_topk(chunk, train.clone(), k, tile);
    let width = values.dims()[1];
    let values = read(values).await?;
    let indices = read_indices(indices).await?;
    Ok(values
        .chunks_exact(width)
        .zip(indices.chunks_exact(width))
        .map(|(values, indices)| {
            let pairs = values.iter().zip(indices);
            let mut row: Vec<_> = pairs.map(|(&similarity, &index)| Ranked { similarity, index }).collect();
            row.sort_unstable_by(Ranked::nearest_first);
            row
        })
        .collect())
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn device_error(reason: impl ToString) -> EvalError {
    EvalError::Device { during: "searching neighbours", reason: reason.to_string() }
}

async fn read(tensor: Tensor<2>) -> Result<Vec<f32>, EvalError> {
    let data = tensor.into_data_async().await.map_err(device_error)?;
    data.try_into_vec_as().map_err(device_error)
}

async fn read_indices(tensor: Tensor<2, Int>) -> Result<Vec<u32>, EvalError> {
    let data = tensor.into_data_async().await.map_err(device_error)?;
    let indices: Vec<i64> = data.try_into_vec_as().map_err(device_error)?;
    // A device's top-k leaves -1 in a place for which it found no value that compares: only NaN was left.
    let checked = indices.into_iter().map(u32::try_from).collect::<Result<Vec<u32>, _>>();
    checked.map_err(|_| EvalError::NotFinite { what: "a training or test feature", place: String::new() })
}
