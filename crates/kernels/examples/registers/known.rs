//! A ratchet: kernels that ask too much of a card are listed with what they ask. None may ask more, no other kernel may join
//! them, and one that is mended leaves the list.

use crate::measured::{Family, Measured};

/// Waves that a SIMD unit must keep in flight to have something to do while some of them wait.
const WAVES: u64 = 4;
/// Bytes of machine code that the instruction cache of a compute unit holds.
const CODE: u64 = 32 * 1024;

/// The list: a line for each, with family, name, spilled registers, waves in flight and bytes of code.
pub const LIST: &str = include_str!("known.tsv");

/// A kernel on the list, with the most it may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    family: String,
    name: String,
    spills: u64,
    waves: u64,
    code: u64,
}

impl Known {
    fn of(family: &str, kernel: &Measured) -> Self {
        let Measured { name, spills, waves, code, .. } = kernel.clone();
        Self { family: family.to_owned(), name, spills, waves, code }
    }

    fn line(&self) -> String {
        let Self { family, name, spills, waves, code } = self;
        format!("{family}\t{name}\t{spills}\t{waves}\t{code}")
    }

    fn allows(&self, kernel: &Measured) -> bool {
        kernel.spills <= self.spills && kernel.waves >= self.waves && kernel.code <= self.code
    }
}

/// Whether a kernel asks too much.
pub fn offends(kernel: &Measured) -> bool {
    kernel.spills > 0 || kernel.waves < WAVES || kernel.code > CODE
}

/// `Mesa 22.3` of `Mesa 22.3.6`: what chooses registers does not change within a series.
fn series(version: &str) -> String {
    version.split(['.', '-']).take(2).collect::<Vec<_>>().join(".")
}

/// The driver's series that a list was measured with, and the kernels on it.
fn parse(list: &str) -> Result<(String, Vec<Known>), String> {
    let mut lines = list.lines();
    let series =
        lines.next().and_then(|line| line.strip_prefix("# ")).ok_or("known.tsv begins with no version")?;
    let known = lines.filter(|line| !line.starts_with('#')).map(|line| {
        let wrong = || format!("known.tsv: expected family, kernel and three numbers, found \"{line}\"");
        let [family, name, numbers @ ..] = &line.split('\t').collect::<Vec<_>>()[..] else { return Err(wrong()) };
        let numbers: Vec<u64> =
            numbers.iter().map(|n| n.parse()).collect::<Result<_, _>>().map_err(|_| wrong())?;
        let [spills, waves, code] = numbers[..] else { return Err(wrong()) };
        Ok(Known { family: (*family).to_owned(), name: (*name).to_owned(), spills, waves, code })
    });
    Ok((series.to_owned(), known.collect::<Result<_, _>>()?))
}

/// The version's series if the list was measured with another one: then it says nothing.
pub fn other_driver(list: &str, families: &[Family]) -> Result<Option<String>, String> {
    let (listed, _) = parse(list)?;
    let found = families.iter().map(|family| series(&family.version)).find(|found| *found != listed);
    Ok(found.map(|found| format!("the list is of {listed}, this is {found}")))
}

fn asks(kernel: &Measured) -> String {
    let Measured { spills, waves, code, .. } = kernel;
    format!("{spills} spilled registers, {waves} waves a SIMD, {code} bytes of code")
}

/// What is wrong, a sentence each; nothing where all is well.
pub fn complaints(list: &str, families: &[Family]) -> Result<Vec<String>, String> {
    let (_, known) = parse(list)?;
    let mut wrong = Vec::new();
    for family in families {
        for kernel in &family.kernels {
            let entry = known.iter().find(|k| k.family == family.name && k.name == kernel.name);
            let asks = format!("{} on {}: {}", kernel.name, family.name, asks(kernel));
            match (entry, offends(kernel)) {
                (None, true) => wrong.push(format!(
                    "{asks}; at most 0, at least {WAVES} and at most {CODE} are allowed. Mend it. Its line, should it stay:\n{}",
                    Known::of(family.name, kernel).line()
                )),
                (Some(entry), true) if !entry.allows(kernel) => wrong.push(format!(
                    "{asks}; it was {} spilled registers, {} waves a SIMD and {} bytes. Mend it",
                    entry.spills, entry.waves, entry.code
                )),
                (Some(_), false) => wrong.push(format!("{asks}: it is mended, take it off known.tsv")),
                _ => {}
            }
        }
    }
    for entry in &known {
        let family = families.iter().find(|family| family.name == entry.family);
        if !family.is_some_and(|family| family.kernels.iter().any(|kernel| kernel.name == entry.name)) {
            wrong.push(format!(
                "{} on {}: nobody launches it any more, take it off known.tsv",
                entry.name, entry.family
            ));
        }
    }
    Ok(wrong)
}

/// The list without what is mended, and no entry with more than its kernel asks for. Never longer, never laxer.
pub fn tightened(list: &str, families: &[Family]) -> Result<String, String> {
    let (_, known) = parse(list)?;
    let head = list.lines().filter(|line| line.starts_with('#')).map(str::to_owned);
    let kept = known.into_iter().filter_map(|entry| {
        let family = families.iter().find(|family| family.name == entry.family)?;
        let kernel = family.kernels.iter().find(|kernel| kernel.name == entry.name && offends(kernel))?;
        Some(Known {
            spills: entry.spills.min(kernel.spills),
            waves: entry.waves.max(kernel.waves),
            code: entry.code.min(kernel.code),
            ..entry
        })
    });
    Ok(head.chain(kept.map(|entry| entry.line())).map(|line| line + "\n").collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: &str = "# Mesa 22.3\n# family\tkernel\nNAVI21\tslow\t5\t2\t40000\n";

    fn kernel(name: &str, spills: u64, waves: u64, code: u64) -> Measured {
        Measured { name: name.into(), spills, waves, code, ..Measured::default() }
    }

    fn family(kernels: &[Measured]) -> Vec<Family> {
        vec![Family { name: "NAVI21", version: "Mesa 22.3.6".into(), kernels: kernels.to_vec() }]
    }

    /// What is said of a listed kernel and another one.
    fn said(slow: Measured, other: Measured) -> Vec<String> {
        complaints(SHORT, &family(&[slow, other])).unwrap()
    }

    #[test]
    fn the_list_holds_what_offends() {
        let good = || kernel("good", 0, 8, 1000);
        assert_eq!(said(kernel("slow", 5, 2, 40_000), good()), Vec::<String>::new());
        assert_eq!(said(kernel("slow", 4, 3, 39_000), good()), Vec::<String>::new());
        for worse in [(6, 2, 40_000), (5, 1, 40_000), (5, 2, 40_001)] {
            let found = said(kernel("slow", worse.0, worse.1, worse.2), good());
            assert!(found.len() == 1 && found[0].contains("it was 5 spilled"), "{found:?}");
        }
        let mended = said(kernel("slow", 0, 4, 32_768), good());
        assert!(mended.len() == 1 && mended[0].contains("take it off"), "{mended:?}");
        for new in [(1, 8, 100), (0, 3, 100), (0, 8, 32_769)] {
            let found = said(kernel("slow", 5, 2, 40_000), kernel("good", new.0, new.1, new.2));
            assert!(found.len() == 1 && found[0].contains("NAVI21\tgood\t"), "{found:?}");
        }
        let gone = complaints(SHORT, &family(&[good()])).unwrap();
        assert!(gone.len() == 1 && gone[0].contains("nobody launches it"), "{gone:?}");
    }

    #[test]
    fn tightening_never_loosens() {
        let of = |kernels: &[Measured]| tightened(SHORT, &family(kernels)).unwrap();
        let head = "# Mesa 22.3\n# family\tkernel\n";
        assert_eq!(
            of(&[kernel("slow", 9, 3, 36_000), kernel("new", 9, 1, 1)]),
            format!("{head}NAVI21\tslow\t5\t3\t36000\n")
        );
        assert_eq!(of(&[kernel("slow", 0, 8, 100)]), head);
        assert_eq!(of(&[]), head);
    }

    #[test]
    fn another_series_of_the_driver_is_told() {
        assert_eq!(other_driver(SHORT, &family(&[])).unwrap(), None);
        let mut newer = family(&[]);
        newer[0].version = "Mesa 25.0.7-2".into();
        assert_eq!(other_driver(SHORT, &newer).unwrap().unwrap(), "the list is of Mesa 22.3, this is Mesa 25.0");
    }

    #[test]
    fn the_list_itself_can_be_read() {
        let (version, known) = parse(LIST).unwrap();
        assert!(version.starts_with("Mesa "), "{version}");
        for entry in known {
            let asks =
                Measured { spills: entry.spills, waves: entry.waves, code: entry.code, ..Measured::default() };
            assert!(offends(&asks), "{} offends nobody", entry.name);
        }
        for wrong in ["", "# Mesa 22.3\nNAVI21\tslow\t5\t2\n", "# Mesa 22.3\nNAVI21\tslow\t5\t2\tx\n"] {
            assert!(parse(wrong).unwrap_err().starts_with("known.tsv"), "{wrong}");
        }
    }
}
