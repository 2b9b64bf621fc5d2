// Starts the worker, wherever its script lies.

import { absolute, assertBrowser } from './environment.js';

const OPTIONS = { type: 'module', name: 'ocelli' } as const;

/**
 * Where the worker lies when the package is of another origin than the page and no bundler has been at it. Bundlers find the worker
 * by the way it is started below; they leave no address here, or one that is no web address.
 */
function elsewhere(): string | undefined {
  const here = import.meta.url as string | undefined;
  if (!here || !/^https?:/.test(here) || new URL(here).origin === location.origin) return undefined;
  return new URL('worker.js', here).href;
}

/** A worker of another origin: browsers start none, but a script of the page's own may import one. */
function throughBlob(url: string): Worker {
  const script = URL.createObjectURL(new Blob([`import ${JSON.stringify(url)};`], { type: 'text/javascript' }));
  const worker = new Worker(script, OPTIONS);
  const revoke = () => URL.revokeObjectURL(script);
  worker.addEventListener('message', revoke, { once: true });
  worker.addEventListener('error', revoke, { once: true });
  return worker;
}

/** Starts the worker. Throws `unsupported` outside a browser. */
export function spawn(workerUrl: string | URL | undefined): Worker {
  assertBrowser();
  const url = workerUrl === undefined ? elsewhere() : absolute(workerUrl);
  if (url === undefined) return new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'ocelli' });
  return new URL(url).origin === location.origin ? new Worker(url, OPTIONS) : throughBlob(url);
}
