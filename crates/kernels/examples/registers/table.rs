//! The table in docs/kernels.md.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use ocelli_kernels::gpu::Setting;

use crate::known::offends;
use crate::measured::{Family, Measured};
use crate::settings::Expansion;

const BEGIN: &str = "<!-- registers -->";
const END: &str = "<!-- end of registers -->";

/// Settings of which the list has more than one value, as people say them: `nn, a_vec, b_vec, c_vec`.
fn setting(expansion: &Expansion, list: &[Expansion]) -> String {
    let varies = |name: &str| {
        let same = list.iter().filter(|other| other.shader == expansion.shader);
        let values: BTreeSet<String> = same
            .flat_map(|other| other.settings.iter().filter(|(n, _)| *n == name))
            .map(|(_, value)| format!("{value:?}"))
            .collect();
        values.len() > 1
    };
    let words: Vec<String> = expansion
        .settings
        .iter()
        .filter(|(name, _)| varies(name))
        .map(|(name, value)| match value {
            Setting::Number(n) => format!("{name} {n}"),
            Setting::Flag(true) => (*name).to_owned(),
            Setting::Flag(false) => format!("no {name}"),
            Setting::Name(value) => (*value).to_owned(),
        })
        .collect();
    words.join(", ")
}

fn row(expansion: &Expansion, kernel: &Measured, list: &[Expansion]) -> String {
    let Measured { registers, spills, waves, shared, code, .. } = kernel;
    let mut row = format!(
        "| {}`{}` | {} | {} | {registers} | {spills} | {waves} | {:.1} | {:.1} |",
        if offends(kernel) { "✗ " } else { "" },
        expansion.shader,
        setting(expansion, list),
        expansion.user,
        *shared as f64 / 1024.0,
        *code as f64 / 1024.0
    );
    row += &match kernel.main_loop {
        None => " no loop | – | – | – | – |".to_owned(),
        Some(own) if own.multiply_adds == 0 => format!(" 0 | – | – | – | {} |", own.waits),
        Some(own) => {
            let per = |words: usize| words as f64 / own.multiply_adds as f64;
            format!(
                " {} | {:.0} % | {:.2} | {:.2} | {} |",
                own.multiply_adds,
                100.0 * own.share(),
                per(own.shared_words),
                per(own.memory_words),
                own.waits
            )
        }
    };
    row + "\n"
}

/// A table for each family of cards, published sizes alone.
pub fn table(list: &[Expansion], families: &[Family]) -> String {
    let mut text = String::new();
    for family in families {
        let _ = write!(
            text,
            "### {} ({})\n\n| kernel | setting | used by | registers | spilled | waves a SIMD | LDS KiB | code KiB | multiply-adds | \
             of vector instructions | LDS words each | memory words each | waits |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
            family.name, family.version
        );
        let (odd, usual): (Vec<_>, Vec<_>) =
            list.iter().zip(&family.kernels).partition(|(expansion, _)| expansion.is_odd());
        for (expansion, kernel) in usual {
            text += &row(expansion, kernel, list);
        }
        let bad = odd.iter().filter(|(_, kernel)| offends(kernel)).count();
        let _ = write!(text, "\nOf {} more settings, for odd sizes, {bad} need too much.\n\n", odd.len());
    }
    text
}

/// A document with the table between its marks.
pub fn placed(document: &str, table: &str) -> Result<String, String> {
    let parts = document.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let (head, tail) =
        parts.ok_or_else(|| format!("expected the lines \"{BEGIN}\" and \"{END}\", found no such pair"))?;
    Ok(format!("{head}{BEGIN}\n\n{table}{END}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_varies_is_named() {
        let of = |vec: bool, user| Expansion {
            user,
            shader: "gelu",
            settings: vec![("vec", vec.into()), ("group", 64.into())],
        };
        let list = [of(true, "ViT"), of(false, "ViT")];
        assert_eq!(setting(&list[0], &list), "vec");
        assert_eq!(setting(&list[1], &list), "no vec");
        assert_eq!(setting(&list[0], &list[..1]), "");
        let kernel = Measured { registers: 12, waves: 16, code: 512, ..Measured::default() };
        let text = row(&list[0], &kernel, &list);
        assert_eq!(text, "| `gelu` | vec | ViT | 12 | 0 | 16 | 0.0 | 0.5 | no loop | – | – | – | – |\n");
        let spills = Measured { spills: 1, ..kernel };
        assert!(row(&list[0], &spills, &list).starts_with("| ✗ `gelu` |"));
    }

    #[test]
    fn the_table_stands_between_its_marks() {
        let document = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        assert_eq!(placed(&document, "new\n").unwrap(), format!("before\n{BEGIN}\n\nnew\n{END}\nafter\n"));
        assert!(placed("neither", "new").unwrap_err().contains(BEGIN));
    }
}
