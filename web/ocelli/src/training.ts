// A run of training in the worker.

import type { Ocelli } from './client.js';
import type { TrainingSettings } from './config.js';
import { usualSize, type LookOptions } from './model.js';
import { handOver, type CallOptions, type ImageSource } from './options.js';
import type { ModelInfo, SessionStart, StepFigures } from './protocol.js';
import { Resource } from './resource.js';
import { OcelliView } from './view.js';

/** Training in the tab, in a worker of its own. Steps run one after another while `run` is awaited, or singly. */
export class TrainingSession extends Resource {
  private stopped = true;

  constructor(
    /** Its worker and device, for networks and overlays beside it; both end with the session. */
    readonly ocelli: Ocelli,
    private readonly id: number,
    /** Every setting, defaults filled in. */
    readonly config: TrainingSettings,
    readonly totalSteps: number,
    /** What it began with. */
    readonly start: SessionStart,
    private readonly shape: Pick<ModelInfo, 'depth' | 'heads' | 'dim'>,
  ) {
    super();
  }

  /** Adds pictures; returns how many there are. */
  async addImage(image: ImageSource, { signal }: CallOptions = {}): Promise<number> {
    const { data, transfer } = await handOver(image, signal);
    return this.ocelli.call('sessionImage', [this.id, data], { transfer, signal });
  }

  /** Adds built-in scenes; returns how many pictures there are. */
  addScenes(count: number, size = 64, { signal }: CallOptions = {}): Promise<number> {
    return this.ocelli.call('sessionScenes', [this.id, count, size], { signal });
  }

  /** What a checkpoint of its method holds: for DINO student, teacher and centre. */
  loadState(bytes: ArrayBuffer, { signal }: CallOptions = {}): Promise<void> {
    return this.ocelli.call('sessionState', [this.id, bytes], { signal });
  }

  /** A step; one that is aborted while it is computed counts all the same. */
  step({ signal }: CallOptions = {}): Promise<StepFigures> {
    return this.ocelli.call('step', [this.id], { signal });
  }

  /** A step on views made elsewhere, crop-major. */
  stepOn(globals: Float32Array, locals: Float32Array, batch: number, { signal }: CallOptions = {}): Promise<StepFigures> {
    return this.ocelli.call('stepOn', [this.id, globals, locals, batch], { signal });
  }

  /**
   * Steps until the end or `pause()`; calls between steps (a look, the weights) are answered in turn. A signal ends it as well, and
   * then it rejects with the signal's reason; what was learnt stays either way.
   */
  async run(onEvent: (figures: StepFigures) => void, options: CallOptions = {}): Promise<void> {
    this.stopped = false;
    let done = false;
    try {
      while (!this.stopped && !done) {
        const figures = await this.step(options);
        done = figures.step + 1 >= this.totalSteps;
        onEvent(figures);
      }
      options.signal?.throwIfAborted();
    } finally {
      this.stopped = true;
    }
  }

  /** Ends `run` after the step it is in. */
  pause(): void {
    this.stopped = true;
  }

  /** A picture seen by the network one keeps, as it is now: the teacher, where the method has one. */
  async look(image: ImageSource, { size, signal }: LookOptions = {}): Promise<OcelliView> {
    const { data, transfer } = await handOver(image, signal);
    const discard = (late: { view: number }) => void this.ocelli.free('freeView', late.view);
    const info = await this.ocelli.call('sessionLook', [this.id, data, size ?? usualSize(data)], { transfer, signal, discard });
    return new OcelliView(this.ocelli, info, this.shape);
  }

  /** The backbone one keeps, a `.safetensors` file that `ocelli attention --weights` loads. */
  weights({ signal }: CallOptions = {}): Promise<Uint8Array> {
    return this.ocelli.call('sessionWeights', [this.id], { signal });
  }

  /** Ends its worker. */
  protected async giveBack(): Promise<void> {
    this.stopped = true;
    this.ocelli.dispose();
  }
}
