// What the page downloads besides weights, in bytes: as it is, and as a server with brotli sends it. `node test/size.mjs`
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants } from 'node:zlib';

const dist = join(dirname(dirname(fileURLToPath(import.meta.url))), 'dist');

function* files(folder) {
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) yield* files(path);
    else yield path;
  }
}

/**
 * Pictures are counted as they are: they are packed already. Weights, photographs (fetched when one is chosen) and the tests' own
 * page are left out.
 */
export function sizes() {
  const rows = [];
  for (const path of files(dist)) {
    const name = relative(dist, path);
    if (/^models|^samples\/[^/]+$|(^|\/)test[.-]/.test(name)) continue;
    const bytes = readFileSync(path);
    const packed = /\.webp$/.test(name) ? bytes : brotliCompressSync(bytes, { params: {
      [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
    } });
    rows.push({ name, raw: bytes.length, brotli: packed.length });
  }
  rows.sort((a, b) => b.brotli - a.brotli);
  return { rows, raw: rows.reduce((n, r) => n + r.raw, 0), brotli: rows.reduce((n, r) => n + r.brotli, 0) };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { rows, ...all } = sizes();
  for (const { name, raw, brotli } of [...rows, { name: 'all', ...all }]) console.log(`${String(raw).padStart(9)} ${String(brotli).padStart(9)}  ${name}`);
}
