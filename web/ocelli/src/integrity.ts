// Checksums of files, written as in Subresource Integrity: `sha384-` and the digest in base64.

import { OcelliError } from './error.js';

/** The strongest first. */
const ALGORITHMS = ['sha512', 'sha384', 'sha256'] as const;
type Algorithm = (typeof ALGORITHMS)[number];

const BYTES: Record<Algorithm, number> = { sha256: 32, sha384: 48, sha512: 64 };

/** The digests a file may have. */
export interface Integrity {
  algorithm: Algorithm;
  /** In base64. */
  digests: string[];
}

/**
 * Reads one or more checksums, separated by white space. Of several algorithms the strongest counts, of its digests any.
 *
 * Throws `argument` for what is no checksum.
 */
export function parseIntegrity(text: string): Integrity {
  const found = new Map<Algorithm, string[]>();
  for (const word of text.split(/\s+/).filter(Boolean)) {
    const [, name, rest = ''] = /^(sha256|sha384|sha512)-([A-Za-z0-9+/_-]+={0,2})(?:\?.*)?$/.exec(word) ?? [];
    const algorithm = name as Algorithm | undefined;
    const digest = rest.replace(/-/g, '+').replace(/_/g, '/').replace(/=+$/, '');
    if (!algorithm || digest.length !== Math.ceil((BYTES[algorithm] * 4) / 3)) {
      throw new OcelliError('argument', `integrity: expected sha256-, sha384- or sha512- and the digest in base64, found "${word}"`);
    }
    found.set(algorithm, [...(found.get(algorithm) ?? []), digest]);
  }
  const algorithm = ALGORITHMS.find((name) => found.has(name));
  if (!algorithm) throw new OcelliError('argument', 'integrity: expected a checksum such as sha384-…, found none');
  return { algorithm, digests: found.get(algorithm) ?? [] };
}

/**
 * Compares bytes with their checksum; `name` says whose they are.
 *
 * Throws `integrity` where they differ, `unsupported` where the browser computes no checksums (pages without HTTPS).
 */
export async function verify(bytes: Uint8Array, text: string, name: string): Promise<void> {
  const { algorithm, digests } = parseIntegrity(text);
  const subtle = globalThis.crypto?.subtle as SubtleCrypto | undefined;
  if (!subtle) {
    throw new OcelliError('unsupported', 'integrity: browsers compute checksums on HTTPS and on localhost alone; serve the page there');
  }
  const digest = new Uint8Array(await subtle.digest(algorithm.replace('sha', 'SHA-'), bytes as Uint8Array<ArrayBuffer>));
  const found = btoa(String.fromCharCode(...digest)).replace(/=+$/, '');
  if (digests.includes(found)) return;
  const expected = digests.map((d) => `${algorithm}-${d}`).join(' or ');
  throw new OcelliError('integrity', `${name}: expected ${expected}, found ${algorithm}-${found}; it is another file, or was changed on its way`);
}
