// The packed package as others use it: its types, Node, Vite, webpack, esbuild, a plain page, a page of another origin. Each starts the
// worker and gets a first result in a browser. `node test/consumers.mjs [words of a test's name]`; needs `cargo xtask web` before.
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as esbuild from 'esbuild';
import * as vite from 'vite';
import webpack from 'webpack';
import { launch, serve } from './browser.mjs';
import { finish, runEach } from './each.mjs';
import { packageSizes } from './size.mjs';

const web = dirname(dirname(fileURLToPath(import.meta.url)));
const root = dirname(web);
const folder = mkdtempSync(join(tmpdir(), 'ocelli-'));
const packed = join(folder, 'node_modules/ocelli');
const WEIGHTS = '/scenes.safetensors';

/** Packs the package, and lays it where bundlers look for it. */
function install() {
  if (!existsSync(join(web, 'ocelli/dist/index.js'))) throw new Error('the package is not built: run `cargo xtask web` first');
  const said = execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], { cwd: join(web, 'ocelli'), encoding: 'utf8' });
  const [{ filename }] = [JSON.parse(said)].flatMap((v) => (Array.isArray(v) ? v : Object.values(v)));
  mkdirSync(packed, { recursive: true });
  execFileSync('tar', ['-xzf', join(folder, filename), '--strip-components=1', '-C', packed]);
}

const tests = [];
const test = (name, run) => tests.push({ name, run });
const same = (what, found, expected) => {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what}: expected ${b}, found ${a}`);
};

/** Writes files under the folder; returns where they are. */
function app(name, files) {
  const at = join(folder, name);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(at, path)), { recursive: true });
    writeFileSync(join(at, path), text);
  }
  return at;
}

const page = (script) => `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>x</title><script type="module" src="${script}"></script>`;
/** A page's program: a first result, and how many bytes were told of; then two steps of training. */
const program = (from = 'ocelli', before = '', options = '') => `import { load, train } from '${from}';
${before}
window.first = async () => {
  let last;
  const model = await load('${WEIGHTS}', { device: 'cpu', onProgress: (progress) => (last = progress), ${options} });
  const { heads, rows, columns, values, cls } = await model.attention(await model.ocelli.scene(1, 64), { query: 'cls' });
  model.dispose();
  const sum = [...values, ...cls].reduce((a, b) => a + b, 0);
  return { shape: [heads, rows, columns], whole: Math.abs(sum - heads) < 1e-3, values: Array.from(values.slice(0, 5)), told: last.loaded === last.total && last.total > 1e5 };
};
window.second = async () => {
  const config = { arch: 'vit-64x2x1/8', epochs: 1, steps_per_epoch: 2, batch_size: 2, views: { global_size_px: 32, local_size_px: 16, local_crops: 1 }, dino: { head: { out_dim: 32, hidden_dim: 32, bottleneck_dim: 16 } } };
  const pictures = [new ImageData(48, 48), new ImageData(64, 48)];
  pictures.forEach(({ data }, i) => data.forEach((_, at) => (data[at] = (at * (7 + i)) % 256)));
  const losses = [];
  const session = await train(pictures, config, { device: 'cpu', onEvent: ({ loss }) => losses.push(loss), ${options} });
  const { values } = await (await session.look(pictures[0])).attention();
  session.dispose();
  return { losses: losses.length, finite: losses.every((loss) => loss > 0 && loss < 20), cells: values.length };
};`;

const memory = new Map([[WEIGHTS, readFileSync(join(web, 'public/models/scenes.safetensors'))]]);
let browser;
let expected;
/** The first result of a page, which is the same everywhere. */
async function first(url) {
  const context = await browser.newContext();
  const complaints = [];
  const modules = [];
  context.on('request', (request) => /\.wasm(\?|$)/.test(request.url()) && modules.push(request.url()));
  try {
    const tab = await context.newPage();
    tab.on('pageerror', (error) => complaints.push(String(error)));
    tab.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
    await tab.goto(url);
    await tab.waitForFunction(() => window.first, undefined, { timeout: 20_000 });
    const found = await tab.evaluate(() => window.first());
    if (!(found.whole && found.told)) throw new Error(JSON.stringify(found));
    expected ??= found;
    same('the result', found, expected);
    // Bundlers rename modules; there is one for looking, and then one for training.
    if (modules.length !== 1) throw new Error(`looking fetched ${modules.length} modules: ${modules.join(' ')}`);
    same('training', await tab.evaluate(() => window.second()), { losses: 2, finite: true, cells: 36 });
    if (modules.length !== 2 || modules[0] === modules[1]) throw new Error(`training fetched ${modules.join(' ')}`);
    if (complaints.length) throw new Error(complaints.join('; '));
  } catch (error) {
    throw new Error([error.message, ...complaints].join('\n      '));
  } finally {
    await context.close();
  }
}
/** The same of a folder with a page. */
async function firstIn(at, headers) {
  const { server, url } = await serve(at, memory, headers);
  try {
    await first(`${url}/index.html`);
  } finally {
    server.close();
  }
}

test('the tarball has what belongs into it, and nothing else', () => {
  const top = readdirSync(packed).sort();
  same('files', top, ['LICENSE-APACHE', 'LICENSE-MIT', 'README.md', 'dist', 'package.json', 'pkg']);
  for (const name of ['LICENSE-APACHE', 'LICENSE-MIT']) {
    if (!readFileSync(join(packed, name)).equals(readFileSync(join(root, name)))) throw new Error(`${name} is not the repository's`);
  }
  const about = JSON.parse(readFileSync(join(packed, 'package.json'), 'utf8'));
  for (const target of Object.values(about.exports).flatMap((v) => (typeof v === 'string' ? v : Object.values(v)))) {
    if (!existsSync(join(packed, target))) throw new Error(`${target} is exported and missing`);
  }
  if (!(about.keywords.length > 3 && about.engines.node && about.license)) throw new Error('no keywords, engines or licence');
  const odd = readdirSync(packed, { recursive: true }).filter((name) => /\.(tmp|map)$|(?<!\.d)\.ts$/.test(name));
  same('odd files', odd, []);
  same('modules', readdirSync(join(packed, 'pkg')).filter((name) => /\.wasm$/.test(name)).sort(), ['ocelli_web_look_bg.wasm', 'ocelli_web_train_bg.wasm']);
});

test('importing it costs little, and training comes on top', () => {
  const { looking, training } = packageSizes(packed);
  console.log(`      bytes with brotli: ${looking.brotli.toLocaleString('en')} to look, ${training.brotli.toLocaleString('en')} more to train`);
  if (!(looking.brotli <= 1_800_000)) throw new Error(`${looking.brotli} bytes to look`);
  if (!(training.brotli > 0 && training.brotli <= 2_400_000)) throw new Error(`${training.brotli} bytes to train`);
});

test('types are found as Node and as bundlers look for them', () => {
  const uses = app('types', {
    'package.json': '{ "type": "module" }',
    'index.ts': `import { Ocelli, OcelliError, hasModelInCache, load, train, type Attention, type Progress, type TrainingConfig } from 'ocelli';
import about from 'ocelli/package.json' with { type: 'json' };
import 'ocelli/worker';
const config: TrainingConfig = { arch: 'vit-64x2x1/8', views: { blur_sigma_max: 0, global_scale: [0.4, 1] }, dino: { head: { out_dim: 32 } } };
const moco: TrainingConfig = { method: 'moco', moco: { queue: 64 } };
// @ts-expect-error: a method that needs another network
const dense: TrainingConfig = { method: 'densecl' };
// @ts-expect-error: no such setting
const wrong: TrainingConfig = { learning_rate: 1 };
// @ts-expect-error: a setting of another type
const other: TrainingConfig = { dino: { head: { out_dim: '32' } } };
export async function use(picture: Blob, signal: AbortSignal): Promise<number> {
  await using ocelli = await Ocelli.open({ device: 'cpu', workerUrl: new URL('https://x.example/worker.js'), wasmUrl: '/x.wasm', trainWasmUrl: '/y.wasm', signal });
  using model = await ocelli.load('x.safetensors', { cache: 'reload', integrity: 'sha256-', headers: { a: 'b' }, fetch, maxBytes: 1, signal });
  using view = await model.look(picture, { size: 224, signal });
  const { heads }: Attention = await view.attention({ layer: 1, heads: [0], signal });
  const alone = await load(new Uint8Array(8), { onProgress: ({ loaded, total, file }: Progress) => console.log(loaded / total, file.kind === 'module', file.cached) });
  const session = await train([picture], config, { signal, onEvent: ({ loss }, session) => loss < 1 && session.pause() });
  const epochs: number = session.config.epochs;
  // @ts-expect-error: not part of what is public
  void alone.ocelli.call;
  return heads + epochs + ((await hasModelInCache('x')) ? 1 : 0) + (about.version ? 1 : 0) + (new OcelliError('integrity', '').code === 'integrity' ? 1 : 0) + (wrong === other && moco === dense ? 1 : 0);
}
`,
  });
  const options = { strict: true, noEmit: true, target: 'ES2022', lib: ['ES2022', 'DOM', 'DOM.Iterable'], types: [], resolveJsonModule: true };
  for (const resolution of [{ module: 'nodenext' }, { module: 'esnext', moduleResolution: 'bundler' }]) {
    writeFileSync(join(uses, 'tsconfig.json'), JSON.stringify({ compilerOptions: { ...options, ...resolution }, files: ['index.ts'] }));
    const { status, stdout } = spawnSync(process.execPath, [join(web, 'node_modules/typescript/bin/tsc'), '-p', uses], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`${resolution.module}: ${stdout}`);
  }
});

test('Node imports it, and is told that it computes in a browser', () => {
  const at = app('node', { 'index.mjs': "import { load } from 'ocelli';\nawait load('x.safetensors').catch((e) => console.log(e.name, e.code));\n" });
  const said = execFileSync(process.execPath, [join(at, 'index.mjs')], { encoding: 'utf8' });
  same('said', said, 'OcelliError unsupported\n');
});

test('a plain page, without a bundler: the example', async () => {
  const at = join(folder, 'plain');
  cpSync(join(root, 'examples/web/plain'), at, { recursive: true });
  cpSync(packed, join(at, 'node_modules/ocelli'), { recursive: true });
  const { server, url } = await serve(at, memory);
  const tab = await browser.newPage();
  try {
    await tab.goto(`${url}/index.html`);
    await tab.waitForFunction(() => !/Loading|Looking/.test(document.querySelector('output').textContent), undefined, { timeout: 20_000 });
    const [text, side] = await tab.evaluate(() => [document.querySelector('output').textContent, document.querySelector('canvas').width]);
    if (!/patch in row \d+, column \d+/.test(text) || side < 8) throw new Error(`${text} (${side})`);
  } finally {
    await tab.close();
    server.close();
  }
});

test('a page of another origin starts the worker', async () => {
  const { server, url } = await serve(packed, new Map(), { 'access-control-allow-origin': '*' });
  try {
    await firstIn(app('origin', { 'index.html': page('./main.js'), 'main.js': program(`${url}/dist/index.js`) }));
    // The same by name: the worker's address of another origin, and the module's.
    const named = `workerUrl: '${url}/dist/worker.js', wasmUrl: '${url}/pkg/ocelli_web_look_bg.wasm', trainWasmUrl: '${url}/pkg/ocelli_web_train_bg.wasm'`;
    const near = app('named', { 'index.html': page('./main.js'), 'main.js': program('./ocelli/dist/index.js', '', named) });
    cpSync(packed, join(near, 'ocelli'), { recursive: true });
    await firstIn(near);
  } finally {
    server.close();
  }
});

test('a worker that is not there is told of', async () => {
  const at = app('missing', { 'index.html': page('./main.js'), 'main.js': "import { load } from 'ocelli';" });
  const { server, url } = await serve(at, memory);
  const { server: other, url: far } = await serve(packed, new Map(), { 'access-control-allow-origin': '*' });
  const tab = await browser.newPage();
  try {
    await tab.goto(`${url}/index.html`);
    const found = await tab.evaluate(async (far) => {
      const { load, train } = await import(`${far}/dist/index.js`);
      const told = (options) => load('/x', { device: 'cpu', ...options }).then(() => 'none', (e) => `${e.code}: ${e.message}`);
      const training = await train([], {}, { device: 'cpu', trainWasmUrl: '/nowhere.wasm' }).then(() => 'none', (e) => `${e.code}: ${e.message}`);
      return [await told({ workerUrl: '/nowhere.js' }), await told({ workerUrl: `${far}/nowhere.js` }), await told({ wasmUrl: '/nowhere.wasm' }), training];
    }, far);
    const words = [/^fault: .*workerUrl/, /^fault: .*workerUrl/, /^network: the module .*nowhere\.wasm cannot be loaded: the server answers 404/];
    words.push(words[2]);
    words.forEach((expected, i) => {
      if (!expected.test(found[i])) throw new Error(`expected ${expected}, found ${found[i]}`);
    });
  } finally {
    await tab.close();
    server.close();
    other.close();
  }
});

const bundled = () => ({ 'index.html': page('/main.js'), 'main.js': program(), 'package.json': '{ "type": "module" }' });

test('Vite, while developing', async () => {
  const at = app('vite', { ...bundled(), [`public${WEIGHTS}`]: memory.get(WEIGHTS) });
  // It serves what lies within the project.
  cpSync(packed, join(at, 'node_modules/ocelli'), { recursive: true });
  const server = await vite.createServer({
    root: at, configFile: false, logLevel: 'error', cacheDir: join(at, '.cache'),
    server: { port: 0, host: '127.0.0.1', hmr: false, watch: null },
  });
  try {
    await server.listen();
    await first(`http://127.0.0.1:${server.httpServer.address().port}/`);
  } finally {
    await server.close();
  }
});

test('Vite, built', async () => {
  const at = app('vite-built', bundled());
  await vite.build({ root: at, configFile: false, logLevel: 'error', base: './' });
  await firstIn(join(at, 'dist'));
});

test('Vite, built for another host', async () => {
  const at = app('vite-far', { ...bundled(), 'main.js': program('ocelli', "import workerUrl from 'ocelli/worker?worker&url';", 'workerUrl') });
  const { server, url } = await serve(join(at, 'dist'), new Map(), { 'access-control-allow-origin': '*' });
  try {
    await vite.build({ root: at, configFile: false, logLevel: 'error', base: `${url}/`, worker: { format: 'es' } });
    const html = readFileSync(join(at, 'dist/index.html'), 'utf8');
    await firstIn(app('vite-near', { 'index.html': html }));
  } finally {
    server.close();
  }
});

test('webpack', async () => {
  const at = app('webpack', { ...bundled(), 'dist/index.html': page('./main.js') });
  await new Promise((done, fail) => {
    const compiler = webpack({ context: at, mode: 'production', entry: './main.js', output: { path: join(at, 'dist'), publicPath: 'auto' }, performance: false });
    compiler.run((error, stats) => {
      const wrong = error ?? (stats.hasErrors() || stats.hasWarnings() ? new Error(stats.toString({ all: false, errors: true, warnings: true })) : undefined);
      compiler.close(() => (wrong ? fail(wrong) : done()));
    });
  });
  await firstIn(join(at, 'dist'));
});

test('esbuild', async () => {
  const wasm = "import wasmUrl from 'ocelli/look.wasm';\nimport trainWasmUrl from 'ocelli/train.wasm';";
  const at = app('esbuild', { 'main.js': program('ocelli', wasm, "workerUrl: './worker.js', wasmUrl, trainWasmUrl"), 'dist/index.html': page('./main.js') });
  await esbuild.build({
    absWorkingDir: at, entryPoints: { main: './main.js', worker: 'ocelli/worker' }, bundle: true, minify: true, format: 'esm', outdir: 'dist',
    loader: { '.wasm': 'file' }, logLevel: 'error',
  });
  await firstIn(join(at, 'dist'));
});

test('the React example fits the package', async () => {
  const at = join(folder, 'react');
  cpSync(join(root, 'examples/web/react'), at, { recursive: true });
  const { warnings } = await esbuild.build({
    absWorkingDir: at, entryPoints: ['src/main.jsx'], bundle: true, format: 'esm', jsx: 'automatic', write: false, external: ['react', 'react/*', 'react-dom/*'], logLevel: 'silent',
  });
  same('warnings', warnings.map((w) => w.text), []);
});

const began = Date.now();
let ran;
try {
  install();
  browser = await launch();
  ran = await runEach(tests, process.argv.slice(2));
} finally {
  await browser?.close();
  rmSync(folder, { recursive: true });
}
finish('ways to use the package', ran, began);
