// Which numbers of a picture a classifier or a search compares, and whose they are.

import { OcelliError } from './error.js';
import type { FeatureKind, FeatureOptions, ModelInfo } from './protocol.js';

/**
 * Whose features numbers are: of which network, of pictures prepared how. Features of different sources are not to be compared:
 * nothing would fail, and the result would mean nothing.
 */
export interface FeatureSource {
  /** CRC-32 of the network's names, shapes and values: the same for every file they come in. */
  fingerprint: string;
  /** Such as `vit-s/16`; for people. */
  arch: string;
  /** Numbers of a feature. */
  dim: number;
  kind: FeatureKind;
  /** Pixels; see [FeatureOptions]. */
  resize: number;
  crop: number;
  mean: [number, number, number];
  std: [number, number, number];
}

type Shape = Pick<ModelInfo, 'arch' | 'dim' | 'depth'>;

/** Blocks whose class tokens are taken; none for kinds that take something else. */
function blocksOf(kind: string): number | undefined {
  if (kind === 'cls') return 1;
  const found = /^cls-([1-9]\d{0,3})$/.exec(kind);
  return found ? Number(found[1]) : undefined;
}

/**
 * Numbers of a feature of this kind.
 *
 * Throws `argument` where the network has none: `mean`, which only ResNets have, more blocks than there are, another word.
 */
export function featureWidth(kind: string, network: Shape): number {
  const blocks = blocksOf(kind);
  if (blocks !== undefined && blocks <= network.depth) return blocks * network.dim;
  if (kind === 'cls+mean') return 2 * network.dim;
  const why = kind === 'mean' ? ' (the mean over a ResNet’s cells, and this is a Vision Transformer)' : '';
  throw new OcelliError(
    'argument',
    `features: expected cls, cls-2 to cls-${network.depth} or cls+mean of ${network.arch}, found "${kind}"${why}`,
  );
}

/**
 * The kind of features that has `width` numbers, for classifiers whose file does not say: of several the one DINO's evaluation
 * takes (four class tokens of a width below 768, else class token and mean patch).
 *
 * Throws `argument` where no kind is so wide.
 */
export function fittingKind(width: number, network: Shape): FeatureKind {
  const last: FeatureKind = network.dim < 768 ? `cls-${Math.min(4, network.depth)}` : 'cls+mean';
  const more = Array.from({ length: network.depth }, (_, i): FeatureKind => (i ? `cls-${i + 1}` : 'cls'));
  const kinds: FeatureKind[] = [last, 'cls+mean', ...more];
  const found = kinds.find((kind) => featureWidth(kind, network) === width);
  if (found) return found;
  throw new OcelliError(
    'argument',
    `the classifier takes ${width} numbers of a picture; no features of ${network.arch} are so many (its class token has ${network.dim})`,
  );
}

/** Whose the features of these options are, with everything that is left out filled in. */
export function sourceOf(network: ModelInfo, options: FeatureOptions = {}): FeatureSource {
  const kind = options.kind ?? 'cls';
  return {
    fingerprint: network.fingerprint,
    arch: network.arch,
    dim: featureWidth(kind, network),
    kind,
    resize: options.resize ?? network.resize,
    crop: options.crop ?? network.crop,
    mean: options.mean ?? network.mean,
    std: options.std ?? network.std,
  };
}

const pixels = ({ resize, crop }: FeatureSource) =>
  [resize ? `short side ${resize} px` : '', crop ? `centre of ${crop} px` : ''].filter(Boolean).join(', ') || 'pictures as they are';

/**
 * Why features of `found` cannot stand beside features of `expected`, in words; nothing where they can.
 *
 * Normalisations are compared to six digits: files write them with different numbers of them.
 */
export function difference(found: FeatureSource, expected: FeatureSource): string | undefined {
  if (found.fingerprint !== expected.fingerprint) {
    return `of another network: ${found.arch} (${found.fingerprint}), and this is ${expected.arch} (${expected.fingerprint})`;
  }
  if (found.kind !== expected.kind || found.dim !== expected.dim) {
    return `of another kind: ${found.kind} (${found.dim} numbers), and these are ${expected.kind} (${expected.dim})`;
  }
  if (found.resize !== expected.resize || found.crop !== expected.crop) {
    return `of pictures of another size: ${pixels(found)}, and here ${pixels(expected)}`;
  }
  const apart = (a: readonly number[], b: readonly number[]) => a.some((v, i) => !(Math.abs(v - b[i]!) <= 1e-6));
  if (apart(found.mean, expected.mean) || apart(found.std, expected.std)) return 'of pictures normalised with other numbers';
  return undefined;
}
