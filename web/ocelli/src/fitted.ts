// A whole picture as a segmentation takes it: fitted into a size, normalised, padded to whole patches. The steps of `ocelli segment`.

/** How a picture is prepared. */
export interface Fitting {
  /** Long and short side in pixels that it is fitted into; left out, it keeps its size. */
  scale?: readonly [number, number] | undefined;
  /** Sides become multiples of this, by zeros at the right and below. */
  patch: number;
  mean: readonly number[];
  std: readonly number[];
}

/** `[height, width]` within a long and a short side, touching one: ⌊side·s + ½⌋, at least 1. */
export function fittedSize(height: number, width: number, scale?: readonly [number, number]): [number, number] {
  if (!scale) return [height, width];
  const [long, short] = [Math.max(...scale), Math.min(...scale)];
  const s = Math.min(long / Math.max(height, width), short / Math.min(height, width));
  return [height, width].map((side) => Math.max(1, Math.floor(side * s + 0.5))) as [number, number];
}

/** Weights are rounded to fractions of this, as PIL and the native program do, so that levels are the same. */
const ONE = 2 ** 22;

/** `[outer, from, inner]` levels to `[outer, to, inner]`, antialiased: a triangle as wide as an output is, PIL's bilinear filter. */
function along(levels: Uint8ClampedArray, outer: number, from: number, to: number, inner: number): Uint8ClampedArray {
  if (from === to) return levels;
  const out = new Uint8ClampedArray(outer * to * inner);
  const sum = new Float64Array(inner);
  const stretch = Math.max(from / to, 1);
  for (let i = 0; i < to; i++) {
    const centre = ((i + 0.5) * from) / to;
    const [first, last] = [Math.max(0, Math.floor(centre - stretch + 0.5)), Math.min(from, Math.floor(centre + stretch + 0.5))];
    const weights = Array.from({ length: last - first }, (_, j) => Math.max(0, 1 - Math.abs(first + j + 0.5 - centre) / stretch));
    const total = weights.reduce((a, b) => a + b, 0);
    const rounded = weights.map((w) => Math.floor((w / total) * ONE + 0.5));
    for (let o = 0; o < outer; o++) {
      const at = (o * to + i) * inner;
      sum.fill(ONE / 2);
      for (let j = first; j < last; j++) {
        const [start, weight] = [(o * from + j) * inner, rounded[j - first]!];
        for (let c = 0; c < inner; c++) sum[c]! += weight * levels[start + c]!;
      }
      for (let c = 0; c < inner; c++) out[at + c] = Math.floor(sum[c]! / ONE);
    }
  }
  return out;
}

/** A picture ready for the network. */
export interface Fitted {
  /** `[3, rows, columns]` of pixels. */
  values: Float32Array;
  /** Rows and columns of it that show the picture. */
  shown: [number, number];
  /** Rows and columns of it, in whole patches. */
  size: [number, number];
}

/** Prepares pixels (red, green, blue, alpha), over white where they are see-through. */
export function fitted({ data, width, height }: ImageData, { scale, patch, mean, std }: Fitting): Fitted {
  const area = width * height;
  const levels = new Uint8ClampedArray(3 * area);
  for (let i = 0; i < area; i++) {
    const alpha = data[4 * i + 3]!;
    for (let c = 0; c < 3; c++) levels[c * area + i] = Math.floor((data[4 * i + c]! * alpha + 255 * (255 - alpha) + 127) / 255);
  }
  const shown = fittedSize(height, width, scale);
  const [h, w] = shown;
  const resized = along(along(levels, 3 * height, width, w, 1), 3, height, h, w);
  const size = shown.map((side) => Math.ceil(side / patch) * patch) as [number, number];
  const values = new Float32Array(3 * size[0] * size[1]);
  for (let c = 0; c < 3; c++) {
    for (let y = 0; y < h; y++) {
      const [from, to] = [(c * h + y) * w, (c * size[0] + y) * size[1]];
      for (let x = 0; x < w; x++) values[to + x] = (resized[from + x]! / 255 - mean[c]!) / std[c]!;
    }
  }
  return { values, shown, size };
}
