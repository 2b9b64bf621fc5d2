//! The exponential moving average that makes a teacher of a student.

use std::collections::HashMap;

use burn::module::Module;
use burn::tensor::Tensor;
use ocelli_models::params;

/// teacher ← m·teacher + (1 − m)·student, over parameters of the same name. Running statistics are left alone: the
/// teacher keeps its own (as the reference, which averages `parameters()` only).
pub fn ema_update<M: Module>(teacher: M, student: &M, momentum: f64) -> M {
    let student: HashMap<String, Tensor<1>> =
        params::collect(student).into_iter().filter(|p| p.trainable).map(|p| (p.name, p.values)).collect();
    params::replace(teacher, |param| {
        let followed = student.get(&param.name)?;
        Some(param.values.clone() * momentum + followed.clone() * (1.0 - momentum))
    })
}
