//! What the fuzz tests share: an allocator that counts, seeded mutations, and the bounds every reader keeps.
#![allow(unsafe_code, dead_code)]

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

/// Characters of two, three and four bytes, some that combine, and digits that are no ASCII: what breaks cutting by bytes.
const WIDE: [&str; 8] = ["é", "×", "→", "０", "\u{301}", "\u{feff}", "\u{fffd}", "😀"];

/// Changes a few places of a text by whole characters: of `letters`, of several bytes, pieces cut out, repeated, taken from
/// `other`.
pub fn mutate_text(rng: &mut Rng, text: &mut String, other: &str, letters: &[&str]) {
    let place = |rng: &mut Rng, text: &str| {
        let at = rng.below(text.chars().count() + 1);
        text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte)
    };
    for _ in 0..=rng.below(3) {
        let (a, b) = (place(rng, text), place(rng, text));
        let (from, to) = (a.min(b), a.max(b));
        match rng.below(7) {
            0 | 1 => text.insert_str(a, WIDE[rng.below(WIDE.len())]),
            2 => text.insert_str(a, letters[rng.below(letters.len())]),
            3 => {
                let end = text[from..].char_indices().nth(1).map_or(text.len(), |(byte, _)| from + byte);
                text.replace_range(from..end, letters[rng.below(letters.len())]);
            }
            4 => text.truncate(to),
            5 => text.replace_range(from..to, ""),
            _ => {
                let (c, d) = (place(rng, other), place(rng, other));
                text.insert_str(a, &other[c.min(d)..c.max(d)]);
            }
        }
    }
}

/// Inputs per reader and the seed: `OCELLI_FUZZ`, `OCELLI_FUZZ_SEED`.
///
/// # Panics
/// When one of them is no number, rather than running the quick test under a large one's name.
pub fn settings(quick: usize) -> (usize, u64) {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        let number = text.replace('_', "").parse::<u64>();
        Some(number.unwrap_or_else(|_| panic!("{name}: expected a number such as 1000000, found \"{text}\"")))
    };
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
    let next = &mut |rng: &mut Rng| {
        let mut bytes = corpus[rng.below(corpus.len())].clone();
        let other = &corpus[rng.below(corpus.len())];
        mutate(rng, &mut bytes, other, letters);
        mend(&bytes).unwrap_or(bytes)
    };
    feed(name, corpus, (count, seed), next, read);
}

/// As [`fuzz`], of texts, changed by whole characters ([`mutate_text`]).
pub fn fuzz_text(
    name: &str,
    corpus: &[String],
    letters: &[&str],
    often: (usize, u64),
    read: &dyn Fn(&str) -> bool,
) {
    let bytes: Vec<Vec<u8>> = corpus.iter().map(|text| text.clone().into_bytes()).collect();
    let next = &mut |rng: &mut Rng| {
        let mut text = corpus[rng.below(corpus.len())].clone();
        let other = &corpus[rng.below(corpus.len())];
        mutate_text(rng, &mut text, other, letters);
        text.into_bytes()
    };
    feed(name, &bytes, often, next, &|bytes| read(std::str::from_utf8(bytes).unwrap_or_default()));
}

fn feed(
    name: &str,
    corpus: &[Vec<u8>],
    (count, seed): (usize, u64),
    next: &mut dyn FnMut(&mut Rng) -> Vec<u8>,
    read: Read<'_>,
) {
    let mut rng = Rng(seed);
    for (i, good) in corpus.iter().enumerate() {
        assert!(bounded(&format!("{name} {i}"), good, read), "{name}: input {i} of the corpus is good");
    }
    let (mut accepted, started) = (0, Instant::now());
    for i in 0..count {
        let bytes = next(&mut rng);
        // A panic that nobody expected says of which input.
        let told = Told { name, seed, input: i, bytes: &bytes };
        accepted += usize::from(bounded(&format!("{name}, seed {seed}, input {i}"), &bytes, read));
        std::mem::forget(told);
    }
    println!("{name}: {count} inputs, {accepted} accepted, {:.0} s", started.elapsed().as_secs_f64());
    assert!(accepted > 0 || count < 100, "{name}: nothing is accepted, so the mutations reach nothing");
}

/// Says on the way out of a panic which input it was.
struct Told<'a> {
    name: &'a str,
    seed: u64,
    input: usize,
    bytes: &'a [u8],
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        let Self { name, seed, input, bytes } = self;
        println!("{name}, seed {seed}, input {input}: \"{}\"", bytes.escape_ascii());
    }
}
