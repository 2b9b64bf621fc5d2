// The page's panels that learn from a few pictures: teaching by example, linear classifiers, search. Part of page.mjs.
import { readFileSync } from 'node:fs';
import { formulaVit, writeSafetensors } from './fixtures.mjs';

/** Runs the checks on an open page with the page's own network. */
export async function learn({ check, page, text, ready, assert, shot, choose }) {
  /** Pictures of two kinds, a disc or stripes, no two alike. */
  const picture = async (kind, i) => Buffer.from(await page.evaluate(async ({ kind, i }) => {
    const canvas = new OffscreenCanvas(160, 120);
    const c = canvas.getContext('2d');
    if (kind === 'disc') {
      c.fillStyle = '#264'; c.fillRect(0, 0, 160, 120);
      c.fillStyle = '#fc4'; c.beginPath(); c.arc(70 + 4 * i, 50 + 3 * i, 26 + i, 0, 7); c.fill();
    } else {
      c.fillStyle = '#eee'; c.fillRect(0, 0, 160, 120);
      c.fillStyle = '#213'; for (let x = i; x < 160; x += 16) c.fillRect(x, 0, 8, 120);
    }
    const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: 'image/png' })).arrayBuffer());
    let s = ''; for (const b of bytes) s += String.fromCharCode(b); return btoa(s);
  }, { kind, i }), 'base64');
  const files = (kind, ...which) => Promise.all(which.map(async (i) => ({ name: `${kind}-${i}.png`, mimeType: 'image/png', buffer: await picture(kind, i) })));
  const says = (id, words, timeout = 60_000) => page.waitForFunction(
    ({ id, words }) => new RegExp(words).test(document.getElementById(id).textContent), { id, words: words.source }, { timeout });
  const box = (i) => page.locator('#classes .class').nth(i);
  const counts = async (...numbers) => {
    await page.waitForFunction((wanted) => {
      const found = [...document.querySelectorAll('#classes .count')].map((e) => parseInt(e.textContent, 10));
      return JSON.stringify(found) === JSON.stringify(wanted) && document.getElementById('teach-progress').hidden;
    }, numbers, { timeout: 60_000 });
  };
  /** Files dropped on an element, as people do. */
  const drop = (selector, list) => page.evaluate(({ selector, list }) => {
    const dataTransfer = new DataTransfer();
    for (const { name, mimeType, data } of list) {
      dataTransfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, { type: mimeType }));
    }
    document.querySelector(selector).dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }));
  }, { selector, list: list.map(({ name, mimeType, buffer }) => ({ name, mimeType, data: buffer.toString('base64') })) });
  const shown = (list) => page.locator('#file').setInputFiles(list[0]);
  const percents = async (id) => (await page.locator(`#${id} li span:last-child`).allTextContents()).map((t) => parseFloat(t));
  let saved;

  await check('two classes are taught, and a third picture is named', async () => {
    assert(/Add a few pictures/.test(await text('teach-out')), await text('teach-out'));
    await box(0).locator('input[type=file]').setInputFiles(await files('disc', 0, 1, 2));
    await says('teach-out', /another class/);
    await drop('#classes .class:nth-child(2)', await files('stripes', 0, 1, 2));
    await counts(3, 3);
    for (const [kind, name] of [['disc', 'A'], ['stripes', 'B']]) {
      await shown(await files(kind, 4));
      await says('teach-out', new RegExp(`What is shown looks like ${name}\\.`));
      const shares = await percents('teach-votes');
      assert(shares.length === 2 && Math.abs(shares[0] + shares[1] - 100) < 0.11, String(shares));
      assert((await page.locator('#teach-votes .best span').first().textContent()).startsWith(`${name} (`), 'the longest bar is marked');
    }
    await shot('teach');
  });

  await check('classes have names of their own, and files that are no pictures are left out', async () => {
    await box(1).locator('input[type=text]').fill('stripes');
    await page.keyboard.press('Enter');
    await says('teach-out', /looks like stripes/);
    await box(0).locator('input[type=text]').fill('stripes');
    await page.keyboard.press('Tab');
    await ready(/there is a class called stripes already/);
    assert((await box(0).locator('input[type=text]').inputValue()) === 'A', 'the name is as before');
    await box(0).locator('input[type=file]').setInputFiles([{ name: 'notes.txt', mimeType: 'text/plain', buffer: Buffer.from('no picture') }, ...(await files('disc', 3))]);
    await ready(/left out.*notes\.txt/);
    await counts(4, 3);
    // By keyboard: an example goes, and the next has the focus.
    await box(0).locator('.thumbs button').first().focus();
    await page.keyboard.press('Enter');
    await counts(3, 3);
    assert(await page.evaluate(() => document.activeElement.getAttribute('aria-label')) === 'Take example 1 of A away', 'the focus is lost');
  });

  await check('examples are saved and loaded, and refused beside another network', async () => {
    const [download] = await Promise.all([page.waitForEvent('download'), page.locator('#teach-save').click()]);
    saved = JSON.parse(readFileSync(await download.path(), 'utf8'));
    assert(download.suggestedFilename() === 'ocelli-examples.json' && /^[0-9a-f]{8}$/.test(saved.source.fingerprint), JSON.stringify(saved.source));
    assert(saved.classes.map((c) => `${c.name} ${c.examples.length} ${c.examples[0].length}`).join() === 'A 3 96,stripes 3 96', JSON.stringify(saved.classes).slice(0, 200));
    const load = (file) => choose('#teach-load', 'examples.json', 'application/json', Buffer.from(typeof file === 'string' ? file : JSON.stringify(file)));
    await load('{"format": "ocelli-exam');
    await ready(/no JSON/);
    await load({ ...saved, source: { ...saved.source, fingerprint: '00000000', arch: 'vit-s/16' } });
    await ready(/of another network: vit-s\/16/);
    await counts(3, 3);
    for (const i of [1, 0]) await box(i).locator('.remove').click();
    await load(saved);
    await counts(3, 3);
    await shown(await files('disc', 5));
    await says('teach-out', /looks like A\./);
    await shown(await files('stripes', 5));
    await says('teach-out', /looks like stripes\./);
  });

  await check('the camera teaches a class, and is named by it', async () => {
    await page.locator('#webcam').click();
    await ready(/Live: [\d.]+ /);
    await page.locator('#add-class').click();
    assert(await page.evaluate(() => document.activeElement.value) === 'B', 'the new class’s name has the focus');
    await page.keyboard.type('seen');
    await page.keyboard.press('Enter');
    for (const n of [1, 2, 3]) {
      await box(2).locator('.add-shown').click();
      await counts(3, 3, n);
    }
    await says('teach-out', /What is shown looks like seen\./);
    await shot('teach-camera');
    await page.locator('#webcam').click();
    await shown(await files('stripes', 6));
    await says('teach-out', /looks like stripes\./);
    await ready();
  });

  const head = (rows, metadata) => writeSafetensors([
    ['linear.weight', [rows.length, rows[0].length], Float32Array.from(rows.flat())], ['linear.bias', [rows.length], new Float32Array(rows.length)],
  ], { features: 'cls', features_are: 'divided by their length first', classes: '["disc","stripes","Tür"]', ...metadata });

  await check('a linear classifier names the picture', async () => {
    // The mean examples as a classifier: more alike, more likely.
    const mean = ({ examples }) => examples[0].map((_, i) => (30 * examples.reduce((n, e) => n + e[i], 0)) / examples.length);
    const rows = [...saved.classes.map(mean), new Array(96).fill(0)];
    const { fingerprint, resize, crop } = saved.source;
    const metadata = { backbone_crc32: fingerprint, resize_px: String(resize), crop_px: String(crop), accuracy: 'linear top-1 97.00 % of 100 held-out images' };
    await choose('#head', 'head.safetensors', 'application/octet-stream', head(rows, metadata));
    for (const kind of ['disc', 'stripes']) {
      await shown(await files(kind, 7));
      await says('classify-out', new RegExp(`What is shown looks like ${kind}\\. head.safetensors: 3 classes on cls, linear top-1 97.00`));
      const shares = await percents('classify-top');
      assert(shares.length === 3 && shares[0] >= shares[1] && shares[1] >= shares[2] && Math.abs(shares.reduce((a, b) => a + b) - 100) < 0.2, String(shares));
    }
    assert(!/other weights/.test(await text('classify-out')), 'a warning without a reason');
    await shot('classify');
    // What is wrong is said: another network's, another width, a damaged file.
    await drop('#classify', [{ name: 'other.safetensors', mimeType: '', buffer: head(rows, { backbone_crc32: '00000000' }) }]);
    await says('classify-out', /other\.safetensors.*trained on other weights/);
    await choose('#head', 'wide.safetensors', 'application/octet-stream', head([new Array(384).fill(0)], { classes: '["x"]' }));
    await says('classify-out', /wide\.safetensors cannot be used.*takes 384 numbers/);
    assert(await page.locator('#classify-top').isHidden(), 'bars of nothing');
    await choose('#head', 'resnet.safetensors', 'application/octet-stream', head(rows, { features: 'mean' }));
    await says('classify-out', /ResNet/);
    await choose('#head', 'cut.safetensors', 'application/octet-stream', head(rows, metadata).subarray(0, 900));
    await ready(/cut short/);
    // Class tokens of several blocks, and class token with mean patch.
    for (const [features, times] of [['cls-4', 4], ['cls+mean', 2]]) {
      await choose('#head', 'more.safetensors', 'application/octet-stream', head([0, 1, 2].map((c) => new Array(96 * times).fill(c / 100)), { features }));
      await says('classify-out', new RegExp(`more\\.safetensors: 3 classes on ${features.replace('+', '\\+')}\\.`));
    }
  });

  await check('search orders dropped pictures by similarity', async () => {
    const before = await page.evaluate(() => document.getElementById('stage').toDataURL());
    const [twin] = await files('disc', 0);
    await drop('#search', [...(await files('stripes', 0, 3, 6)), ...(await files('disc', 0, 2, 4)), { ...twin, name: 'twin.png' }]);
    await says('search-out', /^7 pictures\. Choose one/);
    assert((await page.evaluate(() => document.getElementById('stage').toDataURL())) === before, 'the picture above is another');
    const order = () => page.locator('#found button').evaluateAll((list) => list.map((b) => ({ name: b.title, words: b.querySelector('span').textContent })));
    // By keyboard, and whoever pressed stays at the picture, which is the first now.
    await page.locator('#found button[title="disc-0.png"]').focus();
    await page.keyboard.press('Enter');
    await says('search-out', /^Most like disc-0\.png: twin\.png \(cosine 1\.000\)/);
    assert(await page.evaluate(() => document.activeElement.title) === 'disc-0.png', 'the focus is lost');
    const found = await order();
    assert(/^disc-0.png,twin.png,disc-[24].png,disc-[24].png,stripes/.test(found.map((f) => f.name).join()) && found.length === 7, JSON.stringify(found));
    assert(found[0].words === 'Asked' && (await page.locator('#found button').first().getAttribute('aria-pressed')) === 'true', JSON.stringify(found[0]));
    const cosines = found.slice(1).map((f) => Number(f.words));
    assert(cosines.every((v, i) => v <= 1 && v >= -1 && (i === 0 || v <= cosines[i - 1])), String(cosines));
    await shot('search');
    // A single one dropped after that is asked about, not added; so is what is shown above.
    const [other] = await files('stripes', 5);
    await drop('#search', [{ ...other, name: 'other.png' }]);
    await says('search-out', /^Most like other\.png: stripes-[036]\.png/);
    assert((await order()).length === 8, 'the one asked about and seven');
    await page.locator('#search-shown').click();
    await says('search-out', /^Most like the picture above: /);
    await choose('#search-other', 'notes.txt', 'text/plain', Buffer.from('no picture'));
    await ready(/left out.*notes\.txt/);
    await choose('#search-files', 'one.png', 'image/png', await picture('disc', 6));
    await page.waitForFunction(() => [...document.querySelectorAll('#found button')].some((b) => b.title === 'one.png'));
    await page.locator('#found button').nth(2).click();
    await says('search-out', /^Most like /);
  });

  await check('with another network pictures are looked at anew, and examples of a file wait for theirs', async () => {
    const before = await page.locator('#found button').evaluateAll((list) => list.map((b) => b.textContent).join());
    await page.locator('#model').selectOption('file');
    await choose('#weights', 'other.safetensors', 'application/octet-stream', formulaVit({ salt: 'learn', embed_dim: 64, depth: 2, patch: 8, img_size_of_pos_embed: 48, mlp_ratio: 4 }));
    await page.waitForFunction(() => /vit-64x2x1\/8/.test(document.getElementById('facts').textContent), undefined, { timeout: 30_000 });
    await says('teach-out', /6 examples are of another network/);
    await says('classify-out', /cannot be used with this network/);
    await page.waitForFunction((b) => document.getElementById('search-progress').hidden && [...document.querySelectorAll('#found button')].map((e) => e.textContent).join() !== b, before, { timeout: 60_000 });
    assert((await page.locator('#found button').count()) === 8, `${await page.locator('#found button').count()} pictures`);
    await page.locator('#model').selectOption('scenes');
    await page.waitForFunction(() => /vit-96x4x3\/8/.test(document.getElementById('facts').textContent), undefined, { timeout: 30_000 });
    await says('teach-out', /looks like stripes/);
    await page.locator('#search-clear').click();
    await says('search-out', /Add some pictures/);
    await ready();
  });
}
