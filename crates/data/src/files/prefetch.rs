//! Work done ahead of whoever consumes it, on a thread of its own, never more than a few items ahead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::samples::panic_as_error;
use crate::DataError;

type Item<T> = Result<T, DataError>;

/// Items in the order they were made. Dropping it stops the producer and waits for it.
pub(super) struct Prefetch<T> {
    items: Option<Receiver<Item<T>>>,
    stop: Arc<AtomicBool>,
    producer: Option<JoinHandle<()>>,
    /// Delivered when the producer could not be started.
    failure: Option<DataError>,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Calls `make` on a new thread until it gives `None` or an error, `ahead` finished items waiting at most. `make`
    /// is told whether to give up: it may return `None` as soon as the flag is set.
    pub fn start(ahead: usize, mut make: impl FnMut(&AtomicBool) -> Option<Item<T>> + Send + 'static) -> Self {
        let (sender, items) = sync_channel(ahead);
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let produce = move || {
            while !flag.load(Ordering::Relaxed) {
                let item = panic_as_error(|| "loader".to_owned(), || Ok(make(&flag)));
                let Some(item) = item.unwrap_or_else(|error| Some(Err(error))) else { return };
                let last = item.is_err();
                // Sending fails when the consumer is gone.
                if sender.send(item).is_err() || last {
                    return;
                }
            }
        };
        let spawned = std::thread::Builder::new().name("ocelli-loader".to_owned()).spawn(produce);
        let (producer, failure) = match spawned {
            Ok(handle) => (Some(handle), None),
            Err(e) => (None, Some(DataError::config("loader thread", "to start", e))),
        };
        Self { items: Some(items), stop, producer, failure }
    }
}

impl<T> Iterator for Prefetch<T> {
    type Item = Item<T>;

    fn next(&mut self) -> Option<Item<T>> {
        if let Some(failure) = self.failure.take() {
            return Some(Err(failure));
        }
        self.items.as_ref()?.recv().ok()
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A producer waiting for room wakes up when the receiver goes.
        self.items = None;
        if let Some(producer) = self.producer.take() {
            // Panics become errors; there is nothing left to report.
            let _ = producer.join();
        }
    }
}

/// A pool of `threads` workers, 0 for one per core.
pub(super) fn worker_pool(threads: usize) -> Result<Arc<ThreadPool>, DataError> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("ocelli-data-{i}"))
        .build()
        .map(Arc::new)
        .map_err(|e| DataError::config("loader threads", "a pool that starts", e))
}
