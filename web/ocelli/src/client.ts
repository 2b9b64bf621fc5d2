// A worker and what is said to it. Everything heavy happens there.

import type { TrainingConfig, TrainingSettings } from './config.js';
import { download } from './download.js';
import { absolute, linked, orAborted } from './environment.js';
import { OcelliError } from './error.js';
import { OcelliModel } from './model.js';
import { together, weightsOf, type CallOptions, type FetchOptions, type LoadOptions, type OpenOptions, type WeightSource } from './options.js';
import type { Call, Calls, DeviceChoice, DeviceInfo, FileProgress, HandedHead, ModuleKind, Reply, Times, Weights } from './protocol.js';
import { ASYNC_DISPOSE, DISPOSE } from './resource.js';
import type { SegmentationHead } from './segmentation.js';
import { spawn } from './spawn.js';
import { TrainingSession } from './training.js';
import { OcelliOverlay } from './view.js';

/** A call that is under way. */
interface Pending {
  resolve(value: unknown): void;
  reject(reason: unknown): void;
  onProgress?: Tell;
  /** Gives back what came for a call that nobody waits for any more; such a call has this. */
  drop?: ((value: unknown) => void) | undefined;
}

/** @internal */
export interface SendOptions<Result> extends CallOptions {
  onProgress?: Tell;
  transfer?: Transferable[] | undefined;
  /** What to do with the result of a call that was aborted too late: give it back. */
  discard?: ((result: Result) => void) | undefined;
}

/** How a run of training begins. */
export interface SessionOptions extends FetchOptions {
  weights?: WeightSource | undefined;
  /** Heads of a block of `weights`, where the width is no multiple of 64. */
  heads?: number | undefined;
}

type Tell = ((progress: FileProgress) => void) | undefined;

/** A device in a worker. Several may be open at once. */
export class Ocelli implements Disposable, AsyncDisposable {
  private readonly pending = new Map<number, Pending>();
  private next = 1;
  private closed: OcelliError | undefined;
  /** Aborts what happens in the page for it. */
  private readonly ended = new AbortController();
  /** The segmentation head that the worker has. */
  private handed: { head: SegmentationHead; key: number } | undefined;
  private readonly worker: Worker;
  /** The workers of its sessions, which end with it. */
  private readonly training = new Set<Ocelli>();
  /** Called once when the device is lost or the module failed: open another. */
  onLost: ((error: OcelliError) => void) | undefined;

  private constructor(private readonly options: OpenOptions) {
    this.worker = spawn(options.workerUrl);
    this.worker.onmessage = ({ data }: MessageEvent<Reply>) => this.receive(data);
    this.worker.onerror = (event) => {
      const missing = 'the worker did not start: its script cannot be loaded; where a bundler has moved it, name its address as workerUrl';
      this.close(new OcelliError('fault', event.message ? `the worker failed: ${event.message}` : missing));
    };
  }

  /** Where it computes. */
  device!: DeviceInfo;

  /** Milliseconds of all calls so far, in the worker. */
  readonly times: Times = { all: 0, pixels: 0 };

  /**
   * Opens WebGPU, else the CPU (`auto`); or the one that is named.
   *
   * Throws `device` where there is none, `unsupported` outside a browser, `network` where the module cannot be fetched.
   */
  static async open(options: DeviceChoice | OpenOptions = {}): Promise<Ocelli> {
    const all = typeof options === 'string' ? { device: options } : options;
    return Ocelli.begin(all, together(['module'], all.onProgress)).opened;
  }

  /** Starts a worker that takes calls already while it opens. @internal */
  static begin(options: OpenOptions, onProgress?: Tell, module: ModuleKind = 'look'): { ocelli: Ocelli; opened: Promise<Ocelli> } {
    const { device = 'auto', kernels = 'auto', signal } = options;
    signal?.throwIfAborted();
    const named = module === 'look' ? options.wasmUrl : options.trainWasmUrl;
    const wasmUrl = named === undefined ? undefined : absolute(named);
    const ocelli = new Ocelli(options);
    const opened = ocelli.call('open', [{ module, device, kernels, wasmUrl, progress: onProgress !== undefined }], { signal, onProgress }).then(
      (found) => {
        ocelli.device = found;
        return ocelli;
      },
      (error: unknown) => {
        ocelli.dispose();
        throw error;
      },
    );
    return { ocelli, opened };
  }

  /**
   * Loads a network. It can be disposed of alone; others and the worker stay.
   *
   * Throws `weights` for a file that is none, `network` and `integrity` for what goes wrong on its way.
   */
  load(source: WeightSource, options: LoadOptions = {}): Promise<OcelliModel> {
    return this.network(source, options, together(['weights'], options.onProgress), false);
  }

  /** @internal */
  async network(source: WeightSource, options: LoadOptions, tell: Tell, alone: boolean): Promise<OcelliModel> {
    const { heads, mean, std } = options;
    const { model, ...info } = await this.withWeights(source, options, tell, (weights, send) =>
      this.call('load', [weights, { heads, mean, std }], { ...send, discard: (late) => void this.free('freeModel', late.model) }),
    );
    return new OcelliModel(this, model, info, alone);
  }

  /**
   * Starts training on the same kind of device, in a worker of its own with the module that trains, which is fetched now. It ends
   * with the session, and with this. `weights` is what it begins with: a backbone, whose shape is taken, or a checkpoint with
   * everything in it.
   */
  async session(config: TrainingConfig = {}, options: SessionOptions = {}): Promise<TrainingSession> {
    if (this.closed) throw this.closed;
    return Ocelli.train(config, this.options, options, this.training);
  }

  /** A session in a worker of its own, which is among the `owned` ones while it lives. @internal */
  static async train(config: TrainingConfig, opening: OpenOptions, options: SessionOptions, owned = new Set<Ocelli>()): Promise<TrainingSession> {
    const { signal } = options;
    const tell = together(options.weights === undefined ? ['module'] : ['module', 'weights'], options.onProgress);
    const { ocelli, opened } = Ocelli.begin({ ...opening, signal }, tell, 'train');
    owned.add(ocelli);
    ocelli.ended.signal.addEventListener('abort', () => owned.delete(ocelli));
    try {
      const [, session] = await Promise.all([opened, ocelli.begun(config, options, tell)]);
      return session;
    } catch (error) {
      ocelli.dispose();
      throw error;
    }
  }

  private async begun(config: TrainingConfig, options: SessionOptions, tell: Tell): Promise<TrainingSession> {
    const { weights: from, heads, signal } = options;
    const text = JSON.stringify(config);
    const begun = from === undefined
      ? await this.call('session', [text, undefined, heads], { signal })
      : await this.withWeights(from, options, tell, (weights, send) => this.call('session', [text, weights, heads], send));
    const [dim = 0, depth = 0, count = 0] = begun.shape;
    const settings = JSON.parse(begun.config) as TrainingSettings;
    return new TrainingSession(this, begun.session, settings, begun.totalSteps, begun.start, { dim, depth, heads: count });
  }

  /**
   * A canvas that maps are drawn on without leaving the GPU, one pixel a patch (CSS makes it larger; `image-rendering:
   * pixelated` keeps the patches). WebGPU only.
   */
  async overlay(canvas: HTMLCanvasElement | OffscreenCanvas, { signal }: CallOptions = {}): Promise<OcelliOverlay> {
    signal?.throwIfAborted();
    const handed = canvas instanceof OffscreenCanvas ? canvas : canvas.transferControlToOffscreen();
    const discard = (late: number) => void this.free('freeOverlay', late);
    return new OcelliOverlay(this, await this.call('overlay', [handed], { transfer: [handed], signal, discard }));
  }

  /** One of the built-in scenes. */
  scene(index: number, size = 224, { signal }: CallOptions = {}): Promise<ImageData> {
    return this.call('scene', [index, size], { signal });
  }

  /** Bytes of memory the module has taken (without what lies on a GPU). */
  memory({ signal }: CallOptions = {}): Promise<number> {
    return this.call('memory', [], { signal });
  }

  /** Ends the worker, and those of its sessions; what came from them is of no more use. */
  dispose(): void {
    for (const worker of this.training) worker.dispose();
    this.close(new OcelliError('disposed', 'this Ocelli was disposed of'));
  }

  [DISPOSE](): void {
    this.dispose();
  }

  async [ASYNC_DISPOSE](): Promise<void> {
    this.dispose();
  }

  /** @internal */
  call<K extends Call>(call: K, args: Calls[K]['args'], options: SendOptions<Calls[K]['result']> = {}): Promise<Calls[K]['result']> {
    const { signal, onProgress, transfer = [], discard } = options;
    if (this.closed || signal?.aborted) {
      for (const item of transfer) if (item instanceof ImageBitmap) item.close();
      return Promise.reject(this.closed ?? signal?.reason);
    }
    const id = this.next++;
    return new Promise((resolve, reject) => {
      const cancel = () => {
        // It stays until the worker has answered: what it still makes has to be given back.
        waiting.drop = (value) => discard?.(value as Calls[K]['result']);
        waiting.reject(signal?.reason);
        this.worker.postMessage({ cancel: id });
      };
      const done = () => signal?.removeEventListener('abort', cancel);
      const waiting: Pending = {
        resolve: (value) => (done(), resolve(value as Calls[K]['result'])),
        reject: (reason) => (done(), reject(reason)),
        onProgress,
      };
      this.worker.postMessage({ id, call, args }, transfer);
      this.pending.set(id, waiting);
      signal?.addEventListener('abort', cancel);
    });
  }

  /** Gives something in the worker back; nothing is to be done where that fails, as it is gone then. @internal */
  free(call: 'freeModel' | 'freeView' | 'freeOverlay', id: number): Promise<void> {
    return this.call(call, [id]).catch(() => undefined);
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

  /** A call with weights. The worker fetches them; where the page has a `fetch` of its own, the page does. */
  private async withWeights<T>(
    source: WeightSource,
    options: FetchOptions,
    onProgress: Tell,
    call: (weights: Weights, send: { signal: AbortSignal | undefined; onProgress?: Tell; transfer?: Transferable[] }) => Promise<T>,
  ): Promise<T> {
    const { fetch: own, signal } = options;
    if (this.closed) throw this.closed;
    signal?.throwIfAborted();
    const weights = weightsOf(source, options);
    if (!own || typeof weights.from !== 'string') return call(weights, { signal, onProgress });
    const either = linked(signal, this.ended.signal);
    try {
      const work = download(weights.from, weights, { signal: either.signal, fetch: own, onProgress });
      void work.then((late) => (either.signal.aborted ? late.settle(false) : undefined), () => undefined);
      const taken = await orAborted(work, either.signal);
      const moved = { ...weights, from: taken.bytes, integrity: undefined };
      try {
        const result = await call(moved, { signal, transfer: [taken.bytes.buffer] });
        await taken.settle(true);
        return result;
      } catch (error) {
        await taken.settle(false);
        throw error;
      }
    } finally {
      either.unlink();
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
      if (!waiting.drop) waiting.onProgress?.(reply.progress);
      return;
    }
    this.pending.delete(reply.id);
    if ('value' in reply) {
      this.times.all += reply.times.all;
      this.times.pixels += reply.times.pixels;
      if (waiting.drop) waiting.drop(reply.value);
      else waiting.resolve(reply.value);
    } else if ('error' in reply) {
      const error = new OcelliError(reply.error.code, reply.error.message);
      waiting.reject(error);
      // A module that panicked cannot be trusted with another call.
      if (error.code === 'fault') this.close(error);
    }
  }

  private close(error: OcelliError): void {
    if (this.closed) return;
    this.closed = error;
    this.worker.terminate();
    this.ended.abort(error);
    for (const waiting of this.pending.values()) waiting.reject(error);
    this.pending.clear();
    if (error.code !== 'disposed') this.onLost?.(error);
  }
}
