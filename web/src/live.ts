// Where the time of the live view goes.

import type { Times } from '../ocelli/src/index';
import { ms } from './page';

/** Pictures that the figures are taken over. */
const WINDOW = 60;

interface Frame {
  /** From one picture to the next, milliseconds. */
  all: number;
  /** In the network: of the worker's time all but the way of the pixels. */
  network: number;
  capture: number;
  upload: number;
  overlay: number;
}

const median = (values: number[]) => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;

/** Times of the last pictures. What is done side by side with the network (fetching the next picture, drawing) is not outside of it. */
export class LiveTimes {
  private readonly frames: Frame[] = [];
  private captured = 0;
  private drawn = 0;
  private last: number | undefined;
  /** Read back at every picture, so better in the processor's memory. */
  private readonly context = document.createElement('canvas').getContext('2d', { willReadFrequently: true })!;

  /** The picture as it is now, its long side scaled to `size`. Done while the worker is busy with the picture before. */
  capture(video: HTMLVideoElement, size: number): ImageData {
    const began = performance.now();
    const scale = size / Math.max(video.videoWidth, video.videoHeight, 1);
    const [width, height] = [video.videoWidth, video.videoHeight].map((n) => Math.max(1, Math.round(n * scale))) as [number, number];
    if (this.context.canvas.width !== width) this.context.canvas.width = width;
    if (this.context.canvas.height !== height) this.context.canvas.height = height;
    this.context.drawImage(video, 0, 0, width, height);
    const data = this.context.getImageData(0, 0, width, height);
    this.captured = performance.now() - began;
    return data;
  }

  start(worker: Times): Times {
    this.drawn = 0;
    return { ...worker };
  }

  draw(run: () => void): void {
    const began = performance.now();
    run();
    this.drawn += performance.now() - began;
  }

  end(before: Times, worker: Times): void {
    const now = performance.now();
    const [upload, inWorker] = [worker.pixels - before.pixels, worker.all - before.all];
    // The first one has nothing before it, and the shaders are compiled in it.
    if (this.last !== undefined) {
      this.frames.push({ all: now - this.last, network: inWorker - upload, capture: this.captured, upload, overlay: this.drawn });
      if (this.frames.length > WINDOW) this.frames.shift();
    }
    this.last = now;
  }

  /** Where pictures come faster than the screen shows them: waits for it. The wait is nobody's time. */
  async pace(): Promise<void> {
    if (this.frames.length && this.frames[this.frames.length - 1]!.all > 16) return;
    const began = performance.now();
    await new Promise((next) => requestAnimationFrame(next));
    if (this.last !== undefined) this.last += performance.now() - began;
  }

  words(): string {
    return this.frames.length ? `Live: ${(1000 / this.of('all')).toFixed(1)} pictures a second.` : 'Live: the first picture…';
  }

  /** Rows for the table of numbers. */
  facts(): Record<string, string> {
    if (!this.frames.length) return {};
    const [all, network] = [this.of('all'), this.of('network')];
    return {
      'Live, a picture': `${ms(all)}, of it the network ${ms(network)}`,
      'Outside the network': `${Math.max(0, (100 * (all - network)) / all).toFixed(1)} % (fetching ${ms(this.of('capture'))}, meanwhile; pixels ${ms(this.of('upload'))}; drawing ${ms(this.of('overlay'))})`,
    };
  }

  private of(part: keyof Frame): number {
    return median(this.frames.map((frame) => frame[part]));
  }
}
