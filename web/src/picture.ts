// Pictures as the page keeps them.

import { thumbnail } from './draw';

export type Picture = ImageBitmap | ImageData | HTMLVideoElement;

export const sizeOf = (p: Picture): [number, number] => (p instanceof HTMLVideoElement ? [p.videoWidth, p.videoHeight] : [p.width, p.height]);

/** The part of a picture that the patches of a view cover, as shares of its sides, where its long side was scaled to `size` pixels. */
export function share(p: Picture, view: { width: number; height: number }, size: number): [number, number] {
  const [width, height] = sizeOf(p);
  const scale = size / Math.max(width, height);
  const of = (seen: number, side: number) => Math.min(1, seen / Math.max(1, Math.floor(side * scale)));
  return [of(view.width, width), of(view.height, height)];
}

/** What can be drawn on a canvas. */
const drawables = new WeakMap<ImageData, HTMLCanvasElement>();
export function drawable(p: Picture): CanvasImageSource {
  if (!(p instanceof ImageData)) return p;
  let found = drawables.get(p);
  if (!found) drawables.set(p, (found = thumbnail(p)));
  return found;
}

/** A copy for the worker, which takes what it is given. */
export const copy = (p: Picture) => (p instanceof ImageData ? Promise.resolve(p) : createImageBitmap(p));

/** Larger pictures are kept in this size: no map needs more, and drawing 24 megapixels again and again blocks the page. */
const LONG_SIDE_PX = 2048;

export const readPicture = async (file: Blob) => limited(await createImageBitmap(file), LONG_SIDE_PX);

/** A picture whose long side is at most `most` pixels; one that is longer is used up. */
export async function limited(whole: ImageBitmap, most: number): Promise<ImageBitmap> {
  const scale = most / Math.max(whole.width, whole.height);
  if (scale >= 1) return whole;
  const [resizeWidth, resizeHeight] = [whole.width, whole.height].map((n) => Math.max(1, Math.round(n * scale)));
  const kept = await createImageBitmap(whole, { resizeWidth, resizeHeight, resizeQuality: 'high' });
  whole.close();
  return kept;
}
