//! Mutated files: no panic, no hang, and never more memory than twice the file and 64 MB.
//!
//! A quick run by default; `OCELLI_FUZZ=200000` for the full one (inputs per family), `OCELLI_FUZZ_SEED` for another.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ocelli_weights::Weights;
use support::{Lies, PTH, fixture, header, pth, safetensors, tensor, zip};

/// Counts what is allocated and the most there ever was.
struct Counting;

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
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Values that break length arithmetic, and opcodes that build.
const SPECIAL: [u64; 10] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX, 1 << 62, 0x8000_0000];
const OPCODES: &[u8] =
    b".(012NIJKMLGFSTUVXBC]})ltdaesucRbiQPghjpqr\x80\x81\x82\x85\x86\x87\x88\x8a\x8c\x8d\x8f\x90\x92\x93\x94\x95";

fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len());
        match rng.below(9) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
            1 if !bytes.is_empty() => bytes[at] = rng.next() as u8,
            2 if !bytes.is_empty() => bytes[at] = OPCODES[rng.below(OPCODES.len())],
            3 => {
                let width = [1, 2, 4, 8][rng.below(4)];
                let value = SPECIAL[rng.below(SPECIAL.len())].to_le_bytes();
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
                let opcode = OPCODES[rng.below(OPCODES.len())];
                bytes.splice(at..at, std::iter::repeat_n(opcode, rng.below(30)));
            }
        }
    }
}

/// Everything a reader does with a file.
fn read(bytes: &[u8]) -> bool {
    let Ok(weights) = Weights::open(bytes) else { return false };
    let layout = weights.layout();
    for entry in weights.entries().iter().take(1000) {
        if let Ok(values) = weights.values(entry) {
            assert_eq!(values.len(), entry.len());
        }
    }
    for network in &layout.networks {
        let _ = weights.backbone(network);
    }
    let _ = weights.state_dict(|e| Some(e.name.clone()));
    true
}

/// Whether it opened, the time it took, and the most memory it had, bytes.
fn check(name: &str, bytes: &[u8]) -> (bool, Duration, usize) {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let start = Instant::now();
    let opened = read(bytes);
    let peak = PEAK.load(Ordering::Relaxed) - before;
    let limit = 2 * bytes.len() + (64 << 20);
    assert!(peak <= limit, "{name}: {peak} bytes allocated for a file of {}", bytes.len());
    let took = start.elapsed();
    assert!(took < Duration::from_secs(10), "{name}: {took:?} for a file of {} bytes", bytes.len());
    (opened, took, peak)
}

fn fuzz(name: &str, corpus: &[Vec<u8>], count: usize, seed: u64, repack: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    let mut rng = Rng(seed);
    let (mut opened, mut slowest) = (0, Duration::ZERO);
    for (i, good) in corpus.iter().enumerate() {
        assert!(check(&format!("{name} {i}"), good).0, "{name}: file {i} of the corpus is good");
    }
    for i in 0..count {
        let mut bytes = corpus[rng.below(corpus.len())].clone();
        let other = &corpus[rng.below(corpus.len())];
        mutate(&mut rng, &mut bytes, other);
        if let Some(packed) = repack(&bytes) {
            bytes = packed;
        }
        let (good, took, _) = check(&format!("{name}, seed {seed}, input {i}"), &bytes);
        opened += usize::from(good);
        slowest = slowest.max(took);
    }
    eprintln!("{name}: {count} inputs, {opened} opened, slowest {slowest:?}");
    assert!(opened > 0 || count < 100, "{name}: nothing opens, so the mutations reach nothing");
}

fn fuzz_packed(name: &str, pickle: &[u8], other: &[u8], count: usize, seed: u64) {
    let mut rng = Rng(seed ^ 0xabcd);
    assert!(check(name, &pth(pickle)).0, "{name}: the pickle is good");
    let mut opened = 0;
    for i in 0..count {
        let mut pickle = pickle.to_vec();
        mutate(&mut rng, &mut pickle, other);
        opened += usize::from(check(&format!("{name}, seed {seed}, input {i}"), &pth(&pickle)).0);
    }
    eprintln!("{name}: {count} inputs, {opened} opened");
    assert!(opened > 0 || count < 100, "{name}: nothing opens, so the mutations reach nothing");
}

/// Files that ask for as much memory per byte as they can.
fn greedy(size: usize) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let tensor = tensor(4, 0, 4, 1);
    let numbered =
        |count: usize, one: &dyn Fn(u32) -> Vec<u8>| -> Vec<u8> { (0..count as u32).flat_map(one).collect() };
    let repeats: [&[u8]; 12] = [
        b"N",
        b")",
        b"]",
        b"}",
        b"(",
        b"]N\x85",
        b"ca\nb\n",
        b"\x8c\x00",
        b"]0",
        b"N\x94",
        b"V\\u0041\n",
        b"K\x01K\x02\x86a",
    ];
    for part in repeats {
        let pickle = [b"\x80\x02]".as_slice(), &part.repeat(size / part.len()), b"."].concat();
        files.push((format!("{} again and again", part.escape_ascii()), pth(&pickle)));
    }
    // One tensor under many names, many tensors, a list of a list of itself, one memo entry per five bytes.
    let named = numbered(size / 8, &|i| [b"U\x04", &i.to_le_bytes()[..], b"h\x01"].concat());
    files.push(("names".into(), pth(&[b"\x80\x02}(U\x01w", &tensor[..], b"q\x01", &named, b"u."].concat())));
    let many = [b"\x80\x02](".as_slice(), &tensor.repeat(size / tensor.len()), b"e."].concat();
    files.push(("tensors".into(), pth(&many)));
    let own = [b"\x80\x02]q\x00(".as_slice(), &b"h\x00".repeat(size / 2), &tensor, b"e."].concat();
    files.push(("itself".into(), pth(&own)));
    let memo = numbered(size / 5, &|i| [b"r".as_slice(), &i.to_le_bytes()].concat());
    files.push(("memo".into(), pth(&[b"\x80\x02N".as_slice(), &memo, b"."].concat())));
    // A header of the smallest tensors there are, and one of nothing but brackets.
    let tensors = numbered(size / 60, &|i| {
        format!(r#""{i:x}":{{"dtype":"F32","shape":[],"data_offsets":[{},{}]}},"#, 4 * i, 4 * i + 4).into_bytes()
    });
    let json = String::from_utf8(tensors).unwrap();
    files.push(("header".into(), header(&format!("{{{}}}", json.trim_end_matches(',')), 4 * (size / 60))));
    let scalars =
        r#"{"a":{"dtype":"F32","shape":["#.to_owned() + &"1,".repeat(size / 2) + r#"1],"data_offsets":[0,4]}}"#;
    files.push(("shape".into(), header(&scalars, 4)));
    let names: Vec<String> = (0..(size / 80).min(65_000)).map(|i| format!("a/data/{i}")).collect();
    let mut entries: Vec<(&str, &[u8], Lies)> = vec![("a/data.pkl", &many, Lies::default())];
    entries.extend(names.iter().map(|n| (n.as_str(), [0; 16].as_slice(), Lies::default())));
    files.push(("entries".into(), zip(&entries)));
    files
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn mutated_files_neither_panic_nor_hang_nor_swell() {
    let count = std::env::var("OCELLI_FUZZ").map_or(2_000, |v| v.parse().expect("OCELLI_FUZZ: a number"));
    let seed = std::env::var("OCELLI_FUZZ_SEED").map_or(1, |v| v.parse().expect("OCELLI_FUZZ_SEED: a number"));
    let megabytes = if count > 10_000 { 24 } else { 1 };
    for size in [200_000, megabytes << 20] {
        for (name, bytes) in greedy(size) {
            let (opened, took, peak) = check(&format!("{name}, {} bytes", bytes.len()), &bytes);
            eprintln!("{name}, {} bytes: {took:?}, {} MB, opened: {opened}", bytes.len(), peak >> 20);
        }
    }
    let files: Vec<Vec<u8>> = PTH.iter().map(|f| fixture(f)).collect();
    fuzz("pickle and zip", &files, count, seed, |_| None);
    // Pickles in a sound zip: mutations get further into the machine.
    let pickle = [b"\x80\x02}q\x00(U\x01wq\x01".as_slice(), &tensor(4, 0, 4, 1), b"q\x02U\x01ah\x02u."].concat();
    fuzz_packed("pickle", &pickle, &fixture("module.pth"), count, seed);
    fuzz("safetensors", &safetensors(), count, seed, |bytes| {
        // Every second file keeps an honest length of its header, or nearly all would end there.
        let end = bytes.iter().rposition(|b| *b == b'}')?;
        (bytes.len() % 2 == 0 && end > 8).then(|| [&((end - 7) as u64).to_le_bytes()[..], &bytes[8..]].concat())
    });
}
