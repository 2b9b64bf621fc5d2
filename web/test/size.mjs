// What is downloaded besides weights, in bytes: as it is, and as a server with brotli sends it. `node test/size.mjs`
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants } from 'node:zlib';

const web = dirname(dirname(fileURLToPath(import.meta.url)));
/** The module that trains, wherever it was put: what is fetched when training begins, and nothing else is. */
export const TRAINING = /ocelli_web_train_bg[^/]*\.wasm$/;

function* files(folder) {
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) yield* files(path);
    else yield path;
  }
}

/** Pictures are counted as they are: they are packed already. */
function weigh(path) {
  const bytes = readFileSync(path);
  const packed = /\.webp$/.test(path) ? bytes : brotliCompressSync(bytes, { params: {
    [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
  } });
  return { raw: bytes.length, brotli: packed.length };
}

/** The files of a folder that `counts` names: each, and what they come to for looking, and beyond that for training. */
function sizes(folder, counts) {
  const rows = [];
  for (const path of files(folder)) {
    const name = relative(folder, path);
    if (counts(name)) rows.push({ name, ...weigh(path) });
  }
  rows.sort((a, b) => b.brotli - a.brotli);
  const sum = (some) => ({ raw: some.reduce((n, r) => n + r.raw, 0), brotli: some.reduce((n, r) => n + r.brotli, 0) });
  return { rows, looking: sum(rows.filter((r) => !TRAINING.test(r.name))), training: sum(rows.filter((r) => TRAINING.test(r.name))) };
}

/** The page. Weights, photographs (fetched when one is chosen) and the tests' own page are left out. */
export const pageSizes = () => sizes(join(web, 'dist'), (name) => !/^models|^samples\/[^/]+$|(^|\/)test[.-]/.test(name));

/** The npm package, as it is unpacked in `folder`: what `import 'ocelli'` leads to, unbundled. */
export const packageSizes = (folder = join(web, 'ocelli')) => sizes(folder, (name) => /^(dist|pkg)\/.*\.(js|wasm)$/.test(name));

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [what, { rows, looking, training }] of [['page', pageSizes()], ['package', packageSizes()]]) {
    console.log(`${what}, bytes and bytes with brotli:`);
    const all = [...rows, { name: 'to look', ...looking }, { name: 'to train, beyond that', ...training }];
    for (const { name, raw, brotli } of all) console.log(`${String(raw).padStart(9)} ${String(brotli).padStart(9)}  ${name}`);
  }
}
