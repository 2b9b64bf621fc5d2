//! What the fuzz tests share: an allocator that counts, seeded mutations, and the bounds every reader keeps.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Counts what is allocated and the most there ever was.
pub struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grow(bytes: usize) {
    let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(now, Ordering::Relaxed);
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new exist together while the bytes move.
        grow(size);
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    /// 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// Below `n`; 0 of nothing.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Values that break length arithmetic.
const SPECIAL: [u64; 10] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX, 1 << 62, 0x8000_0000];

/// Changes a few places: bits, bytes, lengths, pieces cut out, repeated, taken from `other`; `letters` are bytes that mean
/// something in the format.
pub fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8], letters: &[u8]) {
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len());
        match rng.below(9) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
            1 if !bytes.is_empty() => bytes[at] = rng.next() as u8,
            2 if !bytes.is_empty() => bytes[at] = letters[rng.below(letters.len())],
            3 => {
                let width = [1, 2, 4, 8][rng.below(4)];
                let mut value = SPECIAL[rng.below(SPECIAL.len())].to_le_bytes()[..width].to_vec();
                if rng.below(2) == 1 {
                    value.reverse();
                }
                let end = (at + width).min(bytes.len());
                let len = end - at;
                bytes[at..end].copy_from_slice(&value[..len]);
            }
            4 => bytes.truncate(at),
            5 => {
                let len = rng.below(40).min(bytes.len() - at);
                bytes.drain(at..at + len);
            }
            6 => {
                let len = rng.below(60).min(bytes.len() - at);
                let part = bytes[at..at + len].to_vec();
                let to = rng.below(bytes.len());
                for _ in 0..=rng.below(8) {
                    bytes.splice(to..to, part.iter().copied());
                }
            }
            7 => {
                let from = rng.below(other.len());
                let len = rng.below(80).min(other.len() - from);
                bytes.splice(at..at, other[from..from + len].iter().copied());
            }
            _ => {
                let letter = letters[rng.below(letters.len())];
                bytes.splice(at..at, std::iter::repeat_n(letter, rng.below(30)));
            }
        }
    }
}

/// Inputs per reader and the seed: `OCELLI_FUZZ`, `OCELLI_FUZZ_SEED`.
pub fn settings(quick: usize) -> (usize, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    (number("OCELLI_FUZZ").map_or(quick, |n| n as usize), number("OCELLI_FUZZ_SEED").unwrap_or(1))
}

/// Reads once; panics when that takes long, or more memory than twice the input and 64 MB. True when it was accepted.
pub fn bounded(name: &str, bytes: &[u8], read: Read<'_>) -> bool {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let start = Instant::now();
    let accepted = read(bytes);
    let peak = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    if peak > 2 * bytes.len() + (64 << 20) {
        let file = std::env::temp_dir().join("ocelli-fuzz-input");
        let _ = std::fs::write(&file, bytes);
        panic!("{name}: {peak} bytes allocated for {}, which are in {}", bytes.len(), file.display());
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(10), "{name}: {took:?} for {} bytes", bytes.len());
    accepted
}

/// A reader under test: true when it accepts the bytes.
pub type Read<'a> = &'a dyn Fn(&[u8]) -> bool;

/// Feeds `count` mutations of a corpus to a reader. Everything in the corpus is accepted, and some of the mutations.
/// `mend` may put right what nearly every mutation would break, so that the others get further.
pub fn fuzz(
    name: &str,
    corpus: &[Vec<u8>],
    letters: &[u8],
    (count, seed): (usize, u64),
    mend: &dyn Fn(&[u8]) -> Option<Vec<u8>>,
    read: Read<'_>,
) {
    let mut rng = Rng(seed);
    for (i, good) in corpus.iter().enumerate() {
        assert!(bounded(&format!("{name} {i}"), good, read), "{name}: input {i} of the corpus is good");
    }
    let mut accepted = 0;
    for i in 0..count {
        let mut bytes = corpus[rng.below(corpus.len())].clone();
        let other = &corpus[rng.below(corpus.len())];
        mutate(&mut rng, &mut bytes, other, letters);
        let bytes = mend(&bytes).unwrap_or(bytes);
        accepted += usize::from(bounded(&format!("{name}, seed {seed}, input {i}"), &bytes, read));
    }
    println!("{name}: {count} inputs, {accepted} accepted");
    assert!(accepted > 0 || count < 100, "{name}: nothing is accepted, so the mutations reach nothing");
}
