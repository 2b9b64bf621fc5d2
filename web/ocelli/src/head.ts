// Linear classifiers on a network's features: the files of `ocelli eval linear`, and timm's and torchvision's heads.

import { OcelliError } from './error.js';
import { featureWidth, fittingKind } from './features.js';
import { unit } from './knn.js';
import type { FeatureKind, FeatureOptions, ModelInfo } from './protocol.js';
import { decode, openSafetensors } from './safetensors.js';

/** A class and how likely it is. */
export interface Prediction {
  /** Of the class, from 0. */
  index: number;
  /** Its name; `class 3` where the file has none. */
  name: string;
  /** Softmax over all classes. */
  probability: number;
}

/** Names of a classifier's weight: DINO's and Ocelli's, timm's, torchvision's; whatever comes before them. */
const WEIGHT = /(?:^|\.)(?:linear|head|fc)\.weight$/;

/**
 * A linear classifier, out of the `head.safetensors` that `ocelli eval linear` writes.
 *
 * ```js
 * const head = LinearHead.read(await (await fetch('head.safetensors')).arrayBuffer());
 * const [first] = await model.classify(picture, head);
 * console.log(first.name, first.probability);
 * ```
 */
export class LinearHead {
  private constructor(
    /** `[classes, dim]`. */
    readonly weight: Float32Array,
    /** `[classes]`. */
    readonly bias: Float32Array,
    /** Names of its classes; undefined where the file has none. */
    readonly names: string[] | undefined,
    /** Whether features are divided by their length first. */
    readonly unitLength: boolean,
    /** What it takes of a picture, where the file says. */
    readonly kind: string | undefined,
    /** Fingerprint of the network it was trained on, where the file says. */
    readonly fingerprint: string | undefined,
    /** What is done to pictures first, as far as the file says: as it was evaluated. */
    readonly prepared: Omit<FeatureOptions, 'kind'>,
    /** Everything else the file says, such as `accuracy`. */
    readonly metadata: Readonly<Record<string, string>>,
  ) {}

  /** Classes. */
  get classes(): number {
    return this.bias.length;
  }

  /** Numbers of a feature. */
  get dim(): number {
    return this.weight.length / this.bias.length;
  }

  /**
   * Reads a classifier: a weight `[classes, dim]` called `linear`, `head` or `fc` and its bias (0 where there is none).
   *
   * Throws `weights` for bytes that are no safetensors file, are cut short, or hold no classifier, or several.
   */
  static read(bytes: ArrayBuffer | Uint8Array): LinearHead {
    const file = openSafetensors(bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes));
    const fail = (why: string) => new OcelliError('weights', why);
    const found = [...file.tensors].filter(([name, t]) => WEIGHT.test(name) && t.shape.length === 2);
    const [first, second] = found;
    if (!first) {
      const expected = 'expected a linear classifier (linear.weight, head.weight or fc.weight of two axes), found none';
      throw fail(`${expected}: \`ocelli eval linear\` writes one, head.safetensors`);
    }
    if (second) throw fail(`expected one linear classifier, found several: ${found.map(([name]) => name).join(', ')}`);
    const [name, entry] = first;
    const [classes = 0, dim = 0] = entry.shape;
    if (!classes || !dim) throw fail(`${name}: expected classes and features, found [${classes}, ${dim}]`);
    const biasName = name.replace(/weight$/, 'bias');
    const biasEntry = file.tensors.get(biasName);
    if (biasEntry && String(biasEntry.shape) !== String(classes)) {
      throw fail(`${biasName}: expected [${classes}], found [${biasEntry.shape.join(', ')}]`);
    }
    const weight = decode(file, name, entry);
    const bias = biasEntry ? decode(file, biasName, biasEntry) : new Float32Array(classes);
    for (const [what, values] of [[name, weight], [biasName, bias]] as const) {
      if (!values.every((v) => Number.isFinite(v))) throw fail(`${what}: expected finite numbers, found ${values.find((v) => !Number.isFinite(v))}`);
    }
    const said = file.metadata;
    return new LinearHead(
      weight, bias, namesOf(said.classes, classes), said.features_are?.startsWith('divided') ?? false, said.features,
      said.backbone_crc32, preparedOf(said), said,
    );
  }

  /**
   * What it takes of pictures seen by a network: options for `model.features`.
   *
   * Throws `argument` where the network has no such features: another width, or a kind only ResNets have.
   */
  options(network: ModelInfo): FeatureOptions {
    if (this.kind === undefined) return { ...this.prepared, kind: fittingKind(this.dim, network) };
    const width = featureWidth(this.kind, network);
    if (width !== this.dim) {
      const gives = `${this.kind} of ${network.arch} gives ${width}: it is of another network`;
      throw new OcelliError('argument', `the classifier takes ${this.dim} numbers of a picture; ${gives}`);
    }
    return { ...this.prepared, kind: this.kind as FeatureKind };
  }

  /** Logits `[classes]` of a feature. Throws `argument` for one of another length. */
  logits(feature: ArrayLike<number>): Float64Array {
    const { dim } = this;
    if (feature.length !== dim) throw new OcelliError('argument', `the feature: expected ${dim} numbers, found ${feature.length}`);
    const x = this.unitLength ? unit(feature) : Float64Array.from(feature);
    return Float64Array.from(this.bias, (bias, c) => {
      let sum = bias;
      for (let i = 0; i < dim; i++) sum += this.weight[c * dim + i]! * x[i]!;
      return sum;
    });
  }

  /** The likeliest classes, the likeliest first; of equal ones the lower number. */
  classify(feature: ArrayLike<number>, top = 5): Prediction[] {
    const logits = this.logits(feature);
    const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
    const exps = logits.map((v) => Math.exp(v - most));
    const sum = exps.reduce((a, b) => a + b, 0);
    const all = Array.from(exps, (e, index): Prediction => ({ index, name: this.names?.[index] ?? `class ${index}`, probability: e / sum }));
    return all.sort((a, b) => b.probability - a.probability || a.index - b.index).slice(0, top);
  }
}

/** Names as the metadata have them, a list in JSON; nothing where they are not as many as classes. */
export function namesOf(text: string | undefined, classes: number): string[] | undefined {
  if (text === undefined) return undefined;
  try {
    const names: unknown = JSON.parse(text);
    const fine = Array.isArray(names) && names.length === classes && names.every((n) => typeof n === 'string');
    return fine ? names : undefined;
  } catch {
    return undefined;
  }
}

/** `[0.5, 0.5, 0.5]` or `0.5,0.5,0.5`. */
export function three(text: string | undefined): [number, number, number] | undefined {
  const parts = (text ?? '').replace(/[[\]()]/g, ' ').split(/[\s,]+/).filter(Boolean).map(Number);
  return parts.length === 3 && parts.every(Number.isFinite) ? (parts as [number, number, number]) : undefined;
}

function preparedOf(said: Record<string, string>): Omit<FeatureOptions, 'kind'> {
  const px = (text: string | undefined) => (text !== undefined && /^\d{1,5}$/.test(text) ? Number(text) : undefined);
  const [resize, crop, mean, std] = [px(said.resize_px), px(said.crop_px), three(said.mean), three(said.std)];
  return {
    ...(resize !== undefined && crop !== undefined ? { resize, crop } : {}),
    ...(mean && std ? { mean, std } : {}),
  };
}
