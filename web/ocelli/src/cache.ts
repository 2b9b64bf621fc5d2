// Weights that were downloaded once, in the browser's Cache API.

import { absolute, assertBrowser } from './environment.js';

const NAME = 'ocelli-weights';
/** Bytes that go to the cache at once: each way there takes its time. */
const BLOCK = 1 << 22;

/** The cache; nothing where the browser has none (pages without HTTPS, some private windows), or where none was `made` yet. */
async function open(made: 'made' | 'make'): Promise<Cache | undefined> {
  try {
    const { caches } = globalThis as { caches?: CacheStorage };
    return caches && (made === 'make' || (await caches.has(NAME))) ? await caches.open(NAME) : undefined;
  } catch {
    return undefined;
  }
}

/** Only these can be keys. */
const cacheable = (url: string) => /^https?:/.test(url);

/** Whether the weights of this address are in the cache: a load of them downloads nothing. */
export async function hasModelInCache(url: string | URL): Promise<boolean> {
  assertBrowser();
  return (await cachedResponse(absolute(url))) !== undefined;
}

/** Takes the weights of this address out of the cache; tells whether they were there. */
export async function deleteModelFromCache(url: string | URL): Promise<boolean> {
  assertBrowser();
  return removeCached(absolute(url));
}

/** Takes all weights out of the cache; tells whether there was one. */
export async function clearModelCache(): Promise<boolean> {
  assertBrowser();
  try {
    return (await (globalThis as { caches?: CacheStorage }).caches?.delete(NAME)) ?? false;
  } catch {
    return false;
  }
}

/** What the cache has of an address. */
export async function cachedResponse(url: string): Promise<Response | undefined> {
  if (!cacheable(url)) return undefined;
  return (await open('made'))?.match(url).catch(() => undefined);
}

/** Takes an address out of the cache; tells whether it was there. */
export async function removeCached(url: string): Promise<boolean> {
  return (await (await open('made'))?.delete(url).catch(() => false)) ?? false;
}

/** A file on its way into the cache. Nothing of it fails: a full disk means that the next load downloads again. */
export interface Storing {
  /** Resolves when there is room for more, so that no second copy piles up. The piece may be used for something else then. */
  write(piece: Uint8Array): Promise<void>;
  /** Ends it: the file is kept, or nothing of it. */
  settle(keep: boolean): Promise<void>;
}

/** Begins to store a file of `total` bytes (0 where that is not known). */
export async function storing(url: string, total: number): Promise<Storing | undefined> {
  const cache = cacheable(url) ? await open('make') : undefined;
  if (!cache) return undefined;
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const writer = writable.getWriter();
  writer.closed.catch(() => undefined);
  const headers = { 'content-type': 'application/octet-stream', ...(total ? { 'content-length': String(total) } : {}) };
  const put = cache.put(url, new Response(readable as ReadableStream<Uint8Array<ArrayBuffer>>, { headers })).catch(() => {
    // A full disk: nobody reads on, so nobody may wait for it.
    void writer.abort().catch(() => undefined);
  });
  let block = new Uint8Array(BLOCK);
  let filled = 0;
  const flush = async () => {
    const full = block.subarray(0, filled);
    block = new Uint8Array(BLOCK);
    filled = 0;
    await writer.write(full).catch(() => undefined);
  };
  return {
    async write(piece) {
      for (let at = 0; at < piece.length; ) {
        const part = piece.subarray(at, at + BLOCK - filled);
        block.set(part, filled);
        [at, filled] = [at + part.length, filled + part.length];
        if (filled === BLOCK) await flush();
      }
    },
    async settle(keep) {
      if (keep && filled) await flush();
      await (keep ? writer.close() : writer.abort()).catch(() => undefined);
      await put;
    },
  };
}
