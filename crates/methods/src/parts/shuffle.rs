//! Shuffling a batch and putting it back into order.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::matching::Draw;

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
