//! Weights in and out of files, in PyTorch's names and layout.
//!
//! [`Weights::open`] takes the bytes of a safetensors file or of a PyTorch file (the zip, or the older form) and lists
//! its tensors; values are decoded one tensor at a time. A pickle is read as data by a machine that can call nothing.
//! [`Weights::layout`] tells which networks a file holds, whichever program named them, and [`Weights::backbone`] brings one to
//! our names and form.
//! Whatever the bytes, reading neither panics nor takes more memory than twice the file and 64 MB (four times the file where
//! its numbers have eight bits).
//!
//! [`read_data_pickle`] reads what else research code leaves in pickles, plain data and numpy arrays, by the same machine.
//!
//! [`preprocessing`] has what a network wants done to its pictures, as far as files and names tell.
//!
//! Nothing here touches files or knows of tensors on devices; the crate compiles to wasm unchanged.
//!
//! ```
//! use ocelli_weights::{Dtype, HostTensor, StateDict, Weights, WeightsError, write_pth};
//!
//! let mut state = StateDict::default();
//! let weight = HostTensor { shape: vec![1, 2], values: vec![0.5, -0.25] };
//! state.tensors.push(("head.weight".to_owned(), weight));
//! let bytes = write_pth(&state, Dtype::F16)?;
//!
//! let weights = Weights::open(&bytes)?;
//! let entry = &weights.entries()[0];
//! assert_eq!((entry.name.as_str(), entry.dtype), ("head.weight", Dtype::F16));
//! assert_eq!(weights.values(entry)?, [0.5, -0.25]);
//!
//! // A file that is none is refused in words.
//! let refused = Weights::open(b"a page that says: not found").err();
//! assert!(matches!(refused, Some(WeightsError::Unrecognised(_))));
//! # Ok::<(), WeightsError>(())
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod companions;
pub mod detectron2;
mod dtype;
mod entry;
mod error;
mod fits;
mod layout;
mod naming;
mod numpy_pickle;
mod ours;
mod pickle;
mod plan;
pub mod preprocessing;
mod program;
mod q8;
mod safetensors;
mod state;
mod torch;
mod walk;
mod weights;
mod write_torch;
mod zip;

pub use companions::{ShardIndex, read_model_config};
pub use dtype::Dtype;
pub use entry::Entry;
pub use error::{Mismatch, WeightsError};
pub use layout::{Family, Layout, Network, Part};
pub use numpy_pickle::{DataPickleError, read_data_pickle};
pub use safetensors::{read_safetensors, write_safetensors, write_safetensors_as};
pub use state::{HostTensor, StateDict};
pub use weights::Weights;
pub use write_torch::{write_pth, write_pth_under};
