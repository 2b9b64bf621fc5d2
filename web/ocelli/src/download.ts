// Weights from an address: one buffer for the whole file, its checksum, and a copy for the next time in the browser's cache.

import { cachedResponse, removeCached, storing, type Storing } from './cache.js';
import { OcelliError, wordsOf } from './error.js';
import { verify } from './integrity.js';
import type { FileProgress, Weights } from './protocol.js';

/** Weights that are here. */
export interface Taken {
  bytes: Uint8Array;
  /** Ends their way into the cache: to be called with `true` when a network came out of them, else with `false`. */
  settle(keep: boolean): Promise<void>;
}

export interface DownloadOptions {
  signal: AbortSignal;
  /** In place of the browser's own. */
  fetch?: typeof fetch | undefined;
  onProgress?: ((progress: FileProgress) => void) | undefined;
}

/** Progress is told this often at most. */
const TELL_EVERY_MS = 25;

/** Calls `tell` at most every few milliseconds, but for what must be told. */
export function seldom(tell: ((progress: FileProgress) => void) | undefined): (progress: FileProgress, must?: boolean) => void {
  let last = -Infinity;
  return (progress, must = false) => {
    const now = performance.now();
    if (!must && now - last < TELL_EVERY_MS) return;
    last = now;
    tell?.(progress);
  };
}

/** Bytes a response says it has; 0 where it does not, or counts them packed. */
export const lengthOf = ({ headers }: Response): number =>
  headers.has('content-encoding') ? 0 : Number(headers.get('content-length') ?? 0) || 0;

type Body = ReadableStream<Uint8Array<ArrayBuffer>>;

/** Bytes asked for beyond those that the server has told of. */
const SPARE = 1 << 16;

/** A body that is read into one buffer: where the browser can, without pieces between; and without a copy where the size is known. */
class Collector {
  loaded = 0;
  private whole: Uint8Array<ArrayBuffer> | undefined;
  private parts: Uint8Array[] = [];
  private readonly into: ReadableStreamBYOBReader | undefined;
  private readonly reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | undefined;

  constructor(body: Body | null, expected: number) {
    if (expected) this.whole = new Uint8Array(expected);
    try {
      if (expected) this.into = body?.getReader({ mode: 'byob' });
    } catch {
      // This browser, or a fetch of the page's own, gives pieces alone.
    }
    if (!this.into) this.reader = body?.getReader();
  }

  cancel(): void {
    void (this.into ?? this.reader)?.cancel().catch(() => undefined);
  }

  /** The next piece, to be used before the one after it; nothing at the end. */
  async next(): Promise<Uint8Array | undefined> {
    const { whole, into, loaded } = this;
    if (!into || !whole || loaded === whole.length) {
      const { done = true, value } = (await (into ? into.read(new Uint8Array(SPARE)) : this.reader?.read())) ?? {};
      if (done || !value) return undefined;
      this.add(value);
      return value;
    }
    // The buffer goes along, and comes back with more in it.
    const { done, value } = await into.read(new Uint8Array(whole.buffer, loaded));
    if (value) this.whole = new Uint8Array(value.buffer);
    if (done || !value) return undefined;
    this.loaded += value.length;
    return value;
  }

  private add(piece: Uint8Array): void {
    if (this.whole && this.loaded + piece.length > this.whole.length) {
      // The server counted something else, such as the packed file.
      this.parts = [this.whole.subarray(0, this.loaded)];
      this.whole = undefined;
    }
    if (this.whole) this.whole.set(piece, this.loaded);
    else this.parts.push(piece);
    this.loaded += piece.length;
  }

  finish(): Uint8Array {
    if (this.whole) return this.whole.subarray(0, this.loaded);
    const whole = new Uint8Array(this.loaded);
    let at = 0;
    for (const part of this.parts) {
      whole.set(part, at);
      at += part.length;
    }
    this.parts = [];
    return whole;
  }
}

interface Reading extends DownloadOptions {
  url: string;
  limit: number;
  cached: boolean;
  /** Where the file goes as well. */
  store?: Storing | undefined;
}

async function read(response: Response, { url, limit, cached, store, signal, onProgress }: Reading): Promise<Uint8Array> {
  const told = lengthOf(response);
  const check = (size: number) => {
    if (size <= limit) return;
    throw new OcelliError('network', `${url}: expected at most ${limit} bytes, found ${told > limit ? told : `more than ${limit}`}; maxBytes allows more`);
  };
  check(told);
  const tell = seldom(onProgress);
  const collector = new Collector(response.body, told);
  // Not every response ends by itself: one from the cache knows no signal. Nor does a cache that waits for the rest.
  const cancel = () => {
    collector.cancel();
    void store?.settle(false);
  };
  signal.addEventListener('abort', cancel);
  try {
    for (let piece = await collector.next(); piece; piece = await collector.next()) {
      signal.throwIfAborted();
      const { loaded } = collector;
      check(loaded);
      await store?.write(piece);
      tell({ kind: 'weights', url, loaded, total: Math.max(told, told && loaded), cached });
    }
    signal.throwIfAborted();
    const { loaded } = collector;
    tell({ kind: 'weights', url, loaded, total: loaded, cached }, true);
    return collector.finish();
  } catch (error) {
    cancel();
    throw error;
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}

/** What the cache has, where it is what is wanted. */
async function fromCache(url: string, { integrity, maxBytes }: Weights, options: DownloadOptions): Promise<Uint8Array | undefined> {
  const response = await cachedResponse(url);
  if (!response) return undefined;
  try {
    const bytes = await read(response, { ...options, url, limit: maxBytes, cached: true });
    if (integrity) await verify(bytes, integrity, url);
    return bytes;
  } catch (error) {
    options.signal.throwIfAborted();
    if (error instanceof OcelliError && error.code !== 'integrity') throw error;
    // Another file than is wanted now, or one that the disk lost: the server has the right one.
    await removeCached(url);
    return undefined;
  }
}

async function fromServer(url: string, weights: Weights, options: DownloadOptions): Promise<Taken> {
  const { headers, integrity, cache, maxBytes } = weights;
  const { signal, fetch: own } = options;
  const request = { headers, signal };
  const response = await (own ? own(url, request) : fetch(url, request));
  if (signal.aborted || !response.ok) void response.body?.cancel().catch(() => undefined);
  signal.throwIfAborted();
  if (!response.ok) throw new OcelliError('network', `${url}: the server answers ${response.status} ${response.statusText}`);
  const store = cache === false ? undefined : await storing(url, lengthOf(response));
  try {
    const bytes = await read(response, { ...options, url, limit: maxBytes, cached: false, store });
    if (integrity) await verify(bytes, integrity, url);
    return { bytes, settle: async (keep) => store?.settle(keep) };
  } catch (error) {
    await store?.settle(false);
    throw error;
  }
}

/**
 * Fetches weights from their address, or takes them out of the cache.
 *
 * Throws the signal's reason when it aborts, `network` where the server refuses, cannot be reached or sends more than is allowed,
 * `integrity` for another file than the one that is wanted.
 */
export async function download(url: string, weights: Weights, options: DownloadOptions): Promise<Taken> {
  const { signal } = options;
  try {
    signal.throwIfAborted();
    const known = weights.cache === true ? await fromCache(url, weights, options) : undefined;
    if (known) return { bytes: known, settle: async () => undefined };
    return await fromServer(url, weights, options);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof OcelliError) throw error;
    throw new OcelliError('network', `${url} cannot be fetched: ${wordsOf(error)}`);
  }
}

/** The bytes of weights wherever they are. */
export async function take(weights: Weights, options: DownloadOptions): Promise<Taken> {
  const { from, integrity } = weights;
  if (typeof from === 'string') return download(from, weights, options);
  const bytes = from instanceof Uint8Array ? from : new Uint8Array(from instanceof Blob ? await from.arrayBuffer() : from);
  const { length } = bytes;
  options.onProgress?.({ kind: 'weights', url: '', loaded: length, total: length, cached: false });
  if (integrity) await verify(bytes, integrity, from instanceof File ? from.name : 'the weights');
  return { bytes, settle: async () => undefined };
}
