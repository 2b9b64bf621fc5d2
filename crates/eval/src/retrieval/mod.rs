//! Image retrieval by the protocol of the revisited Oxford and Paris sets.
//!
//! Radenović et al. 2018, *Revisiting Oxford and Paris: Large-Scale Image Retrieval Benchmarking*
//! (arXiv:1803.11285). For a query, every image of the database is easy, hard, junk or none of these, and three
//! setups say which of them must be found:
//!
//! | setup | positives | passed over |
//! |---|---|---|
//! | Easy | easy | hard, junk |
//! | Medium | easy, hard | junk |
//! | Hard | hard | easy, junk |
//!
//! Images that are passed over are taken out of the ranking before positions are counted. Queries without
//! positives are left out of the means.
//!
//! ```
//! use ocelli_eval::retrieval::{Gallery, Relevance, Setup, rank, score};
//!
//! let gallery = Gallery::new(vec![1.0, 0.0, 0.0, 1.0, 0.9, 0.1], 2)?;
//! let ranking = rank(&gallery.similarities(&[1.0, 0.0])?);
//! assert_eq!(ranking, [0, 2, 1]);
//! let relevance = Relevance { easy: vec![0, 2], ..Relevance::default() };
//! let found = score(&ranking, &relevance, Setup::Easy, &[1])?;
//! assert_eq!(found.map(|query| query.average_precision), Some(1.0));
//! # Ok::<(), ocelli_eval::EvalError>(())
//! ```

mod gallery;
pub mod ground_truth;
pub mod scales;

pub use gallery::{Gallery, rank};
pub use ground_truth::{GroundTruth, GroundTruthError, Query};

use crate::EvalError;

/// Numbers of images that the protocol gives precision at.
pub const PRECISION_AT: [usize; 3] = [1, 5, 10];

/// Which images must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// Easy ones.
    Easy,
    /// Easy and hard ones.
    Medium,
    /// Hard ones.
    Hard,
}

impl Setup {
    /// In the order of the published tables.
    pub const ALL: [Self; 3] = [Self::Easy, Self::Medium, Self::Hard];

    /// As tables have it: E, M or H.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Easy => "E",
            Self::Medium => "M",
            Self::Hard => "H",
        }
    }

    /// Positives, and what is passed over.
    fn split(self, of: &Relevance) -> ([&[u32]; 2], [&[u32]; 2]) {
        match self {
            Self::Easy => ([&of.easy, &[]], [&of.hard, &of.junk]),
            Self::Medium => ([&of.easy, &of.hard], [&of.junk, &[]]),
            Self::Hard => ([&of.hard, &[]], [&of.easy, &of.junk]),
        }
    }
}

/// What the images of the database are to one query, by their numbers. The rest is negative.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relevance {
    /// Clearly show what the query shows.
    pub easy: Vec<u32>,
    /// Show it, but hard to tell.
    pub hard: Vec<u32>,
    /// Neither right nor wrong.
    pub junk: Vec<u32>,
}

/// How well one query's positives were found.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryScore {
    /// Average precision, 0 to 1.
    pub average_precision: f64,
    /// Precision at each of the numbers asked for, 0 to 1.
    pub precision_at: Vec<f64>,
}

/// Average precision of positives at these zero-based positions (ascending), of `positives` in all: the area under
/// the curve of precision over recall by trapezoids,
///
/// ```text
/// AP = Σⱼ (p₀ + p₁) / (2 · positives)    p₀ = j / rⱼ (1 where rⱼ = 0),  p₁ = (j + 1) / (rⱼ + 1)
/// ```
///
/// Positives that are not among the positions add nothing. 0 without positives.
pub fn average_precision(found: &[usize], positives: usize) -> f64 {
    let areas = found.iter().enumerate().map(|(j, &position)| {
        let before = if position == 0 { 1.0 } else { j as f64 / position as f64 };
        f64::midpoint(before, (j + 1) as f64 / (position + 1) as f64)
    });
    // An empty sum is −0.
    areas.sum::<f64>().max(0.0) / positives.max(1) as f64
}

/// Scores a ranking of the whole database, best first (see [`rank`]). `None` where the setup has no positives for
/// this query.
///
/// Precision at k divides by kq = min(k, position of the last positive), as published: a query whose positives are
/// all found is not charged for there being fewer of them than k.
///
/// # Errors
/// [`EvalError::Shape`] when the ranking is none of `0..n`, or the relevance names images beyond it;
/// [`EvalError::Setting`] for a k of 0.
pub fn score(
    ranking: &[u32],
    relevance: &Relevance,
    setup: Setup,
    ks: &[usize],
) -> Result<Option<QueryScore>, EvalError> {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Negative,
        Ignored,
        Positive,
        Counted,
    }
    if ks.contains(&0) {
        return Err(EvalError::setting("k", "at least 1", 0));
    }
    let (positives, ignored) = setup.split(relevance);
    let mut kinds = vec![Kind::Negative; ranking.len()];
    // Positives last: an image in two lists is one that must be found.
    for (lists, kind) in [(ignored, Kind::Ignored), (positives, Kind::Positive)] {
        for image in lists.into_iter().flatten() {
            let images = ranking.len();
            let beyond = || EvalError::shape("an image of the ground truth", format!("below {images}"), image);
            *kinds.get_mut(*image as usize).ok_or_else(beyond)? = kind;
        }
    }
    let wanted = kinds.iter().filter(|kind| **kind == Kind::Positive).count();
    let (mut position, mut found) = (0, Vec::with_capacity(wanted));
    for image in ranking {
        let not_ranked =
            || EvalError::shape("a ranking", "every image once", format!("image {image} out of place"));
        let kind = kinds.get_mut(*image as usize).filter(|kind| **kind != Kind::Counted).ok_or_else(not_ranked)?;
        match std::mem::replace(kind, Kind::Counted) {
            Kind::Ignored => continue,
            Kind::Positive => found.push(position),
            Kind::Negative | Kind::Counted => {}
        }
        position += 1;
    }
    let Some(last) = found.last() else { return Ok(None) };
    let precision = |k: usize| {
        let within = k.min(last + 1);
        found.iter().filter(|position| **position < within).count() as f64 / within as f64
    };
    let precision_at = ks.iter().map(|k| precision(*k)).collect();
    Ok(Some(QueryScore { average_precision: average_precision(&found, wanted), precision_at }))
}

/// Means over queries.
#[derive(Debug, Clone, PartialEq)]
pub struct MeanScore {
    /// Mean average precision, 0 to 1.
    pub map: f64,
    /// Mean precision at each of the numbers asked for, 0 to 1.
    pub mean_precision_at: Vec<f64>,
    /// Queries with positives.
    pub queries: usize,
}

/// Means over the queries that have positives. `None` where no query has.
pub fn mean(scores: &[Option<QueryScore>]) -> Option<MeanScore> {
    let scores: Vec<&QueryScore> = scores.iter().flatten().collect();
    let queries = scores.len();
    let ks = scores.first()?.precision_at.len();
    let over = |of: &dyn Fn(&QueryScore) -> f64| scores.iter().map(|s| of(s)).sum::<f64>() / queries as f64;
    let at = |k: usize| over(&|s| s.precision_at.get(k).copied().unwrap_or_default());
    Some(MeanScore { map: over(&|s| s.average_precision), mean_precision_at: (0..ks).map(at).collect(), queries })
}

#[cfg(test)]
mod tests;
