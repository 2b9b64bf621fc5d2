//! Which templates are launched.

use std::collections::BTreeSet;
use std::sync::{Mutex, Once, PoisonError};

use ocelli_kernels::gpu::{Setting, watch_launches};

static LAUNCHED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

fn note(shader: &'static str, _: &[(&'static str, Setting)], _: (usize, usize)) {
    LAUNCHED.lock().unwrap_or_else(PoisonError::into_inner).insert(shader);
}

/// The templates that were launched since this was asked last; none where somebody else watches the launches.
pub(super) fn taken() -> Vec<&'static str> {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| watch_launches(note));
    std::mem::take(&mut *LAUNCHED.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect()
}
