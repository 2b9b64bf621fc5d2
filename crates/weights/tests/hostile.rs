//! Files made to harm their reader: each is refused, with a message that says why.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod support;

use ocelli_weights::Weights;
use support::{Lies, header, pth, tensor, zip};

/// The message for a file that must not open.
fn refused(bytes: &[u8]) -> String {
    match Weights::open(bytes) {
        Err(error) => error.to_string(),
        Ok(weights) => panic!("opened, with {} tensors", weights.entries().len()),
    }
}

fn expect(bytes: &[u8], words: &[&str]) {
    let message = refused(bytes);
    for word in words {
        assert!(message.contains(word), "expected \"{word}\" in: {message}");
    }
}

/// A dict with one tensor under the name `w`.
fn with_tensor(rest: &[u8]) -> Vec<u8> {
    [b"\x80\x02}(U\x01w".as_slice(), &tensor(4, 0, 4, 1), rest, b"u."].concat()
}

#[test]
fn the_helpers_make_good_files() {
    let bytes = pth(&with_tensor(b""));
    let weights = Weights::open(&bytes).unwrap();
    assert_eq!(weights.values(&weights.entries()[0]).unwrap(), [0.0; 4]);
}

#[test]
fn code_is_refused_by_name() {
    expect(&pth(b"\x80\x02cos\nsystem\nU\x09rm -rf ~/\x85R."), &["refused", "os.system", "Nothing was run"]);
    expect(&pth(&with_tensor(b"U\x01xcposix\nsystem\nU\x02id\x85R")), &["posix.system"]);
    expect(&pth(&with_tensor(b"U\x01xc__builtin__\neval\nU\x011\x85R")), &["__builtin__.eval"]);
    // By the stack, as protocol 4 does it; and through another module's attribute.
    expect(&pth(b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93\x8c\x011\x85R."), &["builtins.exec"]);
    expect(&pth(b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93\x8c\x011\x85R."), &["torch.os.system"]);
    expect(&pth(b"\x80\x02(isubprocess\nPopen\n."), &["subprocess.Popen"]);
    // In the older form, and in a pickle alone.
    let magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    expect(&[magic.as_slice(), b"\x80\x02cos\nsystem\nU\x02id\x85R."].concat(), &["os.system"]);
    expect(b"\x80\x02cnt\nsystem\nU\x02id\x85R.", &["nt.system"]);
}

#[test]
fn unknown_classes_are_inert() {
    let bytes =
        pth(&with_tensor(b"U\x04metacmmcv.utils\nConfig\n)\x81}U\x05epochK\x07sbU\x01fcmy.module\nf\nK\x01\x85R"));
    let weights = Weights::open(&bytes).unwrap();
    assert_eq!(weights.entries().len(), 1);
    assert_eq!(weights.metadata()["meta.epoch"], "7");
}

#[test]
fn billion_laughs() {
    // Each dict holds the one before it twice.
    let doubling = |bottom: &[u8], times: u8| {
        let mut pickle = [b"\x80\x02".as_slice(), bottom, b"q\x00"].concat();
        for i in 0..times {
            pickle.extend([b'0', b'}', b'(', b'U', 1, b'a', b'h', i, b'U', 1, b'b', b'h', i, b'u', b'q', i + 1]);
        }
        pickle.push(b'.');
        pth(&pickle)
    };
    expect(&doubling(&tensor(4, 0, 4, 1), 40), &["more than 100000 tensors", "exhaust"]);
    expect(&doubling(&tensor(4, 0, 4, 1), 200), &["64 deep"]);
    expect(&doubling(b"K\x01", 200), &["no tensor"]);
    // The same list appended to itself over and over: what it holds is counted.
    let mut pickle = b"\x80\x02]q\x00(".to_vec();
    pickle.extend(b"h\x00".repeat(100_000));
    pickle.extend(b"e.");
    expect(&pth(&pickle), &["no tensor"]);
    // One list of a thousand, made into a dict again and again.
    let mut pickle = b"\x80\x02(".to_vec();
    pickle.extend(b"K\x01K\x02\x86".repeat(1000));
    pickle.extend(b"lq\x00ccollections\nOrderedDict\nq\x01");
    pickle.extend(b"h\x01h\x00\x85R".repeat(100_000));
    pickle.push(b'.');
    expect(&pth(&pickle), &["more memory than its size explains"]);
}

#[test]
fn self_reference() {
    expect(&pth(b"\x80\x02]q\x00h\x00a."), &["no tensor"]);
    let own = [b"\x80\x02}q\x00(U\x01w".as_slice(), &tensor(4, 0, 4, 1), b"U\x04selfh\x00u."].concat();
    expect(&pth(&own), &["contains itself"]);
    // Beside the tensors it is only data.
    let bytes = pth(&with_tensor(b"U\x01x]q\x05h\x05a"));
    assert_eq!(Weights::open(&bytes).unwrap().entries().len(), 1);
}

#[test]
fn deep_nesting() {
    let nested = |bottom: &[u8], depth: usize| {
        let mut pickle = b"\x80\x02".to_vec();
        pickle.extend(b"]".repeat(depth));
        pickle.extend(bottom);
        pickle.extend(b"a".repeat(depth));
        pickle.push(b'.');
        pth(&pickle)
    };
    expect(&nested(&tensor(4, 0, 4, 1), 10_000), &["64 deep"]);
    expect(&nested(b"N", 100_000), &["no tensor"]);
    expect(&nested(b"N", 5_000_000), &["more memory than its size explains"]);
    let tuples = [b"\x80\x02)".as_slice(), &b"\x85".repeat(100_000), b"."].concat();
    expect(&pth(&tuples), &["no tensor"]);
    expect(&pth(&[b"(".repeat(1_000_000).as_slice(), b"."].concat()), &["stack"]);
}

#[test]
fn views_beyond_their_storage() {
    let file = |storage, offset, size, stride| {
        pth(&[b"\x80\x02}U\x01w".as_slice(), &tensor(storage, offset, size, stride), b"s."].concat())
    };
    expect(&file(4, 1, 4, 1), &["tensor w", "claims more than the 4 elements"]);
    expect(&file(4, 0, 3, 2), &["tensor w", "4 elements"]);
    // An expanded view: one element a hundred times.
    expect(&file(4, 0, 100, 0), &["tensor w", "4 elements"]);
    expect(&file(4, 0, i32::MAX, i32::MAX), &["tensor w"]);
    expect(&file(4, -1, 1, 1), &["whole numbers"]);
    expect(&file(400, 0, 4, 1), &["storage 0", "400 elements", "16 bytes"]);
}

#[test]
fn broken_pickles() {
    expect(&pth(b"\x80\x02."), &["stack"]);
    expect(&pth(b"\x80\x09N."), &["protocol 9"]);
    expect(&pth(b"\x80\x02h\x07."), &["entry 7", "memo"]);
    expect(&pth(b"\x80\x02X\xff\xff\xff\xffabc."), &["ends early"]);
    expect(&pth(b"\x80\x02\x82\x01."), &["extension"]);
    expect(&pth(b"\x80\x02}K\x01a."), &["not a list"]);
    expect(&pth(b"\x80\x02\xfe."), &["0xfe"]);
    expect(&pth(b"N"), &["without a stop"]);
    expect(b"\x80\x04N.", &["plain pickle"]);
}

#[test]
fn lying_zips() {
    let pickle = with_tensor(b"");
    let true_lies = Lies::default();
    let file = |lies: Lies| zip(&[("a/data.pkl", &pickle, true_lies), ("a/data/0", &[0; 16], lies)]);
    assert!(Weights::open(&file(true_lies)).is_ok());
    let size = Some(1 << 30);
    expect(&file(Lies { size, packed: size, ..true_lies }), &["outside the file"]);
    expect(&file(Lies { size, ..true_lies }), &["stored in 16 bytes"]);
    expect(&file(Lies { method: 8, size, ..true_lies }), &["compressed"]);
    // Two entries over the same bytes, as a zip bomb without compression does it.
    let all = Some(200);
    expect(&file(Lies { offset: Some(0), size: all, packed: all, ..true_lies }), &["overlap"]);
    expect(&file(Lies { offset: Some(7), ..true_lies }), &["not where its directory says"]);
    expect(&zip(&[("readme.txt", b"hello", true_lies)]), &["data.pkl", "readme.txt"]);
    expect(&zip(&[("a/data.pkl", &pickle, true_lies)]), &["storage 0 is not in the file"]);
    expect(
        &zip(&[
            ("a/data.pkl", &pickle, true_lies),
            ("a/data/0", &[0; 16], true_lies),
            ("a/byteorder", b"big", true_lies),
        ]),
        &["big-endian"],
    );
    expect(&zip(&[("m/data.pkl", &pickle, true_lies), ("m/constants.pkl", b"N.", true_lies)]), &["TorchScript"]);
}

#[test]
fn lying_safetensors() {
    let two = |a: &str, b: &str, data| {
        let tensor = |offsets| format!(r#"{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}"#);
        header(&format!(r#"{{"first":{},"second":{}}}"#, tensor(a), tensor(b)), data)
    };
    assert!(Weights::open(&two("[0,8]", "[8,16]", 16)).is_ok());
    expect(&two("[0,8]", "[4,12]", 12), &["overlap", "second"]);
    expect(&two("[0,8]", "[0,8]", 8), &["overlap"]);
    expect(&two("[0,8]", "[8,1600]", 16), &["another number of bytes"]);
    expect(&two("[0,8]", "[8,16]", 12), &["12 bytes after the header"]);
    expect(&two("[0,8]", "[8,16]", 99), &["99 bytes after the header"]);
    expect(&two("[0,8]", "[16,24]", 24), &["gap"]);
    let huge = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8]}}"#;
    expect(&header(huge, 8), &["safetensors", "counted"]);
    let mut lie = header("{}", 0);
    lie[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    expect(&lie, &["18446744073709551615", "2 follow"]);
    lie[..8].copy_from_slice(&1u64.to_le_bytes());
    expect(&lie, &["safetensors"]);
    expect(&header(&"[".repeat(100_000).replacen('[', "{", 1), 0), &["safetensors"]);
    let long = format!(r#"{{"__metadata__":{{"a":"{}"}}}}"#, "x".repeat(9 << 20));
    expect(&header(&long, 0), &["at most 8388608"]);
}

#[test]
fn the_length_of_a_header_may_look_like_another_format() {
    for len in [0x0280, 0x0380, 0x0580] {
        let tensors = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        let bytes = header(&format!("{tensors:len$}"), 4);
        assert_eq!((bytes[0], Weights::open(&bytes).unwrap().format()), (0x80, "safetensors"));
    }
}

#[test]
fn messages_do_not_move_the_cursor() {
    let message = refused(&pth(b"\x80\x02cos.\x1b[2J\nsystem\n."));
    assert!(message.contains("system") && !message.contains('\x1b'), "{message}");
}

#[test]
fn other_files_are_named() {
    expect(b"", &["empty"]);
    expect(&[7; 100], &["safetensors", "100 bytes that start 07 07"]);
    expect(b"<!DOCTYPE html><html>", &["web page"]);
    expect(b"version https://git-lfs.github.com/spec/v1\noid", &["Git LFS"]);
    expect(b"\x1f\x8b\x08\x00", &["gzip"]);
    expect(b"\x89HDF\r\n", &["HDF5"]);
}
