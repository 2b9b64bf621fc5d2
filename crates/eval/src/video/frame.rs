//! A video's frames as the network sees them.

use crate::EvalError;

/// The standard deviation per channel that the published evaluation divides by. ImageNet's has 0.229 for red: a
/// slip, but the figures in print were made with it.
pub const DAVIS_STD: [f32; 3] = [0.228, 0.224, 0.225];

/// Sides of the published network's input are multiples of this, pixels.
const MULTIPLE_PX: usize = 64;

/// Size `[width, height]` at which the network sees a frame of `width × height`: the short side `short_px`, the
/// long side in proportion and cut to a multiple of 64. Both are then cut to whole cells of `cell_px`, which
/// changes neither in the published setting (480 px, cells of 8 or 16). A square counts as landscape.
///
/// # Errors
/// [`EvalError::Empty`] for a side of 0, [`EvalError::Setting`] for a short side smaller than a cell or 64 px.
pub fn network_size(
    width: usize,
    height: usize,
    short_px: usize,
    cell_px: usize,
) -> Result<[usize; 2], EvalError> {
    if width == 0 || height == 0 || cell_px == 0 {
        return Err(EvalError::Empty { what: "the frame" });
    }
    if short_px < cell_px.max(MULTIPLE_PX) {
        return Err(EvalError::setting("short side", "at least 64 px and one cell", short_px));
    }
    let whole = |side: usize| side / cell_px * cell_px;
    let long = |long: usize, short: usize| whole(short_px * long / short / MULTIPLE_PX * MULTIPLE_PX).max(cell_px);
    let short = whole(short_px);
    Ok(if width >= height { [long(width, height), short] } else { [short, long(height, width)] })
}

/// A frame's bytes `[height, width, 3]` resized bilinearly without averaging over what is left out, as the
/// published evaluation does it (OpenCV's default), and rounded to bytes again.
///
/// # Errors
/// [`EvalError::Empty`] for a side of 0, [`EvalError::Shape`] if the number of bytes does not fit.
pub fn resize_bilinear(
    rgb: &[u8],
    [width, height]: [usize; 2],
    [to_width, to_height]: [usize; 2],
) -> Result<Vec<u8>, EvalError> {
    if [width, height, to_width, to_height].contains(&0) {
        return Err(EvalError::Empty { what: "the frame" });
    }
    if rgb.len() != width * height * 3 {
        return Err(EvalError::shape("frame", format!("{width} × {height} × 3 bytes"), rgb.len()));
    }
    let (across, down) = (taps(width, to_width), taps(height, to_height));
    let mut resized = Vec::with_capacity(to_width * to_height * 3);
    for (above, below, v) in down {
        let (above, below) = (&rgb[above * width * 3..][..width * 3], &rgb[below * width * 3..][..width * 3]);
        for (left, right, u) in &across {
            for channel in 0..3 {
                let mix = |row: &[u8]| {
                    let (a, b) = (f32::from(row[left * 3 + channel]), f32::from(row[right * 3 + channel]));
                    a + (b - a) * u
                };
                let (a, b) = (mix(above), mix(below));
                resized.push((a + (b - a) * v).round() as u8);
            }
        }
    }
    Ok(resized)
}

/// For every new pixel of an axis, the two old ones it lies between and the weight of the second.
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|pixel| {
            let place = ((pixel as f64 + 0.5) * scale - 0.5).clamp(0.0, (from - 1) as f64);
            let below = place as usize;
            (below, (below + 1).min(from - 1), (place - below as f64) as f32)
        })
        .collect()
}
