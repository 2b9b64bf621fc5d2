// What the package computes without a browser: votes, similarities, linear classifiers and their files. Part of run.mjs;
// `node test/unit.mjs` alone needs `npx tsc -p ocelli` before.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { download } from '../ocelli/dist/download.js';
import {
  KnnClassifier, LinearHead, Ocelli, OcelliError, clearModelCache, deleteModelFromCache, hasModelInCache, load, ranked, similarities, train,
} from '../ocelli/dist/index.js';
import { parseIntegrity, verify } from '../ocelli/dist/integrity.js';
import { together } from '../ocelli/dist/options.js';
import { difference, featureWidth, fittingKind, sourceOf } from '../ocelli/dist/features.js';
import { finish, runEach } from './each.mjs';
import { assertClose, fixture, fixtures, writeSafetensors } from './fixtures.mjs';

const same = (what, found, expected) => {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what}: expected ${b}, found ${a}`);
};
/** That something is refused with this code, in words that say why. */
const refused = (what, run, code, words) => {
  try {
    run();
  } catch (error) {
    const fine = error instanceof OcelliError && error.code === code && words.test(error.message);
    if (!fine) throw new Error(`${what}: expected ${code} and ${words}, found ${error.code} and ${error.message}`);
    return;
  }
  throw new Error(`${what}: expected a refusal, found none`);
};

/** The same of what takes time. */
const rejected = async (what, run, code, words) => {
  const error = await run().then(() => undefined, (error) => error);
  refused(what, () => { if (error) throw error; }, code, words);
};

const NETWORK = {
  arch: 'vit-3x4x1/8', dim: 3, depth: 4, heads: 1, patch: 8, imageSize: 48, registers: 0, notes: [], parameters: 1, format: 'safetensors',
  mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], normalisation: '', resize: 55, crop: 48, fingerprint: 'cafe0123',
};
const bytesOf = (tensors, metadata) => new Uint8Array(writeSafetensors(tensors, metadata));
const f32 = (...values) => Float32Array.from(values);

/** Tests as run.mjs runs them, on a folder of fixtures. */
export function units(golden) {
  const tests = [];
  const test = (name, run) => tests.push({ name: `package: ${name}`, run });

  test('votes are those computed by hand', () => {
    const knn = new KnnClassifier(sourceOf(NETWORK), { k: 3, temperature: 0.5 });
    // Cosines with (1, 0, 0): 1, 0.6, 0.8, 0; lengths do not count.
    knn.add('a', [2, 0, 0]);
    knn.add('b', [3, 4, 0]);
    knn.add('b', [0.08, 0, 0.06]);
    knn.add('a', [0, 0, 7]);
    knn.addClass('c');
    const votes = knn.classify(f32(9, 0, 0));
    const [a, b] = [Math.exp(1 / 0.5), Math.exp(0.6 / 0.5) + Math.exp(0.8 / 0.5)];
    assertClose('votes', votes.map((v) => v.votes), [a, b, 0], { atol: 0, rtol: 1e-12 });
    assertClose('shares', votes.map((v) => v.share), [a / (a + b), b / (a + b), 0], { atol: 1e-12 });
    same('neighbours', votes.map((v) => [v.name, v.neighbours]), [['a', 1], ['b', 2], ['c', 0]]);
    // Fewer examples than neighbours: all vote.
    knn.removeClass('b');
    same('all', knn.classify([1, 0, 0]).map((v) => v.neighbours), [2, 0]);
    knn.remove('a', 1);
    knn.rename('a', 'z');
    same('classes', knn.classes, [{ name: 'z', examples: 1 }, { name: 'c', examples: 0 }]);
    same('a vote alone', knn.classify([1, 0, 0])[0].share, 1);
  });

  for (const name of fixtures(golden, 'knn')) {
    test(`votes match the reference (${name})`, () => {
      const { config, json, tensors } = fixture(golden, name);
      const { train, test: count, dim } = config;
      const row = (of, i) => tensors[of].values.subarray(i * dim, (i + 1) * dim);
      const ids = config.class_ids ?? Array.from({ length: config.classes }, (_, i) => i);
      for (const T of config.temperatures) {
        for (const k of config.k) {
          const knn = new KnnClassifier({ ...sourceOf(NETWORK), dim }, { k, temperature: T });
          for (const id of ids) knn.addClass(String(id));
          for (let i = 0; i < train; i++) knn.add(String(tensors.train_labels.values[i]), row('train_features', i));
          const found = Array.from({ length: count }, (_, i) => knn.classify(row('test_features', i)));
          const key = `T${T}.k${k}`;
          const votes = tensors[`${key}.votes`] ?? tensors[`${key}.votes_of_present_classes`];
          if (votes) assertClose(`${key}.votes`, found.flatMap((v) => v.map((x) => x.votes)), votes.values, { atol: 1e-6, ...json.tolerance.votes });
          const best = found.map((v) => Number(v.reduce((a, b) => (b.share > a.share ? b : a)).name));
          const hits = best.filter((id, i) => BigInt(id) === tensors.test_labels.values[i]).length;
          const slack = json.tolerance['top1/top5'] === 'exact' ? 1e-9 : 0.5;
          assertClose(`${key}.top1`, [(100 * hits) / count], [json.expected[key].top1_percent], { atol: slack });
          const others = best.filter((id, i) => BigInt(id) !== tensors[`${key}.predictions`].values[i]).length;
          if (others > (slack < 0.1 ? 0 : 1)) throw new Error(`${key}: ${others} of ${count} predictions differ`);
        }
      }
    });
  }

  test('search is by cosine, of equal ones the earlier', () => {
    const others = [[0, 5, 0], [1, 1, 0], [-3, 0, 0], [2, 2, 0], [4, 0, 0]];
    const half = Math.SQRT1_2;
    assertClose('cosines', similarities([2, 0, 0], others), [0, half, -1, half, 1], { atol: 1e-12 });
    same('order', ranked([2, 0, 0], others).map((r) => r.index), [4, 1, 3, 0, 2]);
    same('none', ranked([1, 0, 0], []), []);
    refused('another length', () => similarities([1, 0, 0], [[1, 0]]), 'argument', /expected 3 numbers, found 2/);
    refused('no number', () => similarities([1, NaN, 0], []), 'argument', /finite/);
  });

  test('wrong examples are refused', () => {
    const source = sourceOf(NETWORK);
    const knn = new KnnClassifier(source);
    refused('nothing', () => knn.classify([1, 2, 3]), 'argument', /at least one example/);
    refused('length', () => knn.add('a', [1, 2]), 'argument', /expected 3 numbers, found 2/);
    refused('number', () => knn.add('a', [1, 2, Infinity]), 'argument', /finite/);
    same('nothing was kept', knn.classes, []);
    refused('name', () => knn.addClass('  '), 'argument', /a name/);
    knn.add('a', [1, 0, 0]);
    knn.add('b', [0, 1, 0]);
    refused('twice', () => knn.rename('a', 'b'), 'argument', /called b already/);
    for (const options of [{ k: 0 }, { k: 1.5 }, { temperature: 0 }, { temperature: NaN }]) {
      refused(JSON.stringify(options), () => new KnnClassifier(source, options), 'argument', /expected/);
    }
  });

  test('examples are saved and read back, and not beside another network', () => {
    const source = sourceOf(NETWORK);
    const knn = new KnnClassifier(source, { k: 2 });
    for (let i = 0; i < 4; i++) knn.add(i % 2 ? 'Katze „Mo“' : 'b', f32(Math.sin(i), Math.cos(3 * i), 0.1 * i));
    knn.addClass('empty');
    const text = JSON.stringify(knn);
    const again = KnnClassifier.parse(text, source);
    same('classes', again.classes, knn.classes);
    same('k', [again.k, again.temperature], [2, 0.07]);
    const asked = f32(0.3, -0.2, 0.5);
    assertClose('votes', again.classify(asked).map((v) => v.votes), knn.classify(asked).map((v) => v.votes), { atol: 0, rtol: 1e-6 });
    const changed = (change) => { const file = JSON.parse(text); change(file); return JSON.stringify(file); };
    const cases = {
      'no JSON': ['these are no examples', /no JSON/],
      'cut short': [text.slice(0, -20), /no JSON/],
      null: ['null', /another kind/],
      'another kind': ['{"format":"other"}', /another kind/],
      newer: [changed((f) => { f.version = 2; }), /version 2/],
      nobody: [changed((f) => { delete f.source.fingerprint; }), /whose features/],
      network: [changed((f) => { f.source.fingerprint = '00000000'; f.source.arch = 'vit-s/16'; }), /another network: vit-s\/16 \(00000000\).*cafe0123/],
      kind: [changed((f) => { f.source.kind = 'cls-2'; f.source.dim = 6; }), /another kind: cls-2/],
      size: [changed((f) => { f.source.crop = 224; }), /another size.*224 px/],
      pixels: [changed((f) => { f.source.mean[0] = 0.5; }), /normalised/],
      width: [changed((f) => { f.classes[0].examples[0].pop(); }), /expected 3 numbers, found 2/],
      letters: [changed((f) => { f.classes[0].examples[0][1] = 'x'; }), /finite/],
      list: [changed((f) => { f.classes = {}; }), /no list of classes/],
      'no name': [changed((f) => { delete f.classes[1].name; }), /class 2 without/],
      twice: [changed((f) => { f.classes[1].name = f.classes[0].name; }), /two classes/],
      k: [changed((f) => { f.k = '5'; }), /k: expected/],
    };
    for (const [what, [bad, words]] of Object.entries(cases)) refused(what, () => KnnClassifier.parse(bad, source), 'argument', words);
    same('as it is', difference(source, { ...source, mean: source.mean.map((v) => v + 1e-8) }), undefined);
  });

  test('kinds of features are known by name and width', () => {
    same('widths', ['cls', 'cls-4', 'cls+mean'].map((kind) => featureWidth(kind, NETWORK)), [3, 12, 6]);
    for (const kind of ['', 'cls-0', 'cls-5', 'cls-x', 'patches', 'constructor']) {
      refused(kind, () => featureWidth(kind, NETWORK), 'argument', /cls-2 to cls-4 or cls\+mean of vit-3x4x1/);
    }
    refused('mean', () => featureWidth('mean', NETWORK), 'argument', /ResNet/);
    same('by width', [12, 6, 3, 9].map((width) => fittingKind(width, NETWORK)), ['cls-4', 'cls+mean', 'cls', 'cls-3']);
    same('wide ones', fittingKind(1536, { arch: 'vit-b/16', dim: 768, depth: 12 }), 'cls+mean');
    refused('no width', () => fittingKind(7, NETWORK), 'argument', /takes 7 numbers/);
  });

  test('a head of the native program is read', () => {
    const metadata = {
      format: 'pt', features: 'cls-2', features_are: 'as they are', classes: '["tench","Tür"]', backbone_crc32: 'cafe0123',
      mean: '[0.5,0.4,0.3]', std: '0.2 0.2 0.1', resize_px: '64', crop_px: '56', accuracy: 'linear top-1 97.00 % of 100 held-out images',
    };
    const weight = f32(1, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0);
    const head = LinearHead.read(bytesOf([['linear.weight', [2, 6], weight], ['linear.bias', [2], f32(0.5, -1)]], metadata));
    same('shape', [head.classes, head.dim, head.names, head.fingerprint], [2, 6, ['tench', 'Tür'], 'cafe0123']);
    same('options', head.options(NETWORK), { resize: 64, crop: 56, mean: [0.5, 0.4, 0.3], std: [0.2, 0.2, 0.1], kind: 'cls-2' });
    assertClose('logits', head.logits([1, 2, 0, 0, 0, 3]), [0.5 + 1 + 3, -1 + 4], { atol: 1e-12 });
    const [first, second, ...none] = head.classify(f32(1, 2, 0, 0, 0, 3));
    same('order', [first.name, second.index, none.length], ['tench', 1, 0]);
    assertClose('softmax', [first.probability, second.probability], [1 / (1 + Math.exp(3 - 4.5)), 1 / (1 + Math.exp(1.5))], { atol: 1e-12 });
    same('top', head.classify([1, 2, 0, 0, 0, 3], 1).length, 1);
    refused('length', () => head.logits([1]), 'argument', /expected 6 numbers, found 1/);
    refused('other network', () => head.options({ ...NETWORK, dim: 4 }), 'argument', /takes 6 numbers of a picture; cls-2 of vit-3x4x1\/8 gives 8/);
    refused('ResNet', () => LinearHead.read(bytesOf([['linear.weight', [2, 6], weight]], { features: 'mean' })).options(NETWORK), 'argument', /ResNet/);
    // Of a published file: other names, no bias, no metadata.
    const bare = LinearHead.read(bytesOf([['module.fc.weight', [2, 6], weight], ['module.conv.weight', [1, 1], f32(1)]]));
    same('bare', [bare.names, [...bare.bias], bare.options(NETWORK), bare.classify([9, 0, 0, 0, 0, 0])[0].name], [undefined, [0, 0], { kind: 'cls+mean' }, 'class 0']);
    same('names that do not fit', LinearHead.read(bytesOf([['fc.weight', [2, 6], weight]], { classes: '["a"]' })).names, undefined);
    const unit = LinearHead.read(bytesOf([['linear.weight', [1, 2], f32(1, 1)]], { features_are: 'divided by their length first' }));
    assertClose('of length 1', unit.logits([3, 4]), [1.4], { atol: 1e-7 });
    assertClose('large logits', LinearHead.read(bytesOf([['fc.weight', [2, 1], f32(1000, 0)]])).classify([1]).map((p) => p.probability), [1, 0], { atol: 1e-12 });
  });

  test('half precision is read', () => {
    const header = JSON.stringify({
      'fc.weight': { dtype: 'F16', shape: [2, 2], data_offsets: [0, 8] }, 'fc.bias': { dtype: 'BF16', shape: [2], data_offsets: [8, 12] },
    });
    const file = Buffer.alloc(8 + header.length + 12);
    file.writeBigUInt64LE(BigInt(header.length));
    file.write(header, 8);
    // 1, -2, the smallest subnormal, 65504; 1 and -0.15625.
    [0x3c00, 0xc000, 0x0001, 0x7bff, 0x3f80, 0xbe20].forEach((v, i) => file.writeUInt16LE(v, 8 + header.length + 2 * i));
    const head = LinearHead.read(new Uint8Array(file));
    same('values', [[...head.weight], [...head.bias]], [[1, -2, 2 ** -24, 65504], [1, -0.15625]]);
  });

  test('damaged heads are refused in words', () => {
    const whole = writeSafetensors([['linear.weight', [2, 3], f32(1, 2, 3, 4, 5, 6)], ['linear.bias', [2], f32(0, 1)]], { features: 'cls' });
    const header = (text) => {
      const out = Buffer.alloc(8 + text.length + 64);
      out.writeBigUInt64LE(BigInt(text.length));
      out.write(text, 8);
      return out;
    };
    const entry = (about) => header(JSON.stringify({ 'linear.weight': about }));
    const cases = {
      empty: [Buffer.alloc(0), /0 bytes/],
      text: [Buffer.from('these are no weights'), /another file, or cut short/],
      pth: [Buffer.from('PK\x03\x04and so on'), /PyTorch/],
      'cut in the header': [whole.subarray(0, 60), /another file, or cut short/],
      'cut in the values': [whole.subarray(0, whole.length - 4), /cut short/],
      'no JSON': [header('{"a":'), /no JSON/],
      'no table': [header('[1,2]'), /no table/],
      'no entry': [entry(null), /no type, shape and place of linear\.weight/],
      backwards: [entry({ dtype: 'F32', shape: [1, 1], data_offsets: [4, 0] }), /no type, shape and place/],
      negative: [entry({ dtype: 'F32', shape: [-1, 1], data_offsets: [0, 4] }), /no type, shape and place/],
      'beyond the end': [entry({ dtype: 'F32', shape: [10, 10], data_offsets: [0, 400] }), /ends at 400/],
      'another size': [entry({ dtype: 'F32', shape: [2, 2], data_offsets: [0, 12] }), /12 bytes of linear\.weight.*makes 16/],
      'another type': [entry({ dtype: 'I64', shape: [1, 1], data_offsets: [0, 8] }), /expected F32, F16, BF16 or F64, found I64/],
      'a method for a type': [entry({ dtype: 'constructor', shape: [1, 1], data_offsets: [0, 8] }), /found constructor/],
      nothing: [entry({ dtype: 'F32', shape: [0, 3], data_offsets: [0, 0] }), /expected classes and features/],
      backbone: [writeSafetensors([['blocks.0.mlp.fc1.weight', [1, 1], f32(1)]]), /none: `ocelli eval linear` writes one/],
      several: [writeSafetensors([['linear.weight', [1, 1], f32(1)], ['aux.head.weight', [1, 1], f32(1)]]), /several: linear\.weight, aux\.head\.weight/],
      bias: [writeSafetensors([['linear.weight', [2, 1], f32(1, 2)], ['linear.bias', [3], f32(1, 2, 3)]]), /expected \[2\], found \[3\]/],
      'no number': [writeSafetensors([['linear.weight', [1, 2], f32(1, NaN)]]), /finite numbers, found NaN/],
    };
    for (const [what, [bytes, words]] of Object.entries(cases)) refused(what, () => LinearHead.read(new Uint8Array(bytes)), 'weights', words);
    // Whatever is damaged: a refusal or a head, and no other error.
    for (let at = 0; at < whole.length; at++) {
      for (const flip of [1, 0x80, 0xff]) {
        const bytes = new Uint8Array(whole);
        bytes[at] ^= flip;
        try {
          LinearHead.read(bytes);
        } catch (error) {
          if (!(error instanceof OcelliError)) throw new Error(`byte ${at}: ${error}`);
        }
      }
    }
  });

  test('a server that renders a page may import it, and is told that it computes in a browser', async () => {
    const calls = {
      load: () => load('x.safetensors'), open: () => Ocelli.open(), train: () => train([]), cached: () => hasModelInCache('x'),
      delete: () => deleteModelFromCache('x'), clear: () => clearModelCache(),
    };
    for (const [what, call] of Object.entries(calls)) await rejected(what, call, 'unsupported', /in a browser/);
  });

  test('checksums are read, and other bytes refused', async () => {
    const bytes = Buffer.from('a file');
    const sri = (algorithm, of = bytes) => `${algorithm}-${createHash(algorithm).update(of).digest('base64')}`;
    for (const algorithm of ['sha256', 'sha384', 'sha512']) {
      await verify(bytes, sri(algorithm), 'x');
      await rejected(algorithm, () => verify(bytes, sri(algorithm, 'another'), 'x.pth'), 'integrity', /^x\.pth: expected sha\d+-.*, found sha\d+-/);
    }
    // Of several the strongest counts, of its digests any; the letters of addresses, and options, are allowed.
    await verify(bytes, `${sri('sha256', 'another')} ${sri('sha512', 'b')}\n${sri('sha512').replaceAll('+', '-').replaceAll('/', '_')}?x`, 'x');
    await rejected('the weaker one', () => verify(bytes, `${sri('sha256')} ${sri('sha384', 'b')}`, 'x'), 'integrity', /found sha384-/);
    for (const text of ['', 'md5-abc', 'sha256-', 'sha256-abc', 'sha256', sri('sha256').replace('sha256', 'sha384'), `${sri('sha256')}x=`]) {
      refused(text, () => parseIntegrity(text), 'argument', /integrity: expected/);
    }
  });

  test('progress of several files is one', () => {
    const seen = [];
    const tell = together(['module', 'weights'], ({ loaded, total, file }) => seen.push([loaded, total, file.kind]));
    tell({ kind: 'weights', loaded: 5, total: 50 });
    tell({ kind: 'module', loaded: 1, total: 0 });
    tell({ kind: 'module', loaded: 10, total: 10 });
    tell({ kind: 'weights', loaded: 50, total: 50 });
    same('seen', seen, [[5, 0, 'weights'], [6, 0, 'module'], [15, 60, 'module'], [60, 60, 'weights']]);
    same('nobody asks', together(['module'], undefined), undefined);
  });

  test('a download lies in memory once', async () => {
    setFlagsFromString('--expose-gc');
    const gc = runInNewContext('gc');
    const [chunk, count] = [Buffer.alloc(1 << 20, 7), 40];
    const size = chunk.length * count;
    const server = createServer(async (_, response) => {
      response.writeHead(200, { 'content-length': size });
      for (let i = 0; i < count; i++) if (!response.write(chunk)) await new Promise((done) => response.once('drain', done));
      response.end();
    });
    await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
    const used = () => (gc(), process.memoryUsage().arrayBuffers);
    try {
      const [before, samples] = [used(), []];
      const wanted = { headers: [], integrity: undefined, cache: false, maxBytes: size };
      const { bytes } = await download(`http://127.0.0.1:${server.address().port}/`, wanted, {
        signal: new AbortController().signal, onProgress: ({ loaded }) => loaded > (samples.length * size) / 8 && samples.push(used() - before),
      });
      samples.push(used() - before);
      if (samples.length < 8) throw new Error(`looked ${samples.length} times`);
      // The buffer is there from the beginning, so that there is none to be copied at the end.
      if (!(samples[0] >= 0.9 * size && Math.max(...samples) <= 1.3 * size)) throw new Error(`${size} bytes take ${samples}`);
      if (bytes.length !== size || bytes.some((v) => v !== 7)) throw new Error('other bytes arrived');
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });

  test('a download takes what the server tells, more, less, and in pieces of any size', async () => {
    const whole = Uint8Array.from({ length: 300_000 }, (_, i) => i % 251);
    const body = (sizes) => new ReadableStream({
      start(controller) {
        let at = 0;
        for (const size of sizes) controller.enqueue(whole.slice(at, (at += size)));
        controller.close();
      },
    });
    const bytesIn = (type) => new ReadableStream({ type, start: (controller) => (controller.enqueue(whole.slice()), controller.close()) });
    const bodies = [() => body([0, 1, 0, 99_999, 200_000, 0]), () => bytesIn('bytes'), () => whole.slice()];
    for (const told of [undefined, 0, 1, 299_999, 300_000, 300_001, 500_000]) {
      for (const make of bodies) {
        const headers = told === undefined ? {} : { 'content-length': String(told) };
        let last;
        const { bytes } = await download('http://x.example/', { headers: [], integrity: undefined, cache: false, maxBytes: 1e6 }, {
          signal: new AbortController().signal, fetch: async () => new Response(make(), { headers }), onProgress: (p) => (last = p),
        });
        same(`${told}`, [bytes.length, bytes.findIndex((v, i) => v !== whole[i]), last.loaded, last.total], [300_000, -1, 300_000, 300_000]);
      }
    }
  });

  for (const name of fixtures(golden, 'linear_probe')) {
    test(`logits match the reference (${name})`, () => {
      const { config, json, tensors } = fixture(golden, name);
      let compared = 0;
      for (const { key, feature } of config.runs) {
        const features = tensors[`val.feature.${feature}`];
        if (!features) continue;
        const [weight, bias, expected] = [`${key}.epoch${config.epochs}.weight`, `${key}.epoch${config.epochs}.bias`, `${key}.val_logits`].map((n) => tensors[n]);
        const head = LinearHead.read(bytesOf([['linear.weight', weight.shape, weight.values], ['linear.bias', bias.shape, bias.values]]));
        const found = Array.from({ length: config.val }, (_, i) => [...head.logits(features.values.subarray(i * head.dim, (i + 1) * head.dim))]).flat();
        const largest = expected.values.reduce((a, v) => Math.max(a, Math.abs(v)), 0);
        assertClose(`${key}.val_logits`, found, expected.values, { atol: largest * json.tolerance.val_logits.atol_times_tensor_max_abs });
        compared += 1;
      }
      if (compared === 0) throw new Error('no run of the fixture has features that are compared here');
    });
  }
  return tests;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const golden = process.env.OCELLI_GOLDEN ?? join(dirname(fileURLToPath(import.meta.url)), '../../tests/golden');
  const began = Date.now();
  finish('tests of the package', await runEach(units(golden), process.argv.slice(2)), began);
}
