//! Tasks on all cores, where there are threads.
//!
//! A caller cuts its work into pieces that depend on the sizes alone and never on the number of threads; each piece
//! writes its own slice. So results are the same bits on one core and on many.

/// Runs `work` on every task, in any order.
#[cfg(feature = "threads")]
pub fn run<T: Send>(tasks: Vec<T>, work: impl Fn(T) + Sync + Send) {
    use rayon::prelude::*;
    if tasks.len() < 2 || rayon::current_num_threads() == 1 {
        tasks.into_iter().for_each(work);
    } else {
        tasks.into_par_iter().for_each(work);
    }
}

/// Runs `work` on every task in turn.
#[cfg(not(feature = "threads"))]
pub fn run<T>(tasks: Vec<T>, work: impl Fn(T)) {
    tasks.into_iter().for_each(work);
}
