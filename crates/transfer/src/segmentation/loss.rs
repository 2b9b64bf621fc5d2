//! Cross-entropy of every pixel with its class, as mmsegmentation computes it: logits are brought to the labels' size, the
//! loss is summed over the pixels that have a label and divided by **all** pixels, so that a picture with few labels counts
//! for less.
//!
//! The gradient of the logits before they are resized is computed here, image by image, in plain tensors: the resized logits
//! of a batch (16 pictures of 512² with 21 classes are 350 MB, several times over in an autodiff graph) never exist at once.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use ocelli_data::annotated::IGNORED;

use super::resize::{Corners, Resize};

/// The classes of a batch's pixels on a device.
#[derive(Debug, Clone)]
pub struct Labels {
    /// `[batch, 1, height, width]`; [`IGNORED`] where there is none.
    classes: Tensor<4>,
}

impl Labels {
    /// Labels `[batch, height, width]`, row-major. A value that is no class counts as none.
    pub fn new(labels: &[u8], [batch, height, width]: [usize; 3], classes: usize, device: &Device) -> Self {
        let value = |label: &u8| if usize::from(*label) < classes { *label } else { IGNORED };
        let values: Vec<f32> = labels.iter().map(|label| f32::from(value(label))).collect();
        let data = TensorData::new(values, [batch, 1, height, width]);
        Self { classes: Tensor::from_data(data, device) }
    }

    /// `[height, width]`.
    pub fn size(&self) -> [usize; 2] {
        let [_, _, height, width] = self.classes.dims();
        [height, width]
    }
}

/// The loss of a head on a batch. Scalars are `[1]`, outside autodiff.
#[derive(Debug, Clone)]
pub struct PixelLoss {
    /// Mean over all pixels of the cross-entropy, 0 where there is no label.
    pub loss: Tensor<1>,
    /// Its gradient with respect to the logits, as they are before the resize.
    pub gradient: Tensor<4>,
    /// Pixels whose class is the most likely one.
    pub right: Tensor<1>,
    /// Pixels that have a label.
    pub labelled: Tensor<1>,
}

/// The loss of logits `[batch, classes, rows, cols]` at the labels' size.
///
/// # Panics
/// When there are not as many logits as labels: a batch has one picture at least.
pub fn pixel_loss(logits: Tensor<4>, labels: &Labels, corners: Corners) -> PixelLoss {
    let logits = logits.inner();
    let device = logits.device();
    let [batch, classes, rows, cols] = logits.dims();
    let [height, width] = labels.size();
    assert!(batch > 0 && labels.classes.dims()[0] == batch, "{batch} maps of logits, {:?}", labels.classes.dims());
    let resize = Resize::new([rows, cols], [height, width], corners, &device);
    let numbers: Vec<f32> = (0..classes).map(|class| class as f32).collect();
    let numbers = Tensor::<4>::from_data(TensorData::new(numbers, [1, classes, 1, 1]), &device);
    let share = 1.0 / (batch * height * width) as f64;

    let (mut gradients, mut sums) = (Vec::with_capacity(batch), [Vec::new(), Vec::new(), Vec::new()]);
    for image in 0..batch {
        let label = labels.classes.clone().narrow(0, image, 1);
        let full = resize.forward(logits.clone().narrow(0, image, 1));
        let likely = full.clone().argmax(1).float();
        let right = (likely - label.clone()).equal_elem(0.0).float().sum();
        let log_p = log_softmax(full, 1);
        // A pixel without a label is of no class: its column is 0.
        let is = (label.clone() - numbers.clone()).equal_elem(0.0).float();
        let counts = label.lower_elem(f32::from(IGNORED) - 0.5).float();
        let loss = (log_p.clone() * is.clone()).sum().neg() * share;
        let gradient = (log_p.exp() * counts.clone() - is) * share;
        gradients.push(resize.backward(gradient));
        for (sum, value) in sums.iter_mut().zip([loss, right, counts.sum()]) {
            sum.push(value);
        }
    }
    let [loss, right, labelled] = sums.map(|values| Tensor::cat(values, 0).sum());
    PixelLoss { loss, gradient: Tensor::cat(gradients, 0), right, labelled }
}

/// A number whose gradient is the given one: the way of a gradient that is already known into the rest of the graph.
pub fn carrying(logits: Tensor<4>, gradient: Tensor<4>) -> Tensor<1> {
    (logits * gradient.autodiff()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(device: &Device) -> Tensor<4> {
        let values: Vec<f32> = (0..2 * 3 * 3 * 4).map(|i| ((i * 29 + 3) % 53) as f32 / 10.0 - 2.5).collect();
        Tensor::from_data(TensorData::new(values, [2, 3, 3, 4]), device)
    }

    /// The definition in numbers.
    fn by_hand(full: &[f32], labels: &[u8], [classes, area]: [usize; 2]) -> f64 {
        let mut total = 0.0;
        for (i, label) in labels.iter().enumerate().filter(|(_, l)| **l != IGNORED) {
            let (image, pixel) = (i / area, i % area);
            let of = |class: usize| f64::from(full[(image * classes + class) * area + pixel]);
            let sum: f64 = (0..classes).map(|c| of(c).exp()).sum();
            total += sum.ln() - of(usize::from(*label));
        }
        total / labels.len() as f64
    }

    #[test]
    fn loss_and_gradient_are_those_of_the_definition() {
        let device = Device::flex();
        let (height, width) = (7, 9);
        let labels: Vec<u8> =
            (0..2 * height * width).map(|i| if i % 5 == 0 { IGNORED } else { (i % 3) as u8 }).collect();
        let on_device = Labels::new(&labels, [2, height, width], 3, &device);
        for corners in [Corners::HalfPixel, Corners::Aligned] {
            let found = pixel_loss(logits(&device), &on_device, corners);
            let of = |x: Tensor<4>| {
                let full = Resize::new([3, 4], [height, width], corners, &device).forward(x);
                by_hand(&full.into_data().try_to_vec::<f32>().unwrap(), &labels, [3, height * width])
            };
            let scalar = |x: Tensor<1>| f64::from(x.into_data().try_to_vec::<f32>().unwrap()[0]);
            let want = of(logits(&device));
            assert!((scalar(found.loss) - want).abs() < 1e-5);
            let labelled = labels.iter().filter(|l| **l != IGNORED).count();
            assert_eq!(scalar(found.labelled) as usize, labelled);
            let right = scalar(found.right);
            assert!(right > 0.0 && right < labelled as f64);
            let gradient = found.gradient.into_data().try_to_vec::<f32>().unwrap();
            for at in [0, 7, 13, 35, 50, 71] {
                let moved = |by: f32| {
                    let mut values = logits(&device).into_data().try_to_vec::<f32>().unwrap();
                    values[at] += by;
                    of(Tensor::from_data(TensorData::new(values, [2, 3, 3, 4]), &device))
                };
                let slope = (moved(0.05) - moved(-0.05)) / 0.1;
                assert!((slope - f64::from(gradient[at])).abs() < 2e-5, "{at}: {slope} {}", gradient[at]);
            }
        }
    }

    #[test]
    fn pictures_without_labels_cost_nothing() {
        let device = Device::flex();
        let none = Labels::new(&[IGNORED; 2 * 6], [2, 2, 3], 3, &device);
        let found = pixel_loss(logits(&device), &none, Corners::HalfPixel);
        let all = |x: Vec<f32>| x.iter().all(|v| *v == 0.0);
        assert!(all(found.loss.into_data().try_to_vec().unwrap()));
        assert!(all(found.gradient.into_data().try_to_vec().unwrap()));
        // A label that is no class is none.
        let strange = Labels::new(&[9; 2 * 6], [2, 2, 3], 3, &device);
        assert!(all(pixel_loss(logits(&device), &strange, Corners::HalfPixel)
            .loss
            .into_data()
            .try_to_vec()
            .unwrap()));
    }

    #[test]
    fn a_known_gradient_goes_on_into_the_graph() {
        let device = Device::flex();
        let leaf = logits(&device.clone().autodiff()).require_grad();
        let gradient = logits(&device) * 0.5 + 1.0;
        let carried = carrying(leaf.clone() * 3.0, gradient.clone());
        let found = leaf.grad(&carried.backward()).unwrap().into_data().try_to_vec::<f32>().unwrap();
        let want = (gradient * 3.0).into_data().try_to_vec::<f32>().unwrap();
        assert!(found.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
