// Segmentation heads in a browser: the package (part of run.mjs) and the page's panel (part of page.mjs).
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formulaVit, readSafetensors, writeSafetensors } from './fixtures.mjs';
import { convHead, linearHead } from './segmenting.mjs';

const CLASSES = ['background', 'disc', 'bar'];
const [DIM, ARCH] = [64, 'vit-64x2x2/8'];
/** Every setting that is not the native program's own. */
const config = (head, scale) => [
  'task = "segmentation"', `arch = "${ARCH}"`, `head = "${head}"`, 'channels = 10', 'auxiliary_channels = 0', '[eval]', `scale_px = [${scale}]`, '',
].join('\n');

/** What `ocelli finetune segmentation` writes: a network of formula weights and a head on it. */
function segmenter(head, { kind = 'linear', scale = [128, 96], network = true, ...said } = {}) {
  const vit = readSafetensors(formulaVit({ salt: 'segment', embed_dim: DIM, depth: 2, patch: 8, img_size_of_pos_embed: 48, mlp_ratio: 4 }));
  const backbone = Object.entries(vit).map(([name, { shape, values }]) => [`backbone.${name}`, shape, values]);
  return writeSafetensors([...(network ? backbone : []), ...head], {
    format: 'pt', task: 'segmentation', arch: ARCH, classes: JSON.stringify(CLASSES), palette: '[[0,0,0],[128,0,0],[0,128,0]]',
    config: config(kind, scale), mean: '[0.485,0.456,0.406]', std: '[0.229,0.224,0.225]', resize_px: String(Math.min(...scale)), crop_px: '0', ...said,
  });
}

/** A head that finds one class everywhere. */
const constant = (found) => linearHead(DIM, 3).map(([name, shape, values]) => {
  if (name.endsWith('conv_seg.weight')) return [name, shape, new Float32Array(values.length)];
  return name.endsWith('conv_seg.bias') ? [name, shape, Float32Array.from([0, 1, 2], (k) => (k === found ? 1 : 0))] : [name, shape, values];
});

/** Tests of the package, as run.mjs runs them; `native` runs the native program in a folder, where there is one. */
export function segmentInBrowser({ test, inPage, memory, kinds, native }) {
  memory.set('/memory/linear.safetensors', segmenter(linearHead(DIM, 3)));
  memory.set('/memory/conv.safetensors', segmenter(convHead(DIM, 10, 3), { kind: 'conv' }));
  for (const kind of kinds) {
    test(`${kind}: a segmentation head says in the worker what it says in the page`, async () => {
      const found = await inPage(async (kind) => {
        const engine = await window.engine(kind);
        const out = { apart: [] };
        for (const name of ['linear', 'conv']) {
          const bytes = await (await fetch(`/memory/${name}.safetensors`)).arrayBuffer();
          const [model, head] = [await engine.load(bytes), window.ocelli.SegmentationHead.read(bytes)];
          out.arch = model.info.arch;
          const picture = await engine.scene(3, 96);
          const view = await model.look(picture, { size: 96 });
          const { features, rows, columns } = await view.patches();
          const of = async (what, found, size) => {
            const expected = head.segment(features, rows, columns, size);
            const others = expected.reduce((n, label, i) => n + (label === found.labels[i] ? 0 : 1), 0);
            const fits = found.width === size.width && found.height === size.height && found.labels.length === expected.length;
            out.apart.push({ what: `${name}, ${what}`, fits, share: others / expected.length, classes: head.present(found.labels).length });
          };
          await of('as seen', await view.segment(head), { width: 96, height: 96 });
          await of('larger', await view.segment(head, { width: 131, height: 77 }), { width: 131, height: 77 });
          // Of whole patches already, so nothing is scaled, and nothing padded.
          await of('by the network', await model.segment(picture, head, { size: 96 }), { width: 96, height: 96 });
          const odd = await model.segment(await engine.scene(4, 75), head);
          out.odd = [odd.width, odd.height, odd.labels.length, odd.labels.every((label) => label < 3)];
          const code = (run) => run().then(() => 'none', (e) => e.code);
          const other = await engine.load('./models/scenes.safetensors');
          out.refused = [
            await code(() => other.segment(picture, head)), await code(() => model.segment(new Blob(['no picture']), head)),
            await code(() => model.segment(picture, head, { size: 0.5 })), await code(() => view.segment(head, { width: 0, height: 9 })),
          ];
          view.dispose();
          other.dispose();
          model.dispose();
        }
        return out;
      }, kind);
      if (found.arch !== ARCH) throw new Error(`the file’s network is ${found.arch}`);
      for (const { what, fits, share, classes } of found.apart) {
        // A view is resized by way of the network's pixels. Another device rounds differently, and two classes may be as likely.
        if (!(fits && share <= (kind === 'cpu' && !/larger/.test(what) ? 0 : 0.01) && classes > 1)) throw new Error(`${what}: ${JSON.stringify({ fits, share, classes })}`);
      }
      if (JSON.stringify(found.odd) !== '[75,75,5625,true]') throw new Error(String(found.odd));
      if (found.refused.join() !== 'argument,image,argument,argument') throw new Error(found.refused.join());
    });
  }

  if (native) {
    for (const kind of ['linear', 'conv']) {
      test(`a segmenter of the native program says the same in the tab (${kind})`, async () => {
        const folder = mkdtempSync(join(tmpdir(), 'ocelli-'));
        try {
          writeFileSync(join(folder, 'segmenter.safetensors'), memory.get(`/memory/${kind}.safetensors`));
          const said = JSON.parse(native(folder, 'segment', 'scenes:3', '--weights', 'segmenter.safetensors', '--out', 'found', '--json', '--device', 'cpu'));
          const maps = said.images.map(({ index, width, height }, i) => {
            memory.set(`/memory/index-${i}.png`, readFileSync(join(folder, index)));
            return { width, height };
          });
          const apart = await inPage(async ({ kind, maps }) => {
            const engine = await window.engine('cpu');
            const bytes = await (await fetch(`/memory/${kind}.safetensors`)).arrayBuffer();
            const [model, head] = [await engine.load(bytes), window.ocelli.SegmentationHead.read(bytes)];
            const shares = [];
            for (const [i, { width, height }] of maps.entries()) {
              const { labels } = await model.segment(await engine.scene(i, width), head);
              const context = new OffscreenCanvas(width, height).getContext('2d');
              context.drawImage(await createImageBitmap(await (await fetch(`/memory/index-${i}.png`)).blob(), { colorSpaceConversion: 'none' }), 0, 0);
              const { data } = context.getImageData(0, 0, width, height);
              const is = (at, [r, g, b]) => data[4 * at] === r && data[4 * at + 1] === g && data[4 * at + 2] === b;
              shares.push([...labels].filter((label, at) => !is(at, head.palette[label])).length / (width * height));
            }
            model.dispose();
            return shares;
          }, { kind, maps });
          if (!(apart.length === 3 && apart.every((share) => share <= 0.005))) throw new Error(`shares of pixels of another class: ${apart}`);
        } finally {
          rmSync(folder, { recursive: true });
        }
      });
    }
  }
}

/** Checks of the panel, on an open page with the page's own network. */
export async function segmentOnPage({ check, page, text, ready, assert, shot, choose }) {
  const load = (name, bytes) => choose('#segmenter', name, 'application/octet-stream', bytes);
  const says = (words, timeout = 60_000) => page.waitForFunction(
    (words) => new RegExp(words).test(document.getElementById('segment-out').textContent), words.source, { timeout });
  const legend = () => page.locator('#segment-legend li').evaluateAll((list) => list.map((row) => ({
    name: row.firstElementChild.textContent, share: parseFloat(row.lastElementChild.textContent), colour: row.style.getPropertyValue('--swatch'),
  })));
  /** A pixel of the coloured picture and of the same place in it before. */
  const pixels = () => page.evaluate(() => {
    const canvas = document.getElementById('segment-map');
    return { size: [canvas.width, canvas.height], hidden: canvas.hidden, data: [...canvas.getContext('2d').getImageData(canvas.width >> 1, canvas.height >> 1, 1, 1).data] };
  });

  await check('a segmenter colours the picture by classes', async () => {
    assert((await text('segment-out')) === 'None is loaded.' && (await page.locator('#segment-map').isHidden()), 'something is shown before');
    await load('disc.safetensors', segmenter(constant(1), { accuracy: 'mIoU 71.00 % of 8 held-out pictures' }));
    await says(/disc\.safetensors: 3 classes, linear, mIoU 71\.00 % of 8 held-out pictures\./);
    assert(/vit-64x2x2\/8/.test(await text('facts')), 'its network, with the heads that the file names, is not the page’s');
    const rows = await legend();
    assert(JSON.stringify(rows) === '[{"name":"disc","share":100,"colour":"rgb(255 0 0)"}]', JSON.stringify(rows));
    const { size, data } = await pixels();
    assert(Math.max(...size) === 448 && data[0] >= 127 && data[1] <= 128 && data[2] <= 128, JSON.stringify({ size, data }));
    // A background stays as it is, and is in the legend.
    await load('nothing.safetensors', segmenter(constant(0)));
    await says(/nothing\.safetensors/);
    assert((await legend()).map((row) => row.name).join() === 'background', JSON.stringify(await legend()));
    for (const [kind, words, head] of [['linear', /linear\.safetensors: 3 classes, linear\./, linearHead(DIM, 3)], ['conv', /conv\.safetensors: 3 classes, a convolution\./, convHead(DIM, 10, 3)]]) {
      await load(`${kind}.safetensors`, segmenter(head, { kind }));
      await says(words);
      const shares = (await legend()).map((row) => row.share);
      assert(shares.length > 1 && Math.abs(shares.reduce((a, b) => a + b) - 100) < 0.2 && shares.every((s, i) => i === 0 || s <= shares[i - 1]), String(shares));
    }
    assert(/Segmented\d+ ms, \d+ × \d+ patches/.test(await text('facts')), await text('facts'));
    await shot('segment');
  });

  await check('other pictures and the camera are coloured, too', async () => {
    const before = await page.evaluate(() => document.getElementById('segment-map').toDataURL());
    const another = () => page.waitForFunction((b) => document.getElementById('segment-map').toDataURL() !== b, before, { timeout: 30_000 });
    await page.locator('#scenes button').nth(5).click();
    await another();
    await page.locator('#webcam').click();
    await ready(/Live: [\d.]+ /);
    await page.waitForFunction(() => {
      const { width, height, hidden } = document.getElementById('segment-map');
      return !hidden && width === 448 && height === 336;
    }, undefined, { timeout: 30_000 });
    await shot('segment-camera');
    await page.locator('#webcam').click();
    await page.locator('#scenes button').nth(2).click();
    await page.waitForFunction(() => document.getElementById('segment-map').height === 448, undefined, { timeout: 30_000 });
    await ready();
  });

  await check('segmenters that cannot be used are refused in words', async () => {
    await load('notes.safetensors', Buffer.from('no weights at all'));
    await ready(/expected a whole safetensors file/);
    await load('fcn.safetensors', segmenter([...convHead(DIM, 10, 3), ['decode_head.convs.1.conv.weight', [1], new Float32Array(1)]]));
    await ready(/single 3×3 convolution.*`ocelli segment` runs it/);
    assert(/conv\.safetensors/.test(await text('segment-out')) && !(await page.locator('#segment-map').isHidden()), 'the one before is gone');
    // A head alone is one for the network that is loaded; of another width it is refused, dropped as well as chosen.
    await page.evaluate((data) => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], 'wide.safetensors'));
      document.getElementById('segment').dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }));
    }, segmenter(linearHead(96, 3), { network: false }).toString('base64'));
    await says(/wide\.safetensors cannot be used: the head takes 96 numbers of a patch; vit-64x2x2\/8 gives 64/);
    assert((await page.locator('#segment-map').isHidden()) && (await page.locator('#segment-legend').isHidden()), 'a map of nothing');
    await load('alone.safetensors', segmenter(constant(2), { network: false }));
    await says(/alone\.safetensors: 3 classes/);
    assert((await legend())[0].name === 'bar', JSON.stringify(await legend()));
    // The network is another; the list of networks tells that it was a file's.
    assert((await page.locator('#model').inputValue()) === 'file', 'the list of networks says something else');
    await page.locator('#model').selectOption('scenes');
    await says(/alone\.safetensors cannot be used: .*(another network|gives 96)/);
    await page.waitForFunction(() => /vit-96x4x3\/8/.test(document.getElementById('facts').textContent), undefined, { timeout: 30_000 });
    await ready();
  });
}
