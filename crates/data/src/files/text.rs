//! Texts that a person wrote, in whatever encoding the program had that saved them.

/// The text of any file that a person wrote: UTF-8, or UTF-8 or UTF-16 with a byte order mark.
///
/// # Errors
/// When the bytes are something else: what was found, and what to do.
pub fn decoded(bytes: &[u8]) -> Result<String, String> {
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest),
        _ => utf8(bytes),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let text = char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).collect::<Result<String, _>>();
    match (text, rest) {
        (Ok(text), []) => Ok(text),
        _ => Err("expected a text; found damaged UTF-16. Save it as UTF-8".into()),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    let found = match bytes {
        [b'P', b'K', 3 | 5, ..] => "a ZIP archive, or weights of PyTorch",
        [0x1f, 0x8b, ..] => "a gzip archive",
        [_, _, _, _, _, _, _, 0, b'{', ..] => "weights (safetensors); they belong to --init-from or --weights",
        [0x80, ..] => "a pickle of Python; weights belong to --init-from or --weights",
        _ if bytes.contains(&0) => "zeros between the bytes: UTF-16 without a mark, or no text. Save it as UTF-8",
        _ => {
            return String::from_utf8(bytes.to_vec()).map_err(|error| {
                let valid = error.utf8_error().valid_up_to();
                let line = 1 + bytes.iter().take(valid).filter(|b| **b == b'\n').count();
                format!("line {line}: expected UTF-8, found letters in another encoding. Save it as UTF-8")
            });
        }
    };
    Err(format!("expected a text; found {found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16_of(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(bytes).collect()
    }

    #[test]
    fn what_windows_writes_is_read() {
        let text = "# Größe, 猫, 😀\r\nepochs = 3\r\n";
        assert_eq!(decoded(text.as_bytes()).unwrap(), text);
        assert_eq!(decoded(&[b"\xef\xbb\xbf", text.as_bytes()].concat()).unwrap(), text);
        assert_eq!(decoded(&utf16_of(text, u16::to_le_bytes)).unwrap(), text);
        assert_eq!(decoded(&utf16_of(text, u16::to_be_bytes)).unwrap(), text);
        assert_eq!(decoded(b"").unwrap(), "");
    }

    #[test]
    fn what_is_no_text_is_named() {
        let bare: Vec<u8> = "epochs = 3".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut odd = utf16_of("epochs = 3", u16::to_le_bytes);
        odd.pop();
        let rows: [(&[u8], &str); 8] = [
            (&bare, "Save it as UTF-8"),
            (&odd, "damaged UTF-16"),
            (b"\xff\xfe\x00\xd8a\x00", "damaged UTF-16"),
            (b"epochs = 3\n# Gr\xf6\xdfe", "line 2: expected UTF-8"),
            (b"PK\x03\x04...", "ZIP"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"\x10\0\0\0\0\0\0\0{\"a\":{}}", "safetensors"),
            (b"\x80\x02}q\0", "pickle"),
        ];
        for (bytes, words) in rows {
            let message = decoded(bytes).unwrap_err();
            assert!(message.contains(words), "expected \"{words}\" in: {message}");
        }
    }
}
