//! ROIAlign, forward and backward.

use burn::tensor::Tensor;
use ocelli::kernels::{Roi, RoiAlignShape, roi_align};

use crate::support::{Fixture, Tolerance, assert_close, device, values};

#[test]
fn parts_and_gradients() {
    let f = Fixture::load("roi_align");
    let device = device().autodiff();
    assert_eq!(f.config()["aligned"].as_bool(), Some(true), "the only kind there is");
    let (cells, pixels) = f.config()["scale"].as_str().unwrap().split_once('/').unwrap();
    let scale = cells.parse::<f32>().unwrap() / pixels.parse::<f32>().unwrap();
    let rois: Vec<Roi> = f
        .get("rois")
        .values
        .as_chunks::<5>()
        .0
        .iter()
        .map(|[image, x1, y1, x2, y2]| Roi { image: *image as usize, xyxy: [*x1, *y1, *x2, *y2] })
        .collect();
    let number = |text: &str| text.parse::<usize>().unwrap();
    let mut compared = 0;
    for (name, _) in &f.tensors.tensors {
        let Some((size, ratio)) = name.strip_prefix("out").and_then(|n| n.split_once(".ratio")) else { continue };
        if ratio.contains('.') {
            continue;
        }
        let size = number(size);
        let shape = RoiAlignShape { rows: size, cols: size, scale, sampling_ratio: number(ratio) };
        let features = f.tensor::<4>("features", &device).require_grad();
        let out = roi_align(features.clone(), &rois, shape);
        let given: Tensor<4> = f.tensor(&format!("{name}.grad_out"), &device);
        let grads = (out.clone() * given).sum().backward();
        let check = |what: &str, found: Tensor<4>, tolerance: &str| {
            let expected = &f.get(what).values;
            let near = Tolerance::of(&f.json["tolerance"][tolerance], expected);
            assert_close(what, &values(found), expected, near);
        };
        check(name, out, "out");
        check(&format!("{name}.grad_features"), features.grad(&grads).unwrap(), "grad_features");
        compared += 1;
    }
    assert!(compared > 1, "only {compared} results in the fixture");
}
