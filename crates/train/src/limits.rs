//! The largest tensors of a run beside what a device binds at most, before the first step.

use ocelli_methods::Method;
use ocelli_methods::optim::Optimizer;
use serde_json::Value;

use crate::{RunConfig, TrainError};

/// What a kernel may bind on an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a storage buffer that a kernel binds, at most (`max_storage_buffer_binding_size`).
    pub binding_bytes: u64,
    /// Bytes of any buffer, at most (`max_buffer_size`).
    pub buffer_bytes: u64,
}

/// A tensor of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// What it is, with its shape.
    pub what: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Keys of the configuration that make it smaller, in words.
    pub lower: String,
}

impl Limits {
    /// Refuses the largest tensor that is beyond a limit.
    ///
    /// # Errors
    /// [`TrainError::TooLarge`] with the tensor, the limit and what to lower.
    pub fn check(&self, tensors: &[Tensor]) -> Result<(), TrainError> {
        let (limit, most) = match self.binding_bytes <= self.buffer_bytes {
            true => ("max_storage_buffer_binding_size", self.binding_bytes),
            false => ("max_buffer_size", self.buffer_bytes),
        };
        match tensors.iter().max_by_key(|tensor| tensor.bytes) {
            Some(Tensor { what, bytes, lower }) if *bytes > most => {
                Err(TrainError::TooLarge { what: what.clone(), bytes: *bytes, limit, most, lower: lower.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// Bytes in the unit that drivers give their limits in; what is not a whole number of it is rounded up.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// Numbers are f32 everywhere.
const BYTES: u64 = 4;

/// What makes fewer images pass at once.
const BATCH: &str = "batch_size (or raise accumulate)";

/// The large tensors that are known before a step: parameters with the optimizer's moments, what the method holds and makes, and
/// the backbone's widest layer, with so many images to a micro-batch.
pub fn largest(config: &RunConfig, images: usize, method: &dyn Method) -> Vec<Tensor> {
    let copies = Optimizer::new(&config.optim).memory();
    let mut tensors = Vec::new();
    for parameter in method.network().parameters().iter().filter(|p| p.trainable) {
        let shape: Vec<usize> = parameter.shape.to_vec();
        // The moments of a parameter are one tensor.
        let (words, factor) = if copies > 1 { ("both moments of ", copies) } else { ("", 1) };
        let lower = match parameter.name.starts_with("backbone.") {
            true => "the size of the network (--arch)".to_owned(),
            false => keys(config, &shape).unwrap_or_else(|| "the width of the head".to_owned()),
        };
        tensors.push(tensor(&format!("{words}{}", parameter.name), &shape, factor, lower));
    }
    let plan = config.view_plan();
    for bound in method.bound(images, plan.views.len()) {
        let of_config = keys(config, &bound.shape);
        let lower: Vec<String> = bound.by_batch.then(|| BATCH.to_owned()).into_iter().chain(of_config).collect();
        tensors.push(tensor(bound.what, &bound.shape, 1, lower.join(" or ")));
    }
    let backbone = config.backbone();
    for (side_px, views) in plan.groups() {
        let rows = images * method.views_at_once(views.len());
        let shape = [rows, backbone.largest_activation(side_px as usize)];
        let lower = format!("{BATCH} or the size of the views, or take a smaller --arch");
        tensors.push(tensor(&format!("a layer of {} at {side_px} px", config.arch), &shape, 1, lower));
    }
    tensors
}

fn tensor(what: &str, shape: &[usize], copies: usize, lower: String) -> Tensor {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    let count = shape.iter().fold(copies as u64, |product, size| product.saturating_mul(*size as u64));
    Tensor { what: format!("{what} ({})", sizes.join(" × ")), bytes: count.saturating_mul(BYTES), lower }
}

/// The method's keys whose values are sizes of this shape, the largest first.
fn keys(config: &RunConfig, shape: &[usize]) -> Option<String> {
    let value = |name: &str| config.own.value(name).and_then(Value::as_u64).unwrap_or(0);
    let mut found: Vec<(u64, &str)> = config
        .recipe()
        .keys
        .iter()
        .map(|key| (value(key.name), key.name))
        .filter(|(value, _)| *value > 1 && shape.iter().any(|size| *size as u64 == *value))
        .collect();
    found.sort_by_key(|(value, _)| std::cmp::Reverse(*value));
    let names: Vec<&str> = found.into_iter().map(|(_, name)| name).collect();
    (!names.is_empty()).then(|| names.join(" or "))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::config::resolve;

    fn largest_of(sets: &[&str]) -> Vec<Tensor> {
        let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
        let config = resolve(None, None, &sets).unwrap();
        let backbone = config.backbone();
        let facts = config.facts(&backbone, Some(10_000), Some(10));
        let method = (config.recipe().build)(&facts, 0, &Device::flex()).unwrap();
        largest(&config, config.batch_size / config.accumulate, method.as_ref())
    }

    fn refused(tensors: &[Tensor], most: u64) -> String {
        let limits = Limits { binding_bytes: most, buffer_bytes: 2 * most };
        limits.check(tensors).unwrap_err().to_string()
    }

    const SMALL: [&str; 3] = ["arch=vit-32x2x2/8", "views.global_size_px=32", "views.local_size_px=16"];

    #[test]
    fn a_tensor_beyond_the_limit_is_named_with_what_to_lower() {
        // Both moments of 9,000 × 256 numbers are 18.4 MB.
        let head = largest_of(
            &[&SMALL[..], &["dino.head.hidden_dim=64", "dino.head.out_dim=9000", "batch_size=2"]].concat(),
        );
        let words = refused(&head, 10 << 20);
        for part in
            ["10 MiB", "max_storage_buffer_binding_size", "last_layer", "18 MiB", "dino.head.out_dim", "9000"]
        {
            assert!(words.contains(part), "expected \"{part}\" in: {words}");
        }
        // 10 views of 256 images with 9,000 logits are 92 MB.
        let logits = largest_of(
            &[&SMALL[..], &["dino.head.hidden_dim=64", "dino.head.out_dim=9000", "batch_size=256"]].concat(),
        );
        let words = refused(&logits, 80 << 20);
        for part in ["the student's logits (2560 × 9000)", "batch_size (or raise accumulate)", "dino.head.out_dim"]
        {
            assert!(words.contains(part), "expected \"{part}\" in: {words}");
        }
        let parts = largest_of(
            &[
                &SMALL[..],
                &["dino.head.hidden_dim=64", "dino.head.out_dim=9000", "batch_size=256", "accumulate=8"],
            ]
            .concat(),
        );
        assert!(Limits { binding_bytes: 80 << 20, buffer_bytes: u64::MAX }.check(&parts).is_ok());
        let limits = Limits { binding_bytes: u64::MAX, buffer_bytes: 10 << 20 };
        assert!(limits.check(&logits).unwrap_err().to_string().contains("max_buffer_size"));
    }

    #[test]
    fn queues_and_layers_count_too() {
        let moco =
            ["method=moco", "arch=resnet-18c16", "views.global_size_px=32", "moco.queue=40000", "batch_size=8"];
        let words = refused(&largest_of(&moco), 16 << 20);
        for part in ["the queue of keys (128 × 40000)", "20 MiB", "moco.queue or moco.out_dim"] {
            assert!(words.contains(part), "expected \"{part}\" in: {words}");
        }
        // One view at a time: 64 images × 16 channels × 16 × 16 cells are 1 MiB.
        let layers =
            ["method=moco", "arch=resnet-18c16", "views.global_size_px=32", "moco.queue=64", "batch_size=64"];
        let found = largest_of(&layers);
        let layer = found.iter().find(|t| t.what.starts_with("a layer")).unwrap();
        assert_eq!(layer.bytes, 1 << 20, "{layer:?}");
        assert!(layer.lower.contains("batch_size") && layer.lower.contains("--arch"), "{layer:?}");
    }
}
