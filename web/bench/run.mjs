// The package beside onnxruntime-web, in one browser, taking turns: the same network, the same input, the results compared.
//   node web/bench/run.mjs MODELS ORT [cpu|webgpu] [--rounds 2] [--warm 3] [--sides ocelli,onnxruntime] [--train]
// A third side is `burn`: the package with burn's own kernels in place of its own. `--train` takes steps of DINO in place of
// looking at a picture (ocelli and burn): one picture, two views of 224 px, no local ones.
// MODELS is what export.py writes, ORT the folder `dist` of the package onnxruntime-web. Needs `cargo xtask web` before.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { launch, serve } from '../test/browser.mjs';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '2' }, warm: { type: 'string', default: '3' }, sides: { type: 'string', default: 'ocelli,onnxruntime' }, train: { type: 'boolean', default: false } },
});
const [models, ort, device = 'cpu'] = positionals;
if (!models || !ort || !['cpu', 'webgpu'].includes(device)) {
  console.error('expected: node web/bench/run.mjs MODELS ORT [cpu|webgpu]; see the first lines of this file');
  process.exit(2);
}
const web = dirname(dirname(fileURLToPath(import.meta.url)));
const memory = new Map([
  ['/bench.html', Buffer.from('<!doctype html><meta charset="utf-8"><title>bench</title>')],
  ['/vit.onnx', readFileSync(join(models, 'vit.onnx'))],
  ['/vit.safetensors', readFileSync(join(models, 'vit.safetensors'))],
]);
const { server, url } = await serve(join(web, 'ocelli'), memory);
const { server: ortServer, url: ortUrl } = await serve(ort, new Map(), { 'access-control-allow-origin': '*' });
const browser = await launch();

/** Counts what is asked of WebGPU, wherever it runs. */
const counting = `
  self.counters ??= { dispatches: 0, submits: 0 };
  const count = (kind, name, key) => {
    const original = kind?.prototype[name];
    if (original) kind.prototype[name] = function (...args) { self.counters[key] += 1; return original.apply(this, args); };
  };
  count(self.GPUComputePassEncoder, 'dispatchWorkgroups', 'dispatches');
  count(self.GPUQueue, 'submit', 'submits');
`;

/** Runs in the page. Each side gives back a function from the input to the class token's feature. */
const own = async ({ device, name, train }) => {
  const { Ocelli } = await import('/dist/index.js');
  const ocelli = await Ocelli.open({ device, kernels: name === 'burn' ? 'stock' : 'auto' });
  if (train) {
    const head = { out_dim: 4096, hidden_dim: 512, bottleneck_dim: 128 };
    const session = await ocelli.session({
      arch: 'vit-s/16', batch_size: 1, views: { global_size_px: 224, local_crops: 0 }, dino: { head, freeze_last_layer_epochs: 0 },
    });
    await session.addScenes(1, 224);
    window.infer = async () => [(await session.step()).loss];
    return;
  }
  const model = await ocelli.load('/vit.safetensors');
  window.infer = async (input) => {
    const view = await model.lookAt(input, 1, 224, 224);
    const cls = await view.embed();
    view.dispose();
    return cls;
  };
};
const sides = {
  ocelli: own,
  burn: own,
  onnxruntime: async ({ device, ortUrl }) => {
    const ort = await import(`${ortUrl}/${device === 'webgpu' ? 'ort.webgpu.min.mjs' : 'ort.wasm.min.mjs'}`);
    ort.env.wasm.wasmPaths = `${ortUrl}/`;
    ort.env.wasm.numThreads = 1;
    ort.env.logLevel = 'error';
    const bytes = new Uint8Array(await (await fetch('/vit.onnx')).arrayBuffer());
    const session = await ort.InferenceSession.create(bytes, { executionProviders: [device === 'cpu' ? 'wasm' : device] });
    window.infer = async (input) => (await session.run({ pixels: new ort.Tensor('float32', input, [1, 3, 224, 224]) })).cls.data;
  },
};

async function measure(name) {
  const page = await browser.newPage();
  await page.addInitScript(counting);
  // The package computes in a worker, which counts for itself.
  await page.route(/worker\.js$/, async (route) => {
    const answer = await route.fetch();
    await route.fulfill({ response: answer, body: counting + (await answer.text()) });
  });
  await page.goto(`${url}/bench.html`);
  const counters = async () => (name === 'onnxruntime' ? page : page.workers().at(-1)).evaluate(() => ({ ...self.counters }));
  const began = Date.now();
  await page.evaluate(sides[name], { device, ortUrl, name, train: options.train });
  const run = () => page.evaluate(async () => {
    // The same numbers for both, neither random nor flat.
    window.input ??= Float32Array.from({ length: 3 * 224 * 224 }, (_, i) => Math.sin(i * 0.7) + Math.cos(i * 0.013));
    const began = performance.now();
    const cls = await window.infer(window.input.slice());
    return { ms: performance.now() - began, cls: Array.from(cls) };
  });
  const { cls } = await run();
  const first = Date.now() - began;
  const before = await counters();
  const times = [];
  for (let i = 0; i < Number(options.warm); i++) times.push((await run()).ms);
  const after = await counters();
  await page.close();
  const each = (key) => (after[key] - before[key]) / times.length;
  return { cls, first, times, dispatches: each('dispatches'), submits: each('submits') };
}

const names = options.sides.split(',');
if (names.length < 2 || !names.every((name) => sides[name]) || (options.train && names.includes('onnxruntime'))) {
  console.error(`--sides: expected two or more of ${Object.keys(sides).join(', ')} (with --train not the last), found ${options.sides}`);
  process.exit(2);
}
const found = Object.fromEntries(names.map((name) => [name, []]));
for (let round = 0; round < Number(options.rounds); round++) {
  for (const name of Object.keys(found)) {
    const result = await measure(name);
    found[name].push(result);
    console.error(`${name}: first ${result.first} ms, then ${result.times.map((t) => t.toFixed(0)).join(' ')} ms`);
  }
}
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const rows = Object.entries(found).map(([name, runs]) => ({
  name, first: median(runs.map((r) => r.first)), warm: median(runs.flatMap((r) => r.times)), ...runs[0],
}));
console.log(`ViT-S/16 at 224 px, ${options.train ? 'a step of DINO, ' : ''}f32, ${device === 'cpu' ? 'wasm, one thread' : 'WebGPU on SwiftShader'}\n`);
console.log('| | from nothing to the first result | warm, median | dispatches | submits |\n|---|---|---|---|---|');
for (const r of rows) console.log(`| ${r.name} | ${(r.first / 1000).toFixed(1)} s | ${r.warm.toFixed(0)} ms | ${r.dispatches} | ${r.submits} |`);
const [ours, ...others] = rows;
for (const r of others) console.log(`| ${ours.name} to ${r.name} | ${(ours.first / r.first).toFixed(3)} | ${(ours.warm / r.warm).toFixed(3)} | | |`);
const apart = Math.max(...others.flatMap((r) => ours.cls.map((v, i) => Math.abs(v - r.cls[i]))));
console.log(`\nLargest difference of the ${options.train ? 'losses' : 'features'}: ${apart.toExponential(1)}`);
await browser.close();
server.close();
ortServer.close();
process.exit(apart < 1e-3 ? 0 : 1);
