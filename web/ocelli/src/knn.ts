// Naming by example: the weighted k-nearest-neighbour classifier of DINO's evaluation, and search by similarity.
//
// After Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (arXiv:1805.01978, §3.4), with
// the temperature of Caron et al. 2021 (arXiv:2104.14294). The native program's `ocelli eval knn` computes the same.

import { OcelliError } from './error.js';
import { difference, type FeatureSource } from './features.js';

/** Keeps a feature of nothing but zeros from a division by zero. */
const SHORTEST = 1e-12;
/** Below this, exp(1 / temperature) leaves the range of numbers. */
const LOWEST_TEMPERATURE = 0.002;
const FORMAT = 'ocelli-examples';

type Feature = ArrayLike<number>;

/** The feature divided by its length. */
export function unit(feature: Feature): Float64Array {
  const out = Float64Array.from(feature);
  let square = 0;
  for (const v of out) square += v * v;
  const length = Math.max(Math.sqrt(square), SHORTEST);
  return out.map((v) => v / length);
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

/** That a feature has `dim` numbers, all finite. */
function check(feature: Feature, dim: number, what: string): void {
  if (feature.length !== dim) {
    throw new OcelliError('argument', `${what}: expected ${dim} numbers, found ${feature.length}: is it of another network?`);
  }
  for (let i = 0; i < dim; i++) {
    if (!Number.isFinite(feature[i])) throw new OcelliError('argument', `${what}: expected finite numbers, found ${feature[i]} at ${i}`);
  }
}

/**
 * Cosines of a feature with others, each from -1 to 1, in their order.
 *
 * Throws `argument` where a feature has another length than `query`, or numbers that are not finite.
 */
export function similarities(query: Feature, others: readonly Feature[]): Float64Array {
  check(query, query.length, 'the feature asked about');
  const from = unit(query);
  return Float64Array.from(others, (other, i) => {
    check(other, query.length, `feature ${i}`);
    return dot(from, unit(other));
  });
}

/** Cosines as [similarities] has them, the most similar first; of equal ones the earlier. */
export function ranked(query: Feature, others: readonly Feature[]): { index: number; similarity: number }[] {
  const found = Array.from(similarities(query, others), (similarity, index) => ({ index, similarity }));
  return found.sort((a, b) => b.similarity - a.similarity || a.index - b.index);
}

/** What the examples say about a picture. */
export interface Vote {
  name: string;
  /** Σ exp(cosine / temperature) over the neighbours of this class. */
  votes: number;
  /** Of all votes, 0 to 1. */
  share: number;
  /** Neighbours of this class, of the k. */
  neighbours: number;
}

export interface KnnOptions {
  /** Neighbours that vote; with fewer examples all of them (default 5). */
  k?: number;
  /** Divides cosines before exp (default 0.07, DINO's). */
  temperature?: number;
}

interface Class {
  name: string;
  examples: Float64Array[];
}

/**
 * Names pictures by examples: each of the `k` examples most similar to a picture votes for its class with
 * exp(cosine / temperature). Nothing is trained, so a class is there as soon as it has one example.
 *
 * ```js
 * const knn = new KnnClassifier(model.featureSource());
 * knn.add('cup', await model.features(picture));
 * const [first] = knn.classify(await model.features(another)).sort((a, b) => b.share - a.share);
 * const later = KnnClassifier.parse(JSON.stringify(knn), model.featureSource());
 * ```
 */
export class KnnClassifier {
  readonly k: number;
  readonly temperature: number;
  private readonly known: Class[] = [];

  /** `source` says whose features the examples are: `model.featureSource()`. Throws `argument` for options out of range. */
  constructor(readonly source: FeatureSource, options: KnnOptions = {}) {
    const { k = 5, temperature = 0.07 } = options;
    if (!(Number.isInteger(k) && k >= 1)) throw new OcelliError('argument', `k: expected a whole number of at least 1, found ${k}`);
    if (!(Number.isFinite(temperature) && temperature >= LOWEST_TEMPERATURE)) {
      throw new OcelliError('argument', `temperature: expected at least ${LOWEST_TEMPERATURE}, found ${temperature}`);
    }
    [this.k, this.temperature] = [k, temperature];
  }

  /** Names of the classes and their numbers of examples, in the order they came. */
  get classes(): { name: string; examples: number }[] {
    return this.known.map(({ name, examples }) => ({ name, examples: examples.length }));
  }

  /** Examples of all classes. */
  get examples(): number {
    return this.known.reduce((n, { examples }) => n + examples.length, 0);
  }

  /** Makes a class without examples, if it is not there. Throws `argument` for a name of nothing but blanks. */
  addClass(name: string): void {
    if (!name.trim()) throw new OcelliError('argument', 'a class: expected a name, found nothing');
    if (!this.known.some((c) => c.name === name)) this.known.push({ name, examples: [] });
  }

  /** Adds an example, and its class if it is not there. Throws `argument` for a feature of another length. */
  add(name: string, feature: Feature): void {
    check(feature, this.source.dim, `an example of ${name}`);
    this.addClass(name);
    this.known.find((c) => c.name === name)!.examples.push(unit(feature));
  }

  /** Takes an example away; its class stays. */
  remove(name: string, index: number): void {
    this.known.find((c) => c.name === name)?.examples.splice(index, 1);
  }

  /** Takes a class away, with its examples. */
  removeClass(name: string): void {
    const at = this.known.findIndex((c) => c.name === name);
    if (at >= 0) this.known.splice(at, 1);
  }

  /** Throws `argument` where another class has that name. */
  rename(from: string, to: string): void {
    const found = this.known.find((c) => c.name === from);
    if (!found || from === to) return;
    if (!to.trim()) throw new OcelliError('argument', 'a class: expected a name, found nothing');
    if (this.known.some((c) => c.name === to)) throw new OcelliError('argument', `there is a class called ${to} already`);
    found.name = to;
  }

  /**
   * What the nearest examples say about a feature: a vote for every class, in the order the classes came. Of examples equally
   * similar the earlier counts.
   *
   * Throws `argument` for a feature of another length, and where there are no examples.
   */
  classify(feature: Feature): Vote[] {
    check(feature, this.source.dim, 'the feature asked about');
    if (this.examples === 0) throw new OcelliError('argument', 'expected at least one example, found none: add some first');
    const from = unit(feature);
    const all = this.known.flatMap(({ examples }, at) => examples.map((example) => ({ at, similarity: dot(from, example) })));
    // JavaScript sorts stably: of equal ones the earlier stays first.
    const nearest = all.sort((a, b) => b.similarity - a.similarity).slice(0, this.k);
    const votes = this.known.map(({ name }): Vote => ({ name, votes: 0, share: 0, neighbours: 0 }));
    for (const { at, similarity } of nearest) {
      votes[at]!.votes += Math.exp(similarity / this.temperature);
      votes[at]!.neighbours += 1;
    }
    const sum = votes.reduce((n, v) => n + v.votes, 0);
    for (const vote of votes) vote.share = vote.votes / sum;
    return votes;
  }

  /** Features of a class's examples, of length 1. */
  features(name: string): Float64Array[] {
    return this.known.find((c) => c.name === name)?.examples ?? [];
  }

  /** For `JSON.stringify`: the classes, their examples' features (no pictures), and whose they are. */
  toJSON(): object {
    const { source, k, temperature } = this;
    // Nine digits are enough to tell numbers of 32 bits apart.
    const classes = this.known.map(({ name, examples }) => ({
      name, examples: examples.map((e) => Array.from(e, (v) => Number(v.toPrecision(9)))),
    }));
    return { format: FORMAT, version: 1, source, k, temperature, classes };
  }

  /**
   * Reads what `JSON.stringify` wrote. `source` is the network at hand: features of another one are refused in words.
   *
   * Throws `argument` for text that is no such file, is damaged, or is of another network.
   */
  static parse(text: string, source: FeatureSource): KnnClassifier {
    const fail = (why: string) => new OcelliError('argument', `expected examples as this page saves them, found ${why}`);
    let file: Record<string, unknown>;
    try {
      file = JSON.parse(text) as Record<string, unknown>;
    } catch (error) {
      throw fail(`no JSON (${error instanceof Error ? error.message : error})`);
    }
    if (file?.format !== FORMAT) throw fail('JSON of another kind');
    if (file.version !== 1) throw fail(`version ${String(file.version)}, which is newer than this page`);
    const theirs = sourceFrom(file.source);
    if (!theirs) throw fail('a file that does not say whose features it has');
    const apart = difference(theirs, source);
    if (apart) throw new OcelliError('argument', `these examples are ${apart}. Load the network they belong to, or teach anew`);
    const { k, temperature, classes } = file as { k?: number; temperature?: number; classes?: unknown };
    if (!Array.isArray(classes)) throw fail('no list of classes');
    const out = new KnnClassifier(source, { k, temperature });
    for (const [i, entry] of (classes as unknown[]).entries()) {
      const { name, examples } = (entry ?? {}) as { name?: unknown; examples?: unknown };
      if (typeof name !== 'string' || !Array.isArray(examples)) throw fail(`class ${i + 1} without a name or examples`);
      if (out.known.some((c) => c.name === name)) throw fail(`two classes called ${name}`);
      out.addClass(name);
      for (const example of examples as unknown[]) {
        if (!Array.isArray(example)) throw fail(`an example of ${name} that is no list of numbers`);
        out.add(name, example as number[]);
      }
    }
    return out;
  }
}

/** A source as a file has it; nothing where a part is missing. */
function sourceFrom(value: unknown): FeatureSource | undefined {
  const s = (value ?? {}) as Partial<FeatureSource>;
  const numbers = (list: unknown): boolean => Array.isArray(list) && list.length === 3 && list.every((v) => Number.isFinite(v));
  const fine =
    typeof s.fingerprint === 'string' && typeof s.arch === 'string' && typeof s.kind === 'string' &&
    [s.dim, s.resize, s.crop].every((v) => Number.isInteger(v)) && numbers(s.mean) && numbers(s.std);
  return fine ? (s as FeatureSource) : undefined;
}
