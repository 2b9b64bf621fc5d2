//! DeepCluster-v2: predicting the clusters of a memory bank (Caron et al. 2020, <https://arxiv.org/abs/2006.09882>,
//! appendix D).

use burn::tensor::{Device, Int, Tensor, activation};
use ocelli_kernels::together;
use ocelli_models::weights::StateDict;
use ocelli_models::{AnyBackbone, Backbone, BackboneKind, Init, Mode};
use serde::{Deserialize, Serialize};

use crate::figure::{CONSTANT_FEATURES, Condition, FEATURE_STD, Figure, Level, Sign, loss};
use crate::held::{Bank, Clusters, Head, MOST_IMAGES, Trained};
use crate::matching::Draw;
use crate::method::{Batch, LossOutput, Method, MethodError, Network, StepClock, Update, check_value};
use crate::optim::Group;
use crate::parts::infonce::unit;
use crate::parts::kmeans::{kmeans, points_of};
use crate::parts::swapped::ASSIGNED;
use crate::parts::{Projected, feature_std};
use crate::recipe::{Facts, Key, Needs, Range, Recipe, Sections, check_keys, presets};
use crate::swav::{self, CHANCE, UNIFORM, projector};

/// DeepCluster-v2's own constants; defaults are the published recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeepClusterConfig {
    /// K of each head (3,000 of three heads); no more than there are images.
    pub heads: Vec<usize>,
    /// Width of the projector's hidden layer (2,048).
    pub hidden_dim: usize,
    /// Width of the embeddings (128).
    pub out_dim: usize,
    /// τ (0.1).
    pub temperature: f64,
    /// Rounds of k-means (10).
    pub iterations: usize,
}

impl Default for DeepClusterConfig {
    fn default() -> Self {
        Self { heads: vec![3000; 3], hidden_dim: 2048, out_dim: 128, temperature: 0.1, iterations: 10 }
    }
}

const FIGURES: &[Figure] = &[
    loss(
        "Cross-entropy of all crops with the clusters of their images, the mean of the heads. Healthy: from near ln K down within \
         an epoch; it jumps up when clusters are found anew, less from epoch to epoch.",
    )
    .level(UNIFORM),
    Figure::new(
        "top1",
        "Crops nearest to their cluster's centroid",
        "Share of crops whose nearest centroid is that of their image's cluster. Healthy: rising over the epochs, far above \
         1 / K, with a step down at each clustering.",
    )
    .from_zero()
    .bar_with("top-1", 100.0, 1, " %")
    .headline(),
    Figure::new(
        "cluster_entropy",
        "Entropy of the clusters' sizes",
        "ln K for clusters of one size, 0 where one cluster has all images; the mean of the heads. Healthy: level, near ln K.",
    )
    .from_zero()
    .level(UNIFORM)
    .bar("H", 2)
    .headline(),
    Figure::new(
        "empty_clusters",
        "Empty clusters",
        "Share of the clusters that no image is in. Healthy: small where there are many images to a cluster, and level.",
    )
    .from_zero()
    .bar_with("empty", 100.0, 0, " %"),
    FEATURE_STD,
];

/// A quarter of ln K is the entropy of K^¼ even clusters: 7 of 3,000. Clusters that k-means finds in random directions keep more
/// than 0.9 ln K. A network that has just been drawn has a loss above 1.05 ln K, a plateau one that is ln K.
const SIGNS: &[Sign] = &[
    CONSTANT_FEATURES,
    Sign::new(
        "one_cluster",
        "nearly all images are in a few clusters, which is easy to predict and says nothing of them",
        "a lower optim.lr, a longer optim.warmup_epochs, a larger batch_size, fewer prototypes per head (deepcluster.heads)",
        &[Condition::below("cluster_entropy", 0.25).of(UNIFORM)],
    ),
    Sign::new(
        "plateau",
        "the loss stays at ln K: a crop tells nothing of its image's cluster",
        "a lower optim.lr, a longer optim.warmup_epochs, fewer prototypes per head (deepcluster.heads), fewer \
         views.local_crops, larger views.local_scale",
        &[
            Condition::above("loss", 0.99).of(UNIFORM),
            Condition::below("loss", 1.01).of(UNIFORM),
            Condition::below("top1", 3.0).of(CHANCE),
        ],
    ),
];

const fn key(name: &'static str, meaning: &'static str, range: Range) -> Key {
    Key { name, meaning, source: "DeepCluster-v2", range }
}

const KEYS: &[Key] = &[
    key("deepcluster.heads", "prototypes K of each head; no more than there are images", Range::Any),
    key("deepcluster.hidden_dim", "width of the projector's hidden layer", Range::Count(1, 1_000_000)),
    key("deepcluster.out_dim", "width of the embeddings", Range::Count(1, 1_000_000)),
    key("deepcluster.temperature", "temperature of the predictions", Range::Positive),
    key("deepcluster.iterations", "rounds of k-means before every epoch", Range::Count(1, 10_000)),
];

/// What DeepCluster-v2 declares.
pub const DEEPCLUSTER: Recipe = Recipe {
    name: "deepcluster",
    title: "DeepCluster-v2",
    paper: "Caron et al. 2020, https://arxiv.org/abs/2006.09882",
    defaults: swav::DEFAULTS,
    sections: || Sections::default().with("deepcluster", &DeepClusterConfig::default()),
    keys: KEYS,
    presets: presets![
        "deepcluster-r50-800": "DeepCluster-v2 ResNet-50, 800 epochs, batch 4096 (published: k-NN 67.1, linear 75.2 on ImageNet)",
        "deepcluster-laptop": "DeepCluster-v2, a narrow ResNet-18 on 48 px and 24 px views, on a CPU",
    ],
    figures: FIGURES,
    signs: SIGNS,
    backbones: &[BackboneKind::Vit, BackboneKind::ResNet],
    published_for: "resnet-50",
    needs: Needs { labels: false, indices: true, places: false, whole_batch: false, coupled: true },
    holds: "a memory bank of embeddings, clusters and their centroids",
    views: swav::views,
    views_about: "The network sees all of them; each predicts the clusters of its image.",
    check,
    notes,
    build,
};

fn check(facts: &Facts<'_>) -> Result<(), MethodError> {
    let config: DeepClusterConfig = facts.own.get("deepcluster")?;
    check_heads(&config.heads)?;
    let Some(images) = facts.images else { return Ok(()) };
    let expected = format!("at most {MOST_IMAGES} images, whose numbers a checkpoint keeps whole");
    check_value(images <= MOST_IMAGES, "data", expected, images)?;
    let rows = bank_rows(images, facts.batch_size);
    let most = config.heads.iter().max().copied().unwrap_or_default();
    let expected = format!(
        "at most {rows} prototypes per head: as many as there are embeddings to cluster, one for each of {images} images in whole \
         batches of {}",
        facts.batch_size
    );
    check_value(most <= rows, "deepcluster.heads", expected, most)
}

/// One head or more of two prototypes or more.
fn check_heads(heads: &[usize]) -> Result<(), MethodError> {
    let fits = !heads.is_empty() && heads.iter().all(|k| (2..=10_000_000).contains(k));
    check_value(
        fits,
        "deepcluster.heads",
        "numbers of prototypes, 2 or more, of one head or more",
        format!("{heads:?}"),
    )
}

/// Images of an epoch: the last batch is left out where it is not full.
fn bank_rows(images: usize, batch_size: usize) -> usize {
    let batch_size = batch_size.max(1);
    images / batch_size * batch_size
}

fn notes(facts: &Facts<'_>) -> Vec<String> {
    let mut notes = vec![
        "the network looks at every image once before the first step, and all embeddings are clustered before every epoch".to_owned(),
    ];
    if let (Some(images), Ok(config)) = (facts.images, facts.own.get::<DeepClusterConfig>("deepcluster")) {
        let most = config.heads.iter().max().copied().unwrap_or_default();
        if images < 10 * most {
            notes.push(format!(
                "{most} clusters of {images} images: fewer than 10 images to a cluster leave many of them with one or none"
            ));
        }
    }
    notes
}

fn build(facts: &Facts<'_>, seed: u64, device: &Device) -> Result<Box<dyn Method>, MethodError> {
    let config: DeepClusterConfig = facts.own.get("deepcluster")?;
    let images = facts.images.ok_or_else(|| MethodError::Value {
        key: "data",
        expected: "images whose number is known, for the memory bank".into(),
        found: "an unknown number".into(),
    })?;
    let epoch = Epoch { images, batch_size: facts.batch_size, part: facts.batch_size / facts.accumulate.max(1) };
    let net = |init: &mut Init| facts.backbone.init(init);
    Ok(Box::new(DeepCluster::<AnyBackbone>::new(&config, epoch, net, seed, device)?))
}

/// What an epoch is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    /// Images of the data set.
    pub images: usize,
    /// Images per optimizer step.
    pub batch_size: usize,
    /// Images of a part of it that is computed at once.
    pub part: usize,
}

/// A network in training, its memory bank and what was found in it. See [`DeepClusterConfig`].
pub struct DeepCluster<B: Backbone = AnyBackbone> {
    config: DeepClusterConfig,
    epoch: Epoch,
    seed: u64,
    net: Trained<Projected<B>>,
    bank: Bank,
    clusters: Option<Clusters>,
    /// Embeddings of the step in progress, by crop, and their images: they enter the bank when it is done.
    pending: Vec<(Vec<Tensor<2>>, Vec<usize>)>,
    device: Device,
}

impl<B: Backbone> DeepCluster<B> {
    /// A network drawn from `seed` and an empty bank. `build` draws a backbone; `device` is the plain device, the parameters
    /// are tracked.
    ///
    /// # Errors
    /// When a value is out of range, or the backbone cannot be built.
    pub fn new<E: Into<MethodError>>(
        config: &DeepClusterConfig,
        epoch: Epoch,
        build: impl Fn(&mut Init) -> Result<B, E>,
        seed: u64,
        device: &Device,
    ) -> Result<Self, MethodError> {
        check_keys(KEYS, &Sections::default().with("deepcluster", config)?)?;
        check_heads(&config.heads)?;
        let shape = |dim| projector([dim, config.hidden_dim, config.out_dim], true);
        let (net, _) = Projected::drawn(build, shape, seed, device)?;
        Ok(Self {
            bank: Bank::new(ASSIGNED, config.out_dim, bank_rows(epoch.images, epoch.batch_size)),
            config: config.clone(),
            epoch,
            seed,
            net: Trained::new(net),
            clusters: None,
            pending: Vec::new(),
            device: device.clone(),
        })
    }

    /// Clusters the bank for an epoch: head h starts from the rows `starts[h]` of the bank of crop h mod 2, one for each of its
    /// prototypes.
    ///
    /// # Panics
    /// When the bank is empty, or a start is none of its rows.
    pub fn cluster_from(&mut self, epoch: usize, starts: &[Vec<usize>]) {
        let of = |(head, starts): (usize, &Vec<usize>)| {
            let points = self.bank.of(head % ASSIGNED);
            let found = kmeans(&points, points_of(&points, starts), self.config.iterations);
            Head { labels: self.bank.by_image(found.assigned, self.epoch.images), centroids: found.centroids }
        };
        let heads = starts.iter().enumerate().map(of).collect();
        self.clusters = Some(Clusters::new(epoch, heads));
        self.bank.rewind();
    }

    /// Different rows of the bank for every head, as long as there are enough of them.
    fn random_starts(&self, epoch: usize) -> Vec<Vec<usize>> {
        let rows = self.bank.rows();
        let of = |(head, k): (usize, &usize)| {
            let clock = StepClock { epoch, iteration: epoch, micro_batch: head, momentum: 0.0, seed: self.seed };
            let order = Draw(clock.step_seed() ^ 0x6B6D_6561_6E73).permutation(rows);
            order.into_iter().cycle().take(*k).collect()
        };
        self.config.heads.iter().enumerate().map(of).collect()
    }

    /// Unit embeddings `[views·images, out]` and the backbone's features of views.
    fn embed(&self, views: &[Tensor<4>], clock: &StepClock) -> (Tensor<2>, Tensor<2>) {
        let views: Vec<Tensor<4>> = views.iter().map(|v| v.clone().autodiff()).collect();
        let (projected, features) = self.net.net().forward_all(&views, Mode::Train { seed: clock.step_seed() });
        (unit(projected), features)
    }

    /// Unit embeddings of all views, `[views·images, out]`.
    pub fn embeddings(&self, batch: &Batch, clock: &StepClock) -> Tensor<2> {
        self.embed(&batch.views, clock).0
    }
}

/// What the heads say of a batch, `[1]` each.
pub struct DeepClusterTerms {
    /// Mean over the heads of the cross-entropy.
    pub loss: Tensor<1>,
    /// Share of rows whose largest score is at their label, the mean of the heads.
    pub top1: Tensor<1>,
}

/// The cross-entropy of each head's scores `[views·images, K]` over τ with its labels `[images]`, which all views share. Images
/// with a label below 0 are left out of the mean; without any other it is 0.
pub fn deepcluster_terms(heads: Vec<(Tensor<2>, Tensor<1, Int>)>, temperature: f64) -> DeepClusterTerms {
    let head = |(scores, labels): (Tensor<2>, Tensor<1, Int>)| {
        let views = scores.dims()[0] / labels.dims()[0].max(1);
        let labels = labels.repeat_dim(0, views);
        let known = labels.clone().greater_equal_elem(0).float();
        let count = together::mean(known.clone().sum()).clamp_min(1.0);
        let nearest: Tensor<1, Int> = scores.clone().inner().argmax(1).squeeze_dim(1);
        let top1 = nearest.equal(labels.clone()).float().sum() / count.clone();
        let log_p = activation::log_softmax(scores / temperature, 1);
        let picked: Tensor<1> = log_p.gather(1, labels.clamp_min(0).unsqueeze_dim(1)).squeeze_dim(1);
        ((picked * (known / count).autodiff()).sum().neg(), top1)
    };
    let (losses, top1): (Vec<_>, Vec<_>) = heads.into_iter().map(head).unzip();
    DeepClusterTerms { loss: Tensor::cat(losses, 0).mean(), top1: Tensor::cat(top1, 0).mean() }
}

/// The embeddings of every crop and the images' numbers, of all ranks that compute together.
fn of_ranks(crops: Vec<Tensor<2>>, images: &[usize]) -> (Vec<Tensor<2>>, Vec<usize>) {
    let Some(world) = together::ranks() else { return (crops, images.to_vec()) };
    let numbers: Vec<u64> = images.iter().map(|image| *image as u64).collect();
    let numbers: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
    let all = world.gather_bytes(&numbers).concat();
    let images = all.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok());
    let images = images.map(|bytes| u64::from_le_bytes(bytes) as usize).collect();
    (crops.into_iter().map(together::gather).collect(), images)
}

impl<B: Backbone> Method for DeepCluster<B> {
    fn figures(&self) -> &'static [Figure] {
        FIGURES
    }

    fn network(&self) -> &dyn Network {
        self.net.net()
    }

    fn wants_pass(&self) -> bool {
        !self.bank.is_full()
    }

    /// One forward pass per assigned crop, which moves the running statistics as a step does.
    fn see(&mut self, batch: &Batch, clock: &StepClock) {
        if (clock.iteration, clock.micro_batch) == (0, 0) {
            self.bank.clear();
        }
        let crops = (0..ASSIGNED).map(|crop| self.embed(&[batch.view(crop)], clock).0.inner()).collect();
        let (crops, images) = of_ranks(crops, &batch.indices);
        self.bank.write(crops, &images);
    }

    /// Clusters the bank, once for an epoch: one that goes on has its clusters from its start.
    fn begin_epoch(&mut self, epoch: usize) {
        let is_done = self.clusters.as_ref().is_some_and(|c| c.epoch == epoch);
        if !is_done && self.bank.rows() > 0 {
            self.cluster_from(epoch, &self.random_starts(epoch));
        }
    }

    fn loss(&mut self, batch: &Batch, clock: &StepClock) -> LossOutput {
        let images = batch.images;
        let (embeddings, features) = self.embed(&batch.views, clock);
        let heads = self.clusters.iter().flat_map(|c| &c.heads);
        let score = |head: &Head| {
            let centroids = head.centroids.clone().transpose().autodiff();
            (embeddings.clone().matmul(centroids), head.labels.of(&batch.indices))
        };
        let terms = deepcluster_terms(heads.map(score).collect(), self.config.temperature);
        let plain = embeddings.inner();
        let crops = (0..ASSIGNED).map(|crop| plain.clone().narrow(0, crop * images, images));
        self.pending.push(of_ranks(crops.collect(), &batch.indices));
        let zero = || Tensor::zeros([1], &self.device);
        let (entropy, empty) =
            self.clusters.as_ref().map_or_else(|| (zero(), zero()), |c| (c.entropy.clone(), c.empty.clone()));
        let scalars = vec![
            ("loss", terms.loss.clone().inner()),
            ("top1", terms.top1),
            ("cluster_entropy", entropy),
            ("empty_clusters", empty),
            ("feature_std", feature_std(features.inner().narrow(0, 0, images))),
        ];
        LossOutput { loss: terms.loss, scalars }
    }

    fn update(&mut self, update: Update<'_>) {
        self.net.update(update, &|_| Group::default());
    }

    /// The bank gets the embeddings computed before the step.
    fn after_step(&mut self, _: &StepClock) {
        for (crops, images) in std::mem::take(&mut self.pending) {
            self.bank.write(crops, &images);
        }
    }

    /// Means over the heads.
    fn levels(&self) -> Vec<Level> {
        let heads = self.config.heads.len().max(1) as f64;
        let mean = |of: &dyn Fn(f64) -> f64| self.config.heads.iter().map(|k| of(*k as f64)).sum::<f64>() / heads;
        vec![Level::new(UNIFORM, mean(&f64::ln)), Level::new(CHANCE, mean(&f64::recip))]
    }

    fn unsettled_steps(&self, steps_per_epoch: usize, _: usize) -> usize {
        steps_per_epoch
    }

    fn start_from(&mut self, backbone: &StateDict) -> Result<(), MethodError> {
        self.net.change(|net| net.with_backbone(backbone))
    }

    /// The network's names, `bank.*`, `assignments` `[heads, images]` (−100: none), `centroids0` and so on `[K, dim]`, and
    /// `clustered_epoch`, the epoch that these are of.
    fn state(&self) -> Result<StateDict, MethodError> {
        let mut state = self.net.state()?;
        self.bank.add_to(&mut state)?;
        if let Some(clusters) = &self.clusters {
            clusters.add_to(&mut state)?;
        }
        Ok(state)
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), MethodError> {
        let bank = self.bank.restored(self.epoch.part, state, &self.device)?;
        let size = (self.config.heads.as_slice(), self.config.out_dim, self.epoch.images);
        let clusters = Clusters::restored(size, state, &self.device)?;
        self.net.load(state)?;
        (self.bank, self.clusters) = (bank, clusters);
        self.pending.clear();
        Ok(())
    }

    fn held_values(&self) -> usize {
        let centroids = self.config.heads.iter().sum::<usize>() * self.config.out_dim;
        self.bank.values() + centroids + self.config.heads.len() * self.epoch.images
    }
}

#[cfg(test)]
mod tests;
