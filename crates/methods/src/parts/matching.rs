//! Which cell of the other view a cell is compared with.

use burn::tensor::{Device, Int, Tensor, TensorData};
use ocelli_data::ViewBox;
use serde::{Deserialize, Serialize};

/// How cells of the two views are matched (Wang et al. 2021, table of matching strategies; geometric as Xie et al.
/// 2021).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Matching {
    /// The most similar cell by the backbone's features.
    #[default]
    Backbone,
    /// The most similar cell by the dense head's outputs.
    Head,
    /// Any cell.
    Random,
    /// The cell that shows the same place, by crop boxes and flips; cells whose place the other view does not show are
    /// left out.
    Geometric,
}

impl Matching {
    /// By what cells are matched, in words.
    pub fn about(self) -> &'static str {
        match self {
            Self::Backbone => "the backbone's features",
            Self::Head => "the dense head's outputs",
            Self::Random => "chance",
            Self::Geometric => "place",
        }
    }
}

/// The nearest key cell of every query cell and whether it is near enough: its centre at most 0.7 of the larger cell
/// diagonal away (PixPro's rule).
pub fn geometric_match(query: &ViewBox, key: &ViewBox, grid: [usize; 2]) -> Vec<Option<usize>> {
    const NEAR: f32 = 0.7;
    let reach = NEAR * query.cell_diagonal(grid).max(key.cell_diagonal(grid));
    let cells = grid[0] * grid[1];
    let centres: Vec<(f32, f32)> = (0..cells).map(|c| key.cell_centre(c, grid)).collect();
    let nearest = |cell: usize| {
        let (x, y) = query.cell_centre(cell, grid);
        let away = |c: &(f32, f32)| (c.0 - x).hypot(c.1 - y);
        let (best, centre) = centres.iter().enumerate().min_by(|a, b| away(a.1).total_cmp(&away(b.1)))?;
        (away(centre) < reach).then_some(best)
    };
    (0..cells).map(nearest).collect()
}

/// The most similar key cell of every query cell, the first of equals: `[batch, dim, cells]` of unit length over `dim`
/// each, to `[batch, cells]`. Not differentiable.
pub fn most_similar(query: Tensor<3>, key: Tensor<3>) -> Tensor<2, Int> {
    query.inner().swap_dims(1, 2).matmul(key.inner()).argmax(2).squeeze_dim(2)
}

/// Random key cells, `[batch, cells]`.
pub fn random_match([batch, cells]: [usize; 2], seed: u64, device: &Device) -> Tensor<2, Int> {
    let mut draw = Draw(seed);
    let chosen: Vec<i32> = (0..batch * cells).map(|_| draw.below(cells) as i32).collect();
    Tensor::from_data(TensorData::new(chosen, [batch, cells]), device)
}

/// The keys at these cells: `[batch, dim, cells]` by `[batch, cells]`.
pub fn at_cells(keys: Tensor<3>, cells: Tensor<2, Int>) -> Tensor<3> {
    let dim = keys.dims()[1];
    keys.gather(2, cells.unsqueeze_dim::<3>(1).repeat_dim(1, dim))
}

/// A stream of integers that is the same everywhere (SplitMix64).
pub(crate) struct Draw(pub u64);

impl Draw {
    /// One of `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(ocelli_data::split_mix(&mut self.0)) * n as u128) >> 64) as usize
    }

    /// A permutation of `0..n`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(left: f32, top: f32, width: f32, height: f32, flip: bool) -> ViewBox {
        ViewBox { left, top, width, height, flip }
    }

    #[test]
    fn the_same_crop_matches_every_cell_with_itself_and_mirrored_with_its_mirror() {
        let grid = [2, 3];
        let plain = view(10.0, 20.0, 60.0, 40.0, false);
        let all: Vec<Option<usize>> = (0..6).map(Some).collect();
        assert_eq!(geometric_match(&plain, &plain, grid), all);
        let mirrored = ViewBox { flip: true, ..plain };
        let expected = [2, 1, 0, 5, 4, 3].map(Some);
        assert_eq!(geometric_match(&plain, &mirrored, grid), expected);
        assert_eq!(geometric_match(&mirrored, &mirrored, grid), all);
        for cell in 0..6 {
            let (x, y) = mirrored.position_of(mirrored.cell_centre(cell, grid), grid).unwrap();
            assert!((x - (cell % 3) as f32 - 0.5).abs() < 1e-4 && (y - (cell / 3) as f32 - 0.5).abs() < 1e-4);
        }
    }

    #[test]
    fn cells_beyond_the_other_view_have_no_match() {
        let grid = [4, 4];
        let left = view(0.0, 0.0, 40.0, 40.0, false);
        let right = view(20.0, 0.0, 40.0, 40.0, false);
        let found = geometric_match(&left, &right, grid);
        assert_eq!(found[..4], [None, None, Some(0), Some(1)]);
        assert_eq!(found[12..], [None, None, Some(12), Some(13)]);
        let far = view(200.0, 0.0, 40.0, 40.0, false);
        assert!(geometric_match(&left, &far, grid).iter().all(Option::is_none));
        assert_eq!(right.position_of((10.0, 5.0), grid), None);
    }

    #[test]
    fn permutations_hold_everything_once_and_depend_on_the_seed() {
        let mut a = Draw(1).permutation(50);
        assert_ne!(a, Draw(2).permutation(50));
        assert_ne!(a, (0..50).collect::<Vec<_>>());
        a.sort_unstable();
        assert_eq!(a, (0..50).collect::<Vec<_>>());
    }
}
