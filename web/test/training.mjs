// Training in a browser: the module and the worker it has to itself, and every method. Part of run.mjs.
import { TRAINING } from './size.mjs';

const same = (what, found, expected) => {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what}: expected ${b}, found ${a}`);
};

/** Each method with narrow heads, for a few pictures. */
const SMALL = {
  dino: { head: { out_dim: 32, hidden_dim: 32, bottleneck_dim: 16 } },
  moco: { queue: 8, hidden_dim: 32, out_dim: 16 },
  simclr: { hidden_dim: 32, out_dim: 16 },
  barlow: { hidden_dim: 32, out_dim: 32 },
  vicreg: { dim: 32 },
  byol: { hidden_dim: 32, out_dim: 16 },
  swav: { prototypes: 8, hidden_dim: 32, out_dim: 16, freeze_prototypes_steps: 1 },
  deepcluster: { heads: [4, 3], hidden_dim: 32, out_dim: 16 },
};
const COMMON = { arch: 'vit-64x2x1/8', batch_size: 4, epochs: 2, steps_per_epoch: 4, lr: 1e-3, views: { global_size_px: 32, local_size_px: 16 } };

/** `file`: the address of a network. */
export function training({ test, inPage, context, url, file }) {
  test('training has a module and a worker of its own, and gives them back', async () => {
    const page = await context.newPage();
    const modules = [];
    page.on('request', (request) => /\.wasm$/.test(request.url()) && modules.push(request.url()));
    const workers = async (expected) => {
      for (let i = 0; i < 100 && page.workers().length !== expected; i++) await new Promise((later) => setTimeout(later, 50));
      same('workers', page.workers().length, expected);
    };
    await page.goto(`${url}/test.html`);
    await page.evaluate(async (file) => {
      window.engine = await window.ocelli.Ocelli.open('cpu');
      window.model = await window.engine.load(file, { cache: false });
      window.image = await window.engine.scene(0, 64);
      window.view = await window.model.look(window.image);
      await window.view.attention();
    }, file);
    same('modules for looking', modules.map((name) => TRAINING.test(name)), [false]);
    await workers(1);
    const config = { ...COMMON, dino: SMALL.dino };
    const trained = await page.evaluate(async ({ config, file }) => {
      const { engine, image, view } = window;
      const events = [];
      const session = (window.session = await engine.session(config, { onProgress: (event) => events.push(structuredClone(event)) }));
      await session.addScenes(8, 48);
      const { loss } = await session.step();
      // What is in training is seen where it lies, and so is a network beside it.
      const seen = await session.look(image);
      const beside = await session.ocelli.load(file, { cache: false });
      const other = await beside.look(image);
      const out = {
        finite: loss > 0 && loss < 20, apart: session.ocelli !== engine, kind: session.ocelli.device.kind,
        cells: (await seen.attention()).values.length / session.config.arch.split('x')[2][0],
        itself: (await other.match(other)).mutual.every((m) => m === 1),
        across: await seen.match(view).catch((e) => e.code),
      };
      const last = events.at(-1);
      return { ...out, told: last.loaded === last.total && last.total > 1e5, file: last.file.kind, url: last.file.url };
    }, { config, file });
    const { url: address, ...rest } = trained;
    same('found', rest, { finite: true, apart: true, kind: 'cpu', cells: 64, itself: true, across: 'argument', told: true, file: 'module' });
    if (!TRAINING.test(address)) throw new Error(`progress was told of ${address}`);
    same('modules with training', modules.map((name) => TRAINING.test(name)), [false, true]);
    await workers(2);
    // Its worker ends with it; what looks is as it was. Those that are left end with what they came from.
    const left = await page.evaluate(async (config) => {
      const { engine, session, view } = window;
      session.dispose();
      const out = [await session.step().catch((e) => e.code), (await view.colours()).length > 0];
      window.last = await engine.session(config);
      return out;
    }, config);
    same('after the session', left, ['disposed', true]);
    await workers(2);
    const ended = await page.evaluate(async () => {
      window.engine.dispose();
      return [await window.last.weights().catch((e) => e.code), await window.view.colours().catch((e) => e.code), await window.engine.session().catch((e) => e.code)];
    });
    same('after all', ended, ['disposed', 'disposed', 'disposed']);
    await workers(0);
    await page.close();
  });

  for (const [method, section] of Object.entries(SMALL)) {
    test(`a tab trains with ${method}`, async () => {
      const found = await inPage(async ({ method, section, common, all }) => {
        const engine = await window.ocelli.Ocelli.open('cpu');
        const image = await engine.scene(0, 48);
        const session = await engine.session({ ...common, method, [method]: section });
        await session.addScenes(12, 48);
        const steps = [];
        for (let i = 0; i < 5; i++) steps.push(await session.step());
        const seen = await (await session.look(image, { size: 0 })).embed();
        const model = await engine.load(await session.weights());
        const again = await model.look(image, { size: 0 });
        const embedded = await again.embed();
        // Its defaults are a run, too.
        const usual = await engine.session({ method });
        await usual.addScenes(300, 64);
        const first = await usual.step();
        const out = {
          method: session.config.method, sections: Object.keys(session.config).filter((key) => all.includes(key)),
          finite: [...steps, first].every(({ loss }) => Number.isFinite(loss)), printed: steps[0].printed.length > 0,
          moved: new Set(steps.map(({ loss }) => loss)).size > 1, epoch: steps.at(-1).epoch, arch: model.info.arch, usual: usual.config.arch,
          apart: Math.max(...seen.map((v, i) => Math.abs(v - embedded[i]))),
        };
        engine.dispose();
        return out;
      }, { method, section, common: COMMON, all: Object.keys(SMALL) });
      const { apart, ...rest } = found;
      same('found', rest, {
        method, sections: [method], finite: true, printed: true, moved: true, epoch: 1, arch: 'vit-64x2x1/8', usual: 'vit-128x4x2/8',
      });
      if (!(apart < 1e-4)) throw new Error(`what was saved is not what was seen: ${apart}`);
    });
  }
}
