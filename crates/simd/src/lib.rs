//! The CPU's side of the operations that decide how fast Ocelli trains: functions on slices of `f32`, in vectors.
//!
//! The vectors are chosen at run time ([`Level`]): AVX-512, AVX2 with FMA, NEON, or what the target guarantees, which are
//! WebAssembly's 128-bit vectors, or plain arrays that the compiler vectorises (SSE2). A kernel is written once, generic over
//! [`Lanes`], inside [`simd_fn!`], which compiles it for every level and picks one by what the processor reports.
//!
//! Levels differ in how wide their vectors are, so they add up in other orders, and WebAssembly and SSE2 round a product before
//! they add to it: their results agree within rounding. At one level results are the same bits for any number of threads.
//!
//! | module | what it computes |
//! |---|---|
//! | [`product`], [`gemm`], [`host`] | matrix products: in registers, of tall activations, of small blocks |
//! | [`layer_norm`], [`gelu`], [`mlp`], [`attention`] | the layers of a Vision Transformer |
//! | [`batch_norm`] | of a ResNet |
//! | [`dino_cross_entropy`] | a loss |
//! | [`adamw`] | a step of the optimizer |
//! | [`nearest`] | the most similar rows of a bank |
//! | [`roi_align`] | the part of a map below a box |
//!
//! Nothing here knows of tensors: `ocelli-kernels` brings these functions and burn together. So they are built and tested
//! alone, and for other processors, in seconds.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod lanes;
mod level;
pub mod math;
// What `simd_fn!` names. The values of `x86` are only sound where their instructions are known to be there.
#[cfg(target_arch = "aarch64")]
#[doc(hidden)]
pub mod neon;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod portable;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
#[cfg(target_arch = "x86_64")]
#[doc(hidden)]
pub mod x86;

pub mod alloc;
pub mod parallel;

pub mod gemm;
pub mod host;
pub mod product;
pub mod tile;
pub mod transpose;

pub mod adamw;
pub mod attention;
pub mod batch_norm;
pub mod dino_cross_entropy;
pub mod gelu;
pub mod layer_norm;
pub mod max_pool;
pub mod mlp;
pub mod nearest;
pub mod pixels;
pub mod roi_align;

pub use lanes::{Lanes, WIDEST};
pub use level::Level;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
pub use portable::Portable;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub use wasm::Simd128 as Portable;
