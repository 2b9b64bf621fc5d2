//! Whose kernel is faster on this device: measured once for an operation and a class of shapes, and kept in a file.
//!
//! Nothing is measured before [`keep_choices`] is called, which whoever opens a graphics card does; on software adapters this
//! crate's kernels are always the faster ones (docs/kernels.md), and in a browser there is no clock and no file.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// First line of the file; another one is another program's or another version's, and the file is written anew.
const HEADER: &str = "ocelli kernel choices 1";

/// Seconds of this crate's kernel and of burn's own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Measured {
    pub ours_s: f64,
    pub stock_s: f64,
}

impl Measured {
    fn is_ours(self) -> bool {
        self.ours_s <= self.stock_s
    }
}

/// An operation and a class of shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Class {
    pub operation: &'static str,
    /// Rows, inputs, outputs; rows to the next power of two.
    pub sizes: [usize; 3],
    /// With the gradients.
    pub training: bool,
}

impl Class {
    fn name(self) -> String {
        let Self { operation, sizes: [rows, inputs, outputs], training } = self;
        format!("{operation} {rows}x{inputs}x{outputs}{}", if training { " training" } else { "" })
    }
}

/// Measurements of one device.
struct Choices {
    adapter: String,
    file: Option<PathBuf>,
    known: HashMap<Class, Measured>,
}

/// Whose kernel was chosen for an operation and a class of shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The operation and its shapes: rows to the next power of two, inputs, outputs; `training` where gradients count.
    pub class: String,
    /// Seconds of this crate's kernel.
    pub ours_s: f64,
    /// Seconds of burn's own.
    pub stock_s: f64,
}

/// What this process has chosen so far, in the order of the names; nothing where nobody chooses, because
/// [`keep_choices`] was not called.
pub fn choices() -> Option<Vec<Choice>> {
    let choices = CHOICES.lock().unwrap_or_else(PoisonError::into_inner);
    let of = |(class, measured): (&Class, &Measured)| {
        let Measured { ours_s, stock_s } = *measured;
        Choice { class: class.name(), ours_s, stock_s }
    };
    let mut found: Vec<Choice> = choices.as_ref()?.known.iter().map(of).collect();
    found.sort_by(|a, b| a.class.cmp(&b.class));
    Some(found)
}

/// Whether there is a file of choices that cannot be read, of another version or damaged: it is written anew with the next choice.
pub fn is_unreadable(file: &Path) -> bool {
    file.exists() && read(file).is_empty()
}

static CHOICES: Mutex<Option<Choices>> = Mutex::new(None);

/// Where choices are kept unless told otherwise: `ocelli/choices.tsv` in the user's cache directory.
pub fn choices_file() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let cache = from("XDG_CACHE_HOME").or_else(|| from("LOCALAPPDATA")).or_else(|| {
        let home = from("HOME")?;
        Some(home.join(if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" }))
    })?;
    Some(cache.join("ocelli").join("choices.tsv"))
}

/// From now on `Mode::Auto` measures where this crate's kernels and burn's own compete on `adapter` (its name with everything
/// that changes its speed: driver, version), and keeps what it finds in `file`.
pub fn keep_choices(adapter: &str, file: Option<PathBuf>) {
    let adapter = adapter.replace(['\t', '\n'], " ");
    *CHOICES.lock().unwrap_or_else(PoisonError::into_inner) =
        Some(Choices { adapter, file, known: HashMap::new() });
}

/// Whether this crate's kernel is the choice; `measure` is asked once.
pub(crate) fn ours(class: Class, measure: impl FnOnce() -> Measured) -> bool {
    // Not held while measuring: what is measured asks, too.
    let lock = || CHOICES.lock().unwrap_or_else(PoisonError::into_inner);
    let (adapter, file) = match &*lock() {
        None => return true,
        Some(choices) => match choices.known.get(&class) {
            Some(measured) => return measured.is_ours(),
            None => (choices.adapter.clone(), choices.file.clone()),
        },
    };
    let key = (adapter, class.name());
    let kept = file.as_deref().map(read).and_then(|table| table.get(&key).copied());
    let measured = kept.unwrap_or_else(|| {
        let measured = measure();
        if let Some(file) = &file {
            // A choice that cannot be kept is made again next time.
            let _ = add(file, key, measured);
        }
        measured
    });
    if let Some(choices) = &mut *lock() {
        choices.known.insert(class, measured);
    }
    measured.is_ours()
}

type Table = BTreeMap<(String, String), Measured>;

/// What a file holds; nothing, where there is none or it is damaged.
fn read(file: &Path) -> Table {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let Some(rest) = text.strip_prefix(HEADER) else { return Table::new() };
    let row = |line: &str| {
        let mut cells = line.split('\t');
        let key = (cells.next()?.to_owned(), cells.next()?.to_owned());
        let mut seconds = || cells.next()?.parse::<f64>().ok().filter(|s| s.is_finite() && *s >= 0.0);
        let measured = Measured { ours_s: seconds()?, stock_s: seconds()? };
        cells.next().is_none().then_some((key, measured))
    };
    // One damaged line makes the others doubtful.
    rest.lines().skip(1).map(row).collect::<Option<Table>>().unwrap_or_default()
}

/// Adds a row: what others have added meanwhile stays.
fn add(file: &Path, key: (String, String), measured: Measured) -> std::io::Result<()> {
    let mut table = read(file);
    table.insert(key, measured);
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let beside = file.with_extension(format!("{}.tmp", std::process::id()));
    let written = (|| {
        let mut out = std::fs::File::create(&beside)?;
        writeln!(out, "{HEADER}")?;
        for ((adapter, class), Measured { ours_s, stock_s }) in &table {
            writeln!(out, "{adapter}\t{class}\t{ours_s:e}\t{stock_s:e}")?;
        }
        drop(out);
        std::fs::rename(&beside, file)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// Measures both sides in turns after a first, uncounted run of each (which compiles, and lets burn choose among its own):
/// medians. `run` is told whether to use this crate's kernel, and waits for the device.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn compare(mut run: impl FnMut(bool)) -> Measured {
    const RUNS: usize = 5;
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=RUNS {
        for (ours, times) in [true, false].into_iter().zip(&mut times) {
            let started = std::time::Instant::now();
            run(ours);
            if round > 0 {
                times.push(started.elapsed().as_secs_f64());
            }
        }
    }
    let [ours_s, stock_s] = times.map(|mut t| {
        t.sort_by(f64::total_cmp);
        t[RUNS / 2]
    });
    Measured { ours_s, stock_s }
}

/// Without a clock the choice is fixed.
#[cfg(target_family = "wasm")]
pub(crate) fn compare(_: impl FnMut(bool)) -> Measured {
    Measured { ours_s: 0.0, stock_s: 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_measured_once_and_survives_the_process() {
        let folder = std::env::temp_dir().join(format!("ocelli-choices-{}", std::process::id()));
        let file = folder.join("deep").join("choices.tsv");
        let class = |rows| Class { operation: "linear", sizes: [rows, 384, 1152], training: true };
        let faster = |ours_s, stock_s| move || Measured { ours_s, stock_s };
        let never = || -> Measured { panic!("measured again") };

        assert!(ours(class(1), never), "nothing is measured before somebody asks for it");
        assert_eq!(choices(), None);
        keep_choices("card\t1", Some(file.clone()));
        assert!(!is_unreadable(&file), "there is none");
        assert!(!ours(class(256), faster(2e-3, 1e-3)) && ours(class(512), faster(1e-3, 2e-3)));
        assert!(!ours(class(256), never), "known in the process");
        let told: Vec<_> = choices().unwrap().into_iter().map(|c| (c.class, c.ours_s < c.stock_s)).collect();
        let name = |rows: &str| format!("linear {rows}x384x1152 training");
        assert_eq!(told, [(name("256"), false), (name("512"), true)]);
        assert!(!is_unreadable(&file));
        keep_choices("card\t1", Some(file.clone()));
        assert!(!ours(class(256), never) && ours(class(512), never), "known from the file");
        keep_choices("card 2", Some(file.clone()));
        assert!(ours(class(256), faster(1e-3, 2e-3)), "another card is another matter");
        assert_eq!(read(&file).len(), 3);

        // Damage, another version, not a text: all of it is written anew.
        for damaged in ["", "ocelli kernel choices 2\n", "ocelli kernel choices 1\na\tb\t1e-3\n", "\u{fffd}"] {
            std::fs::write(&file, damaged).unwrap();
            assert!(is_unreadable(&file), "{damaged:?}");
            keep_choices("card 3", Some(file.clone()));
            assert!(ours(class(64), faster(1.0, 2.0)));
            assert_eq!(read(&file).len(), 1, "{damaged:?}");
        }
        // Where nothing can be written, a choice holds for the process.
        std::fs::write(folder.join("file"), "").unwrap();
        keep_choices("card 4", Some(folder.join("file").join("choices.tsv")));
        assert!(!ours(class(64), faster(2.0, 1.0)) && !ours(class(64), never));
        assert_eq!(std::fs::read_dir(folder.join("deep")).unwrap().count(), 1, "no temporary file is left");
        *CHOICES.lock().unwrap() = None;
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn both_sides_take_turns() {
        let mut turns = Vec::new();
        let measured = compare(|ours| turns.push(ours));
        assert_eq!(turns, [true, false].repeat(6));
        assert!(measured.ours_s >= 0.0 && measured.stock_s >= 0.0);
    }
}
