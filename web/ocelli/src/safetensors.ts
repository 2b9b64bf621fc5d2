// Small files of weights, read in the page itself: a header in JSON, then values.

import { OcelliError } from './error.js';

export interface TensorEntry {
  dtype: string;
  shape: number[];
  /** Of its bytes, first and one past the last, in `values`. */
  range: [number, number];
}

/** A file's tensors by name, its metadata, and its values as bytes. */
export interface Safetensors {
  tensors: Map<string, TensorEntry>;
  metadata: Record<string, string>;
  values: Uint8Array;
}

/** Types that are read here: their bytes, and how one value is. */
const TYPES = new Map<string, { size: number; at: (view: DataView, byte: number) => number }>([
  ['F64', { size: 8, at: (view, byte) => view.getFloat64(byte, true) }],
  ['F32', { size: 4, at: (view, byte) => view.getFloat32(byte, true) }],
  ['F16', { size: 2, at: (view, byte) => half(view.getUint16(byte, true)) }],
  ['BF16', { size: 2, at: (view, byte) => brain(view.getUint16(byte, true)) }],
]);

const fail = (why: string) => new OcelliError('weights', `expected a whole safetensors file, found ${why}`);
const whole = (v: unknown): v is number => Number.isSafeInteger(v) && (v as number) >= 0;

/**
 * Reads the header; values are decoded by [decode].
 *
 * Throws `weights` for bytes that are no such file, are cut short, or contradict themselves.
 */
export function openSafetensors(bytes: Uint8Array): Safetensors {
  if (bytes[0] === 0x50 && bytes[1] === 0x4b) throw fail('PyTorch’s form (.pth): take the .safetensors file that lies beside it');
  if (bytes.length < 8) throw fail(`${bytes.length} bytes`);
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  if (!(length <= bytes.length - 8)) throw fail(`a header of ${length} bytes in a file of ${bytes.length}: it is another file, or cut short`);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(8, 8 + length)));
  } catch (error) {
    throw fail(`a header that is no JSON (${error instanceof Error ? error.message : error})`);
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) throw fail('a header that is no table');
  const values = bytes.subarray(8 + length);
  const file: Safetensors = { tensors: new Map(), metadata: {}, values };
  for (const [name, about] of Object.entries(header as Record<string, unknown>)) {
    if (name === '__metadata__') {
      const said = Object.entries((about ?? {}) as object).filter((e): e is [string, string] => typeof e[1] === 'string');
      file.metadata = Object.fromEntries(said);
      continue;
    }
    const { dtype, shape, data_offsets: range } = (about ?? {}) as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
    const known = typeof dtype === 'string' && Array.isArray(shape) && shape.every(whole) && Array.isArray(range) && range.length === 2;
    if (!known || !whole(range[0]) || !whole(range[1]) || range[0] > range[1]) throw fail(`no type, shape and place of ${name}`);
    if (range[1] > values.length) throw fail(`only ${values.length} bytes of values, and ${name} ends at ${range[1]}: it is cut short`);
    const type = TYPES.get(dtype);
    const expected = type && (shape as number[]).reduce((n, side) => n * side, type.size);
    if (expected !== undefined && expected !== range[1] - range[0]) {
      throw fail(`${range[1] - range[0]} bytes of ${name}, whose shape [${String(shape)}] of ${dtype} makes ${expected}`);
    }
    file.tensors.set(name, { dtype, shape: shape as number[], range: range as [number, number] });
  }
  return file;
}

/** Half precision: sign, five bits of exponent, ten of fraction. */
function half(bits: number): number {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

const scratch = new DataView(new ArrayBuffer(4));
/** The upper half of a number of 32 bits. */
function brain(bits: number): number {
  scratch.setUint32(0, bits << 16);
  return scratch.getFloat32(0);
}

/** Values of a tensor. Throws `weights` for a type other than F64, F32, F16 and BF16. */
export function decode(file: Safetensors, name: string, { dtype, range }: TensorEntry): Float32Array {
  const type = TYPES.get(dtype);
  if (!type) throw new OcelliError('weights', `${name}: expected F32, F16, BF16 or F64, found ${dtype}`);
  // The usual type, as it lies there: every browser's numbers begin with their lowest byte, too.
  if (dtype === 'F32') return new Float32Array(new Uint8Array(file.values.subarray(range[0], range[1])).buffer);
  const view = new DataView(file.values.buffer, file.values.byteOffset + range[0], range[1] - range[0]);
  return Float32Array.from({ length: view.byteLength / type.size }, (_, i) => type.at(view, i * type.size));
}
