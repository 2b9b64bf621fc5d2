//! How much two boxes overlap, by the two ways of counting pixels.

/// Intersection over union of boxes `[x1, y1, x2, y2]` whose sides are edges: widths are x2 − x1 (COCO, and every loss). 0 where
/// they do not meet.
pub fn iou(a: [f32; 4], b: [f32; 4]) -> f64 {
    of(a, b, 0.0)
}

/// The same of boxes whose sides are the first and last pixels inside: widths are x2 − x1 + 1 (VOC).
pub fn pixel_iou(a: [f32; 4], b: [f32; 4]) -> f64 {
    of(a, b, 1.0)
}

fn of(a: [f32; 4], b: [f32; 4], more: f64) -> f64 {
    let shared = shared(a, b, more);
    if shared <= 0.0 { 0.0 } else { shared / (area(a, more) + area(b, more) - shared) }
}

/// Share of `a` that lies in `b`: what COCO takes for the overlap with a crowd.
pub(super) fn inside(a: [f32; 4], b: [f32; 4]) -> f64 {
    let shared = shared(a, b, 0.0);
    if shared <= 0.0 { 0.0 } else { shared / area(a, 0.0) }
}

/// Area, pixels²; a width is x2 − x1 + `more`.
pub(super) fn area([x1, y1, x2, y2]: [f32; 4], more: f64) -> f64 {
    (f64::from(x2) - f64::from(x1) + more) * (f64::from(y2) - f64::from(y1) + more)
}

fn shared(a: [f32; 4], b: [f32; 4], more: f64) -> f64 {
    let side = |low: usize, high: usize| {
        (f64::from(a[high].min(b[high])) - f64::from(a[low].max(b[low])) + more).max(0.0)
    };
    side(0, 2) * side(1, 3)
}
