// Owns the wasm module and everything in it. One call at a time, in the order they came.

import init, { Engine, TracedPicture, Model, Overlay, Session, chooseKernels, fault, scene } from '../pkg/ocelli_web.js';
import { fitted } from './fitted.js';
import { PatchHead } from './patch-head.js';
import type {
  Call, Calls, Cancel, DeviceChoice, DeviceInfo, ErrorCode, HandedHead, Kernels, LoadOptions, Reply, Request, SessionStart, ViewInfo,
} from './protocol';
import { likeliest, taps, type Lengths, type Taps } from './upsample.js';

// A dedicated worker's scope, without pulling the library of types for workers beside the page's.
const scope = self as unknown as {
  postMessage(message: Reply, transfer?: Transferable[]): void;
  onmessage: ((event: MessageEvent<Request | Cancel>) => void) | null;
};

class Refusal extends Error {
  constructor(readonly code: ErrorCode, message: string) {
    super(message);
  }
}

/** Numbers per channel as the module takes them. */
const three = (v?: number[]) => (v ? Float32Array.from(v) : undefined);

/** Pictures are shrunk to this while they are decoded: no map needs more. */
const MAX_SIDE_PX = 2048;
/** Longest side over the shortest of a picture whose features are asked for. */
const MAX_ASPECT = 16;

let engine: Engine | undefined;
let memory: WebAssembly.Memory | undefined;
let next = 1;
const models = new Map<number, Model>();
const views = new Map<number, TracedPicture>();
const sessions = new Map<number, Session>();
const overlays = new Map<number, Overlay>();
/** The segmentation head that was handed over last. */
let head: { key: number; patch: PatchHead } | undefined;
/** Milliseconds the current call spent on pixels. */
let pixelsMs = 0;
const cancelled = new Set<number>();
const running = new Map<number, AbortController>();

function get<T>(map: Map<number, T>, id: number, what: string): T {
  const found = map.get(id);
  if (found === undefined) throw new Refusal('disposed', `this ${what} was disposed of`);
  return found;
}

function keep<T>(map: Map<number, T>, value: T): number {
  map.set(next, value);
  return next++;
}

function opened(): Engine {
  if (!engine) throw new Refusal('device', 'no device is open yet');
  return engine;
}

async function open(choice: DeviceChoice, kernels: Kernels): Promise<DeviceInfo> {
  memory = (await init()).memory;
  chooseKernels(kernels);
  const onCpu = async (reason: string): Promise<DeviceInfo> => {
    engine = await Engine.open(false, false);
    return { kind: 'cpu', name: 'CPU (SIMD wasm)', reason, software: false, limits: {} };
  };
  if (choice === 'cpu') return onCpu('asked for by name');
  const { adapter, reason } = await findAdapter();
  if (!adapter && choice === 'webgpu') throw new Refusal('device', `WebGPU is not available: ${reason}`);
  if (!adapter) return onCpu(reason);
  const about = adapter.info ?? {};
  const words = [about.vendor, about.architecture, about.description].filter(Boolean).join(' ');
  const software = Boolean(about.isFallbackAdapter) || /swiftshader|llvmpipe|lavapipe|software|warp/i.test(words);
  if (software && choice === 'auto') return onCpu('the only adapter is computed on the CPU, and our CPU path is faster than that');
  watchForLoss(adapter);
  engine = await Engine.open(true, software);
  const limits: Record<string, number> = {};
  for (const name of ['maxStorageBufferBindingSize', 'maxBufferSize', 'maxComputeWorkgroupStorageSize', 'maxComputeInvocationsPerWorkgroup']) {
    limits[name] = adapter.limits[name];
  }
  return { kind: 'webgpu', name: words || 'WebGPU', reason: '', software, limits };
}

// WebGPU's types are not in TypeScript's library yet.
type Loose = any;

async function findAdapter(): Promise<{ adapter: Loose; reason: string }> {
  const gpu: Loose = (navigator as Loose).gpu;
  if (!gpu) return { adapter: undefined, reason: 'this browser has no WebGPU' };
  try {
    const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
    return { adapter, reason: adapter ? '' : 'the browser found no adapter' };
  } catch (error) {
    return { adapter: undefined, reason: String(error) };
  }
}

/** Tells the page when the device the module opens is lost: the module asks for it itself, so its request is watched. */
function watchForLoss(adapter: Loose): void {
  const kind = Object.getPrototypeOf(adapter);
  const request = kind.requestDevice;
  kind.requestDevice = async function (this: Loose, ...args: unknown[]) {
    const device = await request.apply(this, args);
    device.lost.then((info: { message: string }) => {
      scope.postMessage({ lost: info.message || 'the graphics device was lost' });
    });
    return device;
  };
}

async function fetchBytes(url: string, id: number): Promise<Uint8Array> {
  const abort = new AbortController();
  running.set(id, abort);
  let response: Response;
  try {
    response = await fetch(url, { signal: abort.signal });
    if (!response.ok) throw new Refusal('network', `${url}: the server answers ${response.status} ${response.statusText}`);
    const total = Number(response.headers.get('content-length') ?? 0);
    const reader = response.body?.getReader();
    if (!reader) return new Uint8Array(await response.arrayBuffer());
    const parts: Uint8Array[] = [];
    let loaded = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      loaded += value.length;
      scope.postMessage({ id, progress: { loaded, total } });
    }
    const bytes = new Uint8Array(loaded);
    let at = 0;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  } catch (error) {
    if (error instanceof Refusal) throw error;
    if (abort.signal.aborted) throw new Refusal('aborted', 'cancelled');
    throw new Refusal('network', `${url} cannot be fetched: ${error instanceof Error ? error.message : error}`);
  } finally {
    running.delete(id);
  }
}

const bytes = async (source: ArrayBuffer | Blob | string, id: number): Promise<Uint8Array> =>
  typeof source === 'string' ? fetchBytes(source, id)
  : source instanceof Blob ? new Uint8Array(await source.arrayBuffer())
  : new Uint8Array(source);

/** A canvas of the last picture's size: those of a video all have the same. */
let decoder: OffscreenCanvasRenderingContext2D | undefined;

/** `side`: the long side wanted; 0 keeps it as far as anything needs. */
function pixels(source: ImageBitmap | ImageData, side = 0): ImageData {
  if (source instanceof ImageData) return source;
  const began = performance.now();
  const data = decoded(source, side);
  pixelsMs += performance.now() - began;
  return data;
}

function decoded(source: ImageBitmap, side: number): ImageData {
  const scale = side ? side / Math.max(source.width, source.height) : Math.min(1, MAX_SIDE_PX / Math.max(source.width, source.height));
  const width = Math.max(1, Math.round(source.width * scale));
  const height = Math.max(1, Math.round(source.height * scale));
  if (decoder?.canvas.width !== width || decoder.canvas.height !== height) {
    decoder = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true }) ?? undefined;
  }
  const context = decoder;
  if (!context) throw new Refusal('image', 'the browser gives no canvas to decode with');
  context.clearRect(0, 0, width, height);
  context.imageSmoothingQuality = 'high';
  context.drawImage(source, 0, 0, width, height);
  source.close();
  return context.getImageData(0, 0, width, height);
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
  if (head?.key !== key) throw new Refusal('argument', 'the segmentation head did not arrive; segment once more');
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

type Handlers = { [K in Call]: (id: number, ...args: Calls[K]['args']) => Promise<Calls[K]['result']> | Calls[K]['result'] };

const handlers: Handlers = {
  open: (_, choice, kernels) => open(choice, kernels),
  async load(id, source, options: LoadOptions) {
    const file = await bytes(source, id);
    const model = Model.load(opened(), file, options.heads, three(options.mean), three(options.std));
    return { ...JSON.parse(model.describe()), model: keep(models, model) };
  },
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
      throw new Refusal('image', `expected a picture at most ${MAX_ASPECT} times as long as wide, found ${data.width} × ${data.height} px`);
    }
    const { kind, resize, crop, mean, std } = options;
    // The module takes whole numbers and would cut the rest off without a word.
    if (![resize, crop].every((px) => Number.isInteger(px) && px >= 0)) {
      throw new Refusal('argument', `expected resize and crop in whole pixels, 0 or more, found ${resize} and ${crop}`);
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
    data.data.set(scene(index, size));
    return data;
  },
  memory: () => memory?.buffer.byteLength ?? 0,
  freeView(_, view) {
    views.get(view)?.free();
    views.delete(view);
  },
  freeModel(_, model) {
    models.get(model)?.free();
    models.delete(model);
    engine?.cleanUp();
  },
  overlay: (_, canvas) => keep(overlays, new Overlay(opened(), canvas)),
  paint: (_, overlay, view, layer, query, head, mass) =>
    get(overlays, overlay, 'overlay').paint(get(views, view, 'view'), layer, query, head, mass),
  freeOverlay(_, overlay) {
    overlays.get(overlay)?.free();
    overlays.delete(overlay);
  },
  async session(id, config, weights, heads) {
    const session = new Session(opened(), config, weights === undefined ? undefined : await bytes(weights, id), heads);
    const shape = Array.from(session.shape());
    return {
      session: keep(sessions, session), config: session.config(), totalSteps: session.totalSteps, shape,
      start: session.start as SessionStart,
    };
  },
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
  freeSession(_, session) {
    sessions.get(session)?.free();
    sessions.delete(session);
    engine?.cleanUp();
  },
};

function describe(error: unknown): { code: ErrorCode; message: string } {
  // A panic of the module ends in a trap; what it said was kept.
  if (error instanceof WebAssembly.RuntimeError) {
    let said: string | undefined;
    try {
      said = fault();
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

async function answer({ id, call, args }: Request): Promise<void> {
  try {
    if (cancelled.delete(id)) throw new Refusal('aborted', 'cancelled');
    const handler = handlers[call] as (id: number, ...args: unknown[]) => unknown;
    const began = performance.now();
    pixelsMs = 0;
    const value = await handler(id, ...args);
    scope.postMessage({ id, value, times: { all: performance.now() - began, pixels: pixelsMs } }, transferables(value));
  } catch (error) {
    scope.postMessage({ id, error: describe(error) });
  }
}

let queue: Promise<void> = Promise.resolve();
scope.onmessage = ({ data }) => {
  if ('cancel' in data) {
    const abort = running.get(data.cancel);
    if (abort) abort.abort();
    else cancelled.add(data.cancel);
    return;
  }
  queue = queue.then(() => answer(data));
};
