//! The queue of keys that stand in for a large batch (He et al. 2020, <https://arxiv.org/abs/1911.05722>).

use std::collections::VecDeque;

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_models::Init;
use ocelli_models::weights::{HostTensor, StateDict};
use ocelli_world::World;

use crate::method::{Bound, MethodError};
use crate::parts::infonce::unit;
use crate::step::read;

/// Unit vectors, the oldest replaced first. Starts full of random ones, so a loss against it *rises* until it has
/// turned over once.
#[derive(Debug, Clone)]
pub struct KeyQueue {
    /// `[dim, len]`, columns of unit length.
    entries: Tensor<2>,
    pointer: usize,
    /// Columns that hold a key, not a random vector.
    filled: usize,
    /// Keys of each enqueueing that are still in the queue, the oldest first.
    generations: VecDeque<usize>,
    /// Keys of a step's micro-batches, written together when the step is done.
    pending: Vec<Tensor<2>>,
}

impl KeyQueue {
    /// Random directions drawn from `seed`.
    pub fn new(dim: usize, len: usize, seed: u64, device: &Device) -> Self {
        // Directions do not depend on the deviation; a small one keeps the tails of the distribution.
        let drawn = Init::new(seed, device).trunc_normal([len, dim], 0.02).val();
        let entries = unit(drawn).transpose();
        Self { entries, pointer: 0, filled: 0, generations: VecDeque::new(), pending: Vec::new() }
    }

    /// `[dim, len]`.
    pub fn entries(&self) -> Tensor<2> {
        self.entries.clone()
    }

    /// What a device has to bind.
    pub fn bound(&self) -> Bound {
        Bound { what: "the queue of keys", shape: self.entries.dims().into(), by_batch: false }
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.entries.dims()[1]
    }

    /// Whether it has no columns.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The column the next key goes to.
    pub fn pointer(&self) -> usize {
        self.pointer
    }

    /// Share of the columns that hold keys, 0 to 1.
    pub fn fill(&self) -> f64 {
        self.filled as f64 / self.len().max(1) as f64
    }

    /// Mean number of steps since the keys in the queue were written (0: in the last step).
    pub fn age(&self) -> f64 {
        let newest = self.generations.len().saturating_sub(1);
        let sum: usize = self.generations.iter().enumerate().map(|(i, keys)| (newest - i) * keys).sum();
        sum as f64 / self.filled.max(1) as f64
    }

    /// Keeps the keys `[n, dim]` of a micro-batch until [`KeyQueue::turn`]: the loss of a step sees none of its own keys.
    pub fn hold(&mut self, keys: Tensor<2>) {
        self.pending.push(keys);
    }

    /// Holds what every process of `world` holds, in the order of the micro-batches: each has as many of them.
    ///
    /// # Errors
    /// When keys cannot be read from the device.
    pub fn exchange(&mut self, world: &dyn World) -> Result<(), MethodError> {
        let (dim, device) = (self.entries.dims()[0], self.entries.device());
        let mut all = Vec::new();
        for keys in std::mem::take(&mut self.pending) {
            for keys in world.gather(&read(keys, "the keys")?) {
                let n = keys.len() / dim.max(1);
                all.push(Tensor::from_data(TensorData::new(keys, [n, dim]), &device));
            }
        }
        self.pending = all;
        Ok(())
    }

    /// Enqueues what was held.
    pub fn turn(&mut self) {
        let keys = std::mem::take(&mut self.pending);
        if !keys.is_empty() {
            self.enqueue(Tensor::cat(keys, 0));
        }
    }

    /// Numbers in the queue.
    pub fn values(&self) -> usize {
        self.entries.dims().iter().product()
    }

    /// Writes keys `[n, dim]` of unit length over the oldest ones, and goes on from the first column past the last. Of
    /// more keys than columns the last are kept.
    pub fn enqueue(&mut self, keys: Tensor<2>) {
        let ([n, _], len) = (keys.dims(), self.len());
        if len == 0 || n == 0 {
            return;
        }
        let kept = n.min(len);
        let keys = keys.narrow(0, n - kept, kept).transpose();
        let dim = self.entries.dims()[0];
        let head = kept.min(len - self.pointer);
        let at = self.pointer;
        let entries = self.entries.clone().slice_assign([0..dim, at..at + head], keys.clone().narrow(1, 0, head));
        self.entries = match kept - head {
            0 => entries,
            rest => entries.slice_assign([0..dim, 0..rest], keys.narrow(1, head, rest)),
        };
        self.pointer = (at + kept) % len;
        self.filled = (self.filled + kept).min(len);
        self.generations.push_back(kept);
        let mut over = self.generations.iter().sum::<usize>().saturating_sub(len);
        while over > 0 {
            let Some(oldest) = self.generations.front_mut() else { break };
            let gone = over.min(*oldest);
            *oldest -= gone;
            over -= gone;
            if *oldest == 0 {
                self.generations.pop_front();
            }
        }
    }

    /// Adds the queue as `NAME`, `NAME_ptr` (MoCo's names) and `NAME_generations`.
    pub(crate) fn add_to(&self, name: &'static str, state: &mut StateDict) -> Result<(), MethodError> {
        let values =
            self.entries.clone().into_data().try_to_vec().map_err(|_| MethodError::Unreadable(name.into()))?;
        let tensors = &mut state.tensors;
        tensors.push((name.to_owned(), HostTensor { shape: self.entries.dims().to_vec(), values }));
        tensors.push((format!("{name}_ptr"), HostTensor { shape: vec![1], values: vec![self.pointer as f32] }));
        let ages: Vec<f32> = self.generations.iter().map(|n| *n as f32).collect();
        tensors.push((format!("{name}_generations"), HostTensor { shape: vec![ages.len()], values: ages }));
        Ok(())
    }

    /// Restores what [`KeyQueue::add_to`] wrote, or MoCo's own two tensors: then every column counts as a key of the
    /// last step.
    pub(crate) fn restored(&self, name: &'static str, state: &StateDict) -> Result<Self, MethodError> {
        let stored = state.get(name).ok_or(MethodError::Missing(name))?;
        let [dim, len] = self.entries.dims();
        if stored.shape != [dim, len] {
            return Err(MethodError::Value {
                key: name,
                expected: "the checkpoint's size, [dim, entries]".into(),
                found: format!("[{dim}, {len}] here, {:?} there", stored.shape),
            });
        }
        let pointer = state.get(&format!("{name}_ptr")).and_then(|t| t.values.first().copied());
        let pointer = pointer.ok_or(MethodError::Missing("queue pointer"))? as usize;
        let generations: VecDeque<usize> = match state.get(&format!("{name}_generations")) {
            Some(known) => known.values.iter().map(|n| *n as usize).collect(),
            None => [len].into(),
        };
        let filled = generations.iter().sum();
        if pointer >= len || filled > len {
            return Err(MethodError::Value {
                key: name,
                expected: "a pointer and keys within the queue".into(),
                found: format!("pointer {pointer}, {filled} keys, {len} columns"),
            });
        }
        let data = TensorData::new(stored.values.clone(), [dim, len]);
        let entries = Tensor::from_data(data, &self.entries.device());
        Ok(Self { entries, pointer, filled, generations, pending: Vec::new() })
    }
}

/// Whether a queue suits a data set: one larger than the set holds older keys of the very images that are compared with
/// it, which the loss then pushes apart.
///
/// # Errors
/// [`MethodError::Value`] with a length that would do.
pub fn check_queue(len: usize, batch: usize, images: usize) -> Result<(), MethodError> {
    if len > 0 && len < images {
        return Ok(());
    }
    // A tenth of the images, four batches at least, whole batches: a queue takes a batch at a time.
    let batch = batch.max(1);
    let most = (images / 10).max((4 * batch).min(images.saturating_sub(1)));
    let advice = (most / batch * batch).max(1);
    Err(MethodError::Value {
        key: "moco.queue",
        expected: "1 or more entries and fewer than the data set has images".into(),
        found: format!(
            "{len} entries for {images} images; {advice} would do: a queue that holds every image also holds older keys \
             of those it is compared with"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(from: usize, n: usize, device: &Device) -> Tensor<2> {
        let values: Vec<f32> = (from..from + n).flat_map(|k| [k as f32, -(k as f32)]).collect();
        Tensor::from_data(TensorData::new(values, [n, 2]), device)
    }

    fn columns(queue: &KeyQueue) -> Vec<f32> {
        let all: Vec<f32> = queue.entries().into_data().try_to_vec().unwrap();
        assert!(all[..queue.len()].iter().zip(&all[queue.len()..]).all(|(a, b)| *a == -*b));
        all[..queue.len()].to_vec()
    }

    #[test]
    fn the_oldest_keys_go_first_and_writing_wraps_around() {
        let device = Device::flex();
        let mut queue = KeyQueue::new(2, 5, 0, &device);
        let norms: Vec<f32> = queue.entries().powi_scalar(2).sum_dim(0).into_data().try_to_vec().unwrap();
        assert!(norms.iter().all(|n| (n - 1.0).abs() < 1e-5));
        assert_eq!((queue.fill(), queue.pointer()), (0.0, 0));
        queue.enqueue(keys(1, 2, &device));
        assert_eq!((queue.fill(), queue.pointer(), queue.age()), (0.4, 2, 0.0));
        queue.enqueue(keys(3, 2, &device));
        assert_eq!((queue.fill(), queue.age()), (0.8, 0.5));
        queue.enqueue(keys(5, 2, &device));
        assert_eq!(columns(&queue), [6.0, 2.0, 3.0, 4.0, 5.0]);
        // One key two steps old, two one step, two new.
        assert_eq!((queue.fill(), queue.pointer(), queue.age()), (1.0, 1, 0.8));
        queue.enqueue(keys(10, 7, &device));
        assert_eq!(columns(&queue), [16.0, 12.0, 13.0, 14.0, 15.0]);
        assert_eq!(queue.age(), 0.0);

        let mut state = StateDict::default();
        queue.enqueue(keys(20, 3, &device));
        queue.add_to("queue", &mut state).unwrap();
        let mut again = KeyQueue::new(2, 5, 9, &device).restored("queue", &state).unwrap();
        assert_eq!(
            (columns(&again), again.pointer(), again.age()),
            (columns(&queue), queue.pointer(), queue.age())
        );
        again.enqueue(keys(30, 1, &device));
        queue.enqueue(keys(30, 1, &device));
        assert_eq!((columns(&again), again.age()), (columns(&queue), queue.age()));
        assert!(KeyQueue::new(2, 6, 0, &device).restored("queue", &state).is_err());
    }

    #[test]
    fn a_queue_larger_than_the_data_set_is_refused_with_advice() {
        assert!(check_queue(65_536, 256, 1_281_167).is_ok());
        let message = check_queue(65_536, 64, 9_469).unwrap_err().to_string();
        assert!(message.contains("896 would do"), "{message}");
        assert!(check_queue(0, 64, 1000).is_err());
    }
}
