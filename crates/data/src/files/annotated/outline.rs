//! Drawing COCO's polygons and runs into a map of classes, within bounds on the work.

/// Units of work for a map: pixels and crossings. A map of COCO takes some hundred thousand.
const WORK: u64 = 1 << 28;
/// The most crossings of a polygon with rows of pixels.
const MOST_CROSSINGS: usize = 2_000_000;

/// A map that is drawn.
pub(super) struct Canvas {
    width: usize,
    height: usize,
    labels: Vec<u8>,
    work: u64,
}

impl Canvas {
    /// All of class 0.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, labels: vec![0; width * height], work: WORK }
    }

    /// The classes, row by row.
    pub fn into_labels(self) -> Vec<u8> {
        self.labels
    }

    fn spend(&mut self, work: usize) -> Result<(), String> {
        self.work = self.work.checked_sub(work as u64).ok_or("its objects take too much work to draw")?;
        Ok(())
    }

    /// Draws a polygon, points `x, y, x, y, …` times `scale`: pixels whose centres are inside, by the even-odd rule.
    pub fn polygon(&mut self, points: &[f32], scale: [f64; 2], class: u8) -> Result<(), String> {
        let point = |i: usize| [f64::from(points[2 * i]) * scale[0], f64::from(points[2 * i + 1]) * scale[1]];
        let count = points.len() / 2;
        // (row, x) of every crossing of an edge with the middle of a row.
        let mut crossings: Vec<(u32, f32)> = Vec::new();
        for i in 0..count {
            let (a, b) = (point(i), point((i + 1) % count));
            let ([x1, y1], [x2, y2]) = if a[1] <= b[1] { (a, b) } else { (b, a) };
            let row = |y: f64| (y - 0.5).ceil().clamp(0.0, self.height as f64) as usize;
            let rows = row(y1)..row(y2);
            if crossings.len() + rows.len() > MOST_CROSSINGS {
                return Err("a polygon with too many long edges".to_owned());
            }
            crossings.extend(rows.map(|y| {
                let along = (y as f64 + 0.5 - y1) / (y2 - y1);
                (y as u32, (x1 + (x2 - x1) * along) as f32)
            }));
        }
        self.spend(count + crossings.len())?;
        crossings.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        for pair in crossings.chunks_exact(2) {
            let column = |x: f32| (x - 0.5).ceil().clamp(0.0, self.width as f32) as usize;
            let (from, to) = (column(pair[0].1), column(pair[1].1));
            if from < to {
                self.spend(to - from)?;
                let row = pair[0].0 as usize * self.width;
                self.labels[row + from..row + to].fill(class);
            }
        }
        Ok(())
    }

    /// Draws runs, off and on in turn, down the columns of a mask of [height, width], read at the pixels nearest to the map's.
    pub fn runs(&mut self, counts: &[u32], [high, wide]: [u64; 2], class: u8) -> Result<(), String> {
        let total: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        let pixels = high.checked_mul(wide).filter(|pixels| *pixels > 0);
        if pixels != Some(total) {
            return Err(format!("runs of {total} pixels for a mask of {wide}x{high}"));
        }
        // A column that is read for several of the map's is gone through as often.
        let repeats = self.width.div_ceil(usize::try_from(wide).unwrap_or(usize::MAX));
        self.spend(counts.len().saturating_mul(repeats).saturating_add(self.labels.len()))?;
        let nearest = |at: usize, to: usize, from: u64| (2 * at as u64 + 1).saturating_mul(from) / (2 * to as u64);
        // Which run, and where it ends.
        let (mut run, mut end) = (0, u64::from(counts.first().copied().unwrap_or_default()));
        let mut column = (u64::MAX, run, end);
        for x in 0..self.width {
            let from = nearest(x, self.width, wide).min(wide - 1);
            match column.0 == from {
                // The same column again.
                true => (run, end) = (column.1, column.2),
                false => column = (from, run, end),
            }
            for y in 0..self.height {
                let at = from * high + nearest(y, self.height, high).min(high - 1);
                while at >= end && run + 1 < counts.len() {
                    run += 1;
                    end += u64::from(counts[run]);
                }
                if run % 2 == 1 {
                    self.labels[y * self.width + x] = class;
                }
            }
        }
        Ok(())
    }
}

/// Runs as COCO packs them: each number in groups of five bits, the lowest first, a sixth says that more follow; from the
/// fourth on a number is the difference to the last but one.
pub(super) fn unpacked(text: &str) -> Result<Vec<u32>, String> {
    let mut counts: Vec<u32> = Vec::new();
    let mut letters = text.bytes();
    while letters.len() > 0 {
        let (mut number, mut shift) = (0_i64, 0);
        loop {
            let group = match letters.next() {
                Some(letter @ 48..=111) => i64::from(letter - 48),
                Some(letter) => return Err(format!("packed runs with the letter \"{}\"", letter.escape_ascii())),
                None => return Err("packed runs that break off".to_owned()),
            };
            // No image has runs of more than 60 bits.
            if shift > 55 {
                return Err("packed runs with a number too long".to_owned());
            }
            number |= (group & 31) << shift;
            shift += 5;
            if group & 32 == 0 {
                if group & 16 != 0 {
                    number |= -1 << shift;
                }
                break;
            }
        }
        if counts.len() > 2 {
            number += i64::from(counts[counts.len() - 2]);
        }
        let count = u32::try_from(number).map_err(|_| format!("packed runs with a run of {number} pixels"))?;
        counts.push(count);
    }
    Ok(counts)
}

/// The area of polygons in pixels², for the order of drawing.
pub(super) fn area(polygons: &[Vec<f32>]) -> f64 {
    let one = |points: &Vec<f32>| {
        let count = points.len() / 2;
        let point = |i: usize| [f64::from(points[2 * i]), f64::from(points[2 * i + 1])];
        let twice: f64 = (0..count)
            .map(|i| {
                let ([x1, y1], [x2, y2]) = (point(i), point((i + 1) % count));
                x1 * y2 - x2 * y1
            })
            .sum();
        twice.abs() / 2.0
    };
    polygons.iter().map(one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_are_read_again_cost_again() {
        let (mut canvas, counts) = (Canvas::new(10_000, 1), vec![1; 100_000]);
        assert!(canvas.runs(&counts, [100_000, 1], 1).unwrap_err().contains("too much work"));
        assert!(Canvas::new(1, 1).runs(&counts, [100_000, 1], 1).is_ok());
    }

    #[test]
    fn a_polygon_covers_the_centres_inside() {
        let mut canvas = Canvas::new(6, 4);
        // Edges are pixels' edges; half a pixel belongs where its centre is.
        canvas.polygon(&[1.0, 1.0, 4.4, 1.0, 4.4, 3.0, 1.0, 3.0], [1.0; 2], 7).unwrap();
        assert_eq!(canvas.labels, [0, 0, 0, 0, 0, 0, 0, 7, 7, 7, 0, 0, 0, 7, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut canvas = Canvas::new(3, 2);
        canvas.polygon(&[-5.0, -5.0, 50.0, -5.0, 50.0, 50.0, -5.0, 50.0], [0.5; 2], 1).unwrap();
        assert_eq!(canvas.labels, [1; 6], "far outside");
        canvas.polygon(&[0.0, 0.0, 1.0], [1.0; 2], 2).unwrap();
        canvas.polygon(&[], [1.0; 2], 2).unwrap();
        assert_eq!(canvas.labels, [1; 6], "no area");
        assert_eq!(area(&[vec![0.0, 0.0, 4.0, 0.0, 4.0, 3.0, 0.0, 3.0], vec![1.0, 1.0]]), 12.0);
    }

    #[test]
    fn work_is_bounded() {
        let long: Vec<f32> = (0..4000).flat_map(|i| [i as f32, if i % 2 == 0 { -1e6 } else { 1e6 }]).collect();
        assert!(Canvas::new(4, 2000).polygon(&long, [1.0; 2], 1).unwrap_err().contains("too many long edges"));
        let mut canvas = Canvas::new(2000, 2000);
        let whole = [0.0, 0.0, 2000.0, 0.0, 2000.0, 2000.0, 0.0, 2000.0];
        let drawn = (0..1000).map_while(|_| canvas.polygon(&whole, [1.0; 2], 1).ok()).count();
        assert!((10..100).contains(&drawn), "{drawn}");
    }

    #[test]
    fn runs_go_down_the_columns_and_must_fill_their_mask() {
        let mut canvas = Canvas::new(3, 2);
        canvas.runs(&[1, 2, 3], [2, 3], 5).unwrap();
        assert_eq!(canvas.labels, [0, 5, 0, 5, 0, 0]);
        let mut half = Canvas::new(3, 2);
        half.runs(&[2, 4, 4, 4, 10], [4, 6], 5).unwrap();
        assert_eq!(half.labels, [5, 5, 0, 0, 0, 0]);
        let mut double = Canvas::new(2, 4);
        double.runs(&[1, 1], [2, 1], 9).unwrap();
        assert_eq!(double.labels, [0, 0, 0, 0, 9, 9, 9, 9]);
        for (counts, size) in
            [(vec![1, 2], [2, 3]), (vec![u32::MAX, 9], [2, 3]), (vec![], [0, 0]), (vec![0], [u64::MAX, 2])]
        {
            assert!(canvas.runs(&counts, size, 1).unwrap_err().contains("for a mask of"), "{counts:?}");
        }
    }

    #[test]
    fn packed_runs() {
        // "V" is 00110 with more to follow, "1" is 00001: 6 + 32.
        assert_eq!(unpacked("01V1").unwrap(), [0, 1, 38]);
        // The fourth is a difference to the second; "N" has the sign's bit.
        assert_eq!(unpacked("01V14").unwrap(), [0, 1, 38, 1 + 4]);
        assert_eq!(unpacked("05V1N").unwrap(), [0, 5, 38, 5 - 2]);
        for (text, words) in
            [("0V", "break off"), ("0 ", "letter"), ("0O", "run of -1"), ("oooooooooooooo0", "too long")]
        {
            assert!(unpacked(text).unwrap_err().contains(words), "{text}");
        }
    }
}
