//! Stratified folds as scikit-learn's `StratifiedKFold(shuffle=False)` makes them since version 0.22.

/// The fold of every item, from 0 to `folds` − 1: each fold has about as many positives as any other.
///
/// The two kinds are numbered by first appearance; in the list of their sorted numbers, every `folds`-th entry
/// from the i-th on belongs to fold i, which says how many of a kind it gets. The items of a kind fill the folds
/// in their order.
pub fn stratified_folds(positive: &[bool], folds: usize) -> Vec<usize> {
    let folds = folds.max(1);
    let first = positive.first().copied().unwrap_or_default();
    let of_first_kind = positive.iter().filter(|p| **p == first).count();
    // The sorted list is so many zeros, then ones: fold i takes places i, i + folds, ...
    let places_below = |end: usize, fold: usize| (end + folds - 1).saturating_sub(fold) / folds;
    let takes = |fold: usize| {
        let zeros = places_below(of_first_kind, fold);
        [zeros, places_below(positive.len(), fold) - zeros]
    };
    let mut left: Vec<[usize; 2]> = (0..folds).map(takes).collect();
    let mut at = [0usize; 2];
    let assign = |p: &bool| {
        let kind = usize::from(*p != first);
        while left[at[kind]][kind] == 0 && at[kind] + 1 < folds {
            at[kind] += 1;
        }
        let fold = at[kind];
        left[fold][kind] = left[fold][kind].saturating_sub(1);
        fold
    };
    positive.iter().map(assign).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_fill_the_folds_in_their_order() {
        // Sorted codes 0000011: fold 0 takes 0, 0, 1; fold 1 takes 0, 0; fold 2 takes 0, 1.
        let positive = [0, 1, 0, 0, 1, 0, 0].map(|p| p == 1);
        assert_eq!(stratified_folds(&positive, 3), [0, 0, 0, 1, 2, 1, 2]);
        // The first item's kind is numbered first, whichever it is.
        assert_eq!(stratified_folds(&positive.map(|p| !p), 3), [0, 0, 0, 1, 2, 1, 2]);
        assert!(stratified_folds(&[], 3).is_empty());
        assert_eq!(stratified_folds(&[true], 3), [0]);
    }
}
