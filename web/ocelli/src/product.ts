// Matrix products on one thread of JavaScript. Nine sums at a time stay in registers, which is what makes them quick.

/** Rows and outputs that are computed at once. */
const BLOCK = 3;

/** The next multiple of [BLOCK]: rows and outputs come in whole blocks, the last of them filled with zeros. */
export const whole = (count: number) => Math.ceil(count / BLOCK) * BLOCK;

/** Where the weight from `input` to `output` lies in what [product] reads: three outputs side by side for every input. */
export const placed = (output: number, input: number, inputs: number) =>
  ((output - (output % BLOCK)) * inputs) + input * BLOCK + (output % BLOCK);

/** Weights `[outputs, inputs]`, row-major, as [product] reads them. */
export function packed(weight: ArrayLike<number>, outputs: number, inputs: number): Float32Array {
  const out = new Float32Array(whole(outputs) * inputs);
  for (let o = 0; o < outputs; o++) for (let i = 0; i < inputs; i++) out[placed(o, i, inputs)] = weight[o * inputs + i]!;
  return out;
}

/** A matrix and where it begins. */
export type At = readonly [Float32Array, number];

/** `[rows, inputs]` times [packed] weights: `[rows, outputs]`. Rows and outputs are [whole]. */
export function product([x, xAt]: At, [w, wAt]: At, [out, outAt]: At, rows: number, inputs: number, outputs: number): void {
  for (let o = 0; o < outputs; o += BLOCK) {
    for (let row = 0; row < rows; row += BLOCK) {
      let aa = 0, ab = 0, ac = 0, ba = 0, bb = 0, bc = 0, ca = 0, cb = 0, cc = 0;
      const end = xAt + (row + 1) * inputs;
      for (let i = xAt + row * inputs, j = wAt + o * inputs; i < end; i++, j += BLOCK) {
        const p = w[j]!, q = w[j + 1]!, r = w[j + 2]!;
        const a = x[i]!, b = x[i + inputs]!, c = x[i + 2 * inputs]!;
        aa += a * p;
        ab += a * q;
        ac += a * r;
        ba += b * p;
        bb += b * q;
        bc += b * r;
        ca += c * p;
        cb += c * q;
        cc += c * r;
      }
      let at = outAt + row * outputs + o;
      out[at] = aa;
      out[at + 1] = ab;
      out[at + 2] = ac;
      at += outputs;
      out[at] = ba;
      out[at + 1] = bb;
      out[at + 2] = bc;
      at += outputs;
      out[at] = ca;
      out[at + 1] = cb;
      out[at + 2] = cc;
    }
  }
}
