//! Memory for results, kept for the next step.
//!
//! A training step allocates the same sizes every time. Large buffers go back to a pool when they are dropped; taking one
//! from there costs neither page faults nor zeroing. All are aligned to cache lines.

#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// Buffers below this many lines are left to the system.
const SMALLEST: usize = 1024;
/// Bytes the pool holds at most while nobody uses them.
const MOST_IDLE: u64 = if cfg!(target_pointer_width = "64") { 8 << 30 } else { 512 << 20 };
/// Sizes not asked for during this many requests are given back when a new size is needed.
const STALE: u64 = 20_000;

/// A cache line of numbers.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

// SAFETY: sixteen numbers without padding; zero is a valid number.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above; any bits are a valid number.
unsafe impl bytemuck::Pod for Line {}

#[derive(Default)]
struct Pool {
    /// By number of lines: when last asked for, and what is free.
    free: HashMap<usize, (u64, Vec<Vec<Line>>)>,
    idle: usize,
    requests: u64,
}

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives all memory that is kept for reuse back to the system.
pub fn release_memory() {
    let freed = std::mem::take(&mut *pool());
    drop(freed);
}

impl Pool {
    fn take(&mut self, lines: usize) -> Option<Vec<Line>> {
        self.requests += 1;
        let now = self.requests;
        let (last, free) = self.free.entry(lines).or_default();
        *last = now;
        if let Some(found) = free.pop() {
            self.idle -= lines;
            return Some(found);
        }
        let idle = &mut self.idle;
        self.free.retain(|lines, (last, free)| {
            let keep = now - *last < STALE;
            if !keep {
                *idle -= lines * free.len();
            }
            keep
        });
        None
    }

    fn give(&mut self, buffer: Vec<Line>) {
        let lines = buffer.len();
        if (self.idle + lines) as u64 * size_of::<Line>() as u64 <= MOST_IDLE {
            self.idle += lines;
            self.free.entry(lines).or_default().1.push(buffer);
        }
    }
}

/// Where buffers begin: at multiples of so many bytes.
pub const ALIGNMENT: usize = align_of::<Line>();

/// Numbers in aligned memory.
#[derive(Debug)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

/// Room for `count` numbers. What they are is not defined: the caller writes them all.
pub fn scratch(count: usize) -> Buffer {
    let lines = count.div_ceil(16);
    let reused = if lines >= SMALLEST { pool().take(lines) } else { None };
    let mut buffer = Buffer { lines: reused.unwrap_or_else(|| vec![Line([0.0; 16]); lines]), len: count };
    if cfg!(debug_assertions) {
        buffer.fill(f32::NAN);
    }
    buffer
}

/// `count` zeros.
pub fn zeros(count: usize) -> Buffer {
    let mut buffer = scratch(count);
    buffer.fill(0.0);
    buffer
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        if lines.len() >= SMALLEST {
            pool().give(lines);
        }
    }
}
