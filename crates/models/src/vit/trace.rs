//! One forward pass kept, so that maps of any block and any query follow without another.

use burn::tensor::Tensor;

use super::{BatchShape, Vit};
use crate::{Mode, PositionGrid};

/// What went into every block and what came out of the last: `depth + 1` times `[batch·tokens, dim]` on the device.
#[derive(Debug, Clone)]
pub struct Trace {
    inputs: Vec<Tensor<2>>,
    out: Tensor<2>,
    shape: BatchShape,
    grid: PositionGrid,
}

impl Trace {
    /// Patches along height and width.
    pub fn grid(&self) -> PositionGrid {
        self.grid
    }

    /// Images in the batch.
    pub fn batch(&self) -> usize {
        self.shape.batch
    }
}

impl Vit {
    /// Runs images `[batch, 3, height, width]` through the network and keeps what lies between the blocks.
    pub fn trace(&self, images: Tensor<4>) -> Trace {
        let [_, _, height, width] = images.dims();
        let (mut x, shape) = self.embed(images);
        let mut inputs = Vec::with_capacity(self.blocks.len());
        for (i, block) in self.blocks.iter().enumerate() {
            inputs.push(x.clone());
            x = block.forward(x, shape, Mode::Eval, i);
        }
        Trace { inputs, out: self.norm.forward(x), shape, grid: self.grid(height, width) }
    }

    /// All tokens after the final norm, `[batch, 1 + cells, dim]`.
    pub fn traced_tokens(&self, trace: &Trace) -> Tensor<3> {
        trace.shape.visible(trace.out.clone())
    }

    /// What one query attends to in block `layer`: `[batch, heads, 1 + cells]`. Query 0 is the class token, query 1 + i
    /// patch i. What goes to registers is left out.
    ///
    /// # Panics
    /// When there is no such block or query.
    pub fn traced_attention(&self, trace: &Trace, layer: usize, query: usize) -> Tensor<3> {
        let row = self.blocks[layer].attention_row(trace.inputs[layer].clone(), trace.shape, query);
        if trace.shape.registers == 0 { row } else { row.narrow(2, 0, trace.shape.visible_tokens()) }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{Arch, Init};

    #[test]
    fn a_trace_says_what_separate_passes_say() {
        let device = Device::flex();
        for name in ["vit-32x3x2/8", "vit-32x3x2/8-reg3"] {
            let config = name.parse::<Arch>().unwrap().config(24, 0.0);
            let vit = config.init(&mut Init::new(3, &device)).unwrap();
            let images = Init::new(4, &device).uniform([2, 3, 24, 16], 1.0).val();
            let trace = vit.trace(images.clone());
            assert_eq!((trace.batch(), trace.grid()), (2, PositionGrid { rows: 3, cols: 2 }));
            let apart =
                |a: Tensor<3>, b: Tensor<3>| (a - b).abs().max().into_data().try_to_vec::<f32>().unwrap()[0];
            assert_eq!(vit.traced_tokens(&trace).dims(), [2, 7, 32]);
            assert!(apart(vit.traced_tokens(&trace), vit.tokens(images.clone())) < 1e-6);
            for layer in 0..3 {
                let rows = vit.attention_rows(images.clone(), layer, 0..7);
                for query in [0, 4] {
                    let expected = rows.clone().narrow(2, query, 1).reshape([2, 2, 7]);
                    assert!(apart(vit.traced_attention(&trace, layer, query), expected) < 1e-6, "{layer} {query}");
                }
            }
        }
    }
}
