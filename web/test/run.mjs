// The module in a real browser: the fixtures of tests/golden on WebGPU and on the CPU, real weights where OCELLI_DATA names them,
// and what must not work. `node test/run.mjs [words of a test's name]`; needs `cargo xtask web` before.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { WITHOUT_WEBGPU, WITH_CANVAS, launch, serve } from './browser.mjs';
import { finish, runEach } from './each.mjs';
import { assertClose, fixture, fixtures, formula, formulaVit, hostilePth, readSafetensors, writeSafetensors } from './fixtures.mjs';
import { loadingInBrowser } from './loading.mjs';
import { segmentInBrowser } from './segment.mjs';
import { segmenting } from './segmenting.mjs';
import { training } from './training.mjs';
import { units } from './unit.mjs';

const web = dirname(dirname(fileURLToPath(import.meta.url)));
const golden = process.env.OCELLI_GOLDEN ?? join(web, '../tests/golden');
const dist = join(web, 'dist');
if (!existsSync(join(dist, 'test.html'))) throw new Error(`nothing in ${dist}: run \`cargo xtask web\` first`);

const memory = new Map();
const { server, url } = await serve(dist, memory);
const browser = await launch();
const context = await browser.newContext();
const page = await context.newPage();
const complaints = [];
page.on('pageerror', (error) => complaints.push(String(error)));
await page.goto(`${url}/test.html`);

// The smallest of the Vision Transformers, and the smaller ones of its pictures for software WebGPU.
const vit = fixtures(golden, 'vit_forward').map((name) => fixture(golden, name))
  .reduce((a, b) => (b.config.num_parameters < a.config.num_parameters ? b : a));
const archOf = ({ arch, embed_dim, depth, heads, patch }) => {
  const name = { vit_tiny: 'vit-ti', vit_small: 'vit-s', vit_base: 'vit-b' }[arch];
  return `${name ?? `vit-${embed_dim}x${depth}x${heads}`}/${patch}`;
};
memory.set('/memory/formula.safetensors', formulaVit(vit.config));

const tests = [];
const test = (name, run) => tests.push({ name, run });
const kinds = ['cpu', 'webgpu'];

/** Runs in the page; typed arrays go there and back as base64, which playwright carries fastest. */
const inPage = (run, argument) => page.evaluate(run, argument);
const f32 = (text) => new Float32Array(Uint8Array.from(Buffer.from(text, 'base64')).buffer);
const text = (values) => Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('base64');

await page.evaluate(() => {
  window.toText = async (values) => {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const url = await new Promise((done) => {
      const reader = new FileReader();
      reader.onload = () => done(reader.result);
      reader.readAsDataURL(new Blob([bytes]));
    });
    return url.slice(url.indexOf(',') + 1);
  };
  window.fromText = async (base64) => new Float32Array(await (await fetch(`data:application/octet-stream;base64,${base64}`)).arrayBuffer());
  window.engines = {};
  window.engine = (kind) => (window.engines[kind] ??= window.ocelli.Ocelli.open(kind));
});

for (const { name, run } of [...units(golden), ...segmenting(golden)]) test(name, run);

const expansions = process.env.OCELLI_EXPANSIONS;
if (!expansions) console.log('skipped: OCELLI_EXPANSIONS names no file of kernels (`cargo xtask browser` writes one)');
else test('webgpu: the browser takes every kernel, those for graphics hardware too', async () => {
  const texts = readFileSync(expansions, 'utf8').split('\0').slice(0, -1);
  if (texts.length < 500) throw new Error(`${texts.length} kernels`);
  const refused = await inPage(async (texts) => {
    const device = await (await navigator.gpu.requestAdapter()).requestDevice();
    const refused = [];
    for (const text of texts) {
      device.pushErrorScope('validation');
      const info = await device.createShaderModule({ code: text }).getCompilationInfo();
      await device.popErrorScope();
      const errors = info.messages.filter((m) => m.type === 'error');
      if (errors.length) refused.push(`${text.slice(0, text.indexOf('\n'))}: ${errors[0].message}`);
    }
    device.destroy();
    return refused;
  }, texts);
  if (refused.length) throw new Error(`${refused.length} of ${texts.length} refused: ${refused.slice(0, 5).join('\n      ')}`);
});

test('webgpu: the kernels for graphics hardware compute the same', async () => {
  const other = await context.newPage();
  // The adapter here is a software one; the worker is made to believe that it is not.
  await other.route(/\/worker-[^/]*\.js$/, async (route) => {
    const answer = await route.fetch();
    const disguise = `for (const [name, value] of Object.entries({ vendor: 'a', architecture: 'b', description: 'c', isFallbackAdapter: false })) {
      Object.defineProperty(GPUAdapterInfo.prototype, name, { get: () => value });
    }`;
    await route.fulfill({ response: answer, body: `${disguise}\n${await answer.text()}` });
  });
  await other.goto(`${url}/test.html`);
  const [cpu, gpu] = await other.evaluate(async () => {
    const seen = [];
    for (const kind of ['cpu', 'webgpu']) {
      const ocelli = await window.ocelli.Ocelli.open(kind);
      if (ocelli.device.software) throw new Error('the disguise does not work');
      const model = await ocelli.load('/models/scenes.safetensors');
      const view = await model.look(await ocelli.scene(2, 96), { size: 96 });
      seen.push([...await view.embed(), ...(await view.attention({ layer: 2, query: 7 })).values]);
      ocelli.dispose();
    }
    return seen;
  });
  await other.close();
  assertClose('hardware kernels', gpu, cpu, { atol: 1e-4 });
});

for (const kind of kinds) {
  test(`${kind}: ${vit.name} matches the reference`, async () => {
    const f = vit;
    const { salt, batch, depth, heads, embed_dim: dim } = f.config;
    const tolerance = f.json.tolerance.fp32_gpu;
    // Software WebGPU takes seconds a picture: all but the largest.
    const cells = (s) => s.width * s.height;
    const largest = Math.max(...f.config.sizes.map(cells));
    for (const size of f.config.sizes.filter((s, _, all) => kind === 'cpu' || all.length === 1 || cells(s) < largest)) {
      const { width, height, key } = size;
      const input = Float32Array.from(formula(salt, f.config.input_name, batch * 3 * height * width));
      const patchRows = Object.keys(f.tensors).filter((n) => n.startsWith(`${key}.attn_row_patch`)).map((n) => Number(n.slice(`${key}.attn_row_patch`.length)));
      const found = await inPage(async ({ kind, input, batch, height, width, depth, patchRows }) => {
        window.model ??= {};
        window.model[kind] ??= await (await window.engine(kind)).load('/memory/formula.safetensors');
        const view = await window.model[kind].lookAt(await window.fromText(input), batch, height, width);
        const rows = {};
        for (const patch of patchRows) rows[patch] = await window.toText(await view.rawAttention(depth - 1, 1 + patch));
        const out = {
          info: window.model[kind].info,
          tokens: await window.toText(await view.tokens()),
          cls: await window.toText(await view.rawAttention(depth - 1, 0)),
          rows,
        };
        view.dispose();
        return out;
      }, { kind, input: text(input), batch, height, width, depth, patchRows });
      if (found.info.arch !== archOf(f.config) || found.info.parameters !== f.config.num_parameters) throw new Error(JSON.stringify(found.info));
      const tokens = f32(found.tokens);
      const perImage = tokens.length / batch;
      const cls = Float32Array.from({ length: batch * dim }, (_, i) => tokens[Math.floor(i / dim) * perImage + (i % dim)]);
      const near = tolerance['cls/patch_tokens/last4_cls/mean_patch'];
      assertClose(`${key}.cls`, cls, f.tensors[`${key}.cls`].values, near);
      const chosen = Array.from(f.tensors[`${key}.patch_index`].values, Number);
      const patches = Float32Array.from({ length: batch * chosen.length * dim }, (_, i) => {
        const image = Math.floor(i / (chosen.length * dim));
        const patch = chosen[Math.floor(i / dim) % chosen.length];
        return tokens[image * perImage + (1 + patch) * dim + (i % dim)];
      });
      assertClose(`${key}.patch_tokens`, patches, f.tensors[`${key}.patch_tokens`].values, near);
      assertClose(`${key}.attn_cls`, f32(found.cls), f.tensors[`${key}.attn_cls`].values, tolerance.attn);
      if (f32(found.cls).length !== batch * heads * (perImage / dim)) throw new Error('attention has another shape');
      for (const patch of patchRows) {
        assertClose(`${key}.attn_row_patch${patch}`, f32(found.rows[patch]), f.tensors[`${key}.attn_row_patch${patch}`].values, tolerance.attn);
      }
    }
  });

  // One of the two is enough on software WebGPU, where each takes most of a minute.
  const training = fixtures(golden, 'dino_train_').filter((n) => !n.includes('crops'));
  for (const name of kind === 'cpu' ? training : training.slice(-1)) {
    test(`${kind}: training steps match the reference (${name})`, async () => {
      const f = fixture(golden, name);
      const crops = fixture(golden, f.config.crops_file).tensors;
      const c = f.config;
      const config = {
        arch: `vit-${c.dim}x${c.depth}x${c.heads}/${c.patch}`, epochs: c.epochs, steps_per_epoch: c.nit, batch_size: c.batch,
        views: { global_size_px: c.img, local_size_px: crops['step0.crop2'].shape.at(-1), local_crops: c.nlocal },
        lr: c.lr, min_lr: c.min_lr, warmup_epochs: c.lr_warmup_epochs, weight_decay: c.wd, weight_decay_end: c.wd_end, clip_grad: c.clip,
        dino: {
          head: { out_dim: c.out_dim, hidden_dim: c.hidden, bottleneck_dim: c.bottleneck, norm_last_layer: c.norm_last_layer },
          warmup_teacher_temp: c.temp0, teacher_temp: c.temp, warmup_teacher_temp_epochs: c.temp_warm,
          teacher_momentum: c.mom, freeze_last_layer_epochs: c.freeze,
        },
      };
      const initial = Object.entries(f.tensors).filter(([n]) => n.startsWith('init.')).map(([n, t]) => [n.slice(5), t])
        .filter(([n]) => !(c.norm_last_layer && n === 'head.last_layer.weight_g'));
      const state = ['student', 'teacher'].flatMap((who) => initial.map(([n, t]) => [`${who}.${n}`, t.shape, t.values]));
      state.push(['dino_loss.center', [1, c.out_dim], new Float32Array(c.out_dim)]);
      memory.set('/memory/state.safetensors', writeSafetensors(state));
      const join = (step, from, to) => {
        const parts = [];
        for (let v = from; v < to; v++) parts.push(crops[`step${step}.crop${v}`].values);
        const out = new Float32Array(parts.reduce((n, p) => n + p.length, 0));
        let at = 0;
        for (const part of parts) { out.set(part, at); at += part.length; }
        return text(out);
      };
      const steps = Array.from({ length: c.steps }, (_, step) => ({ globals: join(step, 0, 2), locals: join(step, 2, 2 + c.nlocal) }));
      const found = await inPage(async ({ kind, config, steps, batch }) => {
        const session = await (await window.engine(kind)).session(config);
        await session.loadState(await (await fetch('/memory/state.safetensors')).arrayBuffer());
        const figures = [];
        for (const { globals, locals } of steps) figures.push(await session.stepOn(await window.fromText(globals), await window.fromText(locals), batch));
        const weights = await window.toText(await session.weights());
        session.dispose();
        return { figures, weights };
      }, { kind, config, steps, batch: c.batch });
      assertClose('loss', found.figures.map((s) => s.loss), f.tensors.loss.values, { atol: 0, ...f.json.tolerance.loss });
      for (const [ours, theirs] of [['lr', 'lr'], ['weight_decay', 'wd'], ['momentum', 'momentum']]) {
        assertClose(theirs, found.figures.map((s) => s[ours]), f.json.expected[theirs].slice(0, c.steps), { atol: 1e-12, rtol: 1e-10 });
      }
      // What is downloaded is a whole backbone, in the names the native program reads.
      const saved = readSafetensors(Buffer.from(found.weights, 'base64'));
      const wanted = initial.map(([n]) => n).filter((n) => n.startsWith('backbone.')).map((n) => n.slice(9)).sort();
      if (Object.keys(saved).sort().join() !== wanted.join()) throw new Error(`saved ${Object.keys(saved)}`);
      // And it is the reference's teacher: entries whose true gradient is zero are rounding noise that Adam blows up (the
      // fixture's note says how far and how many).
      const { atol, rtol } = f.json.tolerance.params;
      const far = 2 * found.figures.reduce((sum, step) => sum + step.lr, 0);
      for (const [name, { values }] of Object.entries(saved)) {
        const expected = f.tensors[`teacher.after${c.steps}.backbone.${name}`].values;
        const isKey = (i) => name.endsWith('attn.qkv.bias') && i >= c.dim && i < 2 * c.dim;
        let odd = 0;
        values.forEach((v, i) => {
          const apart = Math.abs(v - expected[i]);
          if (isKey(i) || apart <= atol + rtol * Math.abs(expected[i])) return;
          if (!(apart <= far)) throw new Error(`${name}[${i}]: expected ${expected[i]}, found ${v}`);
          odd += 1;
        });
        if (odd > 0.001 * values.length) throw new Error(`${name}: ${odd} of ${values.length} values are off`);
      }
    });
  }
}

for (const kind of kinds) {
  test(`${kind}: features of a picture are those of its tokens`, async () => {
    const { embed_dim: dim, patch } = vit.config;
    const side = 4 * patch;
    const found = await inPage(async ({ kind, side, patch }) => {
      const model = await (await window.engine(kind)).load('/memory/formula.safetensors');
      const image = await (await window.engine(kind)).scene(3, side);
      const view = await model.look(image, { size: 0 });
      const whole = { resize: 0, crop: 0 };
      const out = { tokens: await view.tokens(), cls: await model.features(image, whole) };
      out.mean = await model.features(image, { ...whole, kind: 'cls+mean' });
      out.three = await model.features(image, { ...whole, kind: 'cls-3' });
      // The middle is what is cut out; by default it is prepared as the network is evaluated.
      const canvas = new OffscreenCanvas(side, side).getContext('2d');
      canvas.putImageData(image, 0, 0);
      const middle = canvas.getImageData(patch / 2, patch / 2, side - patch, side - patch);
      out.cut = await model.features(image, { resize: 0, crop: side - patch });
      out.middle = await model.features(middle, whole);
      const { resize, crop } = model.info;
      if (kind === 'cpu') {
        out.usual = await model.features(image);
        out.given = await model.features(image, { kind: 'cls', resize, crop });
      }
      view.dispose();
      model.dispose();
      for (const [name, values] of Object.entries(out)) out[name] = await window.toText(values);
      return { ...out, size: [resize, crop] };
    }, { kind, side, patch });
    const [tokens, cls, mean, three, cut, middle] = ['tokens', 'cls', 'mean', 'three', 'cut', 'middle'].map((name) => f32(found[name]));
    const near = vit.json.tolerance.fp32_gpu['cls/patch_tokens/last4_cls/mean_patch'];
    assertClose('cls', cls, tokens.subarray(0, dim), near);
    const cells = tokens.length / dim - 1;
    const pairs = Float64Array.from({ length: 2 * dim }, (_, i) => {
      if (i % 2 === 0) return tokens[i / 2];
      let sum = 0;
      for (let p = 1; p <= cells; p++) sum += tokens[p * dim + (i - 1) / 2];
      return sum / cells;
    });
    assertClose('cls+mean', mean, pairs, near);
    assertClose('cls-3, the last block', three.subarray(2 * dim), cls, near);
    if (three.length !== 3 * dim || three.subarray(0, dim).every((v, i) => Math.abs(v - cls[i]) < 1e-3)) throw new Error('cls-3: the first block is the last one');
    assertClose('the middle', cut, middle, near);
    if (cut.every((v, i) => Math.abs(v - cls[i]) < 1e-3)) throw new Error('the crop changes nothing');
    const at = vit.config.img_size_of_pos_embed;
    if (String(found.size) !== String([Math.round((at * 256) / 224), at])) throw new Error(`evaluated at ${found.size}`);
    if (kind === 'cpu') assertClose('by default', f32(found.usual), f32(found.given), { atol: 0 });
  });
}

test('features that are not there are refused by their code', async () => {
  const codes = await inPage(async () => {
    const engine = await window.engine('cpu');
    const model = await engine.load('/memory/formula.safetensors');
    const image = await engine.scene(0, 48);
    const code = (options, picture = image) => model.features(picture, options).then(() => 'none', (e) => e.code ?? String(e));
    const out = [
      await code({ kind: 'cls-99' }), await code({ kind: 'mean' }), await code({ resize: 5000 }), await code({ resize: 1.5 }), await code({ crop: 3 }),
      await code({ std: [0, 1, 1] }), await code({}, new ImageData(4, 400)), await code({}, new Blob(['no picture'])), await code({ resize: 48, crop: 48 }),
    ];
    model.dispose();
    return [...out, await code({})];
  });
  if (codes.join() !== 'argument,argument,argument,argument,argument,argument,image,image,none,disposed') throw new Error(codes.join());
});

const data = process.env.OCELLI_DATA && join(process.env.OCELLI_DATA, 'vit-tiny-in1k');
if (data && existsSync(data)) {
  for (const kind of kinds) {
    for (const file of ['vit_tiny_patch16_224.fp16.safetensors', 'vit_tiny_patch16_224.fp16.backbone.pth']) {
      test(`${kind}: real weights reproduce their reference (${file})`, async () => {
        memory.set('/memory/real', readFileSync(join(data, file)));
        const expected = readSafetensors(readFileSync(join(data, 'golden/expected.safetensors')));
        for (const name of kind === 'cpu' ? ['chelsea', 'coffee'] : ['chelsea']) {
          memory.set(`/memory/${name}.png`, readFileSync(join(data, `golden/${name}.png`)));
          const found = await inPage(async ({ kind, name }) => {
            const model = await (await window.engine(kind)).load('/memory/real', { cache: false, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] });
            const view = await model.look(await (await fetch(`/memory/${name}.png`)).blob(), { size: 0 });
            const { values } = await view.attention();
            const out = { tokens: await window.toText(await view.tokens()), attention: await window.toText(values) };
            view.dispose();
            model.dispose();
            return out;
          }, { kind, name });
          const tokens = f32(found.tokens);
          assertClose(`${name}.cls`, tokens.subarray(0, 192), expected[`${name}.cls`].values, { atol: 2e-3, rtol: 2e-3 });
          assertClose(`${name}.cls_attention`, f32(found.attention), expected[`${name}.cls_attention`].values, { atol: 2e-3 });
          assertClose(`${name}.patches`, tokens.subarray(192, 9 * 192), expected[`${name}.patch_tokens_first8`].values, { atol: 2e-3, rtol: 2e-3 });
        }
      });
    }
  }
} else {
  console.log('skipped: OCELLI_DATA names no folder with vit-tiny-in1k');
}

test('what is wrong is told by its code, and the worker goes on', async () => {
  memory.set('/memory/cut.safetensors', memory.get('/memory/formula.safetensors').subarray(0, 100_000));
  memory.set('/memory/text.txt', Buffer.from('these are no weights'));
  // A pickle that would run a command in Python, and tensors that do not fit together.
  memory.set('/memory/hostile.pth', hostilePth('os', 'system'));
  const { config } = vit;
  const d = config.embed_dim;
  memory.set('/memory/shape.safetensors', formulaVit(config, { 'blocks.1.attn.qkv.weight': [3 * d, d + 8] }));
  memory.set('/memory/table.safetensors', writeSafetensors([['embedding.weight', [4, 8], new Float32Array(32)]]));
  const side = 6 * config.patch;
  const found = await inPage(async ({ side, depth, heads }) => {
    const engine = await window.engine('cpu');
    const code = async (run) => { try { await run(); return 'none'; } catch (e) { return e.code ?? String(e); } };
    const model = await engine.load('/memory/formula.safetensors');
    const aborted = new AbortController();
    const late = engine.load('/memory/formula.safetensors', { signal: aborted.signal }).catch((e) => e === aborted.signal.reason);
    aborted.abort();
    const view = await model.look(await engine.scene(0, side));
    const codes = {
      late: await late,
      cut: await code(() => engine.load('/memory/cut.safetensors')),
      text: await code(() => engine.load(new Blob(['these are no weights']))),
      hostile: await code(() => engine.load('/memory/hostile.pth')),
      said: await engine.load('/memory/hostile.pth').catch((e) => /os\.system/.test(e.message)),
      shape: await code(() => engine.load('/memory/shape.safetensors')),
      named: await engine.load('/memory/shape.safetensors').catch((e) => /blocks\.1\.attn\.qkv\.weight/.test(e.message)),
      table: await code(() => engine.load('/memory/table.safetensors')),
      begin: await code(() => engine.session({}, { weights: '/memory/hostile.pth' })),
      overlay: await code(() => engine.overlay(new OffscreenCanvas(8, 8))),
      nowhere: await code(() => engine.load('/memory/nothing-there')),
      picture: await code(() => model.look(new Blob(['this is no picture']))),
      layer: await code(() => view.attention({ layer: depth })),
      head: await code(() => view.attention({ heads: [heads] })),
      query: await code(() => view.attention({ query: 10_000 })),
      config: await code(() => engine.session({ no_such_key: 1 })),
      empty: await code(async () => (await engine.session()).step()),
      method: await code(() => engine.session({ method: 'densecl' })),
      section: await code(() => engine.session({ method: 'moco', moco: { no_such_key: 1 } })),
      other: await code(() => engine.session({ method: 'moco', dino: {} })),
      large: await code(() => engine.session({ method: 'vicreg', vicreg: { dim: 1e8 } })),
    };
    view.dispose();
    codes.gone = await code(() => view.colours());
    const again = await model.look(await engine.scene(1, side));
    codes.after = (await again.colours()).length;
    const same = await again.match(again);
    codes.itself = same.best.every((j, i) => j === i) && same.mutual.every((m) => m === 1);
    return codes;
  }, { side, depth: config.depth, heads: config.heads });
  const expected = {
    late: true, cut: 'weights', text: 'weights', hostile: 'weights', said: true, shape: 'weights', named: true, table: 'weights',
    begin: 'weights', overlay: 'device', nowhere: 'network', picture: 'image', layer: 'argument', head: 'argument',
    query: 'argument', config: 'argument', empty: 'argument', method: 'argument', section: 'argument', other: 'argument', large: 'argument', gone: 'disposed', after: 36 * 3, itself: true,
  };
  if (JSON.stringify(found) !== JSON.stringify(expected)) throw new Error(`expected ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`);
});

loadingInBrowser({ test, inPage, memory, file: '/memory/formula.safetensors' });
training({ test, inPage, context, url, file: '/memory/formula.safetensors' });

const program = [process.env.OCELLI_BIN, join(process.env.CARGO_TARGET_DIR ?? join(web, '../target'), 'release/ocelli')].find((p) => p && existsSync(p));
/** What the native program prints. */
const native = (folder, ...args) => {
  const { status, stdout, stderr } = spawnSync(program, args, { cwd: folder, encoding: 'utf8', maxBuffer: 1 << 26 });
  if (status !== 0) throw new Error(`ocelli ${args.join(' ')}: ${status} ${stderr}`);
  return stdout;
};
segmentInBrowser({ test, inPage, memory, kinds, native: program && native });
if (program) {
  for (const features of ['cls-4', 'cls+mean']) {
    test(`a linear classifier of the native program says the same in the tab (${features})`, async () => {
      const folder = mkdtempSync(join(tmpdir(), 'ocelli-'));
      const weights = join(web, 'public/models/scenes.safetensors');
      try {
        native(folder, 'eval', 'linear', '--data', 'scenes:96', '--weights', weights, '--out', 'linear', '--cached', '--features', features,
          '--epochs', '4', '--batch-size', '32', '--rates', '1', '--device', 'cpu', '--quiet');
        const said = native(folder, 'classify', 'scenes:4', '--weights', weights, '--head', 'linear/head.safetensors', '--top', '1000', '--json', '--device', 'cpu');
        const expected = JSON.parse(said).images.map(({ classes }) => classes);
        memory.set('/memory/head.safetensors', readFileSync(join(folder, 'linear/head.safetensors')));
        const found = await inPage(async (count) => {
          const engine = await window.engine('cpu');
          const model = await engine.load('./models/scenes.safetensors');
          const head = window.ocelli.LinearHead.read(await (await fetch('/memory/head.safetensors')).arrayBuffer());
          const rows = [];
          for (let i = 0; i < count; i++) rows.push(await model.classify(await engine.scene(i, 64), head, 1000));
          const known = model.info.fingerprint === head.fingerprint;
          model.dispose();
          return { rows, known };
        }, expected.length);
        if (!found.known) throw new Error('the fingerprint is not the native program’s');
        found.rows.forEach((row, i) => {
          const by = (list) => [...list].sort((a, b) => (a.class ?? a.index) - (b.class ?? b.index));
          const [ours, theirs] = [by(row), by(expected[i])];
          if (ours.map((c) => c.name).join() !== theirs.map((c) => c.name).join()) throw new Error(`classes ${ours.map((c) => c.name)}`);
          assertClose(`scene ${i}`, ours.map((c) => c.probability), theirs.map((c) => c.probability), { atol: 1e-3 });
        });
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  }
  const whole = [join(web, 'public/models/scenes.safetensors'), data && join(data, 'vit_tiny_patch16_224.fp16.safetensors')];
  for (const weights of whole.filter((path) => path && existsSync(path))) {
    test(`eight-bit weights of the native program see what the whole ones see (${basename(weights)})`, async () => {
      const folder = mkdtempSync(join(tmpdir(), 'ocelli-'));
      try {
        for (const dtype of ['f32', 'q8']) {
          native(folder, 'export', weights, '--format', 'safetensors', '--dtype', dtype, '--out', `${dtype}.safetensors`);
          memory.set(`/memory/${dtype}.safetensors`, readFileSync(join(folder, `${dtype}.safetensors`)));
        }
        const [full, small] = ['f32', 'q8'].map((dtype) => memory.get(`/memory/${dtype}.safetensors`).length);
        if (!(small < 0.4 * full)) throw new Error(`${small} bytes of ${full}`);
        const cosines = await inPage(async () => {
          const engine = await window.engine('cpu');
          const models = [];
          for (const dtype of ['f32', 'q8']) models.push(await engine.load(`/memory/${dtype}.safetensors`, { cache: false }));
          const cosines = [];
          for (let i = 0; i < 6; i++) {
            const image = await engine.scene(i, 224);
            for (const kind of ['cls', 'cls+mean']) {
              const [a, b] = await Promise.all(models.map((model) => model.features(image, { kind })));
              const dot = (x, y) => x.reduce((sum, v, at) => sum + v * y[at], 0);
              cosines.push(dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b)));
            }
          }
          const same = models[0].info.fingerprint === models[1].info.fingerprint;
          models.forEach((model) => model.dispose());
          if (same) throw new Error('the two files hold the same numbers');
          return cosines;
        });
        if (!cosines.every((cosine) => cosine >= 0.999)) throw new Error(`cosines ${cosines.map((c) => c.toFixed(5))}`);
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  }
  test('weights and checkpoints go from the native program to the tab and back', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ocelli-'));
    const run = (out, ...more) => native(folder, 'pretrain', '--data', 'scenes:8', '--out', out, '--arch', 'vit-64x2x2/8', '--epochs', '1',
      '--device', 'cpu', '--quiet', ...['batch_size=4', 'views.global_size_px=32', 'views.local_size_px=16', 'views.local_crops=2',
        'dino.head.out_dim=64', 'dino.head.hidden_dim=48', 'dino.head.bottleneck_dim=32', 'optim.warmup_epochs=0', 'eval.every_epochs=0',
      ].flatMap((v) => ['--set', v]), ...more);
    try {
      run('first');
      const checkpoint = readFileSync(join(folder, 'first/checkpoints/epoch-0001.safetensors'));
      memory.set('/memory/checkpoint.safetensors', checkpoint);
      const found = await inPage(async () => {
        const engine = await window.engine('cpu');
        const config = { batch_size: 2, views: { global_size_px: 32, local_size_px: 16, local_crops: 2 } };
        const session = await engine.session(config, { weights: '/memory/checkpoint.safetensors' });
        const before = await window.toText(await session.weights());
        await session.addScenes(4, 48);
        const losses = [(await session.step()).loss, (await session.step()).loss];
        const bytes = await session.weights();
        const again = await engine.session(config, { weights: new Blob([bytes]) });
        const out = {
          start: session.start, arch: session.config.arch, head: session.config.dino.head, before, losses, after: await window.toText(bytes),
          again: again.start,
        };
        session.dispose();
        again.dispose();
        return out;
      });
      const { hidden_dim, out_dim, bottleneck_dim, layers, norm_last_layer } = found.head;
      const shape = JSON.stringify([found.start, found.arch, found.again, hidden_dim, out_dim, bottleneck_dim, layers, norm_last_layer]);
      if (shape !== '["checkpoint","vit-64x2x2/8","backbone",48,64,32,3,true]') throw new Error(shape);
      if (!found.losses.every((l) => l > 0 && l < 20)) throw new Error(`losses ${found.losses}`);
      const [teacher, before, after] = [checkpoint, ...[found.before, found.after].map((t) => Buffer.from(t, 'base64'))].map(readSafetensors);
      for (const [name, { values }] of Object.entries(before)) assertClose(name, values, teacher[`teacher.backbone.${name}`].values, { atol: 0 });
      if (Object.entries(before).every(([name, { values }]) => values.every((v, i) => v === after[name].values[i]))) throw new Error('nothing was learnt');
      writeFileSync(join(folder, 'tab.safetensors'), Buffer.from(found.after, 'base64'));
      native(folder, 'attention', 'scenes:1', '--weights', 'tab.safetensors', '--out', 'maps', '--device', 'cpu');
      run('second', '--init-from', 'tab.safetensors');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
} else {
  console.log('skipped: no native program (cargo build --release), so nothing is exchanged with it');
}

test('maps drawn on the GPU are those that are read back', async () => {
  const other = await launch(WITH_CANVAS);
  try {
    const page = await other.newPage();
    await page.goto(`${url}/test.html`);
    const found = await page.evaluate(async () => {
      const { ocelli, draw } = window;
      const engine = await ocelli.Ocelli.open('webgpu');
      const model = await engine.load('./models/scenes.safetensors');
      const view = await model.look(await engine.scene(1, 96), { size: 96 });
      const canvas = document.body.appendChild(document.createElement('canvas'));
      const overlay = await engine.overlay(canvas);
      const shown = document.createElement('canvas');
      const out = [];
      for (const [head, query, mass] of [[undefined, 'cls', 1], [1, 30, 1], [undefined, 'cls', 0.6]]) {
        await view.paint(overlay, { head, query, mass, layer: 2 });
        // What a worker draws is shown with the page's next picture.
        for (let i = 0; i < 3; i++) await new Promise((next) => requestAnimationFrame(next));
        [shown.width, shown.height] = [canvas.width, canvas.height];
        const context = shown.getContext('2d', { willReadFrequently: true });
        context.clearRect(0, 0, shown.width, shown.height);
        context.drawImage(canvas, 0, 0);
        const pixels = context.getImageData(0, 0, shown.width, shown.height).data;
        const { values, heads, columns } = await view.attention({ query, layer: 2 });
        const map = head === undefined ? draw.mean(values, heads) : values.subarray(head * columns * columns, (head + 1) * columns * columns);
        const expected = draw.heatmap(map, columns, mass < 1 ? draw.massMask(map, mass) : undefined, true).data;
        // Colours of what is nearly see-through do not survive the way through premultiplied bytes.
        let [apart, clear] = [0, 0];
        for (let i = 0; i < expected.length; i += 4) {
          apart = Math.max(apart, Math.abs(pixels[i + 3] - expected[i + 3]));
          for (let c = 0; c < 3; c++) apart = Math.max(apart, (Math.abs(pixels[i + c] - expected[i + c]) * expected[i + 3]) / 255);
          clear += expected[i + 3] === 0 ? 1 : 0;
        }
        out.push({ size: [shown.width, shown.height], apart, clear });
      }
      overlay.dispose();
      engine.dispose();
      return out;
    });
    for (const { size, apart } of found) if (String(size) !== '12,12' || !(apart <= 3)) throw new Error(JSON.stringify(found));
    if (!(found[2].clear > 20 && found[0].clear === 0)) throw new Error(JSON.stringify(found));
  } finally {
    await other.close();
  }
});

test('without WebGPU the CPU does the same, and says so', async () => {
  const other = await launch(WITHOUT_WEBGPU);
  try {
    const page = await other.newPage();
    await page.goto(`${url}/test.html`);
    const found = await page.evaluate(async () => {
      const { Ocelli } = window.ocelli;
      const code = await Ocelli.open('webgpu').then(() => 'none', (e) => e.code);
      const engine = await Ocelli.open();
      const model = await engine.load('./models/scenes.safetensors');
      const { values } = await model.attention(await engine.scene(0, 96));
      const { kind, reason } = engine.device;
      engine.dispose();
      return { code, kind, reason: reason.length > 0, sum: values.reduce((a, b) => a + b, 0) };
    });
    if (!(found.code === 'device' && found.kind === 'cpu' && found.reason && found.sum > 0 && found.sum < 3)) throw new Error(JSON.stringify(found));
  } finally {
    await other.close();
  }
});

test('the package trains on pictures and can be stopped', async () => {
  const found = await inPage(async () => {
    const { Ocelli, train } = window.ocelli;
    const engine = await window.engine('cpu');
    const pictures = [await engine.scene(0, 48), await engine.scene(1, 48)];
    const steps = [];
    const config = { arch: 'vit-64x2x1/8', batch_size: 2, views: { global_size_px: 32, local_size_px: 16, local_crops: 1 }, dino: { head: { out_dim: 32, hidden_dim: 32, bottleneck_dim: 16 } } };
    const session = await train(pictures, config, { device: 'cpu', onEvent: ({ step }, session) => (steps.push(step), step === 2 && session.pause()) });
    const view = await session.look(pictures[0]);
    const { values } = await view.attention();
    session.dispose();
    const after = await session.step().catch((e) => e.code);
    return { steps, start: session.start, cells: values.length, open: Ocelli !== undefined, after };
  });
  if (JSON.stringify(found) !== '{"steps":[0,1,2],"start":"nothing","cells":36,"open":true,"after":"disposed"}') throw new Error(JSON.stringify(found));
});

test('the package works without a bundler, twice at once', async () => {
  const plain = await serve(join(web, 'ocelli'), memory);
  const pages = await Promise.all([context.newPage(), context.newPage()]);
  memory.set('/page.html', Buffer.from('<!doctype html><title>x</title>'));
  const shapes = await Promise.all(pages.map(async (page) => {
    await page.goto(`${plain.url}/page.html`);
    return page.evaluate(async () => {
      const { Ocelli } = await import('/dist/index.js');
      const ocelli = await Ocelli.open('cpu');
      const model = await ocelli.load('/memory/formula.safetensors');
      const { heads, rows, columns, values } = await model.attention(await ocelli.scene(2, 64), { query: 3, heads: [0, 2] });
      const sum = values.reduce((a, b) => a + b, 0);
      ocelli.dispose();
      return [heads, rows, columns, values.length, sum > 1 && sum < 2];
    });
  }));
  for (const page of pages) await page.close();
  plain.server.close();
  if (JSON.stringify(shapes) !== '[[2,4,4,32,true],[2,4,4,32,true]]') throw new Error(JSON.stringify(shapes));
});

test('fifty looks and a hundred training steps without memory growth', async () => {
  const sizes = await inPage(async () => {
    const engine = await window.ocelli.Ocelli.open('cpu');
    const model = await engine.load('/memory/formula.safetensors');
    const image = await engine.scene(0, 96);
    const look = async () => {
      const view = await model.look(image);
      await view.attention();
      view.dispose();
      await model.features(image, { resize: 96, crop: 80 });
    };
    const config = { arch: 'vit-64x2x1/8', batch_size: 2, views: { global_size_px: 32, local_size_px: 16, local_crops: 2 }, dino: { head: { out_dim: 64, hidden_dim: 64, bottleneck_dim: 32 } } };
    const session = await engine.session(config);
    await session.addScenes(4, 48);
    for (let i = 0; i < 5; i++) { await look(); await session.step(); }
    const memory = async () => (await engine.memory()) + (await session.ocelli.memory());
    const before = await memory();
    for (let i = 0; i < 50; i++) await look();
    let last;
    for (let i = 0; i < 100; i++) last = await session.step();
    const after = await memory();
    engine.dispose();
    return { before, after, finite: Number.isFinite(last.loss), step: last.step };
  });
  // A module's memory never shrinks; a leak of one picture's tensors each time would be tens of megabytes.
  if (!(sizes.after - sizes.before <= 4 << 20 && sizes.finite && sizes.step === 104)) throw new Error(JSON.stringify(sizes));
});

test('a lost graphics device is told of, and another engine works', async () => {
  const before = new Set(page.workers());
  await inPage(async () => {
    window.lost = await window.ocelli.Ocelli.open('webgpu');
    window.told = new Promise((resolve) => (window.lost.onLost = (error) => resolve(error.code)));
  });
  // The module keeps its device to itself; it shows itself when it works.
  const worker = page.workers().find((w) => !before.has(w));
  await worker.evaluate(() => {
    const make = GPUDevice.prototype.createCommandEncoder;
    GPUDevice.prototype.createCommandEncoder = function (...args) {
      globalThis.device = this;
      return make.apply(this, args);
    };
  });
  await inPage(async () => {
    const model = await window.lost.load('/memory/formula.safetensors');
    await model.embed(await window.lost.scene(0, 32));
  });
  await worker.evaluate(() => globalThis.device.destroy()).catch(() => undefined);
  const found = await inPage(async () => {
    const told = await Promise.race([window.told, new Promise((late) => setTimeout(late, 20_000, 'nobody told'))]);
    const after = await window.lost.load('/memory/formula.safetensors').then(() => 'works', (error) => error.code);
    const other = await window.ocelli.Ocelli.open('auto');
    const model = await other.load('/memory/formula.safetensors');
    const { length } = await model.embed(await other.scene(0, 64));
    other.dispose();
    return [told, after, length];
  });
  if (found.join() !== 'device,device,192') throw new Error(found.join());
});

const began = Date.now();
const ran = await runEach(tests, process.argv.slice(2));
if (complaints.length > 0) {
  ran.failed.push('the page complained');
  console.log(`FAIL  the page complained:\n      ${complaints.join('\n      ')}`);
}
await browser.close();
server.close();
finish('browser tests', ran, began);
