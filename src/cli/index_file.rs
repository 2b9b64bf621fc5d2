//! The index of a folder on disk: mapped into memory, and replaced as a whole.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use memmap2::Mmap;
use ocelli::data::files::{TEMPORARY, temporary_in};
use ocelli::eval::index::{Contents, Entry, Hit, IndexError, Rows, Settings, around, best, nearest};

/// Fewer rows than this are searched by one thread: starting more takes longer.
const ROWS_PER_THREAD: usize = 8192;
/// What a killed process left half-written is removed after this long; until then somebody may be writing it.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// An index, in a file or about to be in one.
pub struct IndexFile {
    path: PathBuf,
    contents: Contents,
    map: Option<Mmap>,
}

impl IndexFile {
    /// Opens an index made with these settings, or begins an empty one where there is no file. `anew` begins an
    /// empty one in any case, but not in the place of a file that is no index.
    pub fn open(path: &Path, settings: Settings, dim: usize, anew: bool) -> anyhow::Result<Self> {
        let shown = path.display();
        let empty = |settings| Self { path: path.to_owned(), contents: Contents::empty(settings, dim), map: None };
        if !path.try_exists().with_context(|| format!("{shown}: cannot look for the index"))? {
            return Ok(empty(settings));
        }
        if !path.is_file() {
            bail!("{shown}: expected an index file, or none; found a folder. Choose another --index");
        }
        let map = map(path)?;
        let contents = match Contents::read(&map) {
            Ok(contents) => contents,
            Err(error @ IndexError::NotAnIndex { .. }) => {
                bail!("{shown}: {error}. Move it away, or choose another --index");
            }
            Err(_) if anew => return Ok(empty(settings)),
            Err(error) => bail!("{shown}: {error}. --rebuild makes it anew; or choose another --index"),
        };
        if anew {
            return Ok(empty(settings));
        }
        let mut differences = contents.settings.differences(&settings);
        if contents.dim != dim && differences.is_empty() {
            differences.push(format!("numbers in a feature: {} in the index, {dim} here", contents.dim));
        }
        if !differences.is_empty() {
            bail!(
                "{shown}: the index was made by another network or with other preprocessing: {}. --rebuild replaces \
                 it; another --index keeps both",
                differences.join("; ")
            );
        }
        Ok(Self { path: path.to_owned(), contents, map: Some(map) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The pictures in it, one for each row.
    pub fn entries(&self) -> &[Entry] {
        &self.contents.entries
    }

    /// Their features.
    pub fn rows(&self) -> Rows<'_> {
        self.contents.rows(self.map.as_deref().unwrap_or_default())
    }

    /// Finds out whether the index can be written, before hours of work go into it.
    pub fn check_writable(&self) -> anyhow::Result<()> {
        remove_stale(folder_of(&self.path));
        temporary_in(folder_of(&self.path)).map(drop).with_context(|| self.not_writable())
    }

    fn not_writable(&self) -> String {
        format!(
            "{}: the index cannot be written here; name another place for it, as in --index photos.index",
            self.path.display()
        )
    }

    /// Replaces the file by one with the rows `keep` of this, rising, and `more` behind them: entries, and features
    /// `[entries, dim]`. All of it is written under another name, which then takes this one's place: whoever reads
    /// sees the old file or the whole new one.
    pub fn replace(&mut self, keep: &[usize], more: (&[Entry], &[f32])) -> anyhow::Result<()> {
        let entries = &self.contents.entries;
        let kept = keep.iter().filter_map(|row| entries.get(*row)).chain(more.0);
        let entries: Vec<Entry> = kept.cloned().collect();
        let (before, after) = around(&self.contents.settings, self.contents.dim, &entries);
        let mut file = temporary_in(folder_of(&self.path)).with_context(|| self.not_writable())?;
        let write = |file: &mut File| -> std::io::Result<()> {
            let mut file = BufWriter::with_capacity(1 << 20, file);
            file.write_all(&before)?;
            for run in runs(keep) {
                file.write_all(self.rows().bytes(run))?;
            }
            for value in more.1 {
                file.write_all(&value.to_le_bytes())?;
            }
            file.write_all(&after)?;
            file.flush()
        };
        write(file.as_file_mut()).with_context(|| self.not_writable())?;
        // A file that is mapped cannot be replaced everywhere.
        self.map = None;
        file.persist(&self.path).map_err(|e| e.error).with_context(|| self.not_writable())?;
        let map = map(&self.path)?;
        let contents = Contents::read(&map);
        self.contents = contents.with_context(|| format!("{}: cannot read it back", self.path.display()))?;
        self.map = Some(map);
        Ok(())
    }

    /// The `top` rows most similar to `query`, `[dim]` of unit length, without row `skip`; on all cores.
    pub fn search(&self, query: &[f32], top: usize, skip: Option<usize>) -> Vec<Hit> {
        let rows = self.rows();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.min(rows.len() / ROWS_PER_THREAD).max(1);
        let part =
            |i: usize| nearest(rows, rows.len() * i / threads..rows.len() * (i + 1) / threads, query, top, skip);
        if threads == 1 {
            return part(0);
        }
        let found = std::thread::scope(|scope| {
            let workers: Vec<_> = (1..threads).map(|i| scope.spawn(move || part(i))).collect();
            let mut found = part(0);
            // A thread that panicked does so here: there is nothing to go on with.
            found.extend(
                workers.into_iter().flat_map(|w| w.join().unwrap_or_else(|e| std::panic::resume_unwind(e))),
            );
            found
        });
        best(found, top)
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Maps a file into memory: what is not looked at is not read.
#[allow(unsafe_code)]
fn map(path: &Path) -> anyhow::Result<Mmap> {
    let open = || -> std::io::Result<Mmap> {
        let file = File::open(path)?;
        // SAFETY: an index is never changed where it lies; a new one is renamed into its place, and the bytes
        // mapped here stay those of the old file.
        unsafe { Mmap::map(&file) }
    };
    open().with_context(|| format!("{}: cannot read the index", path.display()))
}

/// Numbers that follow each other, as ranges.
fn runs(numbers: &[usize]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some(run) if run.end == number => run.end += 1,
            _ => runs.push(number..number + 1),
        }
    }
    runs
}

/// Removes what a process that was killed while it wrote left in a folder.
fn remove_stale(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(TEMPORARY);
        let age = || entry.metadata().ok().filter(fs::Metadata::is_file)?.modified().ok()?.elapsed().ok();
        if is_ours && age().is_some_and(|age| age > STALE) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_row_are_one_range() {
        assert!(runs(&[]).is_empty());
        assert_eq!(runs(&[0, 1, 2, 5, 7, 8]), [0..3, 5..6, 7..9]);
    }

    fn entry(name: &str) -> Entry {
        Entry { name: name.into(), bytes: 1, modified_ns: 2, width: 3, height: 4 }
    }

    #[test]
    fn an_index_grows_shrinks_and_is_searched_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.index");
        let settings = Settings(vec![("network".into(), "a".into())]);
        let open = |settings: &Settings| IndexFile::open(&path, settings.clone(), 2, false);
        let mut file = open(&settings).unwrap();
        assert!(file.rows().is_empty() && !path.exists());
        file.replace(&[], (&[entry("a"), entry("b"), entry("c")], &[1.0, 0.0, 0.0, 1.0, 0.6, 0.8])).unwrap();
        file.replace(&[0, 2], (&[entry("d")], &[-1.0, 0.0])).unwrap();
        let file = open(&settings).unwrap();
        let names: Vec<&str> = file.entries().iter().map(|e| e.name.as_str()).collect();
        assert_eq!((names, file.rows().to_vec(0..9)), (vec!["a", "c", "d"], vec![1.0, 0.0, 0.6, 0.8, -1.0, 0.0]));
        let found: Vec<usize> = file.search(&[1.0, 0.0], 2, Some(0)).iter().map(|h| h.row).collect();
        assert_eq!(found, [1, 2]);
        let message = open(&Settings(vec![("network".into(), "b".into())])).err().unwrap().to_string();
        assert!(message.contains("network: a in the index, b here") && message.contains("--rebuild"), "{message}");

        // Enough rows for several threads, the best one in the last part.
        let mut big = IndexFile::open(&folder.path().join("big.index"), settings, 2, false).unwrap();
        let (count, angle) = (5 * ROWS_PER_THREAD, |i: usize| (i as f32 / 1e6).cos());
        let entries: Vec<Entry> = (0..count).map(|i| entry(&i.to_string())).collect();
        let values: Vec<f32> =
            (0..count).rev().flat_map(|i| [angle(i), (1.0 - angle(i).powi(2)).sqrt()]).collect();
        big.replace(&[], (&entries, &values)).unwrap();
        assert_eq!(big.search(&[1.0, 0.0], 3, None), nearest(big.rows(), 0..count, &[1.0, 0.0], 3, None));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
    }
}
