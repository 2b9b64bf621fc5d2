use burn::tensor::{Tensor, TensorData};
use ocelli_kernels::{max_pool, max_pool::max_pool_reference};

use crate::common::*;

/// Few different numbers, so that many are equal.
fn maps(shape: [usize; 4]) -> Vec<f32> {
    (0..shape.iter().product()).map(|i: usize| ((i * 37 + i * i / 7) % 5) as f32 - 2.0).collect()
}

/// Result and gradient of the maps.
fn run(pool: fn(Tensor<4>) -> Tensor<4>, values: &[f32], shape: [usize; 4]) -> [Vec<f32>; 2] {
    let x = Tensor::<4>::from_data(TensorData::new(values.to_vec(), shape), &device()).require_grad();
    let y = pool(x.clone());
    let grads = weigh(y.clone()).backward();
    [y.inner(), x.grad(&grads).unwrap()].map(|t| t.into_data().try_to_vec().unwrap())
}

#[test]
fn agrees_with_the_reference_where_cells_are_equal_too() {
    for height in [1, 2, 3, 4, 7, 16] {
        for width in [1, 2, 3, 5, 8, 31, 32, 33, 70] {
            let shape = [2, 3, height, width];
            let values = maps(shape);
            let [[y, dx], [expected_y, expected_dx]] =
                [max_pool, max_pool_reference].map(|pool| run(pool, &values, shape));
            assert_eq!(y, expected_y, "{shape:?}");
            assert_eq!(dx, expected_dx, "{shape:?}");
        }
    }
}

#[test]
fn is_the_same_where_there_are_many_tasks() {
    let shape = [9, 40, 24, 18];
    let values = maps(shape);
    assert_eq!(run(max_pool, &values, shape), run(max_pool_reference, &values, shape));
}

#[test]
fn takes_strided_maps() {
    let shape = [2, 6, 5, 3];
    let x = Tensor::<4>::from_data(TensorData::new(maps(shape), shape), &device());
    let turned = |pool: fn(Tensor<4>) -> Tensor<4>| {
        let x = x.clone().require_grad();
        let y = pool(x.clone().swap_dims(1, 3));
        let grads = weigh(y.clone()).backward();
        [y.inner(), x.grad(&grads).unwrap()].map(|t| t.into_data().try_to_vec::<f32>().unwrap())
    };
    assert_eq!(turned(max_pool), turned(max_pool_reference));
}

#[test]
fn nothing_gives_nothing() {
    assert_eq!(max_pool(Tensor::<4>::zeros([0, 3, 8, 8], &device())).dims(), [0, 3, 4, 4]);
}
