// Heads that give every patch a class: the `segmenter.safetensors` of `ocelli finetune segmentation` on a Vision Transformer.

import { OcelliError } from './error.js';
import { namesOf, three } from './head.js';
import { PatchHead, type PatchLayers } from './patch-head.js';
import { decode, openSafetensors, type Safetensors } from './safetensors.js';
import { likeliest, taps } from './upsample.js';

export type Rgb = [number, number, number];

/** A class that is in a picture. */
export interface SegmentedClass {
  /** Of the class, from 0. */
  index: number;
  /** Its name; `class 3` where the file has none. */
  name: string;
  colour: Rgb;
  /** Of all pixels, 0 to 1. */
  share: number;
}

const HEAD = 'decode_head.';
const NORM = ['weight', 'bias', 'running_mean', 'running_var'].map((name) => `bn.${name}`);
const CLASSIFIER = ['conv_seg.weight', 'conv_seg.bias'];
/** Names of the heads that are run here, mmsegmentation's. */
const LAYOUTS = {
  linear: [...NORM, ...CLASSIFIER],
  conv: ['convs.0.conv.weight', ...NORM.map((name) => `convs.0.${name}`), ...CLASSIFIER],
};
/** PyTorch's and Ocelli's, of batch normalisation. */
const EPSILON = 1e-5;
/** Classes that a byte can tell apart, beside the value for none. */
const MOST_CLASSES = 255;
/** The published protocol's, for files that do not say. */
const SCALE_PX: readonly [number, number] = [2048, 512];
/** Longest side that a picture is fitted into, pixels. */
const MOST_PX = 4096;

const fail = (why: string) => new OcelliError('weights', why);

/**
 * A segmentation head on the patches of a Vision Transformer: batch normalisation and a linear map, or one 3×3 convolution before
 * it. Out of the `segmenter.safetensors` that `ocelli finetune segmentation` writes, which holds the network as well.
 *
 * ```js
 * const bytes = await (await fetch('segmenter.safetensors')).arrayBuffer();
 * const [model, head] = [await load(bytes), SegmentationHead.read(bytes)];
 * const { labels, width } = await model.segment(picture, head);
 * console.log(head.names[labels[y * width + x]], head.present(labels));
 * ```
 */
export class SegmentationHead {
  private ready: PatchHead | undefined;

  private constructor(
    /** Its numbers, normalisation folded into them. */
    readonly layers: PatchLayers,
    /** `linear`, or `conv` with a 3×3 convolution. */
    readonly kind: 'linear' | 'conv',
    /** Names of its classes; undefined where the file has none. */
    readonly names: string[] | undefined,
    /** A colour for each class. */
    readonly palette: Rgb[],
    /** Whether the file holds the network as well: `load` takes it out of the same bytes. */
    readonly hasBackbone: boolean,
    /** Long and short side in pixels that pictures are fitted into, as the run evaluates; undefined for pictures as they are. */
    readonly scale: readonly [number, number] | undefined,
    /** Whether logits are resized with the corners of both grids in one place (PyTorch's `align_corners`). */
    readonly aligned: boolean,
    /** Normalisation of its pictures, where the file says. */
    readonly statistics: { mean: Rgb; std: Rgb } | undefined,
    /** Everything else the file says, such as `accuracy`. */
    readonly metadata: Readonly<Record<string, string>>,
  ) {}

  /** Classes. */
  get classes(): number {
    return this.layers.bias.length;
  }

  /** Numbers of a patch that it takes. */
  get dim(): number {
    return this.layers.dim;
  }

  /**
   * Reads a head: `decode_head.…` in mmsegmentation's names.
   *
   * Throws `weights` for bytes that are no safetensors file, are cut short, or hold no such head: one of a ResNet, of several
   * convolutions, or on the patches of several blocks.
   */
  static read(bytes: ArrayBuffer | Uint8Array): SegmentationHead {
    const file = openSafetensors(bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes));
    const said = file.metadata;
    if (said.task !== undefined && said.task !== 'segmentation') {
      throw fail(`expected a network fine-tuned for segmentation, found one for ${said.task}`);
    }
    const kind = kindOf(file);
    const layers = layersOf(file, kind);
    const backbone = file.tensors.get('backbone.patch_embed.proj.weight')?.shape[0];
    if (backbone !== undefined) checkWidth(layers.dim, backbone, 'the network beside it', fail);
    const [mean, std] = [three(said.mean), three(said.std)];
    if (std?.some((v) => v <= 0)) throw fail(`std: expected three numbers above 0, found ${said.std}`);
    const [classes, config] = [layers.bias.length, said.config ?? ''];
    return new SegmentationHead(
      layers, kind, namesOf(said.classes, classes), paletteOf(said.palette, classes), backbone !== undefined, scaleOf(config),
      /^align_corners = true$/m.test(config), mean && std && { mean, std }, said,
    );
  }

  /** That a network has the patches it takes. Throws `argument` where they are of another width. */
  check(network: { dim: number; arch?: string }): void {
    checkWidth(this.dim, network.dim, network.arch ?? 'the network', (why) => new OcelliError('argument', why));
  }

  /** Logits `[classes, rows·columns]` of patches `[rows·columns, dim]`. Throws `argument` for another number of values. */
  logits(patches: Float32Array, rows: number, columns: number): Float32Array {
    this.ready ??= new PatchHead(this.layers);
    return this.ready.logits(patches, rows, columns);
  }

  /**
   * The class of each patch, or of each pixel of a picture of that size that the patches cover: logits are resized, then the
   * largest counts. Computed where it is called; `model.segment` and `view.segment` do it in the worker.
   */
  segment(patches: Float32Array, rows: number, columns: number, size?: { width: number; height: number }): Uint8Array {
    const { width, height } = size ?? { width: columns, height: rows };
    const logits = this.logits(patches, rows, columns);
    const [down, across] = [{ cells: rows, network: height, picture: height }, { cells: columns, network: width, picture: width }];
    return likeliest(logits, rows, columns, taps(down, this.aligned), taps(across, this.aligned));
  }

  /** The classes that are in labels, the largest first; of equal ones the lower number. */
  present(labels: Uint8Array): SegmentedClass[] {
    const counts = new Float64Array(256);
    for (const label of labels) counts[label]! += 1;
    const all = Array.from(counts.subarray(0, this.classes), (count, index): SegmentedClass => {
      return { index, name: this.names?.[index] ?? `class ${index}`, colour: this.palette[index]!, share: count / labels.length };
    });
    return all.filter((c) => c.share > 0).sort((a, b) => b.share - a.share || a.index - b.index);
  }

  /** Long and short side for pictures whose long side shall have `size` pixels (default: as the run evaluates). @internal */
  fitting(size: number | undefined): readonly [number, number] | undefined {
    if (size === undefined) return this.scale;
    if (Number.isInteger(size) && size > 0 && size <= MOST_PX) return [size, size];
    throw new OcelliError('argument', `size: expected 1 to ${MOST_PX} whole pixels, found ${size}`);
  }
}

/** That a head takes as many numbers of a patch as a network gives. */
function checkWidth(takes: number, gives: number, network: string, wrong: (why: string) => OcelliError): void {
  if (takes === gives) return;
  const numbers = `the head takes ${takes} numbers of a patch; ${network} gives ${gives}`;
  if (!(takes % gives === 0)) throw wrong(`${numbers}: it is of another network`);
  const blocks = takes / gives;
  const advice = `\`ocelli segment\` runs it, or fine-tune one on the last block (blocks = 1)`;
  throw wrong(`${numbers}: it is one on the patches of the last ${blocks} blocks side by side, which cannot be had here: ${advice}`);
}

/** Which of the two heads it is; every other one is refused in words. */
function kindOf({ tensors }: Safetensors): 'linear' | 'conv' {
  const names = [...tensors.keys()].filter((name) => name.startsWith(HEAD) && !name.endsWith('.num_batches_tracked'));
  const own = names.map((name) => name.slice(HEAD.length));
  if (own.length === 0) {
    throw fail(`expected a segmentation head (${HEAD}conv_seg.weight), found none: \`ocelli finetune segmentation\` writes one, segmenter.safetensors`);
  }
  if (tensors.has('backbone.conv1.weight')) {
    throw fail('expected a head on the patches of a Vision Transformer, found one on a ResNet, which cannot be had here: `ocelli segment` runs it');
  }
  const kind = own.some((name) => name.startsWith('convs.')) ? 'conv' : 'linear';
  const more = own.filter((name) => !LAYOUTS[kind].includes(name));
  if (more.length) {
    const some = more.length > 3 ? `${more.slice(0, 3).join(', ')} and ${more.length - 3} more` : more.join(', ');
    throw fail(`expected a linear head (bn, conv_seg) or one of a single 3×3 convolution (convs.0, conv_seg), found ${some} as well: \`ocelli segment\` runs it`);
  }
  const missing = LAYOUTS[kind].find((name) => !own.includes(name));
  if (missing) throw fail(`${HEAD}${missing}: expected it in the file, found none`);
  return kind;
}

/** The head's tensors, their shapes checked, normalisation folded into the weights. */
function layersOf(file: Safetensors, kind: 'linear' | 'conv'): PatchLayers {
  const shapeOf = (name: string) => file.tensors.get(HEAD + name)!.shape;
  const get = (name: string, shape: number[]) => {
    const [full, entry] = [HEAD + name, file.tensors.get(HEAD + name)!];
    if (String(entry.shape) !== String(shape)) throw fail(`${full}: expected [${shape.join(', ')}], found [${entry.shape.join(', ')}]`);
    const values = decode(file, full, entry);
    const wrong = values.find((v) => !Number.isFinite(v));
    if (wrong !== undefined) throw fail(`${full}: expected finite numbers, found ${wrong}`);
    return values;
  };
  const [classes = 0, inputs = 0] = shapeOf('conv_seg.weight');
  if (!(classes >= 2 && classes <= MOST_CLASSES && inputs > 0)) {
    throw fail(`${HEAD}conv_seg.weight: expected 2 to ${MOST_CLASSES} classes and channels, found [${shapeOf('conv_seg.weight').join(', ')}]`);
  }
  const [weight, bias] = [get('conv_seg.weight', [classes, inputs, 1, 1]), get('conv_seg.bias', [classes])];
  /** Batch normalisation as a factor and what is added. */
  const norm = (prefix: string) => {
    const [gamma, beta, mean, variance] = NORM.map((name) => get(prefix + name, [inputs])) as [Float32Array, Float32Array, Float32Array, Float32Array];
    const negative = variance.find((v) => v < 0);
    if (negative !== undefined) throw fail(`${HEAD}${prefix}bn.running_var: expected numbers from 0 on, found ${negative}`);
    const factor = Float64Array.from(gamma, (g, i) => g / Math.sqrt(variance[i]! + EPSILON));
    return { factor, added: Float64Array.from(beta, (b, i) => b - mean[i]! * factor[i]!) };
  };
  let layers: PatchLayers;
  if (kind === 'linear') {
    const { factor, added } = norm('');
    const more = (k: number) => added.reduce((sum, a, i) => sum + a * weight[k * inputs + i]!, 0);
    layers = { dim: inputs, weight: weight.map((w, at) => w * factor[at % inputs]!), bias: bias.map((b, k) => b + more(k)) };
  } else {
    const [, dim = 0] = shapeOf('convs.0.conv.weight');
    if (dim === 0) throw fail(`${HEAD}convs.0.conv.weight: expected a number of channels, found [${shapeOf('convs.0.conv.weight').join(', ')}]`);
    const taps = get('convs.0.conv.weight', [inputs, dim, 3, 3]);
    const { factor, added } = norm('convs.0.');
    const conv = { weight: taps.map((w, at) => w * factor[Math.floor(at / (dim * 9))]!), bias: Float32Array.from(added) };
    layers = { dim, conv, weight, bias };
  }
  // A product of finite numbers may be none.
  const folded = [layers.weight, layers.bias, ...(layers.conv ? [layers.conv.weight, layers.conv.bias] : [])];
  if (!folded.every((values) => values.every(Number.isFinite))) throw fail(`${HEAD.slice(0, -1)}: expected numbers of a usual size, found some beyond all bounds`);
  return layers;
}

/** Colours as the metadata have them, a list in JSON; PASCAL VOC's where they are not as many as classes. */
function paletteOf(text: string | undefined, classes: number): Rgb[] {
  const isLevel = (v: unknown) => Number.isInteger(v) && (v as number) >= 0 && (v as number) <= 255;
  const isColour = (c: unknown): c is Rgb => Array.isArray(c) && c.length === 3 && c.every(isLevel);
  try {
    const colours: unknown = JSON.parse(text ?? '');
    if (Array.isArray(colours) && colours.length === classes && colours.every(isColour)) return colours;
  } catch {
    // As if there were none.
  }
  // Bit k of a class's number goes to channel k mod 3, the lowest three to the channels' highest, and so on.
  return Array.from({ length: classes }, (_, k): Rgb => {
    const rgb: Rgb = [0, 0, 0];
    for (let bit = 0; bit < 24; bit++) rgb[bit % 3]! |= ((k >> bit) & 1) << (7 - Math.floor(bit / 3));
    return rgb;
  });
}

/** What pictures are fitted into by `[eval]` of a run's configuration; nothing where they stay as they are. */
function scaleOf(config: string): readonly [number, number] | undefined {
  const found = /^\[eval\]$[^[]*?^scale_px = \[\s*(\d{1,5}),\s*(\d{1,5}),?\s*\]$/m.exec(config);
  if (!found) return SCALE_PX;
  const [long, short] = [Number(found[1]), Number(found[2])];
  return long && short ? [Math.min(long, MOST_PX), Math.min(short, MOST_PX)] : undefined;
}
