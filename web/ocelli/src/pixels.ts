// Pictures become pixels, in the worker.

import { OcelliError } from './error.js';

/** Pictures are shrunk to this while they are decoded: no map needs more. */
const MAX_SIDE_PX = 2048;

/** A canvas of the last picture's size: those of a video all have the same. */
let decoder: OffscreenCanvasRenderingContext2D | undefined;

/** The pixels of a picture. `side`: the long side wanted; 0 keeps it as far as anything needs. */
export function decoded(source: ImageBitmap, side: number): ImageData {
  const scale = side ? side / Math.max(source.width, source.height) : Math.min(1, MAX_SIDE_PX / Math.max(source.width, source.height));
  const width = Math.max(1, Math.round(source.width * scale));
  const height = Math.max(1, Math.round(source.height * scale));
  if (decoder?.canvas.width !== width || decoder.canvas.height !== height) {
    decoder = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true }) ?? undefined;
  }
  const context = decoder;
  if (!context) throw new OcelliError('image', 'the browser gives no canvas to decode with');
  context.clearRect(0, 0, width, height);
  context.imageSmoothingQuality = 'high';
  context.drawImage(source, 0, 0, width, height);
  source.close();
  return context.getImageData(0, 0, width, height);
}
