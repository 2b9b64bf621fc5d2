use ocelli_simd::dino_cross_entropy::{Setting, loss};

use crate::common::*;

fn softmax(scores: &[f64]) -> Vec<f64> {
    let max = scores.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
    let e: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|e| e / sum).collect()
}

#[test]
fn the_loss_and_its_gradient() {
    for [batch, views, k] in [[1, 2, 3], [2, 3, 16], [3, 5, 50], [2, 10, 129], [1, 2, 1000]] {
        let what = format!("dino_cross_entropy of {batch} images, {views} views, {k}");
        let student = numbers(1, views * batch * k, 1.0);
        let teacher = numbers(2, 2 * batch * k, 1.0);
        let centre = numbers(3, k, 0.3);
        let setting = Setting {
            student: &student,
            teacher: &teacher,
            centre: &centre,
            batch,
            views,
            student_temp: 0.1,
            teacher_temp: 0.05,
        };
        let mut grad = vec![f32::NAN; student.len()];
        let got = loss(&setting, Some(&mut grad));
        assert_eq!(got, loss(&setting, None), "{what}: with the gradient and without");

        let (temp, teacher_temp) = (f64::from(setting.student_temp), f64::from(setting.teacher_temp));
        let (student, teacher, centre) = (wide(&student), wide(&teacher), wide(&centre));
        let terms = (2 * (views - 1) * batch) as f64;
        let (mut want, mut want_grad) = (0.0, vec![0.0; student.len()]);
        for t in 0..2 {
            for v in (0..views).filter(|v| *v != t) {
                for b in 0..batch {
                    let row = (v * batch + b) * k;
                    let sharp: Vec<f64> =
                        (0..k).map(|i| (teacher[(t * batch + b) * k + i] - centre[i]) / teacher_temp).collect();
                    let target = softmax(&sharp);
                    let soft = softmax(&student[row..row + k].iter().map(|s| s / temp).collect::<Vec<_>>());
                    for i in 0..k {
                        want -= target[i] * soft[i].ln() / terms;
                        want_grad[row + i] += (soft[i] - target[i]) / (temp * terms);
                    }
                }
            }
        }
        close(&what, &[got], &[want], 1e-5);
        close(&format!("{what}: gradient"), &grad, &want_grad, 1e-5);
    }
}
