//! Greedy non-maximum suppression.
//!
//! Every box is compared with those kept so far, which lie in blocks that the compiler turns into vectors; a block is looked at
//! as a whole, and the first that has something against the box ends the search.
//!
//! ```
//! use ocelli_transfer::detection::nms::nms_per_class;
//!
//! // Two boxes in one place stay where they are of two classes.
//! let boxes = [[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0]];
//! assert_eq!(nms_per_class(&boxes, &[0.8, 0.9], &[0, 1], 0.5), [1, 0]);
//! assert_eq!(nms_per_class(&boxes, &[0.8, 0.9], &[0, 0], 0.5), [1]);
//! ```

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::boxes::{Xyxy, area, larger, smaller};

/// Boxes of a block.
const BLOCK: usize = 16;

/// Some of the kept boxes. Empty places have an area that is no number, which overlaps nothing.
struct Block {
    x1: [f32; BLOCK],
    y1: [f32; BLOCK],
    x2: [f32; BLOCK],
    y2: [f32; BLOCK],
    areas: [f32; BLOCK],
}

impl Block {
    /// Whether one of them overlaps a box by more than `threshold`.
    #[inline(always)]
    fn covers(&self, [x1, y1, x2, y2]: Xyxy, area: f32, threshold: f32) -> bool {
        let mut covered = false;
        for i in 0..BLOCK {
            let width = larger(smaller(x2, self.x2[i]) - larger(x1, self.x1[i]), 0.0);
            let height = larger(smaller(y2, self.y2[i]) - larger(y1, self.y1[i]), 0.0);
            let shared = width * height;
            // Nothing over nothing is not more than anything.
            covered |= shared / (area + self.areas[i] - shared) > threshold;
        }
        covered
    }
}

/// The kept boxes.
#[derive(Default)]
struct Kept {
    blocks: Vec<Block>,
    count: usize,
}

impl Kept {
    fn covers(&self, candidate: Xyxy, area: f32, threshold: f32) -> bool {
        self.blocks.iter().any(|block| block.covers(candidate, area, threshold))
    }

    fn push(&mut self, [x1, y1, x2, y2]: Xyxy, area: f32) {
        let place = self.count % BLOCK;
        if place == 0 {
            let empty = [0.0; BLOCK];
            self.blocks.push(Block { x1: empty, y1: empty, x2: empty, y2: empty, areas: [f32::NAN; BLOCK] });
        }
        if let Some(block) = self.blocks.last_mut() {
            (block.x1[place], block.y1[place], block.x2[place], block.y2[place]) = (x1, y1, x2, y2);
            block.areas[place] = area;
        }
        self.count += 1;
    }
}

/// Best score first, equal scores by index; a score that is no number comes last.
fn best_first(scores: &[f32], a: usize, b: usize) -> Ordering {
    let score = |i: usize| if scores[i].is_nan() { f32::NEG_INFINITY } else { scores[i] };
    score(b).partial_cmp(&score(a)).unwrap_or(Ordering::Equal).then(a.cmp(&b))
}

/// Indices of the boxes that remain, by descending score: a box goes if its intersection over union with one that was kept
/// before it is greater than `threshold`. Equal scores go by index, and what is no number comes last.
///
/// # Panics
/// When there are not as many scores as boxes.
pub fn nms(boxes: &[Xyxy], scores: &[f32], threshold: f32) -> Vec<usize> {
    nms_best(boxes, scores, threshold, usize::MAX)
}

/// The first `most` indices of [`nms`], in less time than all of them.
///
/// # Panics
/// When there are not as many scores as boxes.
pub fn nms_best(boxes: &[Xyxy], scores: &[f32], threshold: f32, most: usize) -> Vec<usize> {
    assert!(boxes.len() == scores.len(), "nms: {} boxes, {} scores", boxes.len(), scores.len());
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    order.sort_unstable_by(|a, b| best_first(scores, *a, *b));
    let (mut kept, mut indices) = (Kept::default(), Vec::new());
    for index in order {
        if indices.len() >= most {
            break;
        }
        let candidate = boxes[index];
        let own = area(candidate);
        if !kept.covers(candidate, own, threshold) {
            kept.push(candidate, own);
            indices.push(index);
        }
    }
    indices
}

/// [`nms`] among the boxes of each class: indices of all that remain, by descending score.
///
/// # Panics
/// When there are not as many scores and classes as boxes.
pub fn nms_per_class(boxes: &[Xyxy], scores: &[f32], classes: &[usize], threshold: f32) -> Vec<usize> {
    assert!(
        boxes.len() == scores.len() && boxes.len() == classes.len(),
        "nms: {} boxes, {} scores, {} classes",
        boxes.len(),
        scores.len(),
        classes.len()
    );
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, class) in classes.iter().enumerate() {
        members.entry(*class).or_default().push(index);
    }
    let mut indices = Vec::new();
    for members in members.values() {
        let own_boxes: Vec<Xyxy> = members.iter().map(|i| boxes[*i]).collect();
        let own_scores: Vec<f32> = members.iter().map(|i| scores[*i]).collect();
        indices.extend(nms(&own_boxes, &own_scores, threshold).into_iter().map(|i| members[i]));
    }
    indices.sort_unstable_by(|a, b| best_first(scores, *a, *b));
    indices
}

#[cfg(test)]
mod tests {
    use super::super::boxes::iou;
    use super::*;
    use ocelli_data::Rng;

    /// As the definition says, box by box.
    fn plainly(boxes: &[Xyxy], scores: &[f32], threshold: f32) -> Vec<usize> {
        let mut order: Vec<usize> = (0..boxes.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let mut kept: Vec<usize> = Vec::new();
        for i in order {
            if kept.iter().all(|k| iou(boxes[*k], boxes[i]) <= threshold) {
                kept.push(i);
            }
        }
        kept
    }

    /// Boxes about so many places of an image, with scores.
    fn crowd(count: usize, places: usize, seed: u64) -> (Vec<Xyxy>, Vec<f32>) {
        let mut rng = Rng::from_words(&[seed]);
        let mut draw = |from: f64, to: f64| rng.uniform(from, to) as f32;
        let centres: Vec<[f32; 4]> = (0..places)
            .map(|_| [draw(0.0, 800.0), draw(0.0, 600.0), draw(20.0, 300.0), draw(20.0, 300.0)])
            .collect();
        let boxes = (0..count)
            .map(|i| {
                let [x, y, w, h] = centres[i % places];
                let [x, y] = [x + draw(-9.0, 9.0), y + draw(-9.0, 9.0)];
                [x, y, x + w * draw(0.8, 1.2), y + h * draw(0.8, 1.2)]
            })
            .collect();
        (boxes, (0..count).map(|_| draw(-5.0, 5.0)).collect())
    }

    #[test]
    fn as_the_definition_says() {
        for (count, places, threshold) in [(0, 1, 0.5), (1, 1, 0.5), (17, 3, 0.3), (500, 40, 0.5), (700, 300, 0.7)]
        {
            let (boxes, scores) = crowd(count, places, 3);
            let all = nms(&boxes, &scores, threshold);
            assert_eq!(all, plainly(&boxes, &scores, threshold), "{count} at {threshold}");
            for most in [0, 1, 16, all.len()] {
                let most = most.min(all.len());
                assert_eq!(nms_best(&boxes, &scores, threshold, most), all[..most]);
            }
        }
    }

    #[test]
    fn ties_go_by_index_and_classes_do_not_meet() {
        let same = [[0.0, 0.0, 10.0, 10.0]; 4];
        assert_eq!(nms(&same, &[0.5, 0.5, -0.0, 0.0], 0.5), [0]);
        // A threshold of one: nothing overlaps by more.
        assert_eq!(nms(&same, &[0.5, 0.7, -0.0, 0.0], 1.0), [1, 0, 2, 3]);
        assert_eq!(nms_per_class(&same, &[0.1, 0.4, 0.2, 0.3], &[7, 1_000_000_007, 7, 0], 0.5), [1, 3, 2]);
        assert!(nms_per_class(&[], &[], &[], 0.5).is_empty());
    }

    #[test]
    fn what_is_no_number_comes_last_and_covers_nothing() {
        let good = [0.0, 0.0, 10.0, 10.0];
        let boxes = [[f32::NAN, 0.0, 10.0, 10.0], good, good, [0.0, 0.0, f32::INFINITY, 10.0], good];
        let scores = [0.9, f32::NAN, 0.5, 0.7, -f32::NAN];
        assert_eq!(nms(&boxes, &scores, 0.5), [0, 3, 2]);
        let none = [f32::NAN; 5];
        assert_eq!(nms(&boxes, &none, 0.5), [0, 1, 3]);
        // Empty boxes overlap nothing, themselves either.
        assert_eq!(nms(&[[1.0; 4]; 3], &[0.1, 0.3, 0.2], 0.5), [1, 2, 0]);
    }

    #[test]
    fn proposals_of_an_image_take_a_fraction_of_a_second() {
        let (boxes, scores) = crowd(12_000, 4000, 5);
        let started = std::time::Instant::now();
        let kept = nms_best(&boxes, &scores, 0.7, 2000);
        let took = started.elapsed();
        println!("12,000 boxes to {}: {:.1} ms", kept.len(), took.as_secs_f64() * 1e3);
        assert_eq!(kept.len(), 2000);
        // Far more than it should take: what is looked for is a quadratic number of steps.
        assert!(took.as_secs_f64() < 2.0, "{took:?}");
    }
}
