// A network in the worker, and what is asked of it.

import type { Ocelli } from './client.js';
import { sourceOf, type FeatureSource } from './features.js';
import type { LinearHead, Prediction } from './head.js';
import { handOver, type CallOptions, type ImageSource } from './options.js';
import type { FeatureOptions, ModelInfo, Segmentation, ViewInfo } from './protocol.js';
import { Resource } from './resource.js';
import type { SegmentationHead } from './segmentation.js';
import { OcelliView, type Attention, type AttentionOptions, type Match, type Patches } from './view.js';

export interface LookOptions extends CallOptions {
  /** Long side in pixels the picture is scaled to; 0 keeps it (default 480 at most). */
  size?: number | undefined;
  /** Scaled by the browser instead of as the native program does: for video. */
  quick?: boolean | undefined;
}

export interface SegmentOptions extends CallOptions {
  /** Long side in pixels that the picture is scaled to: fewer are quicker, and coarser (default: as the head's run evaluates). */
  size?: number | undefined;
}

/** The long side that a picture is scaled to unless another is named. */
export const usualSize = ({ width, height }: { width: number; height: number }): number => Math.min(480, Math.max(width, height));

/** A loaded network. */
export class OcelliModel extends Resource {
  constructor(
    readonly ocelli: Ocelli,
    private readonly id: number,
    readonly info: ModelInfo,
    /** Whether its worker is for it alone, and ends with it. */
    private readonly alone = false,
  ) {
    super();
  }

  /** Runs a picture through the network once; everything about it can be asked of the result. */
  async look(image: ImageSource, { size, quick = false, signal }: LookOptions = {}): Promise<OcelliView> {
    const { data, transfer } = await handOver(image, signal);
    return this.seen(this.ocelli.call('look', [this.id, data, size ?? usualSize(data), quick], { ...this.viewing(signal), transfer }));
  }

  /** The same for normalised values, `[batch, 3, height, width]`. */
  lookAt(values: Float32Array, batch: number, height: number, width: number, { signal }: CallOptions = {}): Promise<OcelliView> {
    return this.seen(this.ocelli.call('lookAt', [this.id, values, batch, height, width], this.viewing(signal)));
  }

  private viewing(signal: AbortSignal | undefined) {
    return { signal, discard: (late: { view: number }) => void this.ocelli.free('freeView', late.view) };
  }

  private async seen(at: Promise<ViewInfo>): Promise<OcelliView> {
    return new OcelliView(this.ocelli, await at, this.info);
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
  async features(image: ImageSource, options: FeatureOptions & CallOptions = {}): Promise<Float32Array> {
    const { signal } = options;
    const { kind, resize, crop, mean, std } = this.featureSource(options);
    const { data, transfer } = await handOver(image, signal);
    return this.ocelli.call('features', [this.id, data, { kind, resize, crop, mean, std }], { transfer, signal });
  }

  /** Whose the features of these options are: what [KnnClassifier] wants to know. */
  featureSource(options: FeatureOptions = {}): FeatureSource {
    return sourceOf(this.info, options);
  }

  /** The `top` likeliest classes of a picture by a linear classifier, the likeliest first: `ocelli classify`. */
  async classify(image: ImageSource, head: LinearHead, top = 5, { signal }: CallOptions = {}): Promise<Prediction[]> {
    return head.classify(await this.features(image, { ...head.options(this.info), signal }), top);
  }

  /**
   * A class for every pixel of a picture by a segmentation head: `ocelli segment`, but for windows that slide. The picture is fitted
   * into the size the head was evaluated with, or into `size` pixels; labels are of the picture's own size (2048 px at most).
   *
   * Throws `argument` where the head takes other patches than the network has, `image` for what is no picture.
   */
  async segment(image: ImageSource, head: SegmentationHead, { size, signal }: SegmentOptions = {}): Promise<Segmentation> {
    head.check(this.info);
    const { mean, std } = head.statistics ?? this.info;
    const fitting = { scale: head.fitting(size), patch: this.info.patch, mean, std };
    const { data, transfer } = await handOver(image, signal);
    return this.ocelli.withHead(head, (handed) =>
      this.ocelli.call('segment', [this.id, handed, data, fitting, head.aligned], { transfer, signal }),
    );
  }

  /** The class token's feature of the whole picture, `[dim]`; [features] sees pictures as evaluations do. */
  embed(image: ImageSource, options: LookOptions = {}): Promise<Float32Array> {
    return this.once(image, options, (view) => view.embed(options));
  }

  /** What the class token (or patch `query`) attends to in a block (default the last) and some heads (default all). */
  attention(image: ImageSource, options: LookOptions & AttentionOptions = {}): Promise<Attention> {
    return this.once(image, options, (view) => view.attention(options));
  }

  /** Features and colours of the patches. */
  patches(image: ImageSource, options: LookOptions = {}): Promise<Patches> {
    return this.once(image, options, (view) => view.patches(options));
  }

  /** Patches of two pictures that look alike. */
  match(a: ImageSource, b: ImageSource, options: LookOptions = {}): Promise<Match> {
    return this.once(a, options, (first) => this.once(b, options, (second) => first.match(second, options)));
  }

  /** Gives its memory back; a network of `load()`, which has a worker of its own, ends that. */
  protected async giveBack(): Promise<void> {
    if (this.alone) this.ocelli.dispose();
    else await this.ocelli.free('freeModel', this.id);
  }
}
