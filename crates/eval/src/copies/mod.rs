//! Copy detection by DINO's protocol on Copydays.
//!
//! Caron et al. 2021, *Emerging Properties in Self-Supervised Vision Transformers* (arXiv:2104.14294, §4.2.2),
//! after Berman et al. 2019, *MultiGrain* (arXiv:1902.05509). An image's feature is its class token followed by
//! the generalised mean of its patch tokens ([`describe`]); features may be whitened ([`Whitening`]); a query's
//! copies are looked for among the most similar images of the database, and scored by average precision over the
//! best [`SHORT_LIST`] alone ([`score`]).
//!
//! ```
//! use ocelli_eval::copies::describe;
//!
//! // A class token and two patches, one number each: the class token, and the patches' generalised mean.
//! let feature = describe(&[5.0, 2.0, 2.0], 1)?;
//! assert_eq!(feature.len(), 2);
//! assert!(feature[0] == 5.0 && (feature[1] - 2.0).abs() < 1e-6);
//! # Ok::<(), ocelli_eval::EvalError>(())
//! ```

mod whitening;

pub use whitening::Whitening;

use crate::EvalError;
use crate::retrieval::{Gallery, average_precision, rank};

/// Power of the generalised mean.
pub const GEM_POWER: i32 = 4;
/// What values of patch tokens are raised to before the generalised mean.
pub const GEM_FLOOR: f32 = 1e-6;
/// Images of the database that a query's score looks at.
pub const SHORT_LIST: usize = 20;

/// Blocks of Copydays that are altered images of the originals, one each in the same order.
pub const MATCHED_BLOCKS: [(&str, &[u32]); 2] =
    [("jpegqual", &[3, 5, 8, 10, 15, 20, 30, 50, 75]), ("crops", &[10, 15, 20, 30, 40, 50, 60, 70, 80])];
/// Characters that the name of a strongly altered image shares with its original's.
pub const SHARED_PREFIX: usize = 4;

/// The feature of one image, `[2 · dim]`: of its tokens `[1 + patches, dim]`, class token first, the class token
/// and the generalised mean of the patches,
///
/// ```text
/// GeM = (mean over patches of max(x, 10⁻⁶)⁴)^¼
/// ```
///
/// # Errors
/// [`EvalError::Shape`] for tokens that are no rows of `dim`, or without a patch; [`EvalError::NotFinite`].
pub fn describe(tokens: &[f32], dim: usize) -> Result<Vec<f32>, EvalError> {
    let patches = (tokens.len().checked_div(dim).unwrap_or(0)).saturating_sub(1);
    if patches == 0 || !tokens.len().is_multiple_of(dim) {
        return Err(EvalError::shape("tokens", format!("a class token and patches of {dim}"), tokens.len()));
    }
    if tokens.iter().any(|v| !v.is_finite()) {
        return Err(EvalError::NotFinite { what: "an image's tokens", place: String::new() });
    }
    let (class, cells) = tokens.split_at(dim);
    let mut sums = vec![0.0f64; dim];
    for cell in cells.chunks_exact(dim) {
        for (sum, value) in sums.iter_mut().zip(cell) {
            *sum += f64::from(value.max(GEM_FLOOR)).powi(GEM_POWER);
        }
    }
    let gem = sums.iter().map(|sum| (sum / patches as f64).powf(1.0 / f64::from(GEM_POWER)) as f32);
    Ok(class.iter().copied().chain(gem).collect())
}

/// How well a block of altered images found their originals.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockScore {
    /// Mean of the queries' average precision, 0 to 1.
    pub map: f64,
    /// Average precision of all pairs of a query and an image of the database, sorted together; the published
    /// script has none.
    pub micro_ap: f64,
    /// Average precision of each query over its short list.
    pub per_query: Vec<f64>,
}

/// Scores queries `[queries, dim]` with the numbers of their originals in the database. Features are compared by
/// cosine.
///
/// # Errors
/// [`EvalError::Empty`] without queries or for a query without an original, [`EvalError::Shape`] or
/// [`EvalError::NotFinite`] for features that do not fit.
pub fn score(queries: &[f32], originals: &[Vec<u32>], database: &Gallery) -> Result<BlockScore, EvalError> {
    if originals.is_empty() {
        return Err(EvalError::Empty { what: "the block of queries" });
    }
    let dim = database.dim();
    if queries.len() != originals.len() * dim {
        return Err(EvalError::shape(
            "the queries' features",
            format!("{} × {dim}", originals.len()),
            queries.len(),
        ));
    }
    let mut per_query = Vec::with_capacity(originals.len());
    let mut pairs = Vec::with_capacity(originals.len() * database.len());
    let mut wanted = 0;
    for (query, originals) in queries.chunks_exact(dim).zip(originals) {
        if originals.is_empty() {
            return Err(EvalError::Empty { what: "the list of a query's originals" });
        }
        if let Some(beyond) = originals.iter().find(|o| **o as usize >= database.len()) {
            return Err(EvalError::shape("an original", format!("below {}", database.len()), beyond));
        }
        let similarities = database.similarities(query)?;
        let best = rank(&similarities);
        let listed = best.iter().take(SHORT_LIST).enumerate();
        let found: Vec<usize> = listed.filter(|(_, image)| originals.contains(image)).map(|(at, _)| at).collect();
        per_query.push(average_precision(&found, originals.len()));
        wanted += originals.len();
        pairs.extend((0u32..).zip(similarities).map(|(image, s)| (s, originals.contains(&image))));
    }
    let map = per_query.iter().sum::<f64>() / per_query.len() as f64;
    Ok(BlockScore { map, micro_ap: micro_ap(pairs, wanted), per_query })
}

/// Mean of the precision at each pair that is right, most similar pairs first, without interpolation.
fn micro_ap(mut pairs: Vec<(f32, bool)>, wanted: usize) -> f64 {
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut right, mut sum) = (0, 0.0);
    for (at, _) in pairs.iter().enumerate().filter(|(_, (_, is_right))| *is_right) {
        right += 1;
        sum += f64::from(right) / (at + 1) as f64;
    }
    sum / wanted.max(1) as f64
}

#[cfg(test)]
mod tests;
