//! One chart as SVG: curves, levels, axes, and the numbers the page's script shows under the pointer.

use std::fmt::Write as _;

use crate::text::{escape, number};
use crate::ticks::{axis, log_axis};

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;
/// Points of a drawn curve at most; more cannot be told apart.
const POINTS: usize = 800;

/// How a curve is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    /// Thin and pale: single steps.
    Thin,
    /// Strong, with dots where there are few: epochs.
    Bold,
    /// Strong without dots: steps of what has no noise.
    Plain,
}

/// A curve.
#[derive(Debug, Clone)]
pub struct Curve {
    /// What the values are, for the pointer.
    pub name: String,
    /// Which of the page's colours, from 0.
    pub colour: usize,
    pub stroke: Stroke,
    /// (epochs, value), rising; values that are not finite leave a gap.
    pub points: Vec<(f64, f64)>,
}

/// A horizontal line: something to compare with.
#[derive(Debug, Clone)]
pub struct Level {
    pub name: String,
    pub value: f64,
}

/// A chart.
#[derive(Debug, Clone, Default)]
pub struct Chart {
    pub title: String,
    /// Behind numbers; empty for plain ones.
    pub unit: &'static str,
    /// One sentence: what healthy looks like.
    pub healthy: String,
    pub curves: Vec<Curve>,
    pub levels: Vec<Level>,
    /// What the horizontal axis counts.
    pub x_title: &'static str,
    /// Where the horizontal axis ends at least: the charts of a page share it.
    pub x_last: f64,
    /// Whether the vertical axis has to show 0.
    pub from_zero: bool,
    /// Whether the vertical axis counts powers of ten; values of 0 and less are then left out.
    pub logarithmic: bool,
}

impl Chart {
    /// True when there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        !self.curves.iter().any(|c| c.points.iter().any(|p| p.1.is_finite()))
    }

    /// The largest finite number on the horizontal axis.
    pub fn last(&self) -> f64 {
        let points = self.curves.iter().flat_map(|c| &c.points);
        points.map(|p| p.0).filter(|x| x.is_finite()).fold(0.0, f64::max)
    }

    /// A `<figure>`: title, newest value, drawing and sentence.
    pub fn figure(&self) -> String {
        let newest = self.newest().map(|v| format!("{}{}", number(v), self.unit));
        self.figure_with(&newest.unwrap_or_default())
    }

    /// The same with something else than the newest value beside the title; empty for nothing.
    pub fn figure_with(&self, figure: &str) -> String {
        let figure = if figure.is_empty() { String::new() } else { format!("<b>{}</b>", escape(figure)) };
        let mut html = format!(
            "<figure class=\"chart\"><figcaption><h3>{}</h3>{figure}</figcaption>{}",
            escape(&self.title),
            self.svg()
        );
        if !self.healthy.is_empty() {
            let _ = write!(html, "<p>{}</p>", escape(&self.healthy));
        }
        html + "</figure>\n"
    }

    /// The last value of the strongest curve, where there is one curve to speak of.
    fn newest(&self) -> Option<f64> {
        let bold = self.curves.iter().filter(|c| c.stroke != Stroke::Thin);
        let main = bold.clone().chain(&self.curves).find(|c| !c.points.is_empty())?;
        if bold.filter(|c| c.colour != main.colour).count() > 0 {
            return None;
        }
        main.points.iter().rev().map(|p| p.1).find(|v| v.is_finite())
    }

    fn svg(&self) -> String {
        let drawn = |v: f64| if self.logarithmic { v.log10() } else { v };
        let curves: Vec<Curve> = self
            .curves
            .iter()
            .map(|c| Curve { points: thin(&c.points), name: c.name.clone(), ..*c })
            .filter(|c| !c.points.is_empty())
            .collect();
        let points = || curves.iter().flat_map(|c| &c.points);
        let values = || {
            points().map(|p| p.1).chain(self.levels.iter().map(|l| l.value)).map(drawn).filter(|v| v.is_finite())
        };
        let (mut low, high) = values().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
        if low > high {
            return String::new();
        }
        if low > 0.0 && !self.logarithmic && (self.from_zero || low < 0.4 * high) {
            low = 0.0;
        }
        let last = points().map(|p| p.0).filter(|x| x.is_finite()).fold(self.x_last, f64::max);
        let y_axis = if self.logarithmic { log_axis(low, high) } else { axis(low, high, 4, false, false) };
        let x_axis = axis(0.0, last.max(1e-6), 6, last >= 3.0, true);
        let x = |v: f64| LEFT + (v - x_axis.low) / (x_axis.high - x_axis.low) * (WIDTH - LEFT - RIGHT);
        let tick_y =
            |v: f64| HEIGHT - BOTTOM - (v - y_axis.low) / (y_axis.high - y_axis.low) * (HEIGHT - TOP - BOTTOM);
        let y = |v: f64| tick_y(drawn(v));

        let mut svg = format!(
            "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\" data-plot=\"{}\">",
            escape(&self.spoken()),
            escape(&self.data(&curves, &x))
        );
        let mut grid = String::new();
        let mut labels = String::new();
        for (value, label) in &y_axis.ticks {
            let at = tick_y(*value);
            let _ = write!(grid, "M{LEFT} {at:.1}H{:.1}", WIDTH - RIGHT);
            let _ =
                write!(labels, "<text x=\"{:.1}\" y=\"{:.1}\" class=\"y\">{label}</text>", LEFT - 6.0, at + 3.8);
        }
        let floor = HEIGHT - BOTTOM;
        for (value, label) in &x_axis.ticks {
            let at = x(*value);
            let _ = write!(grid, "M{at:.1} {floor}v4");
            let _ = write!(labels, "<text x=\"{at:.1}\" y=\"{:.1}\" class=\"x\">{label}</text>", floor + 16.0);
        }
        let _ = write!(
            labels,
            "<text x=\"{:.1}\" y=\"{:.1}\" class=\"x\">{}</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 3.0,
            self.x_title
        );
        let _ = write!(svg, "<path class=\"grid\" d=\"{grid}\"/>{labels}");
        let (thin, strong): (Vec<&Curve>, Vec<&Curve>) = curves.iter().partition(|c| c.stroke == Stroke::Thin);
        thin.iter().for_each(|curve| svg += &path(curve, &x, &y));
        for level in self.levels.iter().filter(|l| drawn(l.value).is_finite()) {
            let at = y(level.value);
            let _ = write!(svg, "<path class=\"level\" d=\"M{LEFT} {at:.1}H{:.1}\"/>", WIDTH - RIGHT);
        }
        strong.iter().for_each(|curve| svg += &path(curve, &x, &y));
        svg += &self.level_labels(&y);
        svg + "</svg>"
    }

    /// Names of the levels, over the curves; two close together go to different sides.
    fn level_labels(&self, y: &dyn Fn(f64) -> f64) -> String {
        let mut levels: Vec<&Level> = self.levels.iter().filter(|l| l.value.is_finite()).collect();
        levels.sort_by(|a, b| b.value.total_cmp(&a.value));
        let (mut svg, mut before, mut right) = (String::new(), f64::MIN, true);
        for level in levels {
            let at = y(level.value);
            right = if at - before < 14.0 { !right } else { true };
            before = at;
            let (x, anchor) = if right { (WIDTH - RIGHT - 3.0, "end") } else { (LEFT + 4.0, "start") };
            let place = if at < TOP + 12.0 { at + 12.0 } else { at - 4.0 };
            let (name, value) = (escape(&level.name), number(level.value));
            let _ = write!(
                svg,
                "<text x=\"{x:.1}\" y=\"{place:.1}\" class=\"level\" text-anchor=\"{anchor}\">{name} {value}{}</text>",
                escape(self.unit)
            );
        }
        svg
    }

    fn spoken(&self) -> String {
        let newest = self.newest().map(|v| format!(": {}{} at the end", number(v), self.unit));
        format!("{}{}", self.title, newest.unwrap_or_default())
    }

    /// What the script needs to name values: curves as [name, colour, xs, ys], and where an epoch lies: [first, each].
    fn data(&self, curves: &[Curve], x: &dyn Fn(f64) -> f64) -> String {
        let curves: Vec<serde_json::Value> = curves
            .iter()
            .map(|c| {
                let xs: Vec<f64> = c.points.iter().map(|p| rounded(p.0)).collect();
                let ys: Vec<Option<f64>> =
                    c.points.iter().map(|p| p.1.is_finite().then(|| rounded(p.1))).collect();
                serde_json::json!([c.name, c.colour, xs, ys])
            })
            .collect();
        let across = [x(0.0), x(1.0) - x(0.0)];
        serde_json::json!({ "c": curves, "x": across, "u": self.unit, "t": self.x_title }).to_string()
    }
}

/// Five significant digits: the page stays small.
fn rounded(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

fn path(curve: &Curve, x: &dyn Fn(f64) -> f64, y: &dyn Fn(f64) -> f64) -> String {
    let (mut d, mut dots, mut pen_down) = (String::new(), String::new(), false);
    let finite = curve.points.iter().filter(|p| p.1.is_finite()).count();
    for &(at, value) in &curve.points {
        let (at, value) = (x(at), y(value));
        if !(at.is_finite() && value.is_finite()) {
            pen_down = false;
            continue;
        }
        let _ = write!(d, "{}{at:.1} {value:.1}", if pen_down { 'L' } else { 'M' });
        if curve.stroke == Stroke::Bold && finite <= 40 {
            let _ = write!(dots, "M{at:.1} {value:.1}h0");
        }
        pen_down = true;
    }
    let class = match curve.stroke {
        // Hundreds of strokes side by side would be a wall in front of the means.
        Stroke::Thin if finite > 250 => "thin dense",
        Stroke::Thin => "thin",
        Stroke::Bold | Stroke::Plain => "bold",
    };
    let colour = curve.colour % 8;
    let mut svg = format!("<path class=\"{class} c{colour}\" d=\"{d}\"/>");
    if !dots.is_empty() {
        let _ = write!(svg, "<path class=\"dots c{colour}\" d=\"{dots}\"/>");
    }
    svg
}

/// At most [`POINTS`] points: the lowest and the highest of each stretch, so that no spike is lost.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS {
        return points.to_vec();
    }
    let size = points.len().div_ceil(POINTS / 2);
    let mut kept = Vec::with_capacity(POINTS);
    for stretch in points.chunks(size) {
        let finite = || stretch.iter().enumerate().filter(|(_, p)| p.1.is_finite());
        let low = finite().min_by(|a, b| a.1.1.total_cmp(&b.1.1)).map(|(i, _)| i);
        let high = finite().max_by(|a, b| a.1.1.total_cmp(&b.1.1)).map(|(i, _)| i);
        match (low, high) {
            (Some(low), Some(high)) => {
                kept.push(stretch[low.min(high)]);
                if low != high {
                    kept.push(stretch[low.max(high)]);
                }
            }
            _ => kept.extend(stretch.first()),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_spikes_and_gaps() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), f64::from(i % 7))).collect();
        points[54_321].1 = 1000.0;
        points[77_777].1 = -50.0;
        let thinned = thin(&points);
        assert!(thinned.len() <= POINTS && thinned.len() > POINTS / 2);
        assert!(thinned.contains(&(54_321.0, 1000.0)) && thinned.contains(&(77_777.0, -50.0)));
        assert!(thinned.windows(2).all(|w| w[0].0 < w[1].0));
        let nothing = vec![(0.0, f64::NAN); 5000];
        assert!(!thin(&nothing).is_empty());
    }

    #[test]
    fn odd_values_draw_something_or_nothing() {
        let chart = |points: Vec<(f64, f64)>| Chart {
            title: "T<".into(),
            curves: vec![Curve { name: "a".into(), colour: 9, stroke: Stroke::Bold, points }],
            x_title: "epoch",
            ..Chart::default()
        };
        assert!(chart(vec![]).is_empty() && chart(vec![(0.0, f64::NAN)]).is_empty());
        assert_eq!(chart(vec![(0.0, f64::NAN)]).svg(), "");
        for points in
            [vec![(0.0, 1.0)], vec![(1.0, 5.0), (2.0, f64::INFINITY), (2.5, 0.0), (3.0, 5.0)], vec![(1e19, 1e300)]]
        {
            let svg = Chart { logarithmic: points.len() > 1, ..chart(points) }.figure();
            assert!(svg.contains("<path class=\"bold c1\"") && svg.contains("T&lt;"), "{svg}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
