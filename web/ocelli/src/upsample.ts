// From logits of cells to a class for every pixel: bilinear, then the largest.

/** The two inputs around each output of an axis, and the second one's weight. */
function axis(input: number, output: number, aligned: boolean): (i: number) => [number, number, number] {
  return (i) => {
    // Pixels are areas; or points, the first and last of both axes in one place.
    const place = aligned ? (output > 1 ? (i * (input - 1)) / (output - 1) : 0) : Math.max(0, ((i + 0.5) * input) / output - 0.5);
    const first = Math.min(Math.floor(place), input - 1);
    return [first, Math.min(first + 1, input - 1), place - first];
  };
}

/** For each pixel of an axis the four cells it lies between, one perhaps several times, and their weights. */
export interface Taps {
  at: Int32Array;
  weight: Float32Array;
}

/** Lengths of an axis. */
export interface Lengths {
  cells: number;
  /** Pixels of the cells. */
  network: number;
  /** Of these the pixels that show the picture; what is beyond them was added (default all). */
  shown?: number;
  picture: number;
}

/**
 * Cells to the network's pixels, and those to the picture's: the two resizes of the published protocol, as one. `aligned` is
 * PyTorch's `align_corners`.
 */
export function taps({ cells, network, shown = network, picture }: Lengths, aligned: boolean): Taps {
  const [inner, outer] = [axis(cells, network, aligned), axis(shown, picture, aligned)];
  const out: Taps = { at: new Int32Array(4 * picture), weight: new Float32Array(4 * picture) };
  for (let i = 0; i < picture; i++) {
    const [a, b, w] = outer(i);
    const [first, second] = [inner(a), inner(b)];
    out.at.set([first[0], first[1], second[0], second[1]], 4 * i);
    out.weight.set([(1 - w) * (1 - first[2]), (1 - w) * first[2], w * (1 - second[2]), w * second[2]], 4 * i);
  }
  return out;
}

/** The class with the largest number for every pixel, of equal ones the first. `logits` are `[classes, rows·columns]` of cells. */
export function likeliest(logits: Float32Array, rows: number, columns: number, down: Taps, across: Taps): Uint8Array {
  const [height, width, cells] = [down.at.length / 4, across.at.length / 4, rows * columns];
  const labels = new Uint8Array(height * width);
  const [line, best] = [new Float32Array(columns), new Float64Array(width)];
  const { at, weight } = across;
  for (let y = 0; y < height; y++) {
    const own = labels.subarray(y * width, (y + 1) * width);
    best.fill(-Infinity);
    for (let from = 0, k = 0; from < logits.length; from += cells, k++) {
      line.fill(0);
      for (let t = 4 * y; t < 4 * y + 4; t++) {
        const [start, share] = [from + down.at[t]! * columns, down.weight[t]!];
        if (share > 0) for (let x = 0; x < columns; x++) line[x]! += share * logits[start + x]!;
      }
      for (let x = 0, t = 0; x < width; x++, t += 4) {
        const value =
          line[at[t]!]! * weight[t]! + line[at[t + 1]!]! * weight[t + 1]! + line[at[t + 2]!]! * weight[t + 2]! + line[at[t + 3]!]! * weight[t + 3]!;
        if (value > best[x]!) {
          best[x] = value;
          own[x] = k;
        }
      }
    }
  }
  return labels;
}
