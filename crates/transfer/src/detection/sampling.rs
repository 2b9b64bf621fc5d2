//! Which boxes a loss looks at: labels by overlap with the objects, and a random subset with a share of positives.
//!
//! ```
//! use ocelli_transfer::detection::sampling::{Label, Thresholds, label};
//!
//! let boxes = [[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]];
//! let thresholds = Thresholds { background_below: 0.3, object_from: 0.7, best_of_each: true };
//! let found = label(&boxes, &[[0.0, 0.0, 10.0, 11.0]], thresholds);
//! assert_eq!(found.labels, [Label::Object, Label::Background]);
//! ```

use ocelli_data::Rng;

use super::boxes::{Xyxy, iou};

/// What a box is, by its overlap with the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// One of the objects.
    Object,
    /// None of them.
    Background,
    /// Neither: it is not learnt from.
    Ignored,
}

/// Labels of boxes, and the object that each overlaps most: the first of several, 0 where there is none at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// Of each box.
    pub labels: Vec<Label>,
    /// Number of the object; it only means something where the label is [`Label::Object`].
    pub matched: Vec<usize>,
}

/// Overlaps by which boxes are told apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Below it a box is background.
    pub background_below: f32,
    /// From it on a box is an object; between the two it is neither.
    pub object_from: f32,
    /// Whether the boxes that no other overlaps an object more than are objects, however small the overlap.
    pub best_of_each: bool,
}

/// Labels boxes by their largest IoU with an object.
///
/// With `best_of_each` every box that ties for an object's largest IoU becomes an object too; it stays matched with the object that
/// *it* overlaps most. An object that no box touches makes none (the reference would then make objects of all boxes).
pub fn label(boxes: &[Xyxy], objects: &[Xyxy], thresholds: Thresholds) -> Labelled {
    let mut best = vec![0.0f32; boxes.len()];
    let mut matched = vec![0usize; boxes.len()];
    let mut is_best_of_one = vec![false; boxes.len()];
    for (number, object) in objects.iter().enumerate() {
        let overlaps: Vec<f32> = boxes.iter().map(|b| iou(*b, *object)).collect();
        let most = overlaps.iter().copied().fold(0.0, f32::max);
        for (i, overlap) in overlaps.into_iter().enumerate() {
            if overlap > best[i] {
                (best[i], matched[i]) = (overlap, number);
            }
            is_best_of_one[i] |= most > 0.0 && overlap == most;
        }
    }
    let labels = best.iter().zip(is_best_of_one).map(|(best, is_best)| match *best {
        _ if objects.is_empty() => Label::Background,
        _ if is_best && thresholds.best_of_each => Label::Object,
        best if best >= thresholds.object_from => Label::Object,
        best if best < thresholds.background_below => Label::Background,
        _ => Label::Ignored,
    });
    Labelled { labels: labels.collect(), matched }
}

/// Numbers of the boxes that a loss looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sampled {
    /// Objects.
    pub positive: Vec<usize>,
    /// Background.
    pub negative: Vec<usize>,
}

impl Sampled {
    /// Draws `count` boxes, a share of `positive` at most of them objects, the rest background, as far as there are any.
    pub fn draw(labels: &[Label], count: usize, positive: f64, rng: &mut Rng) -> Self {
        let of = |wanted: Label| {
            let numbers = labels.iter().enumerate().filter(|(_, label)| **label == wanted);
            numbers.map(|(number, _)| number).collect::<Vec<usize>>()
        };
        let (mut positives, mut negatives) = (of(Label::Object), of(Label::Background));
        let most = (count as f64 * positive) as usize;
        choose(&mut positives, most, rng);
        choose(&mut negatives, count - positives.len().min(count), rng);
        Self { positive: positives, negative: negatives }
    }

    /// Objects first, then background.
    pub fn all(&self) -> impl Iterator<Item = usize> {
        self.positive.iter().chain(&self.negative).copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.positive.len() + self.negative.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Leaves a random `count` of the numbers, in their order.
fn choose(numbers: &mut Vec<usize>, count: usize, rng: &mut Rng) {
    if numbers.len() <= count {
        return;
    }
    for i in 0..count {
        let other = i + rng.below((numbers.len() - i) as u64) as usize;
        numbers.swap(i, other);
    }
    numbers.truncate(count);
    numbers.sort_unstable();
}

#[cfg(test)]
mod tests {
    use super::*;

    const RPN: Thresholds = Thresholds { background_below: 0.3, object_from: 0.7, best_of_each: true };

    #[test]
    fn labels_follow_the_largest_overlap() {
        let objects = [[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0], [90.0, 90.0, 91.0, 91.0]];
        let boxes = [
            [0.0, 0.0, 10.0, 9.0],    // .9 of the first
            [0.0, 0.0, 10.0, 5.0],    // .5 of the first
            [0.0, 0.0, 10.0, 1.0],    // .1
            [20.0, 0.0, 30.0, 2.0],   // .2 of the second, and no box has more
            [20.0, 8.0, 30.0, 10.0],  // .2 too
            [50.0, 50.0, 60.0, 60.0], // nothing
        ];
        use Label::{Background, Ignored, Object};
        let found = label(&boxes, &objects, RPN);
        assert_eq!(found.labels, [Object, Ignored, Background, Object, Object, Background]);
        assert_eq!(found.matched[..5], [0, 0, 0, 1, 1]);
        // Nothing touches the third object, and nothing becomes one for its sake.
        assert_eq!(found.labels[5], Background);
        let plain = label(&boxes, &objects, Thresholds { best_of_each: false, ..RPN });
        assert_eq!(plain.labels, [Object, Ignored, Background, Background, Background, Background]);
        assert_eq!(label(&boxes, &[], RPN).labels, [Background; 6]);
        assert_eq!(label(&[], &objects, RPN).labels, []);
    }

    /// A box may tie for one object and belong to another.
    #[test]
    fn a_best_box_stays_with_what_it_overlaps_most() {
        let objects = [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 40.0]];
        let found = label(&[[0.0, 0.0, 10.0, 11.0]], &objects, RPN);
        assert_eq!((found.labels[0], found.matched[0]), (Label::Object, 0));
    }

    #[test]
    fn samples_are_full_where_they_can_be() {
        let mut labels = vec![Label::Background; 100];
        labels[..40].fill(Label::Object);
        labels[40..50].fill(Label::Ignored);
        let draw = |count, share, seed| Sampled::draw(&labels, count, share, &mut Rng::from_words(&[seed]));
        let some = draw(32, 0.25, 1);
        assert_eq!((some.positive.len(), some.negative.len()), (8, 24));
        assert!(some.positive.iter().all(|i| *i < 40) && some.negative.iter().all(|i| *i >= 50));
        assert_eq!(draw(32, 0.25, 1), some);
        assert_ne!(draw(32, 0.25, 2), some);
        // Too little background leaves the sample short, too few objects fill it with background.
        assert_eq!(draw(96, 0.25, 1).len(), 24 + 50);
        assert_eq!(draw(60, 0.9, 1).positive.len(), 40);
        assert_eq!(draw(60, 0.9, 1).negative.len(), 20);
        assert!(Sampled::draw(&[], 8, 0.5, &mut Rng::from_words(&[1])).is_empty());
        // Every box has its turn.
        let seen: std::collections::HashSet<usize> = (0..200).flat_map(|s| draw(32, 0.25, s).positive).collect();
        assert_eq!(seen.len(), 40);
    }
}
