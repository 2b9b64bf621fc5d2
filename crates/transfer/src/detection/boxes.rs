//! Geometry of boxes, and their encoding as what a network regresses.
//!
//! Everything is `f32` on the host, in the order of operations of the published code. Numbers that are not finite go through
//! as they are: a box with one of them is never [non-empty](is_nonempty), and overlaps nothing.
//!
//! ```
//! use ocelli_transfer::detection::boxes::{clip, iou};
//!
//! // 50 of 150 square pixels are in both.
//! assert_eq!(iou([0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0]), 50.0 / 150.0);
//! assert_eq!(clip([-3.0, 2.0, 50.0, 8.0], [10, 40]), [0.0, 2.0, 40.0, 8.0]);
//! ```

/// A box `[x1, y1, x2, y2]` in pixels: left, top, right and bottom edge (edges, not pixel centres).
pub type Xyxy = [f32; 4];

/// Largest growth of a side that a box is decoded to: from 16 to 1000 pixels.
const LARGEST_GROWTH: f32 = 1000.0 / 16.0;

/// The larger one; `b` where either is not a number.
#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The smaller one; `b` where either is not a number.
#[inline(always)]
pub(crate) fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// Width times height, in square pixels.
#[inline(always)]
pub fn area([x1, y1, x2, y2]: Xyxy) -> f32 {
    (x2 - x1) * (y2 - y1)
}

/// Intersection over union, 0 where nothing is shared. A side is `x2 − x1` long: without VOC's pixel more.
pub fn iou(a: Xyxy, b: Xyxy) -> f32 {
    let width = larger(smaller(a[2], b[2]) - larger(a[0], b[0]), 0.0);
    let height = larger(smaller(a[3], b[3]) - larger(a[1], b[1]), 0.0);
    let shared = width * height;
    let ratio = shared / (area(a) + area(b) - shared);
    if shared > 0.0 && ratio > 0.0 { ratio } else { 0.0 }
}

/// The part of a box within an image of this height and width.
pub fn clip([x1, y1, x2, y2]: Xyxy, [height, width]: [usize; 2]) -> Xyxy {
    // What is not a number stays so, or half a box would become a whole one.
    let within = |v: f32, most: usize| {
        let most = most as f32;
        match v {
            v if v < 0.0 => 0.0,
            v if v > most => most,
            v => v,
        }
    };
    [within(x1, width), within(y1, height), within(x2, width), within(y2, height)]
}

/// Whether both sides are longer than nothing.
pub fn is_nonempty([x1, y1, x2, y2]: Xyxy) -> bool {
    x2 > x1 && y2 > y1
}

/// A box of an image `from` (height, width) on the same image resized `to` (height, width).
pub fn rescale([x1, y1, x2, y2]: Xyxy, from: [usize; 2], to: [usize; 2]) -> Xyxy {
    let [down, across] = [0, 1].map(|axis| to[axis] as f32 / from[axis] as f32);
    [x1 * across, y1 * down, x2 * across, y2 * down]
}

/// A box on the image mirrored left to right.
pub fn flip([x1, y1, x2, y2]: Xyxy, width: usize) -> Xyxy {
    let width = width as f32;
    [width - x2, y1, width - x1, y2]
}

/// Between boxes and the four numbers a network regresses, `[dx, dy, dw, dh]`, relative to another box (Girshick et al. 2014,
/// appendix C): centres in sides of the source, sides by logarithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoxCoder {
    /// What each number is multiplied by, so that all are about equally large: 1 for proposals, `[10, 10, 5, 5]` for the boxes
    /// of classes.
    pub weights: [f32; 4],
}

/// Width, height, and both coordinates of the centre.
fn middle([x1, y1, x2, y2]: Xyxy) -> [f32; 4] {
    let (width, height) = (x2 - x1, y2 - y1);
    [width, height, x1 + 0.5 * width, y1 + 0.5 * height]
}

impl BoxCoder {
    /// What leads from `src` to `target`. Finite where all sides are longer than nothing.
    pub fn encode(&self, src: Xyxy, target: Xyxy) -> [f32; 4] {
        let ([w, h, x, y], [target_w, target_h, target_x, target_y]) = (middle(src), middle(target));
        let [wx, wy, ww, wh] = self.weights;
        [wx * (target_x - x) / w, wy * (target_y - y) / h, ww * (target_w / w).ln(), wh * (target_h / h).ln()]
    }

    /// Where `delta` leads from `src`. A side grows at most 1000/16 times, because what a network says early on may be anything.
    pub fn decode(&self, src: Xyxy, delta: [f32; 4]) -> Xyxy {
        let [w, h, x, y] = middle(src);
        let most = LARGEST_GROWTH.ln();
        let [dx, dy, dw, dh] = [0, 1, 2, 3].map(|i| delta[i] / self.weights[i]);
        let (centre_x, centre_y) = (dx * w + x, dy * h + y);
        // What is not a number stays so.
        let side = |d: f32, of: f32| (if d > most { most } else { d }).exp() * of;
        let (width, height) = (side(dw, w), side(dh, h));
        [centre_x - 0.5 * width, centre_y - 0.5 * height, centre_x + 0.5 * width, centre_y + 0.5 * height]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps() {
        let a = [0.0, 0.0, 4.0, 2.0];
        assert_eq!(area(a), 8.0);
        assert_eq!(iou(a, a), 1.0);
        assert_eq!(iou(a, [2.0, 0.0, 6.0, 2.0]), 1.0 / 3.0);
        // A common edge, a corner, and far apart.
        for b in [[4.0, 0.0, 8.0, 2.0], [4.0, 2.0, 5.0, 3.0], [9.0, 9.0, 10.0, 10.0]] {
            assert_eq!(iou(a, b), 0.0, "{b:?}");
        }
        // Nothing is shared with an empty box, with itself either, nor with what is no box.
        let empty = [1.0, 1.0, 1.0, 2.0];
        assert_eq!([iou(empty, empty), iou(a, empty), iou(empty, a)], [0.0; 3]);
        let turned = [3.0, 1.0, 1.0, 0.5];
        assert_eq!([iou(a, turned), iou(turned, turned)], [0.0; 2]);
        let nan = [f32::NAN, 0.0, 4.0, 2.0];
        assert_eq!([iou(a, nan), iou(nan, a), iou(nan, nan)], [0.0; 3]);
    }

    #[test]
    fn clipping_keeps_what_is_not_a_number() {
        assert_eq!(clip([-3.0, 2.0, 9.0, 11.0], [10, 8]), [0.0, 2.0, 8.0, 10.0]);
        assert_eq!(clip([f32::NEG_INFINITY, -0.5, f32::INFINITY, 1.0], [10, 8]), [0.0, 0.0, 8.0, 1.0]);
        let clipped = clip([f32::NAN, 0.0, 5.0, 5.0], [10, 8]);
        assert!(clipped[0].is_nan() && !is_nonempty(clipped));
        // Wholly outside: nothing is left.
        assert!(!is_nonempty(clip([20.0, 1.0, 30.0, 4.0], [10, 8])));
        assert!(is_nonempty([0.0, 0.0, 1e-6, 1.0]) && !is_nonempty([0.0, 0.0, 1.0, 0.0]));
    }

    #[test]
    fn there_and_back() {
        let original = [3.0, 5.0, 60.0, 40.0];
        let resized = rescale(original, [100, 200], [50, 400]);
        assert_eq!(resized, [6.0, 2.5, 120.0, 20.0]);
        assert_eq!(rescale(resized, [50, 400], [100, 200]), original);
        assert_eq!(flip(original, 64), [4.0, 5.0, 61.0, 40.0]);
        assert_eq!(flip(flip(original, 64), 64), original);
        let coder = BoxCoder { weights: [10.0, 10.0, 5.0, 5.0] };
        let src = [10.0, 20.0, 26.0, 52.0];
        assert_eq!(coder.encode(src, src), [0.0; 4]);
        // Half a width to the right and twice as wide.
        let target = [10.0, 20.0, 42.0, 52.0];
        let delta = coder.encode(src, target);
        assert_eq!(delta, [5.0, 0.0, 5.0 * 2.0f32.ln(), 0.0]);
        for (found, expected) in coder.decode(src, delta).iter().zip(target) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn no_side_grows_without_bound() {
        let coder = BoxCoder { weights: [1.0; 4] };
        let [x1, y1, x2, y2] = coder.decode([0.0, 0.0, 16.0, 16.0], [0.0, 0.0, 1e30, -1e30]);
        assert!((x2 - x1 - 1000.0).abs() < 1e-2, "{x1} {x2}");
        assert_eq!(y1, y2, "a side may vanish");
        assert!(coder.decode([0.0, 0.0, 16.0, 16.0], [0.0, 0.0, f32::NAN, 0.0])[2].is_nan());
    }
}
