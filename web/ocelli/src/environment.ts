// Where the package finds itself: a page, a worker, or a server that only renders one.

import { OcelliError } from './error.js';

/** Throws `unsupported` where there is no browser, such as when a server renders the page. */
export function assertBrowser(): void {
  const missing = ['Worker', 'WebAssembly', 'OffscreenCanvas'].filter((name) => !(name in globalThis));
  if (missing.length === 0) return;
  const what = `${missing.join(', ')} ${missing.length > 1 ? 'are' : 'is'} missing here`;
  throw new OcelliError('unsupported', `ocelli computes in a browser, and ${what}; when a server renders the page, call it in the browser alone`);
}

/** An address as the page understands it: a worker's own is another. */
export const absolute = (url: string | URL): string => new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href).href;

/** A signal that aborts with any of these; `unlink` when it is of no more use. */
export function linked(...signals: (AbortSignal | undefined)[]): { signal: AbortSignal; unlink(): void } {
  const both = new AbortController();
  const undo = signals.map((signal) => {
    const abort = () => both.abort(signal?.reason);
    if (signal?.aborted) abort();
    signal?.addEventListener('abort', abort);
    return () => signal?.removeEventListener('abort', abort);
  });
  return { signal: both.signal, unlink: () => undo.forEach((run) => run()) };
}

/** What a promise gives, or the signal's reason as soon as it aborts: not all work ends by itself then. */
export function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    const done = () => signal.removeEventListener('abort', abort);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort);
    work.then((value) => (done(), resolve(value)), (error) => (done(), reject(error)));
  });
}
