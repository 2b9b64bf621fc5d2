//! Buffers of sizes, kept.
//!
//! A network asks for the same sizes at every step. Writing a buffer ends a submission, because the queue writes before what is
//! recorded runs; so sizes that are still on the device save a submission for every launch.

use std::cell::RefCell;
use std::collections::HashMap;

use burn::backend::wgpu::CubeTensor;
use burn::cubecl::Device;
use burn::cubecl::server::Handle;

/// Entries of a generation. A training step has some hundred launches; those with the step's own numbers in them never come again.
const KEPT: usize = 1024;

/// What was asked for lately, and what was before: when the one is full it becomes the other, and nobody has to count uses.
#[derive(Default)]
struct Kept {
    new: HashMap<(Device, Box<[u32]>), Handle>,
    old: HashMap<(Device, Box<[u32]>), Handle>,
}

thread_local! {
    /// Each thread has a stream of its own on the device, and a buffer of another stream would have to be waited for.
    static KEPT_SIZES: RefCell<Kept> = RefCell::default();
}

/// A buffer with these numbers where `tensor` is. Nobody writes to it.
pub(super) fn buffer(tensor: &CubeTensor, sizes: &[u32]) -> Handle {
    KEPT_SIZES.with_borrow_mut(|kept| {
        let key = (tensor.device.clone(), Box::from(sizes));
        if let Some(handle) = kept.new.get(&key) {
            return handle.clone();
        }
        let known = kept.old.remove(&key);
        let handle = known.unwrap_or_else(|| tensor.client.create_from_slice(bytemuck::cast_slice(sizes)));
        if kept.new.len() >= KEPT {
            kept.old = std::mem::take(&mut kept.new);
        }
        kept.new.insert(key, handle.clone());
        handle
    })
}
