//! k-NN accuracy of a frozen backbone's features, and of pixels.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use ocelli_data::{BadFile, EvalTransform, Source};
use ocelli_eval::knn::{KnnConfig, knn};
use ocelli_models::{AnyBackbone, BackboneConfig};
use ocelli_world::World;

use crate::config::EvalConfig;
use crate::features::{eval_transform, extract_features, extract_features_and_bad, rows_of, thin};
use crate::linear::{FrozenFeatures, online_probe};
use crate::sharded::{Images, rows_in};
use crate::{KnnFigures, RunConfig, TrainError};

/// Labelled images to take neighbours from, and labelled images to classify.
#[derive(Clone)]
pub struct Labelled {
    /// Neighbours.
    pub train: (Arc<dyn Source>, Vec<usize>),
    /// Queries.
    pub test: (Arc<dyn Source>, Vec<usize>),
    /// Number of classes.
    pub classes: usize,
}

impl Labelled {
    /// Takes `test` for queries where it is labelled; otherwise every tenth training image, which then is no
    /// neighbour. `None` without labels. Larger sets are thinned evenly to the configured sizes.
    pub fn of(source: &Arc<dyn Source>, test: Option<&Arc<dyn Source>>, config: &EvalConfig) -> Option<Self> {
        let labelled = |s: &Arc<dyn Source>| (0..s.len()).filter(|i| s.label(*i).is_some()).collect::<Vec<_>>();
        let train = labelled(source);
        if train.is_empty() {
            return None;
        }
        let (train, test) = match test.map(|t| (t.clone(), labelled(t))) {
            Some((t, indices)) if !indices.is_empty() => (train, (t, indices)),
            _ => {
                let held_out = train.iter().copied().skip(9).step_by(10).collect::<Vec<_>>();
                let rest = train.iter().enumerate().filter(|(i, _)| i % 10 != 9).map(|(_, x)| *x).collect();
                (rest, (source.clone(), held_out))
            }
        };
        if train.is_empty() || test.1.is_empty() {
            return None;
        }
        let (train, queries) = (thin(train, config.max_train), thin(test.1, config.max_test));
        let label_max = |s: &Arc<dyn Source>, of: &[usize]| of.iter().filter_map(|i| s.label(*i)).max();
        let classes = label_max(source, &train).max(label_max(&test.0, &queries)).map_or(0, |m| m as usize + 1);
        Some(Self { train: (source.clone(), train), test: (test.0, queries), classes })
    }
}

impl Labelled {
    /// Queries whose class no neighbour has.
    pub fn without_neighbour(&self) -> usize {
        let (source, indices) = &self.train;
        let known: std::collections::BTreeSet<u32> = indices.iter().filter_map(|i| source.label(*i)).collect();
        let (source, indices) = &self.test;
        indices.iter().filter_map(|i| source.label(*i)).filter(|label| !known.contains(label)).count()
    }

    /// What makes no sense of k-NN during a run: a line each.
    pub fn warnings(&self) -> Vec<String> {
        let (neighbours, queries, without) = (self.train.1.len(), self.test.1.len(), self.without_neighbour());
        // Of the numbers of neighbours that are tried, the one people quote.
        let few = too_many(&[QUOTED], neighbours);
        let unknown = (without > 0).then(|| {
            format!("{without} of the {queries} queries are of classes that no neighbour has: they count as wrong")
        });
        few.into_iter().chain(unknown).collect()
    }
}

/// The number of neighbours whose accuracy is quoted.
const QUOTED: usize = 20;

/// Says which of these numbers of neighbours are more than there are.
pub fn too_many(ks: &[usize], neighbours: usize) -> Option<String> {
    let more: Vec<String> = ks.iter().filter(|k| **k > neighbours).map(ToString::to_string).collect();
    let line = format!(
        "k = {} is more than the {neighbours} neighbours there are, and takes all of them",
        more.join(", ")
    );
    (!more.is_empty()).then_some(line)
}

/// Weighted k-NN accuracy (τ = 0.07) of the encoder's features, per cent by k.
///
/// # Errors
/// When images cannot be read or features are not finite.
pub fn knn_of(
    encoder: &AnyBackbone,
    labelled: &Labelled,
    config: &RunConfig,
    device: &Device,
) -> Result<KnnFigures, TrainError> {
    let of = |images| extract_features(encoder, images, config, device);
    figures(of(&labelled.train)?, of(&labelled.test)?, labelled.classes)
}

/// Rows of features and their labels.
type Rows = (Tensor<2>, Vec<u32>);

/// Features of labelled images.
pub(crate) struct Features {
    train: Rows,
    test: Rows,
    classes: usize,
    /// Held-out images that could not be read.
    pub bad: Vec<BadFile>,
}

impl Features {
    /// Those of an encoder, which the processes of a run compute together; the first of them gets them.
    ///
    /// # Errors
    /// When images cannot be read.
    pub fn of(
        world: &dyn World,
        encoder: &AnyBackbone,
        labelled: &Labelled,
        config: &RunConfig,
        device: &Device,
    ) -> Result<Option<Self>, TrainError> {
        let all = |images: &Images| {
            rows_in(world, images, device, |part| extract_features_and_bad(encoder, part, config, device))
        };
        // Both before either's error: the other processes are there for both.
        let (train, test) = (all(&labelled.train), all(&labelled.test));
        let (Some((train, of_train, _)), Some((test, of_test, bad))) = (train?, test?) else { return Ok(None) };
        Ok(Some(Self { train: (train, of_train), test: (test, of_test), classes: labelled.classes, bad }))
    }

    /// As [`knn_of`].
    ///
    /// # Errors
    /// When features are not finite.
    pub fn knn(self) -> Result<KnnFigures, TrainError> {
        figures(self.train, self.test, self.classes)
    }

    /// Accuracy of a linear classifier on them, per cent.
    ///
    /// # Errors
    /// When features are not finite.
    pub fn linear(&self, seed: u64) -> Result<Option<f64>, TrainError> {
        let frozen = |(features, labels): &Rows| FrozenFeatures::new(features.clone(), labels.clone());
        online_probe(&frozen(&self.train)?, &frozen(&self.test)?, self.classes, seed)
    }
}

/// Side that pixels are compared at, pixels: what makes pictures look alike is there, and ten thousand of them take 123 MB.
const PIXELS_PX: u32 = 32;
/// Neighbours that pixels are compared with, at most.
const MOST_PIXEL_ROWS: usize = 20_000;

/// The same of the normalised pixels themselves, of images made small: what a network has to beat. Also says what the pixels
/// were.
///
/// # Errors
/// When images cannot be read.
pub fn knn_of_pixels(
    labelled: &Labelled,
    config: &RunConfig,
    device: &Device,
) -> Result<(KnnFigures, String), TrainError> {
    let small = EvalTransform { max_side_px: Some(PIXELS_PX), ..eval_transform(config) };
    let rows = |(source, indices): &(Arc<dyn Source>, Vec<usize>)| {
        let images = (source.clone(), thin(indices.clone(), MOST_PIXEL_ROWS));
        let all = images.1.len() == indices.len();
        let rows = rows_of(&images, small, config, device, |x| x.flatten::<2>(1, 3))?;
        Ok::<_, TrainError>((rows, all))
    };
    let ((train, all_train), (test, all_test)) = (rows(&labelled.train)?, rows(&labelled.test)?);
    let side = (train.0.dims()[1] / 3).isqrt();
    let mut pixels = format!("{side}×{side} px");
    if !(all_train && all_test) {
        pixels += &format!(", {MOST_PIXEL_ROWS} images at most");
    }
    Ok((figures(train, test, labelled.classes)?, pixels))
}

/// Bytes that evaluating the network takes at most beside the network: a batch and what the largest layers make of it,
/// the images made ready meanwhile, features, and small pixels of the images compared.
pub(crate) fn evaluation_bytes(labelled: &Labelled, config: &RunConfig, backbone: &BackboneConfig) -> usize {
    let (train, test) = (labelled.train.1.len(), labelled.test.1.len());
    let pixel_rows = train.min(MOST_PIXEL_ROWS) + test.min(MOST_PIXEL_ROWS);
    let side = if config.eval.crop_px > 0 { config.eval.crop_px } else { config.views.global_size_px };
    let pixels = 3 * (PIXELS_PX as usize).pow(2) * pixel_rows;
    // Rows, their squares, and rows of length 1; they are never there beside those of the pixels.
    let kept = 3 * ((train + test) * backbone.dim()).max(pixels);
    // A tile of similarities, as computed and as read.
    let knn = KnnConfig::default();
    let tile = 2 * test.min(knn.test_chunk) * train.min(knn.train_chunk);
    // A batch of pixels is there as it came and as its patches or the cells that a convolution sees.
    let image = 3 * side * side;
    let ready = ocelli_data::images_ahead(config.loader.threads).min(train);
    let batch = config.eval.batch_size.min(train) * (image + backbone.activations(side)) + ready * image;
    4 * (kept + tile + batch)
}

fn figures(train: Rows, test: Rows, classes: usize) -> Result<KnnFigures, TrainError> {
    let report = knn(train.0, &train.1, test.0, &test.1, classes, &KnnConfig::default())?;
    Ok(report.results.iter().map(|r| (r.k, r.top1)).collect())
}
