// What callers may say, and what they hand over.

import { absolute } from './environment.js';
import { OcelliError, wordsOf } from './error.js';
import { parseIntegrity } from './integrity.js';
import type { CacheUse, DeviceChoice, FileProgress, Kernels, NetworkOptions, Weights } from './protocol.js';

/** A picture. */
export type ImageSource = ImageBitmap | HTMLImageElement | HTMLCanvasElement | OffscreenCanvas | HTMLVideoElement | ImageData | Blob;

/** Weights: an address, a file, or bytes, in `.safetensors` or PyTorch's `.pth`. */
export type WeightSource = string | URL | Blob | ArrayBuffer | Uint8Array;

/** What every call that takes time can be told. */
export interface CallOptions {
  /** Ends the call: it rejects with the signal's reason at once, what it made is given back, and the worker is free for others. */
  signal?: AbortSignal | undefined;
}

/** How far the files that are wanted have come. */
export interface Progress {
  /** Bytes so far, of all files. */
  loaded: number;
  /** Bytes of all files; 0 until every server has told. */
  total: number;
  /** The file this is about. */
  file: FileProgress;
}

/** Told of downloads. */
export interface ProgressOptions {
  onProgress?: ((progress: Progress) => void) | undefined;
}

/** How weights are fetched. */
export interface FetchOptions extends CallOptions, ProgressOptions {
  /** Whether the browser keeps them for the next time (default `true`); `'reload'` fetches them anew and keeps those. */
  cache?: CacheUse | undefined;
  /** In place of the browser's `fetch`: called in the page, with the address as text, headers and a signal. */
  fetch?: typeof fetch | undefined;
  /** Sent along, such as `Authorization`. */
  headers?: HeadersInit | undefined;
  /** Checksum as in Subresource Integrity: `sha256-`, `sha384-` or `sha512-` and the digest in base64. Other bytes are refused. */
  integrity?: string | undefined;
  /** Most bytes that are downloaded (default 2 GiB). */
  maxBytes?: number | undefined;
}

/** How a device and its worker are opened. */
export interface OpenOptions extends CallOptions, ProgressOptions {
  /** `auto` (default): WebGPU on graphics hardware, else the CPU. */
  device?: DeviceChoice | undefined;
  kernels?: Kernels | undefined;
  /** Address of the worker's script, where a bundler does not find it. It may be of another origin. */
  workerUrl?: string | URL | undefined;
  /** Address of the module that looks (`ocelli/look.wasm`), where it does not lie where the worker looks for it. */
  wasmUrl?: string | URL | undefined;
  /** The same of the module that trains (`ocelli/train.wasm`), which is fetched when training begins. */
  trainWasmUrl?: string | URL | undefined;
}

/** How weights are fetched and read. */
export type LoadOptions = FetchOptions & NetworkOptions;

const MAX_BYTES = 2 ** 31;

/** Weights as the worker wants them. Throws `argument` for options that cannot be. */
export function weightsOf(source: WeightSource, options: FetchOptions): Weights {
  const { cache = true, headers, integrity, maxBytes = MAX_BYTES } = options;
  const wrong = (what: string, expected: string, found: unknown) => new OcelliError('argument', `${what}: expected ${expected}, found ${found}`);
  if (!(maxBytes > 0)) throw wrong('maxBytes', 'a number of bytes above 0', maxBytes);
  if (cache !== 'reload' && typeof cache !== 'boolean') throw wrong('cache', 'true, false or "reload"', cache);
  if (integrity !== undefined) parseIntegrity(integrity);
  let from: Weights['from'];
  if (typeof source === 'string' || source instanceof URL) {
    try {
      from = absolute(source);
    } catch {
      throw wrong('weights', 'an address', `"${source}"`);
    }
  } else if (source instanceof Blob || source instanceof ArrayBuffer || source instanceof Uint8Array) {
    from = source;
  } else {
    throw wrong('weights', 'an address, a Blob, an ArrayBuffer or a Uint8Array', Object.prototype.toString.call(source));
  }
  let pairs: [string, string][];
  try {
    pairs = [...new Headers(headers)];
  } catch (error) {
    throw new OcelliError('argument', `headers: ${wordsOf(error)}`);
  }
  return { from, headers: pairs, integrity, cache, maxBytes };
}

/** One progress out of those of several files; `kinds` are those to come. */
export function together(kinds: FileProgress['kind'][], tell: ((progress: Progress) => void) | undefined): ((file: FileProgress) => void) | undefined {
  if (!tell) return undefined;
  const files = new Map<FileProgress['kind'], FileProgress>();
  return (file) => {
    files.set(file.kind, file);
    const known = kinds.map((kind) => files.get(kind));
    const sum = (of: 'loaded' | 'total') => known.reduce((n, f) => n + (f?.[of] ?? 0), 0);
    tell({ loaded: sum('loaded'), total: known.every((f) => f?.total) ? sum('total') : 0, file });
  };
}

/** Pixels on their way to the worker. */
export interface Handed {
  data: ImageBitmap | ImageData;
  transfer: Transferable[];
}

/** Takes a picture's pixels. Throws `image` for what the browser cannot read. */
export async function handOver(image: ImageSource, signal?: AbortSignal): Promise<Handed> {
  signal?.throwIfAborted();
  if (image instanceof ImageData) return { data: image, transfer: [] };
  try {
    // Levels as they are in the file, so that the native program sees the same.
    const bitmap = await createImageBitmap(image, { colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
    return { data: bitmap, transfer: [bitmap] };
  } catch (error) {
    throw new OcelliError('image', `this is no picture the browser can read (${wordsOf(error)})`);
  }
}
