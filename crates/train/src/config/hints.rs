//! What a person may have meant by a name that is not known.

use toml::{Table, Value};

/// Keys that a hint names at most.
const NAMED: usize = 5;

/// "; did you mean …?": the keys of a configuration whose last part is that of the unknown `key`, at whatever depth, else those whose
/// last part is nearest to it. Empty where nothing is near.
pub(super) fn did_you_mean(key: &str, table: &Table) -> String {
    let (section, last) = split(key);
    let mut all = Vec::new();
    keys("", table, &mut all);
    let near = |known: &&String| distance(last, split(known).1) <= tolerance(last, split(known).1);
    let least = all.iter().filter(near).map(|known| distance(last, split(known).1)).min();
    let Some(least) = least else {
        // Perhaps it is the section that is called otherwise.
        return if section.is_empty() { String::new() } else { did_you_mean(section, table) };
    };
    let mut found: Vec<&String> = all.iter().filter(|k| distance(last, split(k).1) == least).collect();
    // A slip of the finger stays in its section.
    if least > 0 && found.iter().any(|known| split(known).0 == section) {
        found.retain(|known| split(known).0 == section);
    }
    let more = if found.len() > NAMED { ", …" } else { "" };
    let named: Vec<String> = found.iter().take(NAMED).map(|known| format!("\"{known}\"")).collect();
    format!("; did you mean {}{more}?", named.join(" or "))
}

/// "; did you mean …?" when a name is close to a known one.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> String {
    known
        .map(|k| (distance(name, k), k))
        .filter(|(d, k)| *d <= tolerance(name, k))
        .min()
        .map(|(_, k)| format!("; did you mean \"{k}\"?"))
        .unwrap_or_default()
}

/// Section and last part of a dotted key.
fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

/// Every dotted key, of sections too.
fn keys(prefix: &str, table: &Table, to: &mut Vec<String>) {
    for (key, value) in table {
        let full = format!("{prefix}{key}");
        if let Value::Table(inner) = value {
            keys(&format!("{full}."), inner, to);
        }
        to.push(full);
    }
}

/// Letters in which a name may differ from the one that is meant.
fn tolerance(a: &str, b: &str) -> usize {
    1 + a.len().max(b.len()) / 3
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_their_last_part() {
        let table: Table =
            "epochs = 1\nseed = 1\n[log]\nevery_steps = 1\n[optim]\nlr = 1\nwarmup_epochs = 1\n[eval]\n\
                            every_epochs = 1\nbatch_size = 1\n[dino.head]\nout_dim = 1\n[moco]\nout_dim = 1"
                .parse()
                .unwrap();
        for (key, hint) in [
            // At any depth, in whatever section it was looked for.
            ("lr", "; did you mean \"optim.lr\"?"),
            ("eval.lr", "; did you mean \"optim.lr\"?"),
            ("optm.lr", "; did you mean \"optim.lr\"?"),
            ("out_dim", "; did you mean \"dino.head.out_dim\" or \"moco.out_dim\"?"),
            ("optim.epochs", "; did you mean \"epochs\"?"),
            ("batch_size", "; did you mean \"eval.batch_size\"?"),
            // Near to it.
            ("lrr", "; did you mean \"optim.lr\"?"),
            ("optim.lrr", "; did you mean \"optim.lr\"?"),
            ("epoch", "; did you mean \"epochs\"?"),
            ("moco.out_dims", "; did you mean \"moco.out_dim\"?"),
            ("optim.warmup_epoch", "; did you mean \"optim.warmup_epochs\"?"),
            ("optm", "; did you mean \"optim\"?"),
            ("optm.x", "; did you mean \"optim\"?"),
            // Nothing is.
            ("completely_different", ""),
            ("", ""),
        ] {
            assert_eq!(did_you_mean(key, &table), hint, "{key}");
        }
    }

    #[test]
    fn a_hint_is_short() {
        let table: Table = (0..9)
            .map(|i| (format!("s{i}"), Value::from(Table::from_iter([("x".to_owned(), 1.into())]))))
            .collect();
        let hint = did_you_mean("x", &table);
        assert_eq!(hint.matches(" or ").count(), NAMED - 1, "{hint}");
        assert!(hint.ends_with(", …?"), "{hint}");
    }
}
