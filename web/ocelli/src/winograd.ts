// 3×3 convolutions by a quarter of the multiplications: tiles of 4×4 outputs out of 6×6 inputs, after Lavin & Gray 2015, "Fast
// Algorithms for Convolutional Neural Networks" (arXiv:1509.09308), F(4×4, 3×3). A tile is transformed, multiplied with transformed
// weights at each of its 36 places, and transformed back: A' [(B d B') ∘ (G g G')] A.

import { placed, product, whole } from './product.js';

/** Sides of a tile of outputs, and of the inputs it needs. */
const [OUT, IN] = [4, 6];
/** Places of a transformed tile. */
const PLACES = IN * IN;

/** B', of inputs. */
const INPUT = [
  [4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1],
];
/** G, of weights. */
const WEIGHT = [
  [1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1],
];
/** A', of outputs. */
const OUTPUT = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]];

/** A grid of vectors: where the first begins, and from each to the next. */
interface Grid {
  values: Float32Array;
  at: number;
  step: number;
}

/** Σ factor · vector over every `step`-th vector, each of `length` numbers. */
function combine(factors: readonly number[], { values, at, step }: Grid, length: number, out: Float32Array, outAt: number): void {
  let isFirst = true;
  factors.forEach((factor, i) => {
    if (factor === 0) return;
    const from = at + i * step;
    if (isFirst) for (let c = 0; c < length; c++) out[outAt + c] = factor * values[from + c]!;
    else for (let c = 0; c < length; c++) out[outAt + c]! += factor * values[from + c]!;
    isFirst = false;
  });
}

/** M x M' for a square grid `x` of vectors of `length` numbers; `half` holds what lies between. */
function transform(matrix: readonly number[][], x: Grid, length: number, half: Float32Array, out: Grid): void {
  const side = matrix[0]!.length;
  matrix.forEach((row, i) => {
    for (let j = 0; j < side; j++) {
      combine(row, { ...x, at: x.at + j * x.step, step: side * x.step }, length, half, (i * side + j) * length);
    }
    matrix.forEach((column, j) => {
      const line = { values: half, at: i * side * length, step: length };
      combine(column, line, length, out.values, out.at + (i * matrix.length + j) * out.step);
    });
  });
}

/** A 3×3 convolution with zeros around the map, a bias, and ReLU behind it. */
export class Convolution {
  readonly outputs: number;
  /** `[36, outputs / 3, inputs, 3]`. */
  private readonly weight: Float32Array;

  /** `weight` is `[outputs, inputs, 3, 3]`. */
  constructor(weight: Float32Array, private readonly bias: Float32Array, readonly inputs: number) {
    this.outputs = bias.length;
    const size = whole(this.outputs) * inputs;
    this.weight = new Float32Array(PLACES * size);
    const [taps, half, places] = [9, PLACES, PLACES].map((n) => new Float32Array(n * inputs)) as [Float32Array, Float32Array, Float32Array];
    for (let o = 0; o < this.outputs; o++) {
      for (let c = 0; c < inputs; c++) for (let t = 0; t < 9; t++) taps[t * inputs + c] = weight[(o * inputs + c) * 9 + t]!;
      transform(WEIGHT, { values: taps, at: 0, step: inputs }, inputs, half, { values: places, at: 0, step: inputs });
      for (let p = 0; p < PLACES; p++) {
        for (let c = 0; c < inputs; c++) this.weight[p * size + placed(o, c, inputs)] = places[p * inputs + c]!;
      }
    }
  }

  /** `[rows·columns, inputs]` to `[rows·columns, outputs]`, a row of tiles at a time. */
  apply(map: Float32Array, rows: number, columns: number): Float32Array {
    const { inputs, outputs, bias } = this;
    const tiles = Math.ceil(columns / OUT);
    const [high, wide] = [whole(tiles), whole(outputs)];
    const [seen, said] = [high * inputs, high * wide];
    const x = new Float32Array(PLACES * seen);
    const y = new Float32Array(PLACES * said);
    const tile = new Float32Array(PLACES * Math.max(inputs, wide));
    const half = new Float32Array(tile.length);
    const out = new Float32Array(rows * columns * outputs);
    for (let top = 0; top < rows; top += OUT) {
      for (let t = 0; t < tiles; t++) {
        this.cut(map, rows, columns, top - 1, t * OUT - 1, tile);
        transform(INPUT, { values: tile, at: 0, step: inputs }, inputs, half, { values: x, at: t * inputs, step: seen });
      }
      for (let p = 0; p < PLACES; p++) {
        product([x, p * seen], [this.weight, p * wide * inputs], [y, p * said], high, inputs, wide);
      }
      for (let t = 0; t < tiles; t++) {
        transform(OUTPUT, { values: y, at: t * wide, step: said }, outputs, half, { values: tile, at: 0, step: outputs });
        for (let i = 0; i < OUT * OUT; i++) {
          const [row, column] = [top + (i >> 2), t * OUT + (i & 3)];
          if (row >= rows || column >= columns) continue;
          const at = (row * columns + column) * outputs;
          for (let o = 0; o < outputs; o++) out[at + o] = Math.max(0, tile[i * outputs + o]! + bias[o]!);
        }
      }
    }
    return out;
  }

  /** The 6×6 inputs that begin at this row and column; zeros outside the map. */
  private cut(map: Float32Array, rows: number, columns: number, top: number, left: number, tile: Float32Array): void {
    const { inputs } = this;
    const [from, to] = [Math.max(0, left), Math.min(columns, left + IN)];
    tile.fill(0);
    for (let row = Math.max(0, top); row < Math.min(rows, top + IN); row++) {
      const line = map.subarray((row * columns + from) * inputs, (row * columns + to) * inputs);
      tile.set(line, ((row - top) * IN + from - left) * inputs);
    }
  }
}
