//! Text of protocol 0: Python's escapes.

/// Undoes the escapes of Python's `raw-unicode-escape` (`\uXXXX`, `\UXXXXXXXX` only).
pub fn raw_unicode(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let digits = match rest.as_bytes().get(at + 1) {
            Some(b'u') => 4,
            Some(b'U') => 8,
            _ => {
                out.push('\\');
                rest = &rest[at + 1..];
                continue;
            }
        };
        let code = rest.get(at + 2..at + 2 + digits)?;
        out.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
        rest = &rest[at + 2 + digits..];
    }
    out.push_str(rest);
    Some(out)
}

/// Takes the quotes off a Python 2 string literal and undoes its escapes.
pub fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|q| matches!(q, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next()? {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'x' => {
                let (high, low) = (chars.next()?.to_digit(16)?, chars.next()?.to_digit(16)?);
                out.push(char::from_u32(high * 16 + low)?);
            }
            other => out.push(other),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        assert_eq!(raw_unicode("caf\\u00e9 \\d").as_deref(), Some("café \\d"));
        assert_eq!(raw_unicode("\\u12"), None);
        assert_eq!(raw_unicode("\\ud800"), None);
        // An escape that ends within a character.
        assert_eq!(raw_unicode("\\u00eé"), None);
        assert_eq!(raw_unicode("é\\é\\u00e9é").as_deref(), Some("é\\ééé"));
        assert_eq!(quoted(r"'a\n\x41\\'").as_deref(), Some("a\nA\\"));
        assert_eq!(quoted("'"), None);
        assert_eq!(quoted(""), None);
    }
}
