//! One training step of any method: the same natively and in the browser.

use burn::tensor::Tensor;

use crate::method::{Batch, Method, StepClock, Update};
use crate::optim::{GradientSum, OptimConfig, Optimizer, StepRates};

/// Takes one optimizer step on the micro-batches of `batches`, and returns the figures of [`Method::figures`] (means over the
/// micro-batches), then the norm of all gradients together and the largest norm of one parameter's, both before clipping:
/// `[figures + 2]`, still on the device. `clock` is that of the first micro-batch.
pub fn train_step(
    method: &mut dyn Method,
    (optimizer, config): (&mut Optimizer, &OptimConfig),
    batches: &[Batch],
    clock: StepClock,
    rates: &StepRates,
) -> Tensor<1> {
    method.before_step(&clock);
    if batches.len() > 1 {
        method.before_parts(batches, &clock);
    }
    let mut gradients = GradientSum::default();
    let mut figures: Option<Tensor<1>> = None;
    let weight = 1.0 / batches.len().max(1) as f64;
    for (micro_batch, batch) in batches.iter().enumerate() {
        let output = method.loss(batch, &StepClock { micro_batch, ..clock });
        let mut raw = output.loss.backward();
        gradients.add(method.network().take_gradients(&mut raw), weight);
        let row = Tensor::cat(output.scalars.into_iter().map(|(_, value)| value).collect(), 0) * weight;
        figures = Some(match figures {
            None => row,
            Some(sum) => sum + row,
        });
    }
    let norms = gradients.norms();
    method.update(Update { optimizer, gradients, rates, config, clock: &clock });
    method.after_step(&clock);
    let norms = norms.into_iter().flat_map(|(all, largest)| [all, largest]);
    Tensor::cat(figures.into_iter().chain(norms).collect(), 0)
}
