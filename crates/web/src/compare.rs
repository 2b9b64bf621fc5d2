//! Which patch of one picture looks like which of another.

use wasm_bindgen::prelude::*;

/// Matches of patches by the cosine of their features.
#[wasm_bindgen]
pub struct Matches {
    best: Vec<u32>,
    similarity: Vec<f32>,
    mutual: Vec<u8>,
}

#[wasm_bindgen]
impl Matches {
    /// For every patch of the first picture the best patch of the second.
    #[wasm_bindgen(getter)]
    pub fn best(&self) -> Vec<u32> {
        self.best.clone()
    }

    /// Cosines of these pairs.
    #[wasm_bindgen(getter)]
    pub fn similarity(&self) -> Vec<f32> {
        self.similarity.clone()
    }

    /// 1 where the second picture's patch finds the same pair.
    #[wasm_bindgen(getter)]
    pub fn mutual(&self) -> Vec<u8> {
        self.mutual.clone()
    }
}

impl Matches {
    /// `a` and `b` are `[patches, dim]`; equal cosines go to the earlier patch.
    pub(crate) fn of(a: &[f32], b: &[f32], dim: usize) -> Self {
        let (a, b) = (unit_rows(a, dim), unit_rows(b, dim));
        let (rows, columns) = (a.len() / dim, b.len() / dim);
        let mut best = vec![(0u32, f32::NEG_INFINITY); rows];
        let mut back = vec![(0u32, f32::NEG_INFINITY); columns];
        for (i, (from, best)) in a.chunks_exact(dim).zip(&mut best).enumerate() {
            for (j, (to, back)) in b.chunks_exact(dim).zip(&mut back).enumerate() {
                let cosine: f32 = from.iter().zip(to).map(|(x, y)| x * y).sum();
                if cosine > best.1 {
                    *best = (j as u32, cosine);
                }
                if cosine > back.1 {
                    *back = (i as u32, cosine);
                }
            }
        }
        let mutual =
            best.iter().enumerate().map(|(i, (j, _))| u8::from(back[*j as usize].0 as usize == i)).collect();
        let (best, similarity) = best.into_iter().unzip();
        Self { best, similarity, mutual }
    }
}

fn unit_rows(values: &[f32], dim: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for row in values.chunks_exact(dim) {
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
        out.extend(row.iter().map(|v| v / norm));
    }
    out
}
