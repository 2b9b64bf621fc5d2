// Downloads, the cache, signals and what is given back: the package in a browser. Part of run.mjs.
import { createHash } from 'node:crypto';

/** A file that comes in pieces; tells how often it was asked for, with which headers, and how often nobody waited for its end. */
function slowly(bytes, { pieces = 8, every = 20, told = true, stall = false } = {}) {
  const seen = { asked: 0, left: 0, headers: [] };
  const answer = async (request, response) => {
    seen.asked += 1;
    seen.headers.push(request.headers);
    response.on('close', () => { if (!response.writableFinished) seen.left += 1; });
    response.writeHead(200, told ? { 'content-length': bytes.length } : {});
    const size = Math.ceil(bytes.length / pieces);
    for (let i = 0; i < pieces && !response.destroyed; i++) {
      if (stall && i === pieces - 1) return;
      response.write(bytes.subarray(i * size, (i + 1) * size));
      await new Promise((later) => setTimeout(later, every));
    }
    response.end();
  };
  return { answer, seen };
}

const same = (what, found, expected) => {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what}: expected ${b}, found ${a}`);
};
const until = async (what, holds) => {
  for (let i = 0; i < 100; i++) {
    if (holds()) return;
    await new Promise((later) => setTimeout(later, 50));
  }
  throw new Error(`5 s without ${what}`);
};

/** `file`: the address of a network that is served whole. */
export function loadingInBrowser({ test, inPage, memory, file }) {
  const bytes = memory.get(file);
  const serve = (path, options) => {
    const { answer, seen } = slowly(bytes, options);
    memory.set(path, answer);
    return seen;
  };

  test('weights are downloaded once, and as often as is asked for', async () => {
    const kept = serve('/loading/kept.safetensors', { every: 1 });
    const other = serve('/loading/other.safetensors', { every: 1 });
    memory.set('/loading/text.safetensors', Buffer.from('these are no weights'));
    const found = await inPage(async () => {
      const { hasModelInCache, deleteModelFromCache, clearModelCache } = window.ocelli;
      const engine = await window.ocelli.Ocelli.open('cpu');
      const [url, second] = ['/loading/kept.safetensors', './loading/other.safetensors'];
      const out = { has: [], cached: [] };
      const load = async (address, options) => {
        let last;
        const model = await engine.load(address, { ...options, onProgress: ({ file }) => (last = file) });
        model.dispose();
        out.cached.push(last.cached);
        out.has.push(await hasModelInCache(address));
      };
      out.has.push(await hasModelInCache(url));
      await load(url, { cache: false });
      await load(url);
      await load(new URL(url, location.href));
      await load(url, { cache: 'reload' });
      await load(second);
      out.deleted = [await deleteModelFromCache(url), await deleteModelFromCache(url), await hasModelInCache(url), await hasModelInCache(second)];
      await load(url);
      out.cleared = [await clearModelCache(), await hasModelInCache(url), await clearModelCache()];
      // What is no network is not kept.
      out.text = [await engine.load('/loading/text.safetensors').catch((e) => e.code), await hasModelInCache('/loading/text.safetensors')];
      engine.dispose();
      return out;
    });
    same('found', found, {
      has: [false, false, true, true, true, true, true], cached: [false, false, true, false, false, false],
      deleted: [true, false, false, true], cleared: [true, false, false], text: ['weights', false],
    });
    same('asked', [kept.asked, other.asked], [4, 1]);
  });

  test('weights are compared with their checksum', async () => {
    const seen = serve('/loading/summed.safetensors', { every: 1 });
    const sri = (algorithm, of) => `${algorithm}-${createHash(algorithm).update(of).digest('base64')}`;
    const right = ['sha256', 'sha384', 'sha512'].map((algorithm) => sri(algorithm, bytes));
    const found = await inPage(async ({ right, wrong }) => {
      const { Ocelli, hasModelInCache } = window.ocelli;
      const engine = await Ocelli.open('cpu');
      const url = '/loading/summed.safetensors';
      const load = (source, integrity) => engine.load(source, { integrity }).then((model) => (model.dispose(), 'loads'), (e) => e.code);
      const out = [await load(url, wrong), await hasModelInCache(url)];
      for (const integrity of right) out.push(await load(url, integrity));
      // The address has another file now, and this is what is wanted: the one in the cache is not.
      out.push(await load(url, wrong), await hasModelInCache(url), await load(url, 'sha256-abc'));
      const file = await (await fetch(url)).blob();
      out.push(await load(file, right[0]), await load(await file.arrayBuffer(), wrong));
      engine.dispose();
      return out;
    }, { right, wrong: sri('sha384', 'another file') });
    same('found', found, ['integrity', false, 'loads', 'loads', 'loads', 'integrity', false, 'argument', 'loads', 'integrity']);
    same('asked', seen.asked, 4);
  });

  test('headers and a fetch of the page’s own are used, and downloads have a limit', async () => {
    const seen = serve('/loading/secret.safetensors', { every: 1 });
    serve('/loading/untold.safetensors', { every: 1, told: false });
    const found = await inPage(async (size) => {
      const { Ocelli, hasModelInCache } = window.ocelli;
      const engine = await Ocelli.open('cpu');
      const url = '/loading/secret.safetensors';
      const asked = [];
      const own = (address, options) => (asked.push([typeof address, new URL(address).pathname]), fetch(address, options));
      const load = (address, options) => engine.load(address, options).then((model) => (model.dispose(), 'loads'), (e) => e.code ?? e);
      const headers = { authorization: 'Bearer abc' };
      const out = [
        await load(url, { headers, cache: false }), await load(url, { headers: new Headers(headers), fetch: own }), await hasModelInCache(url), await load(url, { fetch: own }),
        await load(url, { fetch: async () => new Response('no', { status: 403 }), cache: false }),
        await load(url, { fetch: async () => { throw new Error('offline'); }, cache: false }),
        await load(url, { headers: { 'not a name': 'x' } }), await load('http://:x'), await load(7), await load(url, { maxBytes: NaN }),
      ];
      for (const path of [url, '/loading/untold.safetensors']) {
        for (const maxBytes of [size - 1, size]) out.push(await load(path, { maxBytes, cache: false }));
      }
      // A fetch that never answers, a signal that it does not know.
      const stop = new AbortController();
      const waiting = load(url, { fetch: () => new Promise(() => undefined), signal: stop.signal, cache: false });
      stop.abort('enough');
      out.push(await waiting);
      engine.dispose();
      return { out, asked };
    }, bytes.length);
    same('found', found.out, [
      'loads', 'loads', true, 'loads', 'network', 'network', 'argument', 'argument', 'argument', 'argument', 'network', 'loads', 'network', 'loads', 'enough',
    ]);
    same('asked', found.asked, [['string', '/loading/secret.safetensors']]);
    same('headers', seen.headers.slice(0, 2).map((h) => h.authorization), ['Bearer abc', 'Bearer abc']);
  });

  test('progress is told of the module and the weights together', async () => {
    serve('/loading/counted.safetensors', { every: 40 });
    const found = await inPage(async () => {
      const events = [];
      const model = await window.ocelli.load('/loading/counted.safetensors', { device: 'cpu', cache: false, onProgress: (event) => events.push(structuredClone(event)) });
      const image = await model.ocelli.scene(0, 64);
      const shape = (await model.attention(image)).heads;
      model.dispose();
      // Its worker was for it alone.
      const gone = await model.look(image).catch((e) => e.code);
      // Bytes that are here count as well.
      let whole;
      const bytes = await (await fetch('/loading/counted.safetensors')).arrayBuffer();
      const other = await window.ocelli.load(bytes, { device: 'cpu', onProgress: ({ loaded, total }) => (whole = [loaded, total]) });
      other.dispose();
      return { events, shape, gone, whole };
    });
    const { events } = found;
    const last = events.at(-1);
    const sizes = ['module', 'weights'].map((kind) => Math.max(...events.filter((e) => e.file.kind === kind).map((e) => e.file.loaded)));
    same('weights', sizes[1], bytes.length);
    same('the end', [last.loaded, last.total, found.gone, found.shape > 0], [sizes[0] + sizes[1], sizes[0] + sizes[1], 'disposed', true]);
    same('of bytes', found.whole, [sizes[0] + bytes.length, sizes[0] + bytes.length]);
    if (!(events.filter((e) => e.file.kind === 'weights').length >= 4)) throw new Error(`${events.length} events`);
    events.reduce((before, { loaded, total }) => {
      if (loaded < before || (total && loaded > total)) throw new Error(`${loaded} of ${total} after ${before}`);
      return loaded;
    }, 0);
    for (const { file } of events) if (!/^http.*(wasm|safetensors)$/.test(file.url) || file.cached) throw new Error(JSON.stringify(file));
  });

  test('a download ends with its signal, and nothing of it stays', async () => {
    const seen = serve('/loading/stalled.safetensors', { every: 30, stall: true });
    const found = await inPage(async () => {
      const { Ocelli, hasModelInCache } = window.ocelli;
      const engine = await Ocelli.open('cpu');
      const url = '/loading/stalled.safetensors';
      const reason = new Error('changed my mind');
      const out = [];
      for (const own of [undefined, (...all) => fetch(...all)]) {
        const stop = new AbortController();
        const loading = engine.load(url, { signal: stop.signal, fetch: own, onProgress: ({ loaded, total }) => loaded > total / 2 && stop.abort(reason) });
        out.push(await loading.catch((e) => e === reason));
        out.push(await hasModelInCache(url));
      }
      // The worker goes on.
      const model = await engine.load('/memory/formula.safetensors', { cache: false });
      out.push((await model.attention(await engine.scene(0, 64))).rows > 0);
      // A worker that ends takes its downloads along.
      const late = [engine.load(url), engine.load(url, { fetch })].map((load) => load.catch((e) => e.code));
      await new Promise((later) => setTimeout(later, 150));
      engine.dispose();
      out.push(...await Promise.all(late), await hasModelInCache(url));
      return out;
    });
    same('found', found, [true, false, true, false, true, 'disposed', 'disposed', false]);
    await until(`four downloads that end early (${JSON.stringify(seen)})`, () => seen.asked === 4 && seen.left === 4);
  });

  test('every call ends with its signal, and the worker goes on', async () => {
    const found = await inPage(async (file) => {
      const { Ocelli, LinearHead, load, train } = window.ocelli;
      const engine = await Ocelli.open('cpu');
      const model = await engine.load(file, { cache: false });
      const image = await engine.scene(0, 64);
      const config = { arch: 'vit-64x2x1/8', batch_size: 2, views: { global_size_px: 32, local_size_px: 16, local_crops: 1 }, dino: { head: { out_dim: 32, hidden_dim: 32, bottleneck_dim: 16 } } };
      const session = await engine.session(config);
      await session.addScenes(4, 48);
      const view = await model.look(image);
      const head = Object.assign(Object.create(LinearHead.prototype), { weight: new Float32Array(model.info.dim), bias: new Float32Array(1), kind: 'cls', prepared: {} });
      const values = new Float32Array(3 * 64 * 64);
      const calls = {
        load: (o) => engine.load(file, { ...o, cache: false }), session: (o) => engine.session(config, o), scene: (o) => engine.scene(0, 64, o), memory: (o) => engine.memory(o),
        look: (o) => model.look(image, o), lookAt: (o) => model.lookAt(values, 1, 64, 64, o), features: (o) => model.features(image, o),
        classify: (o) => model.classify(image, head, 1, o), embed: (o) => model.embed(image, o), attention: (o) => model.attention(image, o),
        patches: (o) => model.patches(image, o), match: (o) => model.match(image, image, o),
        viewAttention: (o) => view.attention(o), raw: (o) => view.rawAttention(0, 0, o), tokens: (o) => view.tokens(o), colours: (o) => view.colours(o),
        viewEmbed: (o) => view.embed(o), viewPatches: (o) => view.patches(o), viewMatch: (o) => view.match(view, o),
        addImage: (o) => session.addImage(image, o), addScenes: (o) => session.addScenes(1, 48, o), step: (o) => session.step(o), run: (o) => session.run(() => undefined, o),
        sessionLook: (o) => session.look(image, o), weights: (o) => session.weights(o),
        open: (o) => Ocelli.open({ device: 'cpu', ...o }), loadAlone: (o) => load(file, { device: 'cpu', ...o }), train: (o) => train([image], config, { device: 'cpu', ...o }),
      };
      const odd = [];
      for (const [name, call] of Object.entries(calls)) {
        // Before it begins, and while it waits or is computed.
        for (const early of [true, false]) {
          const [stop, reason] = [new AbortController(), { name }];
          if (early) stop.abort(reason);
          const promise = call({ signal: stop.signal });
          if (!early) stop.abort(reason);
          const got = await promise.then(() => 'a result', (error) => error);
          if (got !== reason) odd.push([name, early, String(got?.message ?? got)]);
        }
      }
      // A run that is ended goes on later.
      const stop = new AbortController();
      const steps = [];
      const reason = await session.run(({ step }) => (steps.push(step), steps.length === 2 && stop.abort('rest')), { signal: stop.signal }).catch((e) => e);
      const next = (await session.step()).step;
      // The worker is as it was.
      const after = (await (await model.look(image)).attention()).values.length;
      await session[Symbol.asyncDispose]();
      engine.dispose();
      return { odd, reason, next: next >= 2, after: after > 0 };
    }, file);
    same('odd', found.odd, []);
    same('after', [found.reason, found.next, found.after], ['rest', true, true]);
  });

  test('a result that comes too late is given back', async () => {
    const found = await inPage(async (file) => {
      const engine = await window.ocelli.Ocelli.open('cpu');
      const model = await engine.load(file, { cache: false });
      const image = await engine.scene(0, 320);
      const { prototype } = Worker;
      const { postMessage } = prototype;
      const sent = [];
      prototype.postMessage = function (message, ...rest) {
        sent.push(message);
        return postMessage.call(this, message, ...rest);
      };
      try {
        const stop = new AbortController();
        const look = model.look(image, { signal: stop.signal }).catch((e) => e);
        // The worker has it, and cannot hear of the signal before it is done.
        await new Promise((later) => setTimeout(later, 5));
        stop.abort('late');
        const got = await look;
        // Answered in turn, so the view was made by now, and given back.
        await engine.scene(0, 16);
        await engine.scene(0, 16);
        const [request] = sent.filter((m) => m.call === 'look');
        const freed = sent.filter((m) => m.call === 'freeView').map((m) => typeof m.args[0]);
        const cancelled = sent.some((m) => m.cancel === request.id);
        engine.dispose();
        return { got, freed, cancelled };
      } finally {
        prototype.postMessage = postMessage;
      }
    }, file);
    same('found', found, { got: 'late', freed: ['number'], cancelled: true });
  });

  test('models are disposed of one by one, and by the end of a block', async () => {
    const found = await inPage(async (file) => {
      const { Ocelli, OcelliModel, OcelliView, TrainingSession, OcelliOverlay } = window.ocelli;
      const engine = await Ocelli.open('cpu');
      const [first, second] = await Promise.all([engine.load(file), engine.load(file)]);
      const image = await engine.scene(0, 64);
      const code = (run) => run().then(() => 'works', (e) => e.code);
      const view = await first.look(image);
      first.dispose();
      first.dispose();
      const out = [await code(() => first.look(image)), await code(() => second.look(image)), await code(() => view.colours())];
      await view[Symbol.asyncDispose]();
      out.push(await code(() => view.colours()));
      second[Symbol.dispose]();
      out.push(await code(() => second.look(image)), await code(() => engine.scene(0, 16)));
      for (const kind of [OcelliModel, OcelliView, TrainingSession, OcelliOverlay, Ocelli]) {
        out.push(typeof kind.prototype[Symbol.dispose] === 'function' && typeof kind.prototype[Symbol.asyncDispose] === 'function');
      }
      engine[Symbol.dispose]();
      out.push(await code(() => engine.scene(0, 16)));
      return out;
    }, file);
    same('found', found, ['disposed', 'works', 'works', 'disposed', 'disposed', 'works', true, true, true, true, true, 'disposed']);
  });
}
