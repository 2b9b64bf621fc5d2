// Owns a wasm module and everything in it. One call at a time, in the order they came.

import { openDevice, type Opened } from './device.js';
import { take, type Taken } from './download.js';
import { OcelliError } from './error.js';
import { fitted } from './fitted.js';
import type { Model, Overlay, Session, TracedPicture } from './module.js';
import { PatchHead } from './patch-head.js';
import { decoded } from './pixels.js';
import type { Call, Calls, Cancel, ErrorCode, HandedHead, Reply, Request, SessionStart, ViewInfo, Weights } from './protocol.js';
import { likeliest, taps, type Lengths, type Taps } from './upsample.js';

// A dedicated worker's scope, without pulling the library of types for workers beside the page's.
const scope = self as unknown as {
  postMessage(message: Reply, transfer?: Transferable[]): void;
  onmessage: ((event: MessageEvent<Request | Cancel>) => void) | null;
};

/** Numbers per channel as the module takes them. */
const three = (v?: number[]) => (v ? Float32Array.from(v) : undefined);

/** Longest side over the shortest of a picture whose features are asked for. */
const MAX_ASPECT = 16;

let open: Opened | undefined;
let next = 1;
const models = new Map<number, Model>();
const views = new Map<number, TracedPicture>();
const sessions = new Map<number, Session>();
const overlays = new Map<number, Overlay>();
/** The segmentation head that was handed over last. */
let head: { key: number; patch: PatchHead } | undefined;
/** Milliseconds the current call spent on pixels. */
let pixelsMs = 0;

/** A call that waits or is under way. */
interface Context {
  id: number;
  signal: AbortSignal;
  /** The weights it needs, on their way since it came. */
  weights: Promise<Taken> | undefined;
}
const aborts = new Map<number, AbortController>();

function get<T>(map: Map<number, T>, id: number, what: string): T {
  const found = map.get(id);
  if (found === undefined) throw new OcelliError('disposed', `this ${what} was disposed of`);
  return found;
}

function keep<T>(map: Map<number, T>, value: T): number {
  map.set(next, value);
  return next++;
}

function opened(): Opened {
  if (!open) throw new OcelliError('device', 'no device is open yet');
  return open;
}

/** `side`: the long side wanted; 0 keeps it as far as anything needs. */
function pixels(source: ImageBitmap | ImageData, side = 0): ImageData {
  if (source instanceof ImageData) return source;
  const began = performance.now();
  const data = decoded(source, side);
  pixelsMs += performance.now() - began;
  return data;
}

function viewOf(look: TracedPicture): ViewInfo {
  pixelsMs += look.prepareMs;
  const { width, height, rows, columns } = look;
  return { view: keep(views, look), width, height, rows, columns };
}

const bytesOf = (data: ImageData) => new Uint8Array(data.data.buffer, data.data.byteOffset, data.data.byteLength);

/** The head that is handed over, else the one that is here. */
function headOf({ key, layers }: HandedHead): PatchHead {
  if (layers) head = { key, patch: new PatchHead(layers) };
  if (head?.key !== key) throw new OcelliError('argument', 'the segmentation head did not arrive; segment once more');
  return head.patch;
}

/** A class for every pixel along two axes, by a head on the patches of a picture. */
async function labelled(head: PatchHead, look: TracedPicture, axes: (rows: number, columns: number) => [Lengths, Lengths], aligned: boolean) {
  const { rows, columns } = look;
  const tokens = await look.tokens();
  // The class token comes first.
  const logits = head.logits(tokens.subarray(head.dim, head.dim * (1 + rows * columns)), rows, columns);
  const [down, across] = axes(rows, columns).map((lengths) => taps(lengths, aligned)) as [Taps, Taps];
  return { width: across.at.length / 4, height: down.at.length / 4, labels: likeliest(logits, rows, columns, down, across) };
}

/** Makes something out of weights; they are kept for the next time where that works. */
async function withWeights<T>({ weights, signal }: Context, make: (bytes: Uint8Array | undefined) => T): Promise<T> {
  const taken = await weights;
  let made: T | undefined;
  try {
    signal.throwIfAborted();
    return (made = make(taken?.bytes));
  } finally {
    await taken?.settle(made !== undefined);
  }
}

type Handlers = { [K in Call]: (context: Context, ...args: Calls[K]['args']) => Promise<Calls[K]['result']> | Calls[K]['result'] };

const handlers: Handlers = {
  async open({ id, signal }, opening) {
    open = await openDevice(opening, {
      signal,
      onProgress: (progress) => scope.postMessage({ id, progress }),
      onLost: (lost) => scope.postMessage({ lost }),
    });
    return open.info;
  },
  load: (context, _, { heads, mean, std }) =>
    withWeights(context, (bytes = new Uint8Array()) => {
      const { module, engine } = opened();
      const model = module.Model.load(engine, bytes, heads, three(mean), three(std));
      return { ...JSON.parse(model.describe()), model: keep(models, model) };
    }),
  look(_, model, source, size, quick) {
    const data = pixels(source, quick ? size : 0);
    return viewOf(get(models, model, 'model').look(bytesOf(data), data.width, data.height, size));
  },
  lookAt: (_, model, values, batch, height, width) =>
    viewOf(get(models, model, 'model').lookAt(values, batch, height, width)),
  features(_, model, source, options) {
    const data = pixels(source);
    const [short, long] = [Math.min(data.width, data.height), Math.max(data.width, data.height)];
    // The short side is scaled to a given size: a strip would become a picture of millions of pixels.
    if (long > MAX_ASPECT * short) {
      throw new OcelliError('image', `expected a picture at most ${MAX_ASPECT} times as long as wide, found ${data.width} × ${data.height} px`);
    }
    const { kind, resize, crop, mean, std } = options;
    // The module takes whole numbers and would cut the rest off without a word.
    if (![resize, crop].every((px) => Number.isInteger(px) && px >= 0)) {
      throw new OcelliError('argument', `expected resize and crop in whole pixels, 0 or more, found ${resize} and ${crop}`);
    }
    return get(models, model, 'model').features(bytesOf(data), data.width, data.height, kind, resize, crop, three(mean), three(std));
  },
  async segment(_, model, handed, source, fitting, aligned) {
    const [own, network] = [headOf(handed), get(models, model, 'model')];
    const data = pixels(source);
    const { values, shown, size } = fitted(data, fitting);
    const look = network.lookAt(values, 1, size[0], size[1]);
    try {
      return await labelled(own, look, (rows, columns) => [
        { cells: rows, network: size[0], shown: shown[0], picture: data.height },
        { cells: columns, network: size[1], shown: shown[1], picture: data.width },
      ], aligned);
    } finally {
      look.free();
    }
  },
  segmentView(_, view, handed, width, height, aligned) {
    const [own, look] = [headOf(handed), get(views, view, 'view')];
    return labelled(own, look, (rows, columns) => [
      { cells: rows, network: look.height, picture: height }, { cells: columns, network: look.width, picture: width },
    ], aligned);
  },
  attention: (_, view, layer, query) => get(views, view, 'view').attention(layer, query),
  tokens: (_, view) => get(views, view, 'view').tokens(),
  colours: (_, view) => get(views, view, 'view').colours(),
  async match(_, a, b) {
    const found = await get(views, a, 'view').matchWith(get(views, b, 'view'));
    const { best, similarity, mutual } = found;
    found.free();
    return { best, similarity, mutual };
  },
  scene(_, index, size) {
    const data = new ImageData(size, size);
    data.data.set(opened().module.scene(index, size));
    return data;
  },
  memory: () => open?.memory.buffer.byteLength ?? 0,
  freeView(_, view) {
    views.get(view)?.free();
    views.delete(view);
  },
  freeModel(_, model) {
    models.get(model)?.free();
    models.delete(model);
    open?.engine.cleanUp();
  },
  overlay(_, canvas) {
    const { module, engine } = opened();
    return keep(overlays, new module.Overlay(engine, canvas));
  },
  paint: (_, overlay, view, layer, query, head, mass) =>
    get(overlays, overlay, 'overlay').paint(get(views, view, 'view'), layer, query, head, mass),
  freeOverlay(_, overlay) {
    overlays.get(overlay)?.free();
    overlays.delete(overlay);
  },
  session: (context, config, _, heads) =>
    withWeights(context, (bytes) => {
      const { module, engine } = opened();
      if (!module.Session) throw new OcelliError('unsupported', 'this worker looks; training has a worker of its own');
      const session = new module.Session(engine, config, bytes, heads);
      const shape = Array.from(session.shape());
      return {
        session: keep(sessions, session), config: session.config(), totalSteps: session.totalSteps, shape,
        start: session.start as SessionStart,
      };
    }),
  sessionState: (_, session, bytes) => get(sessions, session, 'session').loadState(new Uint8Array(bytes)),
  sessionImage(_, id, source) {
    const [data, session] = [pixels(source), get(sessions, id, 'session')];
    session.addImage(bytesOf(data), data.width, data.height);
    return session.images;
  },
  sessionScenes(_, id, count, size) {
    const session = get(sessions, id, 'session');
    session.addScenes(count, size);
    return session.images;
  },
  step: async (_, session) => JSON.parse(await get(sessions, session, 'session').trainStep()),
  stepOn: async (_, session, globals, locals, batch) =>
    JSON.parse(await get(sessions, session, 'session').trainStepOn(globals, locals, batch)),
  sessionLook(_, session, source, size) {
    const data = pixels(source);
    return viewOf(get(sessions, session, 'session').look(bytesOf(data), data.width, data.height, size));
  },
  sessionWeights: (_, session) => get(sessions, session, 'session').weights(),
};

function describe(error: unknown): { code: ErrorCode; message: string } {
  // A panic of the module ends in a trap; what it said was kept.
  if (error instanceof WebAssembly.RuntimeError) {
    let said: string | undefined;
    try {
      said = open?.module.fault();
    } catch {
      said = undefined;
    }
    return { code: 'fault', message: `this is a fault in ocelli, please report it: ${said ?? error.message}` };
  }
  const known = error as { code?: unknown; message?: string };
  const code = typeof known?.code === 'string' ? (known.code as ErrorCode) : 'fault';
  return { code, message: known?.message ?? String(error) };
}

function transferables(value: unknown): Transferable[] {
  const found: Transferable[] = [];
  const list = value && typeof value === 'object' && !ArrayBuffer.isView(value) ? Object.values(value) : [value];
  for (const item of list) if (ArrayBuffer.isView(item)) found.push(item.buffer as ArrayBuffer);
  return found;
}

/** Lets go of what came for a call that nobody waits for. */
function drop(args: unknown[], weights: Promise<Taken> | undefined): void {
  for (const arg of args) if (arg instanceof ImageBitmap) arg.close();
  void weights?.then((taken) => taken.settle(false), () => undefined);
}

async function answer({ id, call, args }: Request, context: Context): Promise<void> {
  const { signal, weights } = context;
  try {
    signal.throwIfAborted();
    const handler = handlers[call] as (context: Context, ...args: unknown[]) => unknown;
    const began = performance.now();
    pixelsMs = 0;
    const value = await handler(context, ...args);
    // Where it was aborted meanwhile, the page gives back what was made.
    scope.postMessage({ id, value, times: { all: performance.now() - began, pixels: pixelsMs } }, transferables(value));
  } catch (error) {
    if (signal.aborted) drop(args, weights);
    // A module that panicked is of no more use, whoever waits.
    const fatal = error instanceof WebAssembly.RuntimeError;
    scope.postMessage(signal.aborted && !fatal ? { id, cancelled: true } : { id, error: describe(error) });
  } finally {
    aborts.delete(id);
  }
}

/** The weights among a call's arguments. */
const weightsIn = ({ call, args }: Request) => (call === 'load' ? args[0] : call === 'session' ? args[1] : undefined) as Weights | undefined;

let queue: Promise<void> = Promise.resolve();
scope.onmessage = ({ data }) => {
  if ('cancel' in data) {
    aborts.get(data.cancel)?.abort();
    return;
  }
  const { id } = data;
  const abort = new AbortController();
  aborts.set(id, abort);
  const { signal } = abort;
  const wanted = weightsIn(data);
  const weights = wanted && take(wanted, { signal, onProgress: (progress) => scope.postMessage({ id, progress }) });
  // Who needs them is told what goes wrong.
  weights?.catch(() => undefined);
  queue = queue.then(() => answer(data, { id, signal, weights }));
};
