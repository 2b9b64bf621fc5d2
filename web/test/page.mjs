// The page itself, in a real browser on the CPU path: every control, wrong input, no request elsewhere, both colour schemes.
// OCELLI_SHOTS names a folder for pictures of it.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { WITHOUT_WEBGPU, WITH_CANVAS, launch, serve } from './browser.mjs';
import { finish } from './each.mjs';
import { formulaVit, hostilePth } from './fixtures.mjs';
import { learn } from './learn.mjs';
import { segmentOnPage } from './segment.mjs';
import { TRAINING, pageSizes } from './size.mjs';

const web = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(web, 'dist');
if (!existsSync(join(dist, 'index.html'))) throw new Error(`nothing in ${dist}: run \`cargo xtask web\` first`);
const shots = process.env.OCELLI_SHOTS;
if (shots) mkdirSync(shots, { recursive: true });

const { server, served, url } = await serve(dist);
const browser = await launch();
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, permissions: ['camera'], acceptDownloads: true });
const page = await context.newPage();
const complaints = [];
const elsewhere = [];
page.on('pageerror', (error) => complaints.push(String(error)));
page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
page.on('request', (request) => {
  if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(url)) elsewhere.push(request.url());
});
// The only adapter here is a software one, so the page chooses the CPU by itself; run.mjs computes on WebGPU.

let count = 0;
const failed = [];
const began = Date.now();
async function check(name, run) {
  const start = Date.now();
  count += 1;
  try {
    await run();
    console.log(`ok    page: ${name} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed.push(name);
    console.log(`FAIL  page: ${name}\n      ${error.message}`);
  }
}
const text = (id) => page.locator(`#${id}`).textContent();
const ready = (what = /Ready/) => page.waitForFunction((source) => new RegExp(source, 'i').test(document.getElementById('status').textContent), what.source, { timeout: 30_000 });
const assert = (fine, what) => { if (!fine) throw new Error(what); };
const pixels = (id) => page.evaluate((id) => document.getElementById(id).toDataURL(), id);
const shot = (name) => shots && page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });

const choose = (selector, name, mimeType, buffer) => page.locator(selector).setInputFiles({ name, mimeType, buffer });
/** A picture of given size, made by the browser. */
const painted = async (width, height) => Buffer.from((await page.evaluate(async ({ width, height }) => {
  const canvas = new OffscreenCanvas(width, height);
  const c = canvas.getContext('2d');
  c.fillStyle = '#264'; c.fillRect(0, 0, width, height);
  c.fillStyle = '#fc4'; c.beginPath(); c.arc(width * 0.3, height * 0.4, Math.min(width, height) * 0.2, 0, 7); c.fill();
  const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: 'image/jpeg' })).arrayBuffer());
  let s = ''; for (const b of bytes) s += String.fromCharCode(b); return btoa(s);
}, { width, height })), 'base64');

await check('what it downloads besides weights is small', async () => {
  const { looking, training } = pageSizes();
  const said = [looking, training].map(({ brotli }) => brotli.toLocaleString('en'));
  console.log(`      bytes with brotli: ${said[0]} to look, ${said[1]} more to train`);
  assert(looking.brotli <= 1_800_000, `${looking.brotli} bytes to look`);
  assert(training.brotli > 0 && training.brotli <= 2_400_000, `${training.brotli} bytes to train`);
});

await check('starts with a network, a picture and a map', async () => {
  await page.goto(url);
  await ready();
  assert(/CPU/.test(await text('facts')) && /vit-96x4x3\/8/.test(await text('facts')), await text('facts'));
  assert((await page.locator('#heads button').count()) === 4, 'three heads and their mean');
  assert((await page.locator('#scenes button').count()) === 8, 'eight scenes');
  assert(/class token attends most/.test(await text('readout')), await text('readout'));
});
await shot('desktop-light');

await check('pointing at a patch and the arrow keys show what it attends to', async () => {
  const before = await pixels('stage');
  await page.locator('#stage').hover({ position: { x: 100, y: 120 } });
  await page.waitForFunction(() => /The patch in row/.test(document.getElementById('readout').textContent));
  assert((await pixels('stage')) !== before, 'the picture did not change');
  await page.locator('#stage').focus();
  const first = await text('readout');
  await page.keyboard.press('ArrowRight');
  await page.waitForFunction((t) => document.getElementById('readout').textContent !== t, first);
  await page.keyboard.press('Escape');
  await page.waitForFunction(() => /class token/.test(document.getElementById('readout').textContent));
});

await check('block, head, share and overlay change the picture', async () => {
  await page.mouse.move(0, 0);
  const set = (id, value) => page.locator(`#${id}`).fill(String(value));
  for (const change of [() => set('layer', 1), () => page.locator('#heads button').nth(2).click(), () => set('mass', 40), () => set('opacity', 20)]) {
    const before = await pixels('stage');
    await change();
    await page.waitForFunction((b) => document.getElementById('stage').toDataURL() !== b, before, { timeout: 10_000 });
  }
  assert((await page.locator('#heads button[aria-pressed=true]').textContent()) === 'Head 2', 'the chosen head is marked');
  for (const [id, value] of [['layer', 4], ['mass', 100], ['opacity', 70]]) await set(id, value);
});

await check('features as colours', async () => {
  await page.locator('input[value=colours]').check();
  await page.waitForFunction(() => /similar features/.test(document.getElementById('readout').textContent));
  await shot('features');
});

await check('two pictures are matched', async () => {
  await page.locator('input[value=match]').check();
  await choose('#second', 'second.jpg', 'image/jpeg', await painted(300, 200));
  await page.waitForFunction(() => !document.getElementById('other').hidden);
  await page.locator('#stage').hover({ position: { x: 60, y: 60 } });
  await page.waitForFunction(() => /looks most like row/.test(document.getElementById('readout').textContent));
  await shot('matching');
  await page.locator('input[value=attention]').check();
});

await check('photographs with their credits', async () => {
  assert((await page.locator('#photos button').count()) === 5, 'five photographs');
  await page.locator('#photos button').first().click();
  await page.waitForFunction(() => /18 × 28 patches/.test(document.getElementById('facts').textContent));
  await ready();
  assert(/Stefan van der Walt, CC0/.test(await text('credit')), await text('credit'));
  assert(/CC0, dedicated/.test(await (await fetch(`${url}/samples/CREDITS.txt`)).text()), 'no credits');
  await shot('photo');
});

await check('pictures: oblong, and of 24 megapixels', async () => {
  for (const [width, height, patches] of [[500, 200, /11 × 28 patches/], [6000, 4000, /18 × 28 patches/]]) {
    await choose('#file', 'p.jpg', 'image/jpeg', await painted(width, height));
    await page.waitForFunction((s) => new RegExp(s).test(document.getElementById('facts').textContent), patches.source, { timeout: 60_000 });
    await ready();
  }
});

await check('loading a network does not block the page', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ocelli-page-'));
  const large = join(folder, 'large.safetensors');
  writeFileSync(large, formulaVit({ salt: 'page', embed_dim: 384, depth: 8, patch: 16, img_size_of_pos_embed: 224, mlp_ratio: 4 }));
  // Longest task of the page's own thread; what else the machine does makes it longer, never shorter.
  let best = Infinity;
  for (let i = 0; i < 5 && best > 50; i++) {
    await page.evaluate(() => {
      window.longest = 0;
      window.watcher = new PerformanceObserver((list) => { for (const task of list.getEntries()) window.longest = Math.max(window.longest, task.duration); });
      window.watcher.observe({ type: 'longtask' });
    });
    await page.locator('#model').selectOption('file');
    await page.locator('#weights').setInputFiles(large);
    await page.waitForFunction(() => /vit-384x8/.test(document.getElementById('facts').textContent), undefined, { timeout: 60_000 });
    await ready();
    best = Math.min(best, await page.evaluate(() => {
      for (const task of window.watcher.takeRecords()) window.longest = Math.max(window.longest, task.duration);
      window.watcher.disconnect();
      return window.longest;
    }));
    await page.locator('#model').selectOption('scenes');
    await page.waitForFunction(() => /vit-96x4x3\/8/.test(document.getElementById('facts').textContent), undefined, { timeout: 30_000 });
    await ready();
  }
  rmSync(folder, { recursive: true });
  console.log(`      longest task ${best.toFixed(0)} ms`);
  assert(best <= 50, `a task of ${best} ms`);
});

await check('wrong files are refused in words, and the page goes on', async () => {
  const letters = Buffer.from('not what was expected');
  await choose('#file', 'notes.txt', 'text/plain', letters);
  await ready(/notes.txt is no picture/);
  await page.locator('#model').selectOption('file');
  await choose('#weights', 'notes.pth', 'application/octet-stream', letters);
  await ready(/Expected weights/);
  await choose('#weights', 'hostile.pth', 'application/octet-stream', hostilePth('os', 'system'));
  await ready(/os\.system/);
  const whole = readFileSync(join(web, 'public/models/scenes.safetensors'));
  await choose('#weights', 'cut.safetensors', 'application/octet-stream', whole.subarray(0, 200_000));
  await ready(/safetensors/);
  await choose('#weights', 'whole.safetensors', 'application/octet-stream', whole);
  await ready();
});

await check('the webcam runs and stops; most of its time is the network', async () => {
  await page.locator('#webcam').click();
  await ready(/Live: [\d.]+ /);
  // As above: what else the machine does makes single figures worse, never better.
  let [best, words] = [100, ''];
  for (let i = 0; i < 10 && best >= 10; i++) {
    await page.waitForTimeout(500);
    words = await text('facts');
    best = Math.min(best, Number(/Outside the network([\d.]+) %/.exec(words)?.[1] ?? 100));
  }
  console.log(`      ${/Live, a picture.*drawing [\d.]+ m?s\)/.exec(words)?.[0]}`);
  assert(best < 10, `${best} % of a picture's time is outside the network`);
  await shot('webcam');
  await page.locator('#webcam').click();
  await page.locator('#scenes button').nth(3).click();
  await ready();
  assert((await page.locator('#webcam').getAttribute('aria-pressed')) === 'false', 'still on');
});

await check('saves a picture', async () => {
  const [download] = await Promise.all([page.waitForEvent('download'), page.locator('#save').click()]);
  const bytes = readFileSync(await download.path());
  assert(download.suggestedFilename() === 'ocelli-attention.png' && bytes.subarray(1, 4).toString() === 'PNG', 'no PNG');
});

await learn({ check, page, text, ready, assert, shot, choose });
await segmentOnPage({ check, page, text, ready, assert, shot, choose });

await check('everything so far did without the module that trains', () => {
  assert(!served.some((path) => TRAINING.test(path)), 'it was fetched');
  assert(served.some((path) => /ocelli_web_look_bg.*wasm$/.test(path)), served.join(' '));
});

await check('trains, pauses, and looks with what it trained', async () => {
  await page.locator('#train').click();
  await page.waitForFunction(() => Number(/Step (\d+)/.exec(document.getElementById('train-out').textContent)?.[1]) >= 3, undefined, { timeout: 120_000 });
  await page.locator('#train').click();
  await page.waitForFunction(() => document.getElementById('train').textContent === 'Go on', undefined, { timeout: 30_000 });
  assert(served.filter((path) => TRAINING.test(path)).length === 1, 'the module that trains is fetched once');
  await shot('trained');
  const [download] = await Promise.all([page.waitForEvent('download'), page.locator('#download').click()]);
  const bytes = readFileSync(await download.path());
  assert(bytes.subarray(8, 9).toString() === '{', 'no safetensors file');
  await page.locator('#use').click();
  await page.waitForFunction(() => /vit-128x4x2\/8/.test(document.getElementById('facts').textContent), undefined, { timeout: 30_000 });
  await ready();
});

await check('goes on training with the network that is loaded', async () => {
  await page.locator('#train-from').selectOption('loaded');
  assert((await text('train')) === 'Train', 'another beginning is another run');
  await page.locator('#train').click();
  await page.waitForFunction(() => /Step [2-9].*Began with a loaded backbone/.test(document.getElementById('train-out').textContent), undefined, { timeout: 120_000 });
  await page.locator('#train').click();
  await page.waitForFunction(() => document.getElementById('train').textContent === 'Go on', undefined, { timeout: 30_000 });
});

await check('trains with another method', async () => {
  const workers = page.workers().length;
  await page.locator('#train-method').selectOption('moco');
  await page.locator('#train-from').selectOption('new');
  await page.locator('#train').click();
  await page.waitForFunction(() => /Step [2-9].*top-1/i.test(document.getElementById('train-out').textContent), undefined, { timeout: 120_000 });
  await page.locator('#train').click();
  await page.waitForFunction(() => document.getElementById('train').textContent === 'Go on', undefined, { timeout: 30_000 });
  assert(page.workers().length === workers, 'the worker of the run before is still there');
});

for (const [name, width, scheme] of [['desktop-dark', 1280, 'dark'], ['phone-light', 390, 'light'], ['phone-dark', 390, 'dark']]) {
  await check(`fits ${width} px (${scheme})`, async () => {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize({ width, height: 844 });
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert(overflow <= 0, `${overflow} px too wide`);
    await shot(name);
  });
}

await check('nothing was asked for elsewhere, nothing complained', async () => {
  assert(elsewhere.length === 0, elsewhere.join(' '));
  assert(complaints.length === 0, complaints.join('\n      '));
});

await browser.close();

await check('without WebGPU the page says so and works', async () => {
  const other = await launch(WITHOUT_WEBGPU);
  const page = await other.newPage();
  await page.goto(url);
  await page.waitForFunction(() => /Ready/.test(document.getElementById('status').textContent), undefined, { timeout: 30_000 });
  const facts = await page.locator('#facts').textContent();
  assert(/DeviceCPU/.test(facts) && /no WebGPU|found no adapter/.test(facts), facts);
  await page.locator('#device').selectOption('webgpu');
  await page.waitForFunction(() => /WebGPU is not available/.test(document.getElementById('status').textContent));
  await page.locator('#device').selectOption('cpu');
  await page.waitForFunction(() => /Ready/.test(document.getElementById('status').textContent), undefined, { timeout: 30_000 });
  await other.close();
});

await check('the live view on WebGPU reads nothing back', async () => {
  const other = await launch(WITH_CANVAS);
  const context = await other.newContext({ permissions: ['camera'], viewport: { width: 1280, height: 900 } });
  const page = await context.newPage();
  await page.goto(url);
  const says = (words, patience = 120_000) => page.waitForFunction((w) => new RegExp(w).test(document.getElementById('status').textContent), words, { timeout: patience });
  await says('Ready');
  await page.locator('#size').selectOption('96');
  await page.locator('#device').selectOption('webgpu');
  await page.waitForFunction(() => /WebGPU: /.test(document.getElementById('facts').textContent));
  await says('Ready');
  const worker = page.workers().at(-1);
  await worker.evaluate(() => {
    self.reads = 0;
    const map = GPUBuffer.prototype.mapAsync;
    GPUBuffer.prototype.mapAsync = function (...args) {
      self.reads += 1;
      return map.apply(this, args);
    };
  });
  await page.locator('#webcam').click();
  await says('Live: [0-9.]+ ');
  await page.waitForTimeout(2000);
  assert((await page.locator('canvas.overlay').count()) === 1, 'no canvas of the GPU');
  // Something is drawn, and pointing at a patch draws something else.
  const drawn = () => page.evaluate(() => {
    const from = document.querySelector('canvas.overlay');
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [from.width, from.height];
    canvas.getContext('2d').drawImage(from, 0, 0);
    return canvas.toDataURL();
  });
  const blank = await page.evaluate(() => {
    const from = document.querySelector('canvas.overlay');
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [from.width, from.height];
    canvas.getContext('2d');
    return canvas.toDataURL();
  });
  const first = await drawn();
  assert(first !== blank, 'the canvas is empty');
  if (shots) await page.screenshot({ path: join(shots, 'live-webgpu.png') });
  const words = await page.locator('#facts').textContent();
  console.log(`      ${/Live, a picture.*drawing [\d.]+ m?s\)/.exec(words)?.[0]}`);
  const outside = Number(/Outside the network([\d.]+) %/.exec(words)?.[1] ?? 100);
  assert(outside < 10, `${outside} % of a picture's time is outside the network`);
  const reads = await worker.evaluate(() => self.reads);
  assert(reads === 0, `${reads} buffers were read back`);
  await page.locator('#webcam').click();
  await says('Ready');
  assert((await page.locator('canvas.overlay').count()) === 0, 'the canvas is still there');
  await other.close();
});
server.close();
finish('tests of the page', { count, failed }, began);
