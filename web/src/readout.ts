// What is said of the patch that is pointed at.

import type { OcelliView } from '../ocelli/src/index';

/** Which of the maps is shown. */
export type Show = 'attention' | 'colours' | 'match';

export const place = (index: number, columns: number) => ({ row: Math.floor(index / columns), column: index % columns });

/** Rows and columns that a key goes on by. */
export const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] } as const;

/** The patch that a key leads to: from the one that is pointed at, else from the middle. */
export function stepped(query: number | 'cls', key: keyof typeof ARROWS, view: OcelliView): number {
  const at = query === 'cls' ? { row: view.rows >> 1, column: view.columns >> 1 } : place(query, view.columns);
  const [down, right] = ARROWS[key];
  const within = (index: number, count: number) => Math.min(count - 1, Math.max(0, index));
  return within(at.row + down, view.rows) * view.columns + within(at.column + right, view.columns);
}

export interface Pointed {
  show: Show;
  query: number | 'cls';
  view: OcelliView;
  /** The picture that it is compared with. */
  second: OcelliView | undefined;
  matches: Awaited<ReturnType<OcelliView['match']>> | undefined;
  /** Attention of the chosen head. */
  weights: Float32Array | undefined;
  /** Whether the map stays on the GPU. */
  onGpu: boolean;
}

/** Words for it; nothing while they are on their way. */
export function said({ show, query, view, second, matches, weights, onGpu }: Pointed): string | undefined {
  const words = (index: number, columns: number) => {
    const { row, column } = place(index, columns);
    return `row ${row + 1}, column ${column + 1}`;
  };
  if (show === 'colours') return 'Patches of one colour have similar features.';
  if (show === 'match') {
    if (!second) return 'Choose a second picture, then point at a patch of the first.';
    if (query === 'cls' || !matches) return 'Point at a patch to find it in the other picture.';
    const there = words(matches.best[query]!, second.columns);
    const both = matches.mutual[query] ? ', both ways' : '';
    return `The patch in ${words(query, view.columns)} looks most like ${there} there (cosine ${matches.similarity[query]!.toFixed(2)}${both}).`;
  }
  const who = query === 'cls' ? 'the class token' : `the patch in ${words(query, view.columns)}`;
  if (onGpu) return `What ${who} attends to, drawn on the GPU without a way back.`;
  if (!weights) return undefined;
  const best = weights.indexOf(Math.max(...weights));
  const share = (100 * weights[best]!).toFixed(1);
  return `${who.charAt(0).toUpperCase()}${who.slice(1)} attends most to the patch in ${words(best, view.columns)} (${share} %).`;
}
