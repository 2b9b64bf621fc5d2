use std::{env, fs, path::PathBuf};

use serde_json::Value;

use burn::tensor::{Tensor, TensorData};
use ocelli_kernels::{dino_cross_entropy, dino_cross_entropy::dino_cross_entropy_reference};

use crate::common::*;

type Loss = fn(Tensor<2>, Tensor<2>, Tensor<2>, f32, f32, usize) -> Tensor<1>;

fn run(
    f: Loss,
    student: Tensor<2>,
    teacher: &Tensor<2>,
    centre: &Tensor<2>,
    views: usize,
) -> (Tensor<1>, Tensor<2>) {
    let student = student.require_grad();
    let loss = f(student.clone(), teacher.clone(), centre.clone(), 0.1, 0.04, views);
    let grads = (loss.clone() * 1.5).backward();
    (loss, student.grad(&grads).unwrap())
}

fn check(student: Tensor<2>, teacher: &Tensor<2>, centre: &Tensor<2>, views: usize, tolerance: f64) {
    let what = format!("dino_cross_entropy {:?} {views}", student.dims());
    let want = run(dino_cross_entropy_reference, double(&student), &double(teacher), &double(centre), views);
    let got = run(dino_cross_entropy, student.detach(), teacher, centre, views);
    // Of one prototype loss and gradient are zero: the logarithm of 1, and a difference of two shares of 1 by τ and the factor.
    close_or_zero(&what, &got.0, &want.0, tolerance, 1.0);
    close_or_zero(&format!("{what} gradient"), &got.1, &want.1, tolerance, 1.5 / 0.1);
}

#[test]
fn agrees_with_the_reference() {
    for (views, batch, k) in [(2, 1, 1), (2, 3, 5), (6, 5, 40), (10, 2, 1000), (3, 4, 33)] {
        check(
            random(1, [views * batch, k], 0.5),
            &random(2, [2 * batch, k], 0.5),
            &random(3, [1, k], 0.2),
            views,
            1e-5,
        );
    }
}

#[test]
fn survives_large_inputs() {
    let student = random(1, [12, 50], 1e4).require_grad();
    let loss = dino_cross_entropy(student.clone(), random(2, [6, 50], 1e4), random(3, [1, 50], 1.0), 0.1, 0.04, 4);
    finite("loss", &loss);
    finite("gradient", &student.grad(&loss.backward()).unwrap());
}

#[test]
fn takes_strided_inputs() {
    let student = random(1, [30, 12], 0.5).transpose();
    let teacher = random(2, [6, 60], 0.5).slice([0..6, 20..50]);
    check(student, &teacher, &random(3, [1, 30], 0.2), 4, 1e-5);
}

#[test]
fn is_the_same_on_any_number_of_threads() {
    same_bits("dino_cross_entropy", || {
        let (loss, grad) = run(
            dino_cross_entropy,
            random(1, [48, 700], 0.5),
            &random(2, [16, 700], 0.5),
            &random(3, [1, 700], 0.2),
            6,
        );
        vec![bits(&loss), bits(&grad)]
    });
}

#[test]
fn reference_passes_finite_differences() {
    let (teacher, centre) = (double(&random(2, [4, 5], 0.1)), double(&random(3, [1, 5], 0.1)));
    differences("student", &random(1, [6, 5], 0.1), |student| {
        dino_cross_entropy_reference(student, teacher.clone(), centre.clone(), 0.1, 0.04, 3)
    });
}

/// A fixture's description, the header of its tensors and their bytes.
struct Golden {
    json: Value,
    header: Value,
    data: Vec<u8>,
}

impl Golden {
    fn read(name: &str) -> Self {
        let folder = env::var_os("OCELLI_GOLDEN").map_or_else(
            || PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../../tests/golden"),
            PathBuf::from,
        );
        let json = fs::read(folder.join(format!("{name}.json"))).unwrap();
        let bytes = fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let (header, data) = bytes[8..].split_at(header);
        let parse = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap();
        Self { json: parse(&json), header: parse(header), data: data.to_vec() }
    }

    fn number(&self, key: &str) -> f64 {
        self.json["config"][key].as_f64().unwrap_or_else(|| panic!("{key}"))
    }

    fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let list = |field: &str| -> Vec<usize> {
            let list = self.header[name][field].as_array().unwrap();
            list.iter().map(|x| x.as_u64().unwrap() as usize).collect()
        };
        let range = list("data_offsets");
        let numbers: Vec<f32> = self.data[range[0]..range[1]]
            .chunks_exact(4)
            .map(|x| f32::from_le_bytes(x.try_into().unwrap()))
            .collect();
        Tensor::from_data(TensorData::new(numbers, list("shape")), &cpu())
    }

    /// Every number within the fixture's tolerance for `of`.
    fn check(&self, of: &str, got: &[f64], want: &[f64]) {
        let tolerance = &self.json["tolerance"][of];
        let largest = want.iter().fold(0.0f64, |a, b| a.max(b.abs()));
        let atol = match tolerance["atol_times_tensor_max_abs"].as_f64() {
            Some(share) => share * largest,
            None => tolerance["atol"].as_f64().unwrap(),
        };
        let rtol = tolerance["rtol"].as_f64().unwrap();
        assert_eq!(got.len(), want.len(), "{of}");
        for (g, w) in got.iter().zip(want) {
            assert!((g - w).abs() <= atol + rtol * w.abs(), "{of} {g}, expected {w}");
        }
    }
}

#[test]
fn agrees_with_the_golden_numbers() {
    let golden = Golden::read("loss_dino");
    let (own, theirs) = (golden.number("student_temp") as f32, golden.number("teacher_temp") as f32);
    for f in [dino_cross_entropy as Loss, dino_cross_entropy_reference] {
        let student = golden.tensor("student").require_grad();
        let views = golden.number("ncrops") as usize;
        let loss = f(student.clone(), golden.tensor("teacher"), golden.tensor("center"), own, theirs, views);
        golden.check("loss", &list(&loss), &list(&golden.tensor::<1>("loss")));
        let gradient = list(&student.grad(&loss.backward()).unwrap());
        golden.check("grad", &gradient, &list(&golden.tensor::<2>("grad.student")));
    }
}
