//! A network that is trained and one that follows it, as contrastive methods with a queue have them.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ocelli_models::weights::StateDict;

use crate::ema_update;
use crate::matching::Draw;
use crate::method::MethodError;

/// Query and key encoder.
pub(crate) struct Pair<N: Module> {
    // Absent only while they are replaced.
    query: Option<N>,
    key: Option<N>,
}

/// The networks are absent only inside `update` and `follow`, which put them back before they return.
#[allow(clippy::expect_used)]
fn present<T>(net: Option<T>) -> T {
    net.expect("a network is only taken while it is being replaced")
}

impl<N: Module> Pair<N> {
    /// Both must have been built on their own, from one seed: clones share their running statistics.
    pub fn new(query: N, key: N) -> Self {
        Self { query: Some(query), key: Some(key) }
    }

    pub fn query(&self) -> &N {
        present(self.query.as_ref())
    }

    pub fn key(&self) -> &N {
        present(self.key.as_ref())
    }

    pub fn update(&mut self, step: impl FnOnce(N) -> N) {
        self.query = self.query.take().map(step);
    }

    /// key ← m·key + (1 − m)·query.
    pub fn follow(&mut self, momentum: f64) {
        let query = present(self.query.as_ref());
        self.key = self.key.take().map(|key| ema_update(key, query, momentum));
    }

    /// Loads both by `load`, or neither: the second can only fail where the first does, as both parts of the state are
    /// compared before.
    pub fn load(
        &mut self,
        [query, key]: [&StateDict; 2],
        load: impl Fn(&StateDict, N) -> Result<N, MethodError>,
    ) -> Result<(), MethodError> {
        let shapes = |state: &StateDict| {
            let mut shapes: Vec<_> = state.tensors.iter().map(|(n, t)| (n.clone(), t.shape.clone())).collect();
            shapes.sort();
            shapes
        };
        if shapes(query) != shapes(key) {
            return Err(MethodError::Missing("key encoder of the query encoder's shape"));
        }
        let loaded = load(query, self.query().clone())?;
        self.key = Some(load(key, self.key().clone())?);
        self.query = Some(loaded);
        Ok(())
    }
}

/// Shuffled images `[batch, …]` and what puts their outputs back into order, so that a key is not normalised together
/// with the keys its query was normalised with (He et al. 2020, "shuffling BN").
pub(crate) struct Shuffle {
    back: Tensor<1, Int>,
}

impl Shuffle {
    pub fn images(images: Tensor<4>, seed: u64) -> (Tensor<4>, Self) {
        let (batch, device) = (images.dims()[0], images.device());
        let order = Draw(seed).permutation(batch);
        let mut back = vec![0; batch];
        for (to, from) in order.iter().enumerate() {
            back[*from] = to;
        }
        let images = images.select(0, indices(&order, &device));
        (images, Self { back: indices(&back, &device) })
    }

    pub fn undo<const D: usize>(&self, outputs: Tensor<D>) -> Tensor<D> {
        outputs.select(0, self.back.clone())
    }
}

fn indices(values: &[usize], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.iter().map(|v| *v as i32).collect();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

/// Keys of a step's micro-batches, written together.
#[derive(Default)]
pub(crate) struct Pending(Vec<Tensor<2>>);

impl Pending {
    pub fn push(&mut self, keys: Tensor<2>) {
        self.0.push(keys);
    }

    pub fn take(&mut self) -> Option<Tensor<2>> {
        let keys = std::mem::take(&mut self.0);
        (!keys.is_empty()).then(|| Tensor::cat(keys, 0))
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// Adds the tensors of `part` to `state` under `prefix`.
pub(crate) fn append(state: &mut StateDict, prefix: &str, part: StateDict) {
    state.tensors.extend(part.tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)));
}

/// Replaces the start of every name that has one of these starts.
pub(crate) fn renamed(state: &StateDict, starts: &[(&str, &str)]) -> StateDict {
    let tensors = state.tensors.iter().map(|(name, tensor)| {
        let found = starts.iter().find_map(|(from, to)| name.strip_prefix(from).map(|rest| format!("{to}{rest}")));
        (found.unwrap_or_else(|| name.clone()), tensor.clone())
    });
    StateDict { tensors: tensors.collect(), metadata: state.metadata.clone() }
}

/// A figure of the host as a scalar beside the others.
pub(crate) fn scalar(value: f64, device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(vec![value as f32], [1]), device)
}

pub(crate) fn check_value(
    ok: bool,
    key: &'static str,
    expected: &'static str,
    found: impl std::fmt::Display,
) -> Result<(), MethodError> {
    match ok {
        true => Ok(()),
        false => Err(MethodError::Value { key, expected, found: found.to_string() }),
    }
}
