//! How well the cells of two views of an image find each other.

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_data::{BadFile, DataError, Rng, Scratch, Source, ViewBox, ViewPlace, ViewPlan};
use ocelli_eval::correspondence::{Pck, nearest};

use crate::TrainError;

/// Percentage of correct matches: two views of each image by `plan` (its first two), every cell of one matched to the
/// most similar cell of the other, against where the crops say it is. `map` gives the features of an image `[1, 3, side, side]`,
/// `[1, dim, rows, columns]`. The views depend on `seed` alone, so that several networks can be shown the same. `tick` is called
/// after every image; one that cannot be read is left out, and `tick` told which and why.
///
/// # Errors
/// When views are no whole number of cells, or features are not finite.
pub fn correspondence(
    map: impl Fn(Tensor<4>) -> Tensor<4>,
    (source, indices): (&dyn Source, &[usize]),
    plan: &ViewPlan,
    seed: u64,
    device: &Device,
    mut tick: impl FnMut(Option<BadFile>),
) -> Result<Pck, TrainError> {
    plan.validate()?;
    let side = plan.views[0].size_px as usize;
    let (mut pck, mut scratch) = (Pck::default(), Scratch::default());
    for index in indices {
        let image = match source.load(*index) {
            Ok(image) => image,
            Err(error @ (DataError::Panic { .. } | DataError::Config { .. })) => return Err(error.into()),
            Err(error) => {
                tick(Some(BadFile { name: source.name(*index), reason: error.to_string() }));
                continue;
            }
        };
        let (mut a, mut b) = (vec![0.0; 3 * side * side], vec![0.0; 3 * side * side]);
        let mut rng = Rng::for_sample(seed, 0, *index as u64);
        let drawn = plan.draw_all(&image, &mut rng);
        plan.render_all(&image, &drawn, &mut scratch, &mut [&mut a, &mut b]);
        let [from, to] = [&drawn[0], &drawn[1]].map(|params| ViewBox::from(&ViewPlace::from(params)));
        let cells = |pixels: Vec<f32>| {
            let map = map(Tensor::from_data(TensorData::new(pixels, [1, 3, side, side]), device));
            let [_, dim, rows, cols] = map.dims();
            (map.reshape([dim, rows * cols]).transpose(), [rows, cols])
        };
        let ((a, grid), (b, other)) = (cells(a), cells(b));
        let truth: Vec<Option<(f32, f32)>> =
            (0..grid[0] * grid[1]).map(|cell| to.position_of(from.cell_centre(cell, grid), other)).collect();
        pck.add(&nearest(a, b)?, &truth, other);
        tick(None);
    }
    Ok(pck)
}
