//! Soft targets: what a classifier learns from when batches are mixed.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use ocelli_data::MixDraw;
use ocelli_data::views::{mixup, soft_targets};

/// Mean over the rows of −Σ target·log softmax(logits): `[batch, classes]` both, to `[1]`.
pub fn soft_cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    (log_softmax(logits, 1) * targets).sum_dim(1).mean().neg()
}

/// Mixes a batch `[batch, 3, height, width]` with itself in reverse order: blends whole images (Zhang et al. 2018), or takes
/// a box from the partner (Yun et al. 2019). [`MixDraw::apply`] on the device.
pub fn mix_images(images: Tensor<4>, draw: &MixDraw) -> Tensor<4> {
    let Some(cut) = draw.cut else {
        return match draw.lambda < 1.0 {
            true => images.clone() * draw.lambda + images.flip([0]) * (1.0 - draw.lambda),
            false => images,
        };
    };
    let [top, left, height, width] = [cut.top, cut.left, cut.height, cut.width].map(|n| n as usize);
    if height * width == 0 {
        return images;
    }
    let [batch, channels, _, _] = images.dims();
    let place = [0..batch, 0..channels, top..top + height, left..left + width];
    let box_of_partner = images.clone().slice(place.clone()).flip([0]);
    images.slice_assign(place, box_of_partner)
}

/// Mixed targets of a batch, row-major `[batch, classes]`. An image without a class, or of one that is none of these, has a
/// row of zeros and adds nothing to the loss.
pub fn mix_targets(labels: &[Option<u32>], classes: usize, smoothing: f32, draw: &MixDraw) -> Vec<f32> {
    let row = |label: &Option<u32>| {
        let own = label.and_then(|label| soft_targets(&[label as usize], classes, smoothing).ok());
        own.unwrap_or_else(|| vec![0.0; classes])
    };
    let mut targets: Vec<f32> = labels.iter().flat_map(row).collect();
    mixup(&mut targets, labels.len(), draw.lambda);
    targets
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use ocelli_data::CropBox;

    use super::*;

    fn pixels(batch: usize, side: usize) -> Vec<f32> {
        (0..batch * 3 * side * side).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect()
    }

    fn tensor(values: &[f32], shape: [usize; 4]) -> Tensor<4> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    }

    #[test]
    fn batches_are_mixed_on_the_device_as_on_the_host() {
        let cut = |top, left, height, width| Some(CropBox { top, left, height, width });
        for batch in [1, 4, 5] {
            for (lambda, cut) in [
                (1.0, None),
                (0.3, None),
                (0.0, None),
                (0.75, cut(1, 2, 3, 3)),
                (1.0, cut(4, 4, 0, 2)),
                (0.0, cut(0, 0, 6, 6)),
            ] {
                let draw = MixDraw { lambda, cut };
                let mut host = pixels(batch, 6);
                let found = mix_images(tensor(&host, [batch, 3, 6, 6]), &draw);
                draw.apply(&mut host, batch, [6, 6]);
                let found = found.into_data().try_to_vec::<f32>().unwrap();
                assert!(found.iter().zip(&host).all(|(a, b)| (a - b).abs() < 1e-6), "{draw:?} of {batch}");
            }
        }
    }

    #[test]
    fn what_has_no_class_adds_nothing() {
        let draw = MixDraw { lambda: 1.0, cut: None };
        let targets = mix_targets(&[Some(1), None, Some(7)], 3, 0.3, &draw);
        let expected = [0.1, 0.8, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert!(targets.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{targets:?}");
        let mixed = mix_targets(&[Some(0), Some(1)], 2, 0.0, &MixDraw { lambda: 0.75, cut: None });
        assert_eq!(mixed, [0.75, 0.25, 0.25, 0.75]);
    }
}
