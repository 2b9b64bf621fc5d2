// What the page looks at, for the panels that name it or compare it with other pictures.

import type { OcelliModel, OcelliView } from '../ocelli/src/index';
import { sayError } from './page';

/** A picture inside the network, and how its patches lie on it. */
export interface Seen {
  view: OcelliView;
  /** As it is now: of the camera what it shows. */
  picture: CanvasImageSource;
  /** Size of the picture, pixels. */
  natural: [number, number];
  /** Part of it the patches cover, as shares of its sides. */
  covered: [number, number];
}

export interface Shown {
  model(): OcelliModel | undefined;
  /** A copy of the picture, or of what the camera sees now. */
  picture(): Promise<ImageBitmap | ImageData> | undefined;
  /** What the page's own view was made of. A call to the view is answered if it is made at once: the next picture takes its place. */
  seen(): Seen | undefined;
}

/** A panel beside the picture. */
export interface Panel {
  /** The picture is another. */
  seen(): void;
  /** The network is another, or there is none. */
  network(): void;
}

/** By which the network's features are known: those of two sources are not compared. */
export const keyOf = (model: OcelliModel) => JSON.stringify(model.featureSource());

/** Asks anew whenever something changed: one question at a time, and the last change is never missed. */
export class Follow {
  private asking = false;
  private again = false;

  constructor(private readonly ask: () => Promise<void>) {}

  changed(): void {
    this.again = true;
    if (!this.asking) void this.go();
  }

  private async go(): Promise<void> {
    this.asking = true;
    while (this.again) {
      this.again = false;
      await this.ask().catch(sayError);
    }
    this.asking = false;
  }
}
