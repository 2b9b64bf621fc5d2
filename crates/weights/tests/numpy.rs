//! Pickles of plain data and numpy arrays: what research code writes is read, and whatever else there is, refused
//! by name.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod support;

use ocelli_weights::{DataPickleError, read_data_pickle};
use serde_json::{Value, json};
use support::fixture;

fn refused(bytes: &[u8], words: &[&str]) {
    let message = match read_data_pickle(bytes) {
        Err(error) => error.to_string(),
        Ok(value) => panic!("read: {value}"),
    };
    for word in words {
        assert!(message.contains(word), "expected \"{word}\" in: {message}");
    }
}

fn truth() -> Value {
    serde_json::from_slice(&fixture("gnd.json")).unwrap()
}

/// Whole numbers may have become floats, where a list was empty and numpy chose the type.
fn same(found: &Value, expected: &Value, place: &str) {
    match (found, expected) {
        (Value::Object(a), Value::Object(b)) => {
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{place}");
            a.iter().for_each(|(key, value)| same(value, &b[key], &format!("{place}.{key}")));
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{place}");
            a.iter().zip(b).enumerate().for_each(|(i, (a, b))| same(a, b, &format!("{place}[{i}]")));
        }
        (Value::Number(a), Value::Number(b)) => assert_eq!(a.as_f64(), b.as_f64(), "{place}"),
        _ => assert_eq!(found, expected, "{place}"),
    }
}

#[test]
fn lists_arrays_and_mixtures_of_them_read_alike() {
    let truth = truth();
    for form in ["lists", "arrays", "mixed"] {
        for protocol in [2, 3, 4] {
            let name = format!("gnd.{form}.p{protocol}.pkl");
            let bytes = fixture(&name);
            same(&read_data_pickle(&bytes).unwrap_or_else(|e| panic!("{name}: {e}")), &truth, &name);
            if protocol == 4 {
                continue;
            }
            // Before numpy 2 the module had another name.
            let (new, old) = (b"numpy._core.multiarray", b"numpy.core.multiarray");
            let mut older = Vec::new();
            let mut rest = bytes.as_slice();
            while let Some((first, tail)) = rest.split_first() {
                match rest.strip_prefix(new) {
                    Some(after) => {
                        older.extend(old);
                        rest = after;
                    }
                    None => {
                        older.push(*first);
                        rest = tail;
                    }
                }
            }
            same(&read_data_pickle(&older).unwrap(), &truth, &name);
        }
    }
}

#[test]
fn arrays_of_every_kind_and_order() {
    let found = read_data_pickle(&fixture("arrays.p4.pkl")).unwrap();
    assert_eq!(found["fortran"], json!([[0, 1, 2], [3, 4, 5]]));
    let of = |i: usize, j: usize, k: usize| (12 * i + 4 * j + k) as f64;
    assert_eq!(found["c"][1][2][3], json!(of(1, 2, 3)));
    assert_eq!(found["c"][0][1][0], json!(of(0, 1, 0)));
    assert_eq!(found["half"], json!([0.5, -2.0]));
    assert_eq!(found["flags"], json!([true, false]));
    assert_eq!(found["bytes"], json!(["ab", "c"]));
    assert_eq!(found["none"], json!(7));
    assert_eq!(found["hollow"], json!([[], []]));
    assert_eq!(found["negative"], json!([-1, -300]));
}

/// Python 2 has no bytes: an array's data are a string, which may happen to be UTF-8.
#[test]
fn python_2_writes_bytes_as_strings() {
    let array = |data: &[u8]| {
        let start = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01K\x02\x85\
                      cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U";
        [start.as_slice(), &[data.len() as u8], data, b"tb."].concat()
    };
    assert_eq!(read_data_pickle(&array(&[0xc3, 0xa9])).unwrap(), json!([195, 169]));
    assert_eq!(read_data_pickle(&array(&[7, 0xff])).unwrap(), json!([7, 255]));
    refused(&array(&[1, 2, 3]), &["shape [2]", "3 bytes"]);
    assert_eq!(read_data_pickle(b"\x80\x02]U\x03abca.").unwrap(), json!(["abc"]));
}

#[test]
fn everything_else_is_refused_by_name() {
    refused(&fixture("gnd.masked.pkl"), &["refused", "numpy.ma", "Nothing was run", "JSON"]);
    refused(b"\x80\x02cos\nsystem\nU\x09rm -rf ~/\x85R.", &["refused", "os.system", "Nothing was run"]);
    refused(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.", &["builtins.eval"]);
    refused(b"\x80\x02(isubprocess\nPopen\n.", &["subprocess.Popen"]);
    // What weights may name is no data.
    refused(b"\x80\x02ccollections\nOrderedDict\n)R.", &["collections.OrderedDict"]);
    refused(b"\x80\x02ctorch\nFloatStorage\n.", &["torch.FloatStorage"]);
    refused(b"\x80\x02cnumpy\nload\nU\x01a\x85R.", &["numpy.load"]);
    refused(b"\x80\x02cnumpy.core.multiarray\nfromfile\n.", &["numpy.core.multiarray.fromfile"]);
    refused(b"\x80\x05cnumpy._core.numeric\n_frombuffer\n.", &["_frombuffer"]);
    // A name through another's attributes, and one that would move the cursor.
    refused(b"\x80\x04\x8c\x05numpy\x8c\x0dsys.modules.x\x93.", &["numpy.sys.modules.x"]);
    refused(b"\x80\x02cos.\x1b[2J\nsystem\n.", &["os.\u{fffd}[2J"]);
    assert!(matches!(read_data_pickle(b"\x80\x02cos\nsystem\n."), Err(DataPickleError::Name { at: 2, .. })));
}

/// An array of these axes (opcodes for a tuple), type and data (opcodes for bytes).
fn array(shape: &[u8], dtype: &str, data: &[u8]) -> Vec<u8> {
    let mut out =
        b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01".to_vec();
    out.extend(shape);
    out.extend(b"cnumpy\ndtype\nX");
    out.extend((dtype.len() as u32).to_le_bytes());
    out.extend(dtype.bytes());
    out.extend(b"\x89\x88\x87R\x89");
    out.extend(data);
    out.extend(b"tb.");
    out
}

#[test]
fn what_contradicts_itself_or_is_no_data() {
    assert_eq!(read_data_pickle(&array(b"K\x02\x85", "i1", b"C\x02\x01\xff")).unwrap(), json!([1, -1]));
    assert_eq!(read_data_pickle(&array(b")", "i1", b"C\x01\x05")).unwrap(), json!(5));
    refused(&array(b"K\x03\x85", "i1", b"C\x02ab"), &["shape [3]", "2 bytes"]);
    refused(&array(b"J\xff\xff\xff\xff\x85", "i1", b"C\x02ab"), &["whole numbers"]);
    // A thousand million rows of nothing.
    refused(&array(b"J\x00\x00\x00\x40K\x00\x86", "i1", b"C\x00"), &["500,000", "exhaust"]);
    refused(&array(b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\x04\x86", "i1", b"C\x00"), &["counted"]);
    refused(&array(b"K\x01\x85", "U0", b"C\x00"), &["type \"U0\""]);
    refused(&array(b"K\x01\x85", "U4294967297", b"C\x00"), &["type \"U4294967297\""]);
    refused(&array(b"K\x01\x85", "V8", b"C\x0812345678"), &["type \"V8\"", "integers"]);
    refused(&array(b"K\x01\x85", "M8", b"C\x0812345678"), &["type \"M8\""]);
    refused(&array(b"K\x01\x85", "i3", b"C\x03123"), &["type \"i3\""]);
    refused(&array(b"K\x01\x85", "O8", b"C\x01a"), &["objects", "list"]);
    refused(&array(b"K\x01\x85", "U1", b"C\x04\x00\x00\x00\x7f"), &["character"]);
    refused(&array(b"K\x01\x85", "f8", b"C\x08\x00\x00\x00\x00\x00\x00\xf8\x7f"), &["NaN", "not finite"]);
    refused(&array(b"K\x01\x85", "i1", b"K\x01"), &["not bytes"]);
    refused(b"\x80\x02G\x7f\xf0\x00\x00\x00\x00\x00\x00.", &["inf", "not finite"]);
    refused(b"\x80\x02\x8a\x09\x01\x02\x03\x04\x05\x06\x07\x08\x09.", &["64 bits"]);
    refused(b"\x80\x02}K\x01K\x02s.", &["key that is not text"]);
    refused(b"\x80\x03C\x02\xff\xfe.", &["no UTF-8"]);
    refused(b"\x80\x02cnumpy\nndarray\n.", &["numpy.ndarray", "where data is expected"]);
    refused(b"\x80\x02cnumpy\ndtype\nU\x02i8\x85R.", &["numpy.dtype", "where data is expected"]);
    refused(b"\x80\x02c_codecs\nencode\nX\x03\x00\x00\x00\xe2\x82\xacU\x06latin1\x86R.", &["beyond a byte"]);
    refused(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aU\x05utf-8\x86R.", &["latin1"]);
    refused(b"\x80\x02", &["without a stop", "byte 2"]);
    refused(b"", &["without a stop"]);
    refused(b"\x80\x09N.", &["protocol 9"]);
}

#[test]
fn little_files_that_unfold_to_large_ones() {
    // Each list holds the one before it twice; one holds itself; one is deep.
    let mut pickle = b"\x80\x02]q\x00".to_vec();
    for i in 0..31u8 {
        pickle.extend([b']', b'(', b'h', i, b'h', i, b'e', b'q', i + 1]);
    }
    pickle.push(b'.');
    refused(&pickle, &["500,000", "exhaust"]);
    refused(b"\x80\x02]q\x00h\x00a.", &["holds itself"]);
    let deep = [b"\x80\x02".as_slice(), &b"]".repeat(1000), &b"a".repeat(999), b"."].concat();
    refused(&deep, &["32 deep"]);
    // A long text, a long array and a type with a long name, each again and again.
    let again = |one: &[u8]| {
        let pickle = [b"\x80\x03](".as_slice(), one, b"q\x07", &b"h\x07".repeat(100_000), b"e."].concat();
        refused(&pickle, &["500,000"]);
    };
    again(&[b"X\x00\x10\x00\x00".as_slice(), &[b'x'; 4096]].concat());
    let zeros = [b"B\x00\x10\x00\x00".as_slice(), &[0; 4096]].concat();
    let of = |array: Vec<u8>| array[2..array.len() - 1].to_vec();
    again(&of(array(b"M\x00\x10\x85", "i1", &zeros)));
    again(&of(array(b"K\x00\x85", &format!("i{}1", "0".repeat(4000)), b"C\x00")));
    refused(
        &[b"\x80\x02".as_slice(), &b"]".repeat(5_000_000), b"."].concat(),
        &["more memory than its size explains"],
    );
}
