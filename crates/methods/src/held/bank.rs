//! The memory bank of embeddings that an epoch leaves for the next clustering (Caron et al. 2020,
//! <https://arxiv.org/abs/2006.09882>, on DeepCluster-v2).

use burn::tensor::{Device, Int, Tensor, TensorData};
use ocelli_models::weights::{HostTensor, StateDict};

use super::{to_device, to_host};
use crate::MethodError;
use crate::parts::kmeans::integers;

/// The label of an image that is in no cluster.
const NONE: i32 = -100;

/// Numbers up to this are whole in single precision, as checkpoints keep them.
pub(crate) const MOST_IMAGES: usize = 1 << 24;

const EMBEDDINGS: &str = "bank.embeddings";
const INDEX: &str = "bank.index";
const NEXT: &str = "bank.next";

/// One embedding of every assigned crop of every image of an epoch, by the image's place in that epoch, and which image it was.
///
/// It lies on the device in the parts it was written in: a step replaces a part and copies nothing else, no single buffer grows
/// with the data set, and nothing is read back before a checkpoint. ImageNet's takes 1.3 GB.
pub(crate) struct Bank {
    crops: usize,
    dim: usize,
    /// Rows of each crop when it is full.
    capacity: usize,
    parts: Vec<Part>,
    /// The part that is written next.
    next: usize,
}

struct Part {
    /// `[crops·n, dim]`, crop by crop.
    rows: Tensor<2>,
    /// The n images' numbers.
    images: Vec<usize>,
}

impl Bank {
    /// An empty one.
    pub fn new(crops: usize, dim: usize, capacity: usize) -> Self {
        Self { crops, dim, capacity, parts: Vec::new(), next: 0 }
    }

    /// Rows of each crop that have been written.
    pub fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.images.len()).sum()
    }

    /// Whether every image of an epoch is there.
    pub fn is_full(&self) -> bool {
        self.rows() >= self.capacity
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        (self.parts, self.next) = (Vec::new(), 0);
    }

    /// The next part is the first again: an epoch begins.
    pub fn rewind(&mut self) {
        self.next = 0;
    }

    /// Writes a batch's embeddings, `[n, dim]` for each crop, over those of its place in the last epoch.
    pub fn write(&mut self, crops: Vec<Tensor<2>>, images: &[usize]) {
        // Put together anew, so that nothing larger is kept alive by a view of it.
        let part = Part { rows: Tensor::cat(crops, 0), images: images.to_vec() };
        match self.parts.get_mut(self.next) {
            Some(place) => *place = part,
            None => self.parts.push(part),
        }
        self.next += 1;
    }

    /// The rows of a crop, part by part.
    pub fn of(&self, crop: usize) -> Vec<Tensor<2>> {
        let own = |part: &Part| {
            let n = part.images.len();
            part.rows.clone().narrow(0, crop * n, n)
        };
        self.parts.iter().map(own).collect()
    }

    /// What is known of rows, `[rows]`, by the number of the image: one of `images` that is not there has no label.
    pub fn by_image(&self, assigned: Tensor<1, Int>, images: usize) -> Labels {
        let rows = self.rows();
        let mut row_of = vec![rows; images + 1];
        for (row, image) in self.parts.iter().flat_map(|part| &part.images).enumerate() {
            if let Some(place) = row_of.get_mut(*image).filter(|_| *image < images) {
                *place = row;
            }
        }
        let device = assigned.device();
        let all = Tensor::cat(vec![assigned, Tensor::from_data(TensorData::new(vec![NONE], [1]), &device)], 0);
        Labels { by_image: all.select(0, integers(&row_of, &device)) }
    }

    /// Numbers in it when it is full.
    pub fn values(&self) -> usize {
        (self.crops * self.dim + 1) * self.capacity
    }

    /// Adds `bank.embeddings` `[crops, rows, dim]`, `bank.index` `[rows]` and `bank.next`, unless it is empty.
    pub fn add_to(&self, state: &mut StateDict) -> Result<(), MethodError> {
        if self.parts.is_empty() {
            return Ok(());
        }
        let mut values = Vec::with_capacity(self.crops * self.rows() * self.dim);
        for crop in 0..self.crops {
            values.extend(to_host(&Tensor::cat(self.of(crop), 0), "the memory bank")?.values);
        }
        let embeddings = HostTensor { shape: vec![self.crops, self.rows(), self.dim], values };
        let index: Vec<f32> = self.parts.iter().flat_map(|part| &part.images).map(|i| *i as f32).collect();
        let index = HostTensor { shape: vec![index.len()], values: index };
        let next = HostTensor { shape: vec![1], values: vec![self.next as f32] };
        for (name, tensor) in [(EMBEDDINGS, embeddings), (INDEX, index), (NEXT, next)] {
            state.tensors.push((name.to_owned(), tensor));
        }
        Ok(())
    }

    /// Reads what [`Bank::add_to`] wrote, in parts of `part` images; an empty one where nothing is stored.
    pub fn restored(&self, part: usize, state: &StateDict, device: &Device) -> Result<Self, MethodError> {
        let mut bank = Self::new(self.crops, self.dim, self.capacity);
        let Some(stored) = state.get(EMBEDDINGS) else {
            // Before the first pass there is none, and nothing that goes with one.
            return match state.get(INDEX) {
                None => Ok(bank),
                Some(_) => Err(MethodError::Missing("embeddings of the memory bank")),
            };
        };
        let index = &state.get(INDEX).ok_or(MethodError::Missing("index of the memory bank"))?.values;
        let next = state.get(NEXT).and_then(|t| t.values.first());
        bank.next = *next.ok_or(MethodError::Missing("place in the memory bank"))? as usize;
        let rows = index.len();
        if stored.shape != [self.crops, rows, self.dim] || rows > self.capacity {
            return Err(MethodError::Value {
                key: "deepcluster.out_dim",
                expected: format!("the checkpoint's memory bank, {:?} (crops, rows, width)", stored.shape),
                found: format!("{:?}", [self.crops, self.capacity, self.dim]),
            });
        }
        for at in (0..rows).step_by(part.max(1)) {
            let n = part.max(1).min(rows - at);
            let of = |crop: usize| &stored.values[(crop * rows + at) * self.dim..][..n * self.dim];
            let values: Vec<f32> = (0..self.crops).flat_map(of).copied().collect();
            let values = HostTensor { shape: vec![self.crops * n, self.dim], values };
            let images = index[at..at + n].iter().map(|i| *i as usize).collect();
            bank.parts.push(Part { rows: to_device(&values, device), images });
        }
        Ok(bank)
    }
}

/// Clusters of images by their number.
#[derive(Debug, Clone)]
pub(crate) struct Labels {
    /// `[images + 1]`, −100 for one without; the last is that of images nobody knows.
    by_image: Tensor<1, Int>,
}

impl Labels {
    /// The clusters of these images, −100 where they have none: `[images]`.
    pub fn of(&self, images: &[usize]) -> Tensor<1, Int> {
        let unknown = self.by_image.dims()[0] - 1;
        let places: Vec<usize> = images.iter().map(|i| (*i).min(unknown)).collect();
        self.by_image.clone().select(0, integers(&places, &self.by_image.device()))
    }

    /// Of all images, `[images]`.
    pub fn all(&self) -> Tensor<1, Int> {
        let images = self.by_image.dims()[0] - 1;
        self.by_image.clone().narrow(0, 0, images)
    }

    /// From a checkpoint's values, one for each image.
    pub fn restored(values: &[f32], device: &Device) -> Self {
        let mut values: Vec<i32> = values.iter().map(|v| *v as i32).collect();
        values.push(NONE);
        let len = values.len();
        Self { by_image: Tensor::from_data(TensorData::new(values, [len]), device) }
    }

    /// For a checkpoint, `[images]`.
    pub fn to_values(&self) -> Result<Vec<f32>, MethodError> {
        Ok(to_host(&self.all().float(), "the assignments")?.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[f32]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len(), 1]), &Device::flex())
    }

    fn values(bank: &Bank, crop: usize) -> Vec<f32> {
        Tensor::cat(bank.of(crop), 0).into_data().try_to_vec().unwrap()
    }

    #[test]
    fn a_batch_takes_the_place_of_the_one_of_the_last_epoch() {
        let device = Device::flex();
        let mut bank = Bank::new(2, 1, 4);
        bank.write(vec![rows(&[1.0, 2.0]), rows(&[-1.0, -2.0])], &[5, 3]);
        assert!(!bank.is_full());
        bank.write(vec![rows(&[3.0, 4.0]), rows(&[-3.0, -4.0])], &[0, 2]);
        assert!(bank.is_full());
        bank.rewind();
        bank.write(vec![rows(&[6.0, 7.0]), rows(&[-6.0, -7.0])], &[2, 1]);
        let mut state = StateDict::default();
        bank.add_to(&mut state).unwrap();
        let mut again = Bank::new(2, 1, 4).restored(2, &state, &device).unwrap();
        for bank in [&mut bank, &mut again] {
            assert_eq!(values(bank, 0), [6.0, 7.0, 3.0, 4.0]);
            assert_eq!(values(bank, 1), [-6.0, -7.0, -3.0, -4.0]);
            let labels = bank.by_image(integers(&[8, 9, 10, 11], &device), 6);
            // Image 2 is there twice: its last row counts.
            assert_eq!(labels.to_values().unwrap(), [10.0, 9.0, 11.0, -100.0, -100.0, -100.0]);
            let found = labels.of(&[1, 4, 77]).into_data().iter::<i64>().collect::<Vec<_>>();
            assert_eq!(found, [9, -100, -100]);
            let stored = Labels::restored(&labels.to_values().unwrap(), &device);
            assert_eq!(stored.to_values().unwrap(), labels.to_values().unwrap());
            bank.write(vec![rows(&[8.0, 9.0]), rows(&[-8.0, -9.0])], &[4, 5]);
            assert_eq!(values(bank, 0), [6.0, 7.0, 8.0, 9.0]);
        }
        assert!(Bank::new(2, 2, 4).restored(2, &state, &device).is_err());
        assert!(Bank::new(2, 1, 3).restored(2, &state, &device).is_err());
        assert_eq!(Bank::new(2, 1, 4).restored(2, &StateDict::default(), &device).unwrap().rows(), 0);
    }
}
