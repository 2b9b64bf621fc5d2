//! The embeddings of former batches, which make a small batch a large one where assignments are balanced (Caron et al. 2020,
//! <https://arxiv.org/abs/2006.09882>, §3).

use burn::tensor::{Device, Tensor};
use ocelli_models::weights::{HostTensor, StateDict};

use super::{to_device, to_host};
use crate::MethodError;

/// A queue of unit vectors for each assigned crop, the newest first. It starts as zeros and counts once its last row is filled.
#[derive(Debug, Clone)]
pub struct EmbeddingQueue {
    /// `[len, dim]` for each crop.
    rows: Vec<Tensor<2>>,
    /// Rows that hold an embedding, from the first on.
    filled: usize,
}

impl EmbeddingQueue {
    /// Zeros.
    pub fn new(crops: usize, len: usize, dim: usize, device: &Device) -> Self {
        Self { rows: (0..crops).map(|_| Tensor::zeros([len, dim], device)).collect(), filled: 0 }
    }

    /// Rows of each crop.
    pub fn len(&self) -> usize {
        self.rows.first().map_or(0, |rows| rows.dims()[0])
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether its last row holds an embedding.
    pub fn is_full(&self) -> bool {
        self.filled >= self.len()
    }

    /// The rows of a crop, `[len, dim]`.
    pub fn of(&self, crop: usize) -> Tensor<2> {
        self.rows[crop].clone()
    }

    /// Puts the embeddings of every crop, `[n, dim]` each, at the front; the last n rows fall out.
    pub fn push(&mut self, crops: Vec<Tensor<2>>) {
        let (len, n) = (self.len(), crops.first().map_or(0, |new| new.dims()[0]));
        for (rows, new) in self.rows.iter_mut().zip(crops) {
            *rows = match n < len {
                true => Tensor::cat(vec![new, rows.clone().narrow(0, 0, len - n)], 0),
                false => new.narrow(0, 0, len),
            };
        }
        self.filled = (self.filled + n).min(len);
    }

    /// Adds it as `name`, `[crops, len, dim]`.
    pub(crate) fn add_to(&self, name: &'static str, state: &mut StateDict) -> Result<(), MethodError> {
        let all = Tensor::<2>::stack::<3>(self.rows.clone(), 0);
        state.tensors.push((name.to_owned(), to_host(&all, name)?));
        Ok(())
    }

    /// Reads what [`EmbeddingQueue::add_to`] wrote; how much of it is filled is seen from its zeros.
    pub(crate) fn restored(
        [crops, len, dim]: [usize; 3],
        key: &'static str,
        stored: &HostTensor,
        device: &Device,
    ) -> Result<Self, MethodError> {
        if stored.shape != [crops, len, dim] {
            return Err(MethodError::Value {
                key,
                expected: format!("the checkpoint's queue, {:?} (crops, rows, width)", stored.shape),
                found: format!("{:?}", [crops, len, dim]),
            });
        }
        let rows = stored.values[..len * dim].chunks(dim.max(1));
        let filled = rows.take_while(|row| row.iter().any(|v| *v != 0.0)).count();
        let all = to_device::<3>(stored, device);
        let of = |crop| all.clone().narrow(0, crop, 1).reshape([len, dim]);
        Ok(Self { rows: (0..crops).map(of).collect(), filled })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    fn rows(from: usize, n: usize) -> Vec<Tensor<2>> {
        let of = |sign: f32| {
            let values: Vec<f32> = (from..from + n).map(|k| sign * k as f32).collect();
            Tensor::from_data(TensorData::new(values, [n, 1]), &Device::flex())
        };
        vec![of(1.0), of(-1.0)]
    }

    fn values(queue: &EmbeddingQueue, crop: usize) -> Vec<f32> {
        queue.of(crop).into_data().try_to_vec().unwrap()
    }

    #[test]
    fn the_newest_come_first_and_it_counts_when_full() {
        let device = Device::flex();
        let mut queue = EmbeddingQueue::new(2, 4, 1, &device);
        queue.push(rows(1, 2));
        assert!(!queue.is_full());
        let mut state = StateDict::default();
        queue.add_to("queue", &mut state).unwrap();
        let stored = state.get("queue").unwrap();
        let mut again = EmbeddingQueue::restored([2, 4, 1], "q", stored, &device).unwrap();
        for queue in [&mut queue, &mut again] {
            assert_eq!(queue.filled, 2);
            queue.push(rows(3, 2));
            assert!(queue.is_full());
            assert_eq!((values(queue, 0), values(queue, 1)[0]), (vec![3.0, 4.0, 1.0, 2.0], -3.0));
            queue.push(rows(5, 1));
            assert_eq!(values(queue, 0), [5.0, 3.0, 4.0, 1.0]);
            queue.push(rows(10, 6));
            assert_eq!(values(queue, 0), [10.0, 11.0, 12.0, 13.0]);
        }
        let message = EmbeddingQueue::restored([2, 8, 1], "swav.queue", stored, &device).unwrap_err().to_string();
        assert!(message.contains("swav.queue") && message.contains("[2, 4, 1]"), "{message}");
    }
}
