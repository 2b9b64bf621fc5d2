//! Points in a plane whose neighbours are those that they have among features: UMAP.
//!
//! After McInnes, Healy and Melville 2018, *UMAP: Uniform Manifold Approximation and Projection for Dimension
//! Reduction* (arXiv:1802.03426), with its usual settings (distance of neighbours in the plane .1, five repelling
//! points for each that attracts). Each point has a neighbourhood of its own width, wide where points are sparse;
//! the graph of neighbours is laid out by stochastic gradient descent. Distances between far groups mean little,
//! and so do the axes.
//!
//! ```
//! use ocelli_eval::umap::{Graph, umap};
//!
//! // Four points on a line, at 0, 1, 10 and 11: to each its three neighbours and how far they are.
//! let neighbours = [1, 2, 3, 0, 2, 3, 3, 1, 0, 2, 1, 0];
//! let distances = [1.0, 10.0, 11.0, 1.0, 9.0, 10.0, 1.0, 9.0, 10.0, 1.0, 10.0, 11.0];
//! let graph = Graph { k: 3, neighbours: &neighbours, distances: &distances };
//! let start = [0.0, 0.0, 1.0, 0.0, 10.0, 0.0, 11.0, 0.0];
//! let plane = umap(graph, &start)?;
//! assert!(plane.len() == 8 && plane.iter().all(|place| place.is_finite()));
//! assert_eq!(umap(graph, &start)?, plane);
//! # Ok::<(), ocelli_eval::EvalError>(())
//! ```

use crate::EvalError;

/// The curve 1 / (1 + A·d^2B) of closeness in the plane, for a least distance of .1 and a spread of 1.
const A: f32 = 1.577;
const B: f32 = 0.8951;
/// Random points that repel for each neighbour that attracts.
const REPELLING: usize = 5;
/// Longest move along an axis in one step.
const LONGEST: f32 = 4.0;
/// The start is scaled to this far from the middle.
const EXTENT: f32 = 10.0;

/// Neighbours of every point, without the point itself.
#[derive(Debug, Clone, Copy)]
pub struct Graph<'a> {
    /// Neighbours of each.
    pub k: usize,
    /// Their numbers, `[points, k]`, the nearest first.
    pub neighbours: &'a [u32],
    /// Their distances, `[points, k]`, at least 0.
    pub distances: &'a [f32],
}

/// Lays points out, `[points, 2]`, beginning at `start`, `[points, 2]`, such as the leading principal components.
/// The same input gives the same result.
///
/// # Errors
/// [`EvalError::Shape`] when the lengths do not fit or a neighbour is none of the points.
pub fn umap(graph: Graph<'_>, start: &[f32]) -> Result<Vec<f32>, EvalError> {
    let points = start.len() / 2;
    let Graph { k, neighbours, distances } = graph;
    if neighbours.len() != points * k || distances.len() != points * k || !start.len().is_multiple_of(2) {
        return Err(EvalError::shape("neighbours", format!("{points} × {k}"), neighbours.len()));
    }
    if let Some(wrong) = neighbours.iter().find(|n| **n as usize >= points) {
        return Err(EvalError::shape("neighbours", format!("numbers below {points}"), wrong));
    }
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut at = scaled(start, &mut random);
    let edges = edges(graph);
    let strongest = edges.iter().map(|e| e.weight).fold(0.0f32, f32::max);
    if strongest <= 0.0 {
        return Ok(at);
    }
    // Many points need fewer rounds, as each meets more others on the way; and they take the longer.
    let epochs = if points > 4_000 { 200 } else { 500 };
    // An edge takes part as often as its weight says.
    let mut due: Vec<f32> = edges.iter().map(|e| strongest / e.weight).collect();
    for epoch in 1..=epochs {
        let rate = 1.0 - (epoch - 1) as f32 / epochs as f32;
        for (edge, due) in edges.iter().zip(&mut due) {
            if *due > epoch as f32 {
                continue;
            }
            *due += strongest / edge.weight;
            for [from, to] in [[edge.a, edge.b], [edge.b, edge.a]] {
                attract(&mut at, [from, to], rate);
                for _ in 0..REPELLING {
                    repel(&mut at, [from, random.below(points)], rate);
                }
            }
        }
    }
    Ok(at)
}

/// The start within [`EXTENT`] of the middle, with a little noise so that equal points can part.
fn scaled(start: &[f32], random: &mut Random) -> Vec<f32> {
    let far = start.iter().filter(|v| v.is_finite()).fold(0.0f32, |far, v| far.max(v.abs()));
    let scale = if far > 0.0 { EXTENT / far } else { 0.0 };
    let noise = |random: &mut Random| (random.next() >> 40) as f32 / (1 << 24) as f32 * 1e-3;
    start.iter().map(|v| if v.is_finite() { v * scale } else { 0.0 } + noise(random)).collect()
}

/// Two points that are neighbours, and how much.
struct Edge {
    a: usize,
    b: usize,
    weight: f32,
}

/// The fuzzy union of all neighbourhoods: `w + w' − w·w'`.
fn edges(Graph { k, neighbours, distances }: Graph<'_>) -> Vec<Edge> {
    let mut directed = Vec::with_capacity(neighbours.len());
    if k == 0 {
        return Vec::new();
    }
    for (point, (near, distances)) in neighbours.chunks_exact(k).zip(distances.chunks_exact(k)).enumerate() {
        let weights = memberships(distances);
        let others = near.iter().zip(weights).filter(|(n, _)| **n as usize != point);
        directed.extend(others.map(|(n, w)| (point.min(*n as usize), point.max(*n as usize), w)));
    }
    directed.sort_by_key(|(a, b, _)| (*a, *b));
    let mut edges: Vec<Edge> = Vec::with_capacity(directed.len());
    for (a, b, weight) in directed {
        match edges.last_mut() {
            Some(last) if (last.a, last.b) == (a, b) => last.weight += weight - last.weight * weight,
            _ => edges.push(Edge { a, b, weight }),
        }
    }
    edges.retain(|e| e.weight > 1e-4);
    edges
}

/// How much each neighbour belongs to a neighbourhood, in 0..=1: 1 for the nearest, and a sum of log2 of their
/// number.
fn memberships(distances: &[f32]) -> Vec<f32> {
    let nearest = distances.iter().copied().filter(|d| *d > 0.0).fold(f32::INFINITY, f32::min);
    let nearest = if nearest.is_finite() { nearest } else { 0.0 };
    let at = |width: f32| distances.iter().map(move |d| (-(d - nearest).max(0.0) / width).exp());
    let target = (distances.len() as f32).log2();
    let (mut low, mut high) = (0.0f32, f32::INFINITY);
    let mut width = 1.0f32;
    for _ in 0..64 {
        let sum: f32 = at(width).sum();
        if (sum - target).abs() < 1e-5 {
            break;
        }
        if sum > target {
            high = width;
            width = low.midpoint(high);
        } else {
            low = width;
            width = if high.is_finite() { low.midpoint(high) } else { 2.0 * width };
        }
    }
    let mean = distances.iter().sum::<f32>() / distances.len().max(1) as f32;
    // As the published code has it: no neighbourhood is narrower than a thousandth of its mean distance.
    at(width.max(1e-3 * mean).max(f32::MIN_POSITIVE)).collect()
}

fn difference(at: &[f32], [a, b]: [usize; 2]) -> ([f32; 2], f32) {
    let apart = [at[2 * a] - at[2 * b], at[2 * a + 1] - at[2 * b + 1]];
    (apart, apart[0] * apart[0] + apart[1] * apart[1])
}

/// Moves both points of an edge towards each other.
fn attract(at: &mut [f32], [a, b]: [usize; 2], rate: f32) {
    let (apart, square) = difference(at, [a, b]);
    if square <= 0.0 {
        return;
    }
    let power = square.powf(B);
    let pull = -2.0 * A * B * power / square / (1.0 + A * power);
    for (axis, apart) in apart.into_iter().enumerate() {
        let step = (pull * apart).clamp(-LONGEST, LONGEST) * rate;
        at[2 * a + axis] += step;
        at[2 * b + axis] -= step;
    }
}

/// Moves a point away from another.
fn repel(at: &mut [f32], [a, b]: [usize; 2], rate: f32) {
    if a == b {
        return;
    }
    let (apart, square) = difference(at, [a, b]);
    let push = 2.0 * B / ((0.001 + square) * (1.0 + A * square.powf(B)));
    for (axis, apart) in apart.into_iter().enumerate() {
        at[2 * a + axis] += (push * apart).clamp(-LONGEST, LONGEST) * rate;
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    fn below(&mut self, count: usize) -> usize {
        (((self.next() >> 32) * count as u64) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exact neighbours of points `[points, dim]`.
    fn graph(points: &[Vec<f32>], k: usize) -> (Vec<u32>, Vec<f32>) {
        let (mut neighbours, mut distances) = (Vec::new(), Vec::new());
        for (i, a) in points.iter().enumerate() {
            let far = |b: &Vec<f32>| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
            let mut all: Vec<(f32, u32)> =
                points.iter().zip(0..).filter(|(_, j)| *j as usize != i).map(|(b, j)| (far(b), j)).collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
            neighbours.extend(all[..k].iter().map(|(_, j)| *j));
            distances.extend(all[..k].iter().map(|(d, _)| *d));
        }
        (neighbours, distances)
    }

    #[test]
    fn clusters_stay_together_and_apart() {
        let mut random = Random(5);
        let mut noise = || (random.next() >> 40) as f32 / (1 << 24) as f32;
        // Three clouds of 40 in ten dimensions, mixed up; they start on one line, in no order.
        let points: Vec<Vec<f32>> =
            (0..120).map(|i| (0..10).map(|d| noise() + if d == i % 3 { 8.0 } else { 0.0 }).collect()).collect();
        let start: Vec<f32> = (0..120).flat_map(|i| [(i * 37 % 120) as f32, 0.0]).collect();
        let (neighbours, distances) = graph(&points, 12);
        let graph = Graph { k: 12, neighbours: &neighbours, distances: &distances };
        let at = umap(graph, &start).unwrap();
        assert!(at.iter().all(|v| v.is_finite()));
        let far = |i: usize, j: usize| difference(&at, [i, j]).1;
        let right = (0..120)
            .filter(|i| {
                let nearest = (0..120).filter(|j| j != i).min_by(|a, b| far(*i, *a).total_cmp(&far(*i, *b)));
                nearest.unwrap() % 3 == i % 3
            })
            .count();
        assert!(right > 117, "the nearest point is of the same cloud for {right} of 120");
        assert_eq!(umap(graph, &start).unwrap(), at, "the same again");
    }

    #[test]
    fn few_and_equal_points_are_laid_out_too() {
        let none = Graph { k: 0, neighbours: &[], distances: &[] };
        assert!(umap(none, &[]).unwrap().is_empty());
        assert_eq!(umap(none, &[1.0, 2.0]).unwrap().len(), 2);
        // Copies of one point, with distances of 0.
        let (neighbours, distances) = graph(&vec![vec![1.0, 1.0]; 5], 4);
        let at = umap(Graph { k: 4, neighbours: &neighbours, distances: &distances }, &[0.0; 10]).unwrap();
        assert!(at.iter().all(|v| v.is_finite()));
        assert!(umap(Graph { k: 1, neighbours: &[7], distances: &[1.0] }, &[0.0; 2]).is_err());
        assert!(umap(Graph { k: 1, neighbours: &[0, 1], distances: &[1.0] }, &[0.0; 2]).is_err());
    }

    #[test]
    fn memberships_sum_to_the_logarithm_of_their_number() {
        let distances: Vec<f32> = (1..=16).map(|d| d as f32 * 0.3).collect();
        let weights = memberships(&distances);
        assert!((weights.iter().sum::<f32>() - 4.0).abs() < 1e-3 && weights[0] == 1.0, "{weights:?}");
        assert!(weights.windows(2).all(|w| w[0] > w[1]));
    }
}
