// A small head on patch features: perhaps one 3×3 convolution, then a linear map to the classes. What computes it in a worker or in
// the page; `segmentation.ts` reads it out of a file.

import { OcelliError } from './error.js';
import { packed, product, whole } from './product.js';
import { Convolution } from './winograd.js';

/** A head's numbers, normalisation folded into them; crosses over to the worker as it is. */
export interface PatchLayers {
  /** Numbers of a patch that it takes. */
  dim: number;
  /** 3×3 convolution and ReLU before the classifier: `[channels, dim, 3, 3]` and `[channels]`. */
  conv?: { weight: Float32Array; bias: Float32Array };
  /** To the classes: `[classes, channels]`, or `[classes, dim]` without a convolution. */
  weight: Float32Array;
  /** `[classes]`. */
  bias: Float32Array;
}

/** A head, ready to compute. */
export class PatchHead {
  private readonly conv: Convolution | undefined;
  private readonly inputs: number;
  private readonly weight: Float32Array;

  constructor(private readonly layers: PatchLayers) {
    const { dim, conv, weight, bias } = layers;
    this.conv = conv && new Convolution(conv.weight, conv.bias, dim);
    this.inputs = weight.length / bias.length;
    this.weight = packed(weight, bias.length, this.inputs);
  }

  /** Numbers of a patch that it takes. */
  get dim(): number {
    return this.layers.dim;
  }

  /**
   * Logits `[classes, rows·columns]` of patches `[rows·columns, dim]`, row-major.
   *
   * Throws `argument` for another number of values, `weights` where one of the logits is no finite number.
   */
  logits(tokens: Float32Array, rows: number, columns: number): Float32Array {
    const { dim, bias } = this.layers;
    const [cells, classes] = [rows * columns, bias.length];
    if (!(cells > 0) || tokens.length !== cells * dim) {
      const expected = `${rows} × ${columns} patches of ${dim} numbers`;
      throw new OcelliError('argument', `the patches: expected ${expected}, found ${tokens.length} numbers`);
    }
    const seen = this.conv ? this.conv.apply(tokens, rows, columns) : tokens;
    const [high, wide] = [whole(cells), whole(classes)];
    const x = new Float32Array(high * this.inputs);
    x.set(seen);
    const y = new Float32Array(high * wide);
    product([x, 0], [this.weight, 0], [y, 0], high, this.inputs, wide);
    const out = new Float32Array(classes * cells);
    for (let k = 0; k < classes; k++) {
      for (let i = 0; i < cells; i++) out[k * cells + i] = y[i * wide + k]! + bias[k]!;
    }
    const wrong = out.find((v) => !Number.isFinite(v));
    if (wrong !== undefined) throw new OcelliError('weights', `the head's logits: expected finite numbers, found ${wrong}`);
    return out;
  }
}
