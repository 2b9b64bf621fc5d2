//! What is to be rendered, in the words of the kernels.

/// Where a picture lies among the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// Its first pixel.
    pub offset: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// An axis of a resize: for every output the first input and the weights of the inputs, with 22 fractional bits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Axis {
    /// First inputs.
    pub starts: Vec<usize>,
    /// Where the weights of each output end.
    pub ends: Vec<usize>,
    /// Weights of all outputs.
    pub weights: Vec<i32>,
}

/// A box filter with fractional ends, weights with 24 fractional bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Box {
    /// Whole taps on either side of the centre.
    pub reach: usize,
    /// Weight of a whole tap.
    pub whole: u32,
    /// Weight of the tap beyond, on either side.
    pub end: u32,
}

/// One operation of a colour jitter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// Blend with black.
    Brightness(f32),
    /// Blend with the rounded mean of the grey image.
    Contrast(f32),
    /// Blend with the grey image.
    Saturation(f32),
    /// Added to the 8-bit hue, modulo 256.
    Hue(u8),
}

/// One view.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Of which picture.
    pub picture: Picture,
    /// Top, left, height and width of the crop, inside the picture.
    pub crop: [usize; 4],
    /// From the crop's columns to the view's.
    pub columns: Axis,
    /// From the crop's rows to the view's.
    pub rows: Axis,
    /// Mirrored left to right.
    pub flip: bool,
    /// At most four, at most one of each kind.
    pub jitter: Vec<Step>,
    /// Colour dropped, after the jitter.
    pub greyscale: bool,
    /// Three times along each axis.
    pub blur: Option<Box>,
    /// Levels from here on are inverted.
    pub solarise: Option<u8>,
}

/// All views of a batch.
#[derive(Debug, Clone)]
pub struct ViewJob {
    pub(super) records: Vec<u32>,
    pub(super) taps: Vec<i32>,
    pub(super) hsv: Vec<u32>,
    pub(super) side: usize,
    pub(super) views: usize,
    /// Pixels of all crops after the first half of the resize.
    pub(super) narrow: usize,
    pub(super) tallest: usize,
    pub(super) pixels: usize,
    pub(super) blurs: bool,
    pub(super) colours: bool,
    pub(super) mean: [f32; 3],
    pub(super) deviation: [f32; 3],
}

/// Numbers of a view in the kernels' table; `shaders/views.wgsl` reads them by place: offset and width of the picture; top,
/// left, height and width of the crop; flags (1 mirrored, 2 grey, 4 solarised); where the half-resized crop and both tables of
/// weights begin; threshold; four kinds of jitter and their factors; reach, whole and end of the box.
const RECORD: usize = 24;

/// Largest side: sums of grey levels fit 32 bits.
const MAX_SIDE: usize = 2048;

impl ViewJob {
    /// Views of `side` × `side` pixels. `hsv` are 8-bit hues by case (largest and smallest channel), range and distance of the
    /// middle channel from the largest, `[6, 256, 256]`, then saturations by largest channel and range, `[256, 256]`.
    ///
    /// # Panics
    /// When a view's numbers contradict each other.
    pub fn new(views: &[View], side: usize, mean: [f32; 3], deviation: [f32; 3], hsv: &[u8]) -> Self {
        assert!((1..=MAX_SIDE).contains(&side), "views: expected a side of 1 to {MAX_SIDE}, found {side}");
        assert!(hsv.len() == 7 << 16, "views: expected {} hues and saturations, found {}", 7 << 16, hsv.len());
        let hsv = hsv.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let mut job = Self {
            records: Vec::with_capacity(views.len() * RECORD),
            taps: Vec::new(),
            hsv,
            side,
            views: views.len(),
            narrow: 0,
            tallest: 0,
            pixels: 0,
            blurs: views.iter().any(|v| v.blur.is_some()),
            colours: views.iter().any(|v| v.greyscale || !v.jitter.is_empty()),
            mean,
            deviation,
        };
        for view in views {
            job.add(view);
        }
        job
    }

    fn add(&mut self, view: &View) {
        let [top, left, height, width] = view.crop;
        let Picture { offset, width: picture_width, height: picture_height } = view.picture;
        let inside = top + height <= picture_height && left + width <= picture_width;
        assert!(inside && height * width > 0, "views: crop {:?} of {:?}", view.crop, view.picture);
        assert!(view.jitter.len() <= 4, "views: at most four steps of jitter, found {}", view.jitter.len());
        let (columns, rows) = (self.axis(&view.columns, width), self.axis(&view.rows, height));
        let flags =
            u32::from(view.flip) | u32::from(view.greyscale) << 1 | u32::from(view.solarise.is_some()) << 2;
        let mut record = [0; RECORD];
        let places = [offset, picture_width, top, left, height, width];
        for (to, from) in record.iter_mut().zip(places) {
            *to = from as u32;
        }
        record[6..11].copy_from_slice(&[
            flags,
            self.narrow as u32,
            columns,
            rows,
            u32::from(view.solarise.unwrap_or_default()),
        ]);
        for (i, step) in view.jitter.iter().enumerate() {
            let (kind, factor) = match *step {
                Step::Brightness(f) => (1, f.to_bits()),
                Step::Contrast(f) => (2, f.to_bits()),
                Step::Saturation(f) => (3, f.to_bits()),
                Step::Hue(shift) => (4, u32::from(shift)),
            };
            (record[11 + i], record[15 + i]) = (kind, factor);
        }
        if let Some(Box { reach, whole, end }) = view.blur {
            record[19..22].copy_from_slice(&[reach as u32, whole, end]);
        }
        self.records.extend(record);
        self.narrow += height * self.side;
        self.tallest = self.tallest.max(height);
        self.pixels = self.pixels.max(offset + picture_width * picture_height);
    }

    /// Adds a table of weights; where it begins.
    fn axis(&mut self, axis: &Axis, inputs: usize) -> u32 {
        let begin = self.taps.len();
        assert!(axis.starts.len() == self.side && axis.ends.len() == self.side, "views: an axis of another side");
        let weights = begin + 3 * self.side;
        let mut from = 0;
        for (start, end) in axis.starts.iter().zip(&axis.ends) {
            assert!(
                start + (end - from) <= inputs && *end <= axis.weights.len(),
                "views: weights beyond the crop"
            );
            self.taps.extend([*start as i32, (end - from) as i32, (weights + from) as i32]);
            from = *end;
        }
        self.taps.extend(&axis.weights);
        begin as u32
    }

    /// Number of views.
    pub fn views(&self) -> usize {
        self.views
    }

    /// Side of a view in pixels.
    pub fn side(&self) -> usize {
        self.side
    }
}
