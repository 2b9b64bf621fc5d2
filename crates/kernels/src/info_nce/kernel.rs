//! What a GPU implements.

use burn::backend::{Backend, Dispatch, backend_extension, tensor::FloatTensor};
#[cfg(feature = "fusion")]
use burn::tensor::Shape;
use burn::tensor::Tensor;

use super::{InfoNce, row_weights};
#[cfg(feature = "fusion")]
use crate::mode::spec;

/// The two directions. `query`, `key` `[rows, dim]`, `queue` `[dim, len]`, `weights` `[rows, 1]`.
#[backend_extension(Cube, Fusion: cfg(feature = "fusion"))]
pub trait InfoNceKernel: Backend {
    /// The loss `[1]`, the weighted share of rows whose positive is above every negative `[1]`, and of every row the
    /// log-sum-exp and the negatives' share of the softmax, `[2, rows]`.
    #[fusion(meta = |query, _key, _queue, _weights, _temperature| (spec(query, [1]), spec(query, [1]), spec(query, [2, query.shape[0]])))]
    fn info_nce_forward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        queue: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        temperature: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient of the queries, from what the forward pass kept and the gradient `[1]` of the loss.
    #[fusion(dtype = query, shape = query)]
    fn info_nce_backward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        queue: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        dloss: FloatTensor<Self>,
        temperature: f32,
    ) -> FloatTensor<Self>;
}

/// The differentiable operation.
#[backend_extension(Autodiff: cfg(feature = "autodiff"), Cube, Fusion: cfg(feature = "fusion"))]
pub trait InfoNceOps: Backend {
    /// The loss, whose value the forward pass has given with the log-sum-exps, as a function of the queries.
    #[fusion(dtype = loss, shape = Shape::from([1]))]
    fn info_nce_of(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        queue: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        loss: FloatTensor<Self>,
        temperature: f32,
    ) -> FloatTensor<Self>;
}

/// See [`info_nce`](super::info_nce()).
pub fn info_nce(
    query: Tensor<2>,
    key: Tensor<2>,
    queue: Tensor<2>,
    temperature: f64,
    weights: Option<Tensor<2>>,
) -> InfoNce {
    let temperature = temperature as f32;
    let weights = row_weights(weights, &query).into_dispatch();
    let (key, queue) = (key.into_dispatch(), queue.into_dispatch());
    let (loss, top1, lse) = <Dispatch as InfoNceKernel>::info_nce_forward(
        query.clone().inner().into_dispatch(),
        key.clone(),
        queue.clone(),
        weights.clone(),
        temperature,
    );
    let loss = match query.is_autodiff() {
        true => <Dispatch as InfoNceOps>::info_nce_of(
            query.into_dispatch(),
            key,
            queue,
            weights,
            lse,
            loss,
            temperature,
        ),
        false => loss,
    };
    InfoNce { loss: Tensor::from_dispatch(loss), top1: Tensor::from_dispatch(top1) }
}
