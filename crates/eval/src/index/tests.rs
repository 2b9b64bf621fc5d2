use super::*;

/// Numbers that look random, in -1..1.
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f64::from(state) / f64::from(u32::MAX) * 2.0 - 1.0
    };
    (0..count).map(|_| next() as f32).collect()
}

fn unit_rows(count: usize, dim: usize, seed: u32) -> Vec<f32> {
    let mut rows = noise(count * dim, seed);
    rows.chunks_exact_mut(dim).for_each(|row| assert!(normalise(row)));
    rows
}

fn bytes_of(rows: &[f32]) -> Vec<u8> {
    rows.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn settings() -> Settings {
    Settings(vec![
        ("network".into(), "vit-s/16 0123".into()),
        ("size".into(), "resize 256 px\tcrop 224 px".into()),
    ])
}

fn entries(count: usize) -> Vec<Entry> {
    let entry = |i: usize| Entry {
        name: format!("Käfer/{i}.jpg"),
        bytes: 1 << 40 | i as u64,
        modified_ns: -5 + i as i64,
        width: 640,
        height: 480 + i as u32,
    };
    (0..count).map(entry).collect()
}

fn file(settings: &Settings, dim: usize, entries: &[Entry], rows: &[f32]) -> Vec<u8> {
    let (before, after) = around(settings, dim, entries);
    [before, bytes_of(rows), after].concat()
}

#[test]
fn what_is_written_is_read() {
    for (count, dim) in [(0, 3), (1, 1), (5, 7), (40, 33)] {
        let (rows, entries) = (unit_rows(count, dim, 7), entries(count));
        let bytes = file(&settings(), dim, &entries, &rows);
        let read = Contents::read(&bytes).unwrap();
        assert_eq!((&read.entries, read.dim), (&entries, dim));
        // A tab would end the value's name.
        assert_eq!(read.settings.0[1].1, "resize 256 px crop 224 px");
        assert_eq!(read.rows(&bytes).to_vec(0..count), rows);
        assert_eq!((read.rows(&bytes).len(), read.rows(&bytes).is_empty()), (count, count == 0));
        let at = bytes.len() - around(&settings(), dim, &entries).1.len() - rows.len() * 4;
        assert!(at.is_multiple_of(64), "rows begin at {at}");
    }
}

#[test]
fn growing_keeps_the_rows_before() {
    let (old, new) = (unit_rows(3, 5, 1), unit_rows(2, 5, 2));
    let first = file(&settings(), 5, &entries(3), &old);
    let read = Contents::read(&first).unwrap();
    let kept = read.rows(&first).to_vec(0..2);
    let names: Vec<Entry> = read.entries[..2].iter().chain(&entries(5)[3..]).cloned().collect();
    let second = file(&read.settings, read.dim, &names, &[kept, new.clone()].concat());
    let read = Contents::read(&second).unwrap();
    assert_eq!(read.entries, names);
    assert_eq!(read.rows(&second).to_vec(0..9), [&old[..10], &new].concat());
}

#[test]
fn every_length_but_the_whole_is_refused() {
    let bytes = file(&settings(), 4, &entries(3), &unit_rows(3, 4, 3));
    for len in 0..bytes.len() {
        let error = Contents::read(&bytes[..len]).unwrap_err();
        let is_short = matches!(error, IndexError::Length { .. } | IndexError::NotAnIndex { .. });
        assert!(is_short, "{len}: {error}");
    }
    let longer = [&bytes[..], &[0]].concat();
    let expected = IndexError::Length { expected: bytes.len() as u64, found: longer.len() as u64 };
    assert_eq!(Contents::read(&longer), Err(expected));
}

#[test]
fn every_damaged_byte_outside_the_rows_is_found() {
    let (rows, entries) = (unit_rows(3, 4, 3), entries(3));
    let bytes = file(&settings(), 4, &entries, &rows);
    let (before, after) = around(&settings(), 4, &entries);
    let settings_end = before.iter().rposition(|b| *b != 0).unwrap() + 1;
    for at in (0..52).chain(64..settings_end).chain(bytes.len() - after.len()..bytes.len()) {
        for flip in [1u8, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            assert!(Contents::read(&damaged).is_err(), "byte {at}");
        }
    }
    // Rows are not looked at; what they hold cannot break a search.
    let mut damaged = bytes;
    damaged[before.len()..before.len() + 16].fill(0xff);
    let read = Contents::read(&damaged).unwrap();
    let hits = nearest(read.rows(&damaged), 0..3, &rows[..4], 9, None);
    assert_eq!(hits.len(), 2, "the row of NaN is not among {hits:?}");
}

/// Headers that claim more than there is, with checksums that fit.
#[test]
fn claims_of_huge_sizes_ask_for_nothing() {
    let bytes = file(&settings(), 4, &entries(1), &unit_rows(1, 4, 3));
    for (at, value) in [(16, u64::MAX), (16, 1 << 61), (24, u64::MAX), (24, 0), (32, u64::MAX), (32, 1 << 40)] {
        let mut claiming = bytes.clone();
        claiming[at..at + 8].copy_from_slice(&value.to_le_bytes());
        let settings_len = u32::from_le_bytes(claiming[40..44].try_into().unwrap()) as usize;
        let crc = crc32fast::hash(&[&claiming[..48], &claiming[64..64 + settings_len]].concat());
        claiming[48..52].copy_from_slice(&crc.to_le_bytes());
        assert!(Contents::read(&claiming).is_err(), "{at}: {value}");
    }
}

#[test]
fn other_files_are_told_by_their_beginning() {
    let message = |bytes: &[u8]| Contents::read(bytes).unwrap_err().to_string();
    assert!(message(b"").contains("an empty file"));
    assert!(message(&[7; 500]).contains("begins 07 07"));
    assert!(message(b"OcelliIx").contains("the first 8 bytes of one"));
    let mut newer = file(&settings(), 4, &entries(1), &unit_rows(1, 4, 3));
    newer[8] = 9;
    assert_eq!(Contents::read(&newer), Err(IndexError::Version { found: 9 }));
}

#[test]
fn settings_say_what_differs() {
    let mut other = settings();
    assert!(settings().differences(&other).is_empty());
    other.0[0].1 = "vit-s/16 4567".into();
    other.0.push(("heads".into(), "3".into()));
    let lines = settings().differences(&other);
    assert_eq!(
        lines,
        ["network: vit-s/16 0123 in the index, vit-s/16 4567 here", "heads: not told in the index, 3 here"]
    );
}

/// In f64, sorted as a whole.
fn brute_force(rows: &[f32], dim: usize, query: &[f32], skip: Option<usize>) -> Vec<(usize, f64)> {
    let dot = |row: &[f32]| row.iter().zip(query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let mut all: Vec<(usize, f64)> = rows.chunks_exact(dim).map(dot).enumerate().collect();
    all.retain(|(row, _)| Some(*row) != skip);
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all
}

#[test]
fn search_finds_what_comparing_with_all_finds() {
    for (count, dim) in [(1, 1), (9, 3), (300, 17), (500, 48)] {
        let values = unit_rows(count, dim, 11);
        let bytes = bytes_of(&values);
        let rows = Rows::new(&bytes, dim);
        for seed in 0..4 {
            let query = unit_rows(1, dim, 100 + seed);
            let skip = Some(seed as usize).filter(|s| s % 2 == 1 && *s < count);
            let all = brute_force(&values, dim, &query, skip);
            for top in [0, 1, 5, count, usize::MAX] {
                let whole = nearest(rows, 0..count, &query, top, skip);
                assert_eq!(whole.len(), top.min(all.len()));
                for (hit, (_, similarity)) in whole.iter().zip(&all) {
                    assert!((f64::from(hit.similarity) - similarity).abs() < 1e-5, "{hit:?} {similarity}");
                }
                // Cut into parts it is the same, whatever the parts.
                let cut = count / 3;
                let parts = [0..cut, cut..count, count..count + 5];
                let found = parts.into_iter().flat_map(|part| nearest(rows, part, &query, top, skip)).collect();
                assert_eq!(best(found, top), whole);
            }
        }
    }
    // Of equals the earlier row.
    let bytes = bytes_of(&[1.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
    let hits = nearest(Rows::new(&bytes, 2), 0..3, &[1.0, 0.0], 2, None);
    assert_eq!(hits.iter().map(|h| h.row).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn groups_are_connected_components() {
    // Directions in a plane by their angle in degrees: 0, 10 and 20 are a chain, 90 and 95 a pair, 180 is alone.
    let angles = [90.0f32, 0.0, 180.0, 20.0, 95.0, 10.0];
    let bytes =
        bytes_of(&angles.iter().flat_map(|a| [a.to_radians().cos(), a.to_radians().sin()]).collect::<Vec<_>>());
    let rows = Rows::new(&bytes, 2);
    let at_least = |degrees: f32| near_duplicates(rows, degrees.to_radians().cos(), |_| true).unwrap().unwrap();
    assert_eq!(at_least(11.0), vec![vec![0, 4], vec![1, 3, 5]]);
    assert_eq!(at_least(6.0), vec![vec![0, 4]]);
    assert_eq!(at_least(1.0), Vec::<Vec<usize>>::new());
    assert!(near_duplicates(rows, 1.5, |_| true).is_err() && near_duplicates(rows, f32::NAN, |_| true).is_err());
    assert_eq!(near_duplicates(rows, 0.9, |_| false).unwrap(), None, "stopped");
    assert_eq!(near_duplicates(Rows::new(&[], 2), 0.9, |_| true).unwrap(), Some(Vec::new()));
}

/// More rows than a tile has: pairs within a tile and across tiles, each found once.
#[test]
fn groups_reach_across_tiles() {
    let (count, dim) = (2500, 24);
    let mut values = unit_rows(count, dim, 5);
    let mut copy = |from: usize, to: usize| {
        let row = values[from * dim..][..dim].to_vec();
        values[to * dim..][..dim].copy_from_slice(&row);
    };
    copy(3, 900);
    copy(3, 2499);
    copy(1100, 1101);
    copy(2047, 2048);
    let bytes = bytes_of(&values);
    let mut done = Vec::new();
    let groups = near_duplicates(Rows::new(&bytes, dim), 1.0, |rows| {
        done.push(rows);
        true
    });
    assert_eq!(groups.unwrap().unwrap(), vec![vec![3, 900, 2499], vec![1100, 1101], vec![2047, 2048]]);
    assert_eq!(done, [1024, 2048, 2500]);
}
