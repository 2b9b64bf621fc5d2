// The client: what a page imports. Everything heavy happens in the worker.

import { OcelliError } from './error.js';
import { sourceOf, type FeatureSource } from './features.js';
import type { LinearHead, Prediction } from './head.js';
import type {
  Call, Calls, DeviceChoice, DeviceInfo, FeatureOptions, HandedHead, Kernels, LoadOptions, ModelInfo, Reply, Segmentation, SessionStart,
  StepFigures, Times, ViewInfo,
} from './protocol';
import type { SegmentationHead } from './segmentation.js';

export { OcelliError } from './error.js';
export type { FeatureSource } from './features.js';
export { LinearHead, type Prediction } from './head.js';
export { KnnClassifier, ranked, similarities, type KnnOptions, type Vote } from './knn.js';
export type {
  DeviceChoice, DeviceInfo, ErrorCode, FeatureKind, FeatureOptions, Kernels, LoadOptions, ModelInfo, Segmentation, SessionStart, StepFigures,
  Times,
} from './protocol';
export { SegmentationHead, type SegmentedClass } from './segmentation.js';

export type ImageSource = ImageBitmap | HTMLImageElement | HTMLCanvasElement | OffscreenCanvas | HTMLVideoElement | ImageData | Blob;

export interface Progress {
  loaded: number;
  /** Bytes in all; 0 where the server does not tell. */
  total: number;
}

interface Pending {
  resolve(value: unknown): void;
  reject(error: OcelliError): void;
  onProgress?: (progress: Progress) => void;
}

/** A device in a worker. Several may be open at once. */
export class Ocelli {
  private readonly pending = new Map<number, Pending>();
  private next = 1;
  private closed: OcelliError | undefined;
  /** The segmentation head that the worker has. */
  private handed: { head: SegmentationHead; key: number } | undefined;
  /** Called once when the device is lost or the module failed: open another. */
  onLost: ((error: OcelliError) => void) | undefined;

  private constructor(private readonly worker: Worker) {
    worker.onmessage = ({ data }: MessageEvent<Reply>) => this.receive(data);
    worker.onerror = (event) => this.close(new OcelliError('fault', event.message || 'the worker did not start'));
  }

  /** Where it computes. */
  device!: DeviceInfo;

  /** Milliseconds of all calls so far, in the worker. */
  readonly times: Times = { all: 0, pixels: 0 };

  /** Opens WebGPU, else the CPU (`auto`); or the one that is named. */
  static async open(device: DeviceChoice = 'auto', kernels: Kernels = 'auto'): Promise<Ocelli> {
    const worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'ocelli' });
    const ocelli = new Ocelli(worker);
    try {
      ocelli.device = await ocelli.call('open', [device, kernels]);
    } catch (error) {
      worker.terminate();
      throw error;
    }
    return ocelli;
  }

  /** Loads weights (`.safetensors`, or PyTorch's `.pth`) from a URL, a file or bytes. */
  async load(
    source: string | URL | Blob | ArrayBuffer,
    options: LoadOptions & { onProgress?: (progress: Progress) => void; signal?: AbortSignal } = {},
  ): Promise<OcelliModel> {
    const { onProgress, signal, ...rest } = options;
    const { model, ...info } = await this.call('load', [absolute(source), rest], { onProgress, signal });
    return new OcelliModel(this, model, info);
  }

  /**
   * Starts training on this device. `weights` (URL, file or bytes) is what it begins with: a backbone, whose shape is taken, or a
   * checkpoint with everything in it.
   */
  async session(
    config: object = {},
    options: { weights?: string | URL | Blob | ArrayBuffer; heads?: number; signal?: AbortSignal } = {},
  ): Promise<TrainingSession> {
    const { weights, heads, signal } = options;
    const from = weights === undefined ? undefined : absolute(weights);
    const { session, config: full, totalSteps, shape, start } = await this.call('session', [JSON.stringify(config), from, heads], { signal });
    const [dim = 0, depth = 0, count = 0] = shape;
    return new TrainingSession(this, session, JSON.parse(full), totalSteps, start, { dim, depth, heads: count });
  }

  /**
   * A canvas that maps are drawn on without leaving the GPU, one pixel a patch (CSS makes it larger; `image-rendering:
   * pixelated` keeps the patches). WebGPU only.
   */
  async overlay(canvas: HTMLCanvasElement | OffscreenCanvas): Promise<OcelliOverlay> {
    const handed = canvas instanceof OffscreenCanvas ? canvas : canvas.transferControlToOffscreen();
    return new OcelliOverlay(this, await this.call('overlay', [handed], { transfer: [handed] }));
  }

  /** One of the built-in scenes. */
  scene(index: number, size = 224): Promise<ImageData> {
    return this.call('scene', [index, size]);
  }

  /** Bytes of memory the module has taken (without what lies on a GPU). */
  memory(): Promise<number> {
    return this.call('memory', []);
  }

  /** Ends the worker; what came from it is of no more use. */
  dispose(): void {
    this.close(new OcelliError('disposed', 'this Ocelli was disposed of'));
  }

  /** @internal */
  call<K extends Call>(
    call: K,
    args: Calls[K]['args'],
    options: { onProgress?: (progress: Progress) => void; signal?: AbortSignal; transfer?: Transferable[] } = {},
  ): Promise<Calls[K]['result']> {
    if (this.closed) return Promise.reject(this.closed);
    if (options.signal?.aborted) return Promise.reject(new OcelliError('aborted', 'cancelled'));
    const id = this.next++;
    return new Promise((resolve, reject) => {
      const cancel = () => this.worker.postMessage({ cancel: id });
      const done = () => options.signal?.removeEventListener('abort', cancel);
      this.pending.set(id, {
        resolve: (value) => (done(), resolve(value as Calls[K]['result'])),
        reject: (error) => (done(), reject(error)),
        onProgress: options.onProgress,
      });
      options.signal?.addEventListener('abort', cancel);
      this.worker.postMessage({ id, call, args }, options.transfer ?? []);
    });
  }

  /** A call with a head, whose numbers go along unless the worker has them already. @internal */
  async withHead<T>(head: SegmentationHead, call: (handed: HandedHead) => Promise<T>): Promise<T> {
    const known = this.handed?.head === head ? this.handed : undefined;
    const handed = (this.handed = known ?? { head, key: this.next++ });
    try {
      return await call({ key: handed.key, layers: known ? undefined : head.layers });
    } catch (error) {
      // The worker may not have taken it.
      if (this.handed === handed) this.handed = undefined;
      throw error;
    }
  }

  private receive(reply: Reply): void {
    if ('lost' in reply) {
      this.close(new OcelliError('device', `the graphics device was lost: ${reply.lost}`));
      return;
    }
    const waiting = this.pending.get(reply.id);
    if (!waiting) return;
    if ('progress' in reply) {
      waiting.onProgress?.(reply.progress);
      return;
    }
    this.pending.delete(reply.id);
    if ('value' in reply) {
      this.times.all += reply.times.all;
      this.times.pixels += reply.times.pixels;
      waiting.resolve(reply.value);
      return;
    }
    const error = new OcelliError(reply.error.code, reply.error.message);
    waiting.reject(error);
    // A module that panicked cannot be trusted with another call.
    if (error.code === 'fault') this.close(error);
  }

  private close(error: OcelliError): void {
    if (this.closed) return;
    this.closed = error;
    this.worker.terminate();
    for (const waiting of this.pending.values()) waiting.reject(error);
    this.pending.clear();
    if (error.code !== 'disposed') this.onLost?.(error);
  }
}

/** Addresses are resolved here: the worker's own is another. */
const absolute = (source: string | URL | Blob | ArrayBuffer) =>
  source instanceof URL || typeof source === 'string' ? new URL(source, location.href).href : source;

export interface TrainOptions {
  device?: DeviceChoice;
  /** After every step. */
  onEvent?: (figures: StepFigures) => void;
  /** Ends the run after the step it is in; what was learnt stays. */
  signal?: AbortSignal;
  /** What to begin with; see [Ocelli.session]. */
  weights?: string | URL | Blob | ArrayBuffer;
  heads?: number;
}

/** Trains on pictures with DINO, from the first step to the last; the session that comes back looks, and gives its weights. */
export async function train(images: Iterable<ImageSource>, config: object = {}, options: TrainOptions = {}): Promise<TrainingSession> {
  const { device, onEvent, signal, ...rest } = options;
  const ocelli = await Ocelli.open(device);
  try {
    const session = await ocelli.session(config, { ...rest, signal });
    for (const image of images) await session.addImage(image);
    const stop = () => session.pause();
    signal?.addEventListener('abort', stop);
    if (!signal?.aborted) await session.run((figures) => onEvent?.(figures));
    signal?.removeEventListener('abort', stop);
    return session;
  } catch (error) {
    ocelli.dispose();
    throw error;
  }
}

/** Opens a device and loads a network in one go. */
export async function load(
  source: string | URL | Blob | ArrayBuffer,
  options: LoadOptions & { device?: DeviceChoice; onProgress?: (progress: Progress) => void; signal?: AbortSignal } = {},
): Promise<OcelliModel> {
  const { device, ...rest } = options;
  const ocelli = await Ocelli.open(device);
  try {
    return await ocelli.load(source, rest);
  } catch (error) {
    ocelli.dispose();
    throw error;
  }
}

/** Pixels on their way to the worker. */
async function handOver(image: ImageSource): Promise<{ data: ImageBitmap | ImageData; transfer: Transferable[] }> {
  if (image instanceof ImageData) return { data: image, transfer: [] };
  try {
    // Levels as they are in the file, so that the native program sees the same.
    const bitmap = await createImageBitmap(image, { colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
    return { data: bitmap, transfer: [bitmap] };
  } catch (error) {
    throw new OcelliError('image', `this is no picture the browser can read (${error instanceof Error ? error.message : error})`);
  }
}

/** What a query attends to. */
export interface Attention {
  heads: number;
  rows: number;
  columns: number;
  /** `[heads, rows·columns]`, row-major: the patches' shares. */
  values: Float32Array;
  /** The class token's own share, per head. */
  cls: Float32Array;
}

/** Patch features of a picture. */
export interface Patches {
  rows: number;
  columns: number;
  dim: number;
  /** `[rows·columns, dim]`. */
  features: Float32Array;
  /** The three leading principal components as colours, `[rows·columns, 3]`. */
  colours: Uint8Array;
}

export interface Match {
  /** For every patch of the first picture the best patch of the second. */
  best: Uint32Array;
  /** Cosines of these pairs. */
  similarity: Float32Array;
  /** 1 where both find each other. */
  mutual: Uint8Array;
}

export interface LookOptions {
  /** Long side in pixels the picture is scaled to; 0 keeps it (default 480 at most). */
  size?: number;
  /** Scaled by the browser instead of as the native program does: for video. */
  quick?: boolean;
}

export interface SegmentOptions {
  /** Long side in pixels that the picture is scaled to: fewer are quicker, and coarser (default: as the head's run evaluates). */
  size?: number;
}

/** A loaded network. */
export class OcelliModel {
  constructor(readonly ocelli: Ocelli, private readonly id: number, readonly info: ModelInfo) {}

  /** Runs a picture through the network once; everything about it can be asked of the result. */
  async look(image: ImageSource, options: LookOptions = {}): Promise<OcelliView> {
    const { data, transfer } = await handOver(image);
    const size = options.size ?? Math.min(480, Math.max(data.width, data.height));
    const info = await this.ocelli.call('look', [this.id, data, size, options.quick ?? false], { transfer });
    return new OcelliView(this.ocelli, info, this.info);
  }

  /** The same for normalised values, `[batch, 3, height, width]`. */
  async lookAt(values: Float32Array, batch: number, height: number, width: number): Promise<OcelliView> {
    const info = await this.ocelli.call('lookAt', [this.id, values, batch, height, width]);
    return new OcelliView(this.ocelli, info, this.info);
  }

  private async once<T>(image: ImageSource, options: LookOptions, use: (view: OcelliView) => Promise<T>): Promise<T> {
    const view = await this.look(image, options);
    try {
      return await use(view);
    } finally {
      view.dispose();
    }
  }

  /**
   * Features of a picture for a classifier or a search, of the kind asked for (default the class token's, `[dim]`). By default
   * the picture is prepared as the network is evaluated: the short side scaled to `info.resize`, `info.crop` pixels cut from the
   * middle. `ocelli embed` gives the same.
   *
   * Throws `argument` for a kind or size the network has not, `image` for what is no picture, or a strip of one.
   */
  async features(image: ImageSource, options: FeatureOptions = {}): Promise<Float32Array> {
    const { kind, resize, crop, mean, std } = this.featureSource(options);
    const { data, transfer } = await handOver(image);
    return this.ocelli.call('features', [this.id, data, { kind, resize, crop, mean, std }], { transfer });
  }

  /** Whose the features of these options are: what [KnnClassifier] wants to know. */
  featureSource(options: FeatureOptions = {}): FeatureSource {
    return sourceOf(this.info, options);
  }

  /** The likeliest classes of a picture by a linear classifier, the likeliest first: `ocelli classify`. */
  async classify(image: ImageSource, head: LinearHead, top = 5): Promise<Prediction[]> {
    return head.classify(await this.features(image, head.options(this.info)), top);
  }

  /**
   * A class for every pixel of a picture by a segmentation head: `ocelli segment`, but for windows that slide. The picture is fitted
   * into the size the head was evaluated with, or into `size` pixels; labels are of the picture's own size (2048 px at most).
   *
   * Throws `argument` where the head takes other patches than the network has, `image` for what is no picture.
   */
  async segment(image: ImageSource, head: SegmentationHead, options: SegmentOptions = {}): Promise<Segmentation> {
    head.check(this.info);
    const { mean, std } = head.statistics ?? this.info;
    const fitting = { scale: head.fitting(options.size), patch: this.info.patch, mean, std };
    const { data, transfer } = await handOver(image);
    return this.ocelli.withHead(head, (handed) =>
      this.ocelli.call('segment', [this.id, handed, data, fitting, head.aligned], { transfer }),
    );
  }

  /** The class token's feature of the whole picture, `[dim]`; [features] sees pictures as evaluations do. */
  embed(image: ImageSource, options: LookOptions = {}): Promise<Float32Array> {
    return this.once(image, options, (view) => view.embed());
  }

  /** What the class token (or patch `query`) attends to in a block (default the last) and some heads (default all). */
  attention(image: ImageSource, options: LookOptions & AttentionOptions = {}): Promise<Attention> {
    return this.once(image, options, (view) => view.attention(options));
  }

  /** Features and colours of the patches. */
  patches(image: ImageSource, options: LookOptions = {}): Promise<Patches> {
    return this.once(image, options, (view) => view.patches());
  }

  /** Patches of two pictures that look alike. */
  match(a: ImageSource, b: ImageSource, options: LookOptions = {}): Promise<Match> {
    return this.once(a, options, (first) => this.once(b, options, (second) => first.match(second)));
  }

  /** Gives its memory back. */
  free(): void {
    void this.ocelli.call('freeModel', [this.id]).catch(() => undefined);
  }

  /** Ends the worker it lives in. */
  dispose(): void {
    this.ocelli.dispose();
  }
}

export interface AttentionOptions {
  /** Block, 0 is the first (default: the last). */
  layer?: number;
  /** Whose attention: a patch's index, or the class token (default). */
  query?: number | 'cls';
  /** Which heads (default: all). */
  heads?: number[];
}

/** A canvas for maps that stay on the GPU; see [Ocelli.overlay]. */
export class OcelliOverlay {
  constructor(private readonly ocelli: Ocelli, private readonly id: number) {}

  /** @internal */
  paint(view: number, layer: number, query: number, head: number | undefined, mass: number): Promise<void> {
    return this.ocelli.call('paint', [this.id, view, layer, query, head, mass]);
  }

  dispose(): void {
    void this.ocelli.call('freeOverlay', [this.id]).catch(() => undefined);
  }
}

/** Longest side of what a class is given to every pixel of. */
const MOST_LABELLED_PX = 8192;

/** A picture inside a network. */
export class OcelliView {
  constructor(
    private readonly ocelli: Ocelli,
    private readonly at: ViewInfo,
    private readonly model: Pick<ModelInfo, 'depth' | 'heads' | 'dim'>,
  ) {}

  get width(): number { return this.at.width; }
  get height(): number { return this.at.height; }
  get rows(): number { return this.at.rows; }
  get columns(): number { return this.at.columns; }

  async attention(options: AttentionOptions = {}): Promise<Attention> {
    const { rows, columns } = this.at;
    const layer = options.layer ?? this.model.depth - 1;
    const query = options.query === undefined || options.query === 'cls' ? 0 : options.query + 1;
    const all = await this.ocelli.call('attention', [this.at.view, layer, query]);
    const [cells, width] = [rows * columns, 1 + rows * columns];
    const wanted = options.heads ?? Array.from({ length: this.model.heads }, (_, i) => i);
    const values = new Float32Array(wanted.length * cells);
    const cls = new Float32Array(wanted.length);
    wanted.forEach((head, i) => {
      if (!(head >= 0 && head < this.model.heads)) {
        throw new OcelliError('argument', `heads: expected 0 to ${this.model.heads - 1}, found ${head}`);
      }
      cls[i] = all[head * width]!;
      values.set(all.subarray(head * width + 1, (head + 1) * width), i * cells);
    });
    return { heads: wanted.length, rows, columns, values, cls };
  }

  /**
   * Draws a map on an overlay; nothing is read back. One head, or their mean; of it the patches that hold the share `mass` of the
   * attention. Resolves when the device is done.
   */
  paint(overlay: OcelliOverlay, options: Omit<AttentionOptions, 'heads'> & { head?: number; mass?: number } = {}): Promise<void> {
    const layer = options.layer ?? this.model.depth - 1;
    const query = options.query === undefined || options.query === 'cls' ? 0 : options.query + 1;
    return overlay.paint(this.at.view, layer, query, options.head, options.mass ?? 1);
  }

  /** All tokens, `[batch, 1 + rows·columns, dim]`, the class token first. */
  tokens(): Promise<Float32Array> {
    return this.ocelli.call('tokens', [this.at.view]);
  }

  /** Attention as the network has it, `[batch, heads, 1 + rows·columns]`; query 0 is the class token. */
  rawAttention(layer: number, query: number): Promise<Float32Array> {
    return this.ocelli.call('attention', [this.at.view, layer, query]);
  }

  async embed(): Promise<Float32Array> {
    return (await this.tokens()).slice(0, this.model.dim);
  }

  colours(): Promise<Uint8Array> {
    return this.ocelli.call('colours', [this.at.view]);
  }

  async patches(): Promise<Patches> {
    const { rows, columns } = this.at;
    const [tokens, colours] = [await this.tokens(), await this.colours()];
    const dim = this.model.dim;
    return { rows, columns, dim, features: tokens.slice(dim, (1 + rows * columns) * dim), colours };
  }

  /**
   * A class for every pixel of what was seen by a segmentation head on its patches, without another pass: of as many pixels as the
   * network saw, or of that size.
   *
   * Throws `argument` where the head takes other patches, or the size is none.
   */
  async segment(head: SegmentationHead, size?: { width: number; height: number }): Promise<Segmentation> {
    head.check(this.model);
    const { width, height } = size ?? this.at;
    if (![width, height].every((px) => Number.isInteger(px) && px > 0 && px <= MOST_LABELLED_PX)) {
      const expected = `expected 1 to ${MOST_LABELLED_PX} whole pixels`;
      throw new OcelliError('argument', `size: ${expected}, found ${width} × ${height}`);
    }
    return this.ocelli.withHead(head, (handed) =>
      this.ocelli.call('segmentView', [this.at.view, handed, width, height, head.aligned]),
    );
  }

  match(other: OcelliView): Promise<Match> {
    return this.ocelli.call('match', [this.at.view, other.at.view]);
  }

  /** Gives its memory back. */
  dispose(): void {
    void this.ocelli.call('freeView', [this.at.view]).catch(() => undefined);
  }
}

/** DINO in the tab. Steps run one after another while `run` is awaited, or singly. */
export class TrainingSession {
  private stopped = true;

  constructor(
    /** Its device; `dispose` of it ends the worker. */
    readonly ocelli: Ocelli,
    private readonly id: number,
    /** Every setting, defaults filled in. */
    readonly config: { arch: string; batch_size: number; views: { global_size_px: number } } & Record<string, unknown>,
    readonly totalSteps: number,
    /** What it began with. */
    readonly start: SessionStart,
    private readonly shape: Pick<ModelInfo, 'depth' | 'heads' | 'dim'>,
  ) {}

  /** Adds pictures; returns how many there are. */
  async addImage(image: ImageSource): Promise<number> {
    const { data, transfer } = await handOver(image);
    return this.ocelli.call('sessionImage', [this.id, data], { transfer });
  }

  /** Adds built-in scenes; returns how many pictures there are. */
  addScenes(count: number, size = 64): Promise<number> {
    return this.ocelli.call('sessionScenes', [this.id, count, size]);
  }

  /** Student, teacher and centre of a checkpoint. */
  loadState(bytes: ArrayBuffer): Promise<void> {
    return this.ocelli.call('sessionState', [this.id, bytes]);
  }

  step(): Promise<StepFigures> {
    return this.ocelli.call('step', [this.id]);
  }

  /** A step on views made elsewhere, crop-major. */
  stepOn(globals: Float32Array, locals: Float32Array, batch: number): Promise<StepFigures> {
    return this.ocelli.call('stepOn', [this.id, globals, locals, batch]);
  }

  /** Steps until the end or `pause()`; calls between steps (a look, the weights) are answered in turn. */
  async run(onEvent: (figures: StepFigures) => void): Promise<void> {
    this.stopped = false;
    let done = false;
    while (!this.stopped && !done) {
      const figures = await this.step();
      done = figures.step + 1 >= this.totalSteps;
      onEvent(figures);
    }
    this.stopped = true;
  }

  pause(): void {
    this.stopped = true;
  }

  /** A picture seen by the teacher as it is now. */
  async look(image: ImageSource, options: LookOptions = {}): Promise<OcelliView> {
    const { data, transfer } = await handOver(image);
    const size = options.size ?? Math.min(480, Math.max(data.width, data.height));
    const info = await this.ocelli.call('sessionLook', [this.id, data, size], { transfer });
    return new OcelliView(this.ocelli, info, this.shape);
  }

  /** The teacher's backbone, a `.safetensors` file that `ocelli attention --weights` loads. */
  weights(): Promise<Uint8Array> {
    return this.ocelli.call('sessionWeights', [this.id]);
  }

  dispose(): void {
    this.stopped = true;
    void this.ocelli.call('freeSession', [this.id]).catch(() => undefined);
  }
}
