// A picture inside a network, and the canvas its maps are drawn on.

import type { Ocelli } from './client.js';
import { OcelliError } from './error.js';
import type { CallOptions } from './options.js';
import type { ModelInfo, Segmentation, ViewInfo } from './protocol.js';
import { Resource } from './resource.js';
import type { SegmentationHead } from './segmentation.js';

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

/** Whose attention, and where. */
interface Asking extends CallOptions {
  /** Block, 0 is the first (default: the last). */
  layer?: number | undefined;
  /** Whose attention: a patch's index, or the class token (default). */
  query?: number | 'cls' | undefined;
}

export interface AttentionOptions extends Asking {
  /** Which heads (default: all). */
  heads?: number[] | undefined;
}

export interface PaintOptions extends Asking {
  /** One head (default: their mean). */
  head?: number | undefined;
  /** Only the patches that hold this share of the attention (default 1: all). */
  mass?: number | undefined;
}

/** A canvas for maps that stay on the GPU; see [Ocelli.overlay]. */
export class OcelliOverlay extends Resource {
  constructor(private readonly ocelli: Ocelli, private readonly id: number) {
    super();
  }

  /** @internal */
  async paint(by: Ocelli, view: number, layer: number, query: number, { head, mass = 1, signal }: PaintOptions): Promise<void> {
    sameWorker('paint', this.ocelli, by);
    return this.ocelli.call('paint', [this.id, view, layer, query, head, mass], { signal });
  }

  protected giveBack(): Promise<void> {
    return this.ocelli.free('freeOverlay', this.id);
  }
}

/** Each worker numbers what it has by itself. */
function sameWorker(what: string, own: Ocelli, other: Ocelli): void {
  if (own === other) return;
  throw new OcelliError('argument', `${what}: expected what belongs to one worker, found two; a session has one of its own, session.ocelli`);
}

/** Longest side of what a class is given to every pixel of. */
const MOST_LABELLED_PX = 8192;

/** A picture inside a network. */
export class OcelliView extends Resource {
  constructor(
    private readonly ocelli: Ocelli,
    private readonly at: ViewInfo,
    private readonly model: Pick<ModelInfo, 'depth' | 'heads' | 'dim'>,
  ) {
    super();
  }

  /** Pixels the network saw. */
  get width(): number { return this.at.width; }
  get height(): number { return this.at.height; }
  /** Patches. */
  get rows(): number { return this.at.rows; }
  get columns(): number { return this.at.columns; }

  /** Block and token that are asked about. */
  private asked({ layer, query }: Asking): [number, number] {
    return [layer ?? this.model.depth - 1, query === undefined || query === 'cls' ? 0 : query + 1];
  }

  async attention(options: AttentionOptions = {}): Promise<Attention> {
    const { rows, columns } = this.at;
    const all = await this.rawAttention(...this.asked(options), options);
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
  paint(overlay: OcelliOverlay, options: PaintOptions = {}): Promise<void> {
    return overlay.paint(this.ocelli, this.at.view, ...this.asked(options), options);
  }

  /** All tokens, `[batch, 1 + rows·columns, dim]`, the class token first. */
  tokens({ signal }: CallOptions = {}): Promise<Float32Array> {
    return this.ocelli.call('tokens', [this.at.view], { signal });
  }

  /** Attention as the network has it, `[batch, heads, 1 + rows·columns]`; query 0 is the class token. */
  rawAttention(layer: number, query: number, { signal }: CallOptions = {}): Promise<Float32Array> {
    return this.ocelli.call('attention', [this.at.view, layer, query], { signal });
  }

  /** The class token's feature, `[dim]`. */
  async embed(options: CallOptions = {}): Promise<Float32Array> {
    return (await this.tokens(options)).slice(0, this.model.dim);
  }

  /** The patches' three leading principal components as colours, `[rows·columns, 3]`. */
  colours({ signal }: CallOptions = {}): Promise<Uint8Array> {
    return this.ocelli.call('colours', [this.at.view], { signal });
  }

  /** Features and colours of the patches. */
  async patches(options: CallOptions = {}): Promise<Patches> {
    const { rows, columns } = this.at;
    const [tokens, colours] = [await this.tokens(options), await this.colours(options)];
    const dim = this.model.dim;
    return { rows, columns, dim, features: tokens.slice(dim, (1 + rows * columns) * dim), colours };
  }

  /**
   * A class for every pixel of what was seen by a segmentation head on its patches, without another pass: of as many pixels as the
   * network saw, or of that size.
   *
   * Throws `argument` where the head takes other patches, or the size is none.
   */
  async segment(head: SegmentationHead, size?: { width: number; height: number }, { signal }: CallOptions = {}): Promise<Segmentation> {
    head.check(this.model);
    const { width, height } = size ?? this.at;
    if (![width, height].every((px) => Number.isInteger(px) && px > 0 && px <= MOST_LABELLED_PX)) {
      const expected = `expected 1 to ${MOST_LABELLED_PX} whole pixels`;
      throw new OcelliError('argument', `size: ${expected}, found ${width} × ${height}`);
    }
    return this.ocelli.withHead(head, (handed) =>
      this.ocelli.call('segmentView', [this.at.view, handed, width, height, head.aligned], { signal }),
    );
  }

  /** For every patch the most similar one of another view of the same worker. */
  async match(other: OcelliView, { signal }: CallOptions = {}): Promise<Match> {
    sameWorker('match', this.ocelli, other.ocelli);
    return this.ocelli.call('match', [this.at.view, other.at.view], { signal });
  }

  protected giveBack(): Promise<void> {
    return this.ocelli.free('freeView', this.at.view);
  }
}
