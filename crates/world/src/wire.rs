//! How values are written for a message.

use std::borrow::Cow;

use half::f16;
use half::slice::HalfFloatSliceExt;

/// Values that are encoded and added at once: they stay in the nearest cache, and share a scale where they travel as halves.
pub(crate) const BLOCK: usize = 1024;
/// Exponent that a block's largest value gets: twice as much still is a half.
const TOP: i32 = 14;
/// Scales beyond these are no numbers of single precision.
const EXPONENTS: [i32; 2] = [-113, 112];

/// How the values of a sum travel from rank to rank. They are added in single precision either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wire {
    /// As they are, in 4 bytes.
    #[default]
    F32,
    /// Rounded to half precision, in 2 bytes (and 4 for each 1,024 values: a power of two, by which their largest comes near the
    /// largest half). A value keeps 11 bits where it is at least a 2²⁸th of its block's largest, and fewer below.
    F16,
}

impl Wire {
    /// Bytes of so many values.
    pub fn bytes(self, values: usize) -> usize {
        match self {
            Wire::F32 => 4 * values,
            Wire::F16 => 2 * values + 4 * values.div_ceil(BLOCK),
        }
    }

    /// Bytes as a share of those of single precision.
    pub fn share(self) -> f64 {
        self.bytes(BLOCK) as f64 / Wire::F32.bytes(BLOCK) as f64
    }

    /// The message of some values.
    pub(crate) fn encode(self, values: &[f32]) -> Cow<'_, [u8]> {
        match self {
            Wire::F32 => bytemuck::cast_slice(values).into(),
            Wire::F16 => {
                let mut bytes = Vec::with_capacity(self.bytes(values.len()));
                let (mut scaled, mut halves) = ([0.0f32; BLOCK], [f16::ZERO; BLOCK]);
                for block in values.chunks(BLOCK) {
                    let scale = scale_of(block);
                    let (scaled, halves) = (&mut scaled[..block.len()], &mut halves[..block.len()]);
                    scaled.iter_mut().zip(block).for_each(|(scaled, value)| *scaled = value * scale);
                    halves.convert_from_f32_slice(scaled);
                    bytes.extend(scale.recip().to_le_bytes());
                    halves.iter().for_each(|half| bytes.extend(half.to_le_bytes()));
                }
                bytes.into()
            }
        }
    }

    /// The values of a message into as many places.
    ///
    /// # Panics
    /// When the message is one of another number of values.
    pub(crate) fn decode(self, bytes: &[u8], values: &mut [f32]) {
        assert!(bytes.len() == self.bytes(values.len()), "ranks sum different numbers of values");
        match self {
            Wire::F32 => bytemuck::cast_slice_mut(values).copy_from_slice(bytes),
            Wire::F16 => {
                let mut halves = [f16::ZERO; BLOCK];
                for (values, bytes) in values.chunks_mut(BLOCK).zip(bytes.chunks(4 + 2 * BLOCK)) {
                    let (back, bytes) = bytes.split_at(4);
                    let back = back.try_into().map_or(f32::NAN, f32::from_le_bytes);
                    let halves = &mut halves[..values.len()];
                    for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
                        *half = f16::from_le_bytes(*bytes);
                    }
                    halves.convert_to_f32_slice(values);
                    values.iter_mut().for_each(|value| *value *= back);
                }
            }
        }
    }
}

/// The power of two that brings the largest of these values near the largest half: what is infinite or not a number stays so.
fn scale_of(values: &[f32]) -> f32 {
    let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    if largest == 0.0 || !largest.is_finite() {
        return 1.0;
    }
    // Of a number below the smallest normal one it is that one's: the scale's limit is below that.
    let exponent = TOP - ((largest.to_bits() >> 23) as i32 - 127);
    2.0f32.powi(exponent.clamp(EXPONENTS[0], EXPONENTS[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(values: &[f32]) -> Vec<f32> {
        let bytes = Wire::F16.encode(values);
        assert_eq!(bytes.len(), Wire::F16.bytes(values.len()));
        let mut back = vec![0.0; values.len()];
        Wire::F16.decode(&bytes, &mut back);
        back
    }

    #[test]
    fn halves_keep_eleven_bits_at_any_scale() {
        for scale in [1e-30f32, 1e-7, 1.0, 3e4, 1e30] {
            // From the largest down to a 10⁷th of it, in more than one block.
            let value = |i: usize| {
                scale * 10.0f32.powf(-7.0 * (i % 97) as f32 / 96.0) * if i.is_multiple_of(2) { 1.0 } else { -1.0 }
            };
            let values: Vec<f32> = (0..2 * BLOCK + 7).map(value).collect();
            for (value, back) in values.iter().zip(there_and_back(&values)) {
                assert!((value - back).abs() <= value.abs() / 2048.0, "{value} became {back}");
            }
        }
    }

    #[test]
    fn extremes_survive() {
        // The very largest would be rounded to what no number can be.
        let largest = 0.99 * f32::MAX;
        let back = there_and_back(&[0.0, largest, -largest / 3.0, 1.0]);
        assert!(back[0] == 0.0 && (back[1] / largest - 1.0).abs() < 1e-3 && back[2] < -1e38, "{back:?}");
        assert_eq!(there_and_back(&[0.0; 3]), [0.0; 3]);
        assert!(there_and_back(&[f32::MIN_POSITIVE, 1e-40]).iter().all(|v| v.is_finite()));
        let back = there_and_back(&[1.0, f32::NAN, f32::INFINITY]);
        assert!(back[1].is_nan() && back[2] == f32::INFINITY, "what no number can be is seen: {back:?}");
    }

    #[test]
    fn whole_values_stay_as_they_are() {
        let (values, mut back) = ([1.5f32, -3e-30], [0.0; 2]);
        Wire::F32.decode(&Wire::F32.encode(&values), &mut back);
        assert_eq!(values, back);
    }
}
