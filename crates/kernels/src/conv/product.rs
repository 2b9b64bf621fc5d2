//! Convolution as a matrix product over what every tap of the kernel sees.
//!
//! Where a subgroup shares what it loads, the product is so much faster than gathering while multiplying that writing down what
//! the taps see costs little beside it: a load and a store serve as many products as there are channels on the other side.

use burn::backend::wgpu::CubeTensor;

use super::ConvShape;
use crate::gpu::{
    Batch, Ending, Gemm, Launch, Layout, contiguous, empty, gemm, gemm_batch, reshaped, shares_loads, size,
};

/// What the taps see may take so many bytes; larger batches gather while they multiply.
const MOST: usize = 64 << 20;
/// Where each cell is seen once and nothing is around the map.
const PLAIN: ConvShape = ConvShape { stride: 1, padding: 0, dilation: 1 };

/// A convolution's sizes.
pub(super) struct Sizes {
    images: usize,
    inner: usize,
    outer: usize,
    kernel: [usize; 2],
    input: [usize; 2],
    output: [usize; 2],
    shape: ConvShape,
}

/// Maps as the factor `[rows, cells]` of a product, for each image.
struct Columns {
    data: CubeTensor,
    /// Numbers from one image to the next.
    image: usize,
    /// Numbers of a row, of all images where they follow one another.
    row: usize,
}

impl Sizes {
    /// Of a weight with `[outer, inner]` channels.
    pub fn new(
        images: usize,
        [outer, inner]: [usize; 2],
        kernel: [usize; 2],
        input: [usize; 2],
        shape: ConvShape,
    ) -> Self {
        let output = [0, 1].map(|axis| shape.output(input[axis], kernel[axis]));
        Self { images, inner, outer, kernel, input, output, shape }
    }

    /// Whether this way is the faster one on the device, and fits.
    pub fn unfolds(&self) -> bool {
        let numbers = self.images * self.taps() * self.padded();
        shares_loads() && numbers * size_of::<f32>() <= MOST
    }

    /// Rows of what the taps see.
    fn taps(&self) -> usize {
        self.inner * self.kernel[0] * self.kernel[1]
    }

    fn cells(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Results of an image up to whole vec4.
    fn padded(&self) -> usize {
        self.cells().next_multiple_of(4)
    }

    /// Whether the input as it is is what the taps see.
    fn is_plain(&self) -> bool {
        self.kernel == [1, 1] && self.shape == PLAIN
    }

    /// What the taps see of `x`; `joined` where the images have to follow one another in a row.
    fn seen(&self, x: &CubeTensor, joined: bool) -> Columns {
        if self.is_plain() { self.as_they_are(x, self.inner, joined) } else { unfold(x, self) }
    }

    /// The results' gradient.
    fn results(&self, dy: &CubeTensor, joined: bool) -> Columns {
        self.as_they_are(dy, self.outer, joined)
    }

    /// Maps of the results' size, only copied where rows of whole vec4 or all images in a row need it.
    fn as_they_are(&self, maps: &CubeTensor, channels: usize, joined: bool) -> Columns {
        if self.cells() == self.padded() && (self.images == 1 || !joined) {
            return Columns { data: maps.clone(), image: channels * self.cells(), row: self.cells() };
        }
        let same = Sizes { inner: channels, kernel: [1, 1], input: self.output, shape: PLAIN, ..*self };
        unfold(maps, &same)
    }

    /// The convolution.
    pub fn forward(&self, x: &CubeTensor, w: &CubeTensor) -> CubeTensor {
        let seen = self.seen(x, false);
        let sizes = [self.outer, self.cells(), self.taps()];
        let product = Gemm { layout: Layout::Nn, a: w, b: &seen.data, sizes, ending: Ending::Plain };
        let y = gemm_batch(&product, &seen.batch(self.images));
        reshaped(y, [self.images, self.outer, self.output[0], self.output[1]])
    }

    /// The gradient of the input.
    pub fn input_grad(&self, dy: &CubeTensor, w: &CubeTensor) -> CubeTensor {
        let results = self.results(dy, false);
        let columns = if self.is_plain() { self.cells() } else { self.padded() };
        let sizes = [self.taps(), columns, self.outer];
        let product = Gemm { layout: Layout::Tn, a: w, b: &results.data, sizes, ending: Ending::Plain };
        let seen = gemm_batch(&product, &results.batch(self.images));
        let [height, width] = self.input;
        if self.is_plain() {
            return reshaped(seen, [self.images, self.inner, height, width]);
        }
        let dx = empty(dy, [self.images, self.inner, height, width]);
        let each = 16;
        let spans = self.images * self.inner * (height * width).div_ceil(each);
        let ConvShape { stride, padding, dilation } = self.shape;
        let [out_h, out_w] = self.output;
        let sizes =
            [self.images, self.inner, height, width, out_h, out_w, self.padded(), padding, dilation, 0, 0, 0];
        Launch {
            shader: "fold",
            settings: &[
                ("kernel_h", self.kernel[0].into()),
                ("kernel_w", self.kernel[1].into()),
                ("stride", stride.into()),
                ("each", each.into()),
                ("group", 8.into()),
            ],
            group: 8,
            groups: (spans.div_ceil(8), 1),
            buffers: &[&seen, &dx],
            sizes: &sizes.map(|n| n as u32),
        }
        .run();
        dx
    }

    /// The gradient of the weight.
    pub fn weight_grad(&self, x: &CubeTensor, dy: &CubeTensor) -> CubeTensor {
        let (results, seen) = (self.results(dy, true), self.seen(x, true));
        let sizes = [self.outer, self.taps(), results.row];
        let dw = gemm(&Gemm { layout: Layout::Nt, a: &results.data, b: &seen.data, sizes, ending: Ending::Plain });
        reshaped(dw, [self.outer, self.inner, self.kernel[0], self.kernel[1]])
    }
}

impl Columns {
    fn batch(&self, count: usize) -> Batch {
        Batch { count, a: 0, b: self.image, b_row: self.row }
    }
}

/// Writes down what every tap sees: `[channels·kernel height·kernel width, images, padded results]`.
fn unfold(x: &CubeTensor, sizes: &Sizes) -> Columns {
    let x = contiguous(x.clone());
    let each = 8;
    let (images, padded) = (sizes.images, sizes.padded());
    let data = empty(&x, [sizes.taps(), images, padded]);
    let spans = sizes.taps() * images * (padded / 4).div_ceil(each);
    let ConvShape { stride, padding, dilation } = sizes.shape;
    let ([height, width], [out_h, out_w]) = (sizes.input, sizes.output);
    let numbers = [images, sizes.inner, height, width, out_h, out_w, padded / 4, stride, padding, dilation, 0, 0];
    debug_assert_eq!(size(&x, 1), sizes.inner);
    Launch {
        shader: "unfold",
        settings: &[
            ("kernel_h", sizes.kernel[0].into()),
            ("kernel_w", sizes.kernel[1].into()),
            ("each", each.into()),
            ("group", 8.into()),
        ],
        group: 8,
        groups: (spans.div_ceil(8), 1),
        buffers: &[&x, &data],
        sizes: &numbers.map(|n| n as u32),
    }
    .run();
    Columns { data, image: padded, row: images * padded }
}
