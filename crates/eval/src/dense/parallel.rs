//! A list of jobs on several threads.

use std::sync::{Mutex, PoisonError};

/// Does every job, on so many threads at most. With one thread none is started: browsers have no others.
pub fn each<T: Send>(threads: usize, jobs: Vec<T>, work: impl Fn(T) + Sync) {
    let threads = threads.min(jobs.len());
    if threads <= 1 {
        return jobs.into_iter().for_each(work);
    }
    let queue = Mutex::new(jobs.into_iter());
    std::thread::scope(|scope| {
        let worker = || {
            loop {
                // Only `next` runs under the lock, and it does not panic.
                let job = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                match job {
                    Some(job) => work(job),
                    None => break,
                }
            }
        };
        for _ in 1..threads {
            scope.spawn(worker);
        }
        worker();
    });
}

/// What a function makes of every job, in the order of the jobs.
pub fn map<T: Send, R: Send>(threads: usize, jobs: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let mut results: Vec<Option<R>> = jobs.iter().map(|_| None).collect();
    let places = jobs.into_iter().zip(&mut results).collect();
    each(threads, places, |(job, place)| *place = Some(work(job)));
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_jobs() {
        for threads in [0, 1, 2, 7] {
            let found = map(threads, (0..50).collect(), |i: usize| i * i);
            assert_eq!(found, (0..50).map(|i| i * i).collect::<Vec<_>>(), "{threads} threads");
        }
        assert!(map(4, Vec::<usize>::new(), |i| i).is_empty());
    }
}
