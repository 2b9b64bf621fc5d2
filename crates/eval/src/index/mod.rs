//! An index of features: what `ocelli search` keeps of a folder of pictures, so that each is embedded once.
//!
//! One file, little-endian, whose rows can be used where they lie when the file is mapped into memory:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `OcelliIx` |
//! | 4 + 4 | version, numbers in a row |
//! | 8 | rows |
//! | 8 | where the rows begin, a multiple of 64 |
//! | 8 | bytes of the entries |
//! | 4 + 4 | bytes of the settings, CRC-32 of the entries |
//! | 4 + 12 | CRC-32 of all above and the settings; zeros |
//! | … | settings: lines of name, tab, value; then zeros up to the rows |
//! | 4 · numbers · rows | the rows, each an L2-normalised feature in f32 |
//! | … | an entry a row: bytes of its name, width, height (4 each), file size, time of change (8 each), the name |
//!
//! [`Contents::read`] checks the header, the entries and the length of the file, and makes room for nothing that
//! the file does not hold. Rows are not checked: reading them all is what mapping them avoids.
//!
//! ```
//! use ocelli_eval::index::{Rows, near_duplicates, nearest, normalise};
//!
//! let mut rows = [[3.0f32, 4.0], [4.0, 3.0], [-1.0, 0.0]];
//! let all_have_a_direction = rows.iter_mut().all(|row| normalise(row));
//! assert!(all_have_a_direction);
//! let bytes: Vec<u8> = rows.as_flattened().iter().flat_map(|value| value.to_le_bytes()).collect();
//! let table = Rows::new(&bytes, 2);
//! let hits = nearest(table, 0..table.len(), &rows[0], 1, Some(0));
//! assert_eq!(hits[0].row, 1);
//! assert_eq!(near_duplicates(table, 0.9, |_| true)?, Some(vec![vec![0, 1]]));
//! # Ok::<(), ocelli_eval::EvalError>(())
//! ```

mod format;
mod groups;
mod rows;
mod search;

pub use format::{Contents, Entry, IndexError, Settings, around};
pub use groups::near_duplicates;
pub use rows::{Rows, normalise};
pub use search::{Hit, best, nearest};

#[cfg(test)]
mod tests;
