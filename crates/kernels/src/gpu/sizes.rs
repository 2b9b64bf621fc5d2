//! Buffers of sizes, kept.
//!
//! A network asks for the same sizes at every step. Writing a buffer ends a submission, because the queue writes before what is
//! recorded runs; so sizes that are still on the device save a submission for every launch.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;

use burn::backend::wgpu::CubeTensor;
use burn::cubecl::Device;
use burn::cubecl::server::Handle;

/// Entries of a generation. A training step has some hundred launches; those with the step's own numbers in them never come again.
const KEPT: usize = 1024;

/// What was asked for lately, and what was before: when the one is full it becomes the other, and nobody has to count uses.
struct Kept<K, V> {
    new: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self { new: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    /// What is kept under a key, made now if there is nothing.
    fn get_or_make(&mut self, key: K, make: impl FnOnce() -> V) -> V {
        if let Some(value) = self.new.get(&key) {
            return value.clone();
        }
        let value = self.old.remove(&key).unwrap_or_else(make);
        if self.new.len() >= KEPT {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(key, value.clone());
        value
    }
}

/// A device and numbers that lie on it.
type Wanted = (Device, Box<[u32]>);

thread_local! {
    /// Each thread has a stream of its own on the device, and a buffer of another stream would have to be waited for.
    static KEPT_SIZES: RefCell<Kept<Wanted, Handle>> = RefCell::default();
}

/// A buffer with these numbers where `tensor` is. Nobody writes to it.
pub(super) fn buffer(tensor: &CubeTensor, sizes: &[u32]) -> Handle {
    KEPT_SIZES.with_borrow_mut(|kept| {
        let key: Wanted = (tensor.device.clone(), Box::from(sizes));
        kept.get_or_make(key, || tensor.client.create_from_slice(bytemuck::cast_slice(sizes)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let (mut kept, mut made) = (Kept::default(), Vec::new());
        let mut ask = |key: usize| kept.get_or_make(key, || made.push(key));
        // One key is asked for again and again among others that never come back.
        for key in 0..5 * KEPT {
            ask(usize::MAX);
            ask(key);
        }
        ask(5 * KEPT - 1);
        ask(0);
        let times = |made: &[usize], key| made.iter().filter(|k| **k == key).count();
        assert_eq!(times(&made, usize::MAX), 1, "used all the time");
        assert_eq!(times(&made, 5 * KEPT - 1), 1, "used just now");
        assert_eq!(times(&made, 0), 2, "not used for generations");
        assert!(kept.new.len() <= KEPT && kept.old.len() <= KEPT);
    }
}
