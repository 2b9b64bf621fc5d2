// Pictures whose features are kept, and made again when the network is another.

import { OcelliError } from '../ocelli/src/index';
import { squareThumbnail } from './draw';
import { element, on, sayError } from './page';
import { limited, readPicture } from './picture';
import { keyOf, type Shown } from './shown';

/** Pictures that are no files are kept in this size. */
const KEPT_PX = 640;
/** Milliseconds between drawings while many pictures are looked at. */
const DRAW_EVERY_MS = 250;

export interface Kept<Tag> {
  name: string;
  tag: Tag;
  /** None where only its features came, out of a file. */
  source?: Blob | ImageBitmap;
  thumbnail?: HTMLCanvasElement;
  feature?: ArrayLike<number>;
  /** Whose feature it is. */
  of?: string;
}

/** `#NAME-progress` and `#NAME-stop` are its bar and its button. */
export class Gallery<Tag> {
  items: Kept<Tag>[] = [];
  private working: Promise<void> | undefined;
  private stopping = false;

  /** `changed` draws what there is. */
  constructor(private readonly shown: Shown, private readonly name: string, private readonly changed: () => void) {
    on(element(`${name}-stop`), 'click', () => {
      this.stopping = true;
      this.drop((item) => item.feature === undefined);
    });
  }

  /** Takes pictures in: they are looked at one after another. Resolves when all have been. */
  async add(pictures: readonly { name: string; source: Blob | ImageBitmap | ImageData }[], tag: Tag): Promise<void> {
    for (const { name, source } of pictures) {
      const kept = source instanceof ImageData ? await createImageBitmap(source) : source;
      this.items.push({ name, tag, source: kept instanceof ImageBitmap ? await limited(kept, KEPT_PX) : kept });
    }
    await this.look();
  }

  drop(which: (item: Kept<Tag>) => boolean): void {
    this.items = this.items.filter((item) => !which(item));
    this.changed();
  }

  /** Those whose features are the network's that is loaded. */
  get ready(): (Kept<Tag> & { feature: ArrayLike<number> })[] {
    const model = this.shown.model();
    const key = model && keyOf(model);
    return this.items.filter((item): item is Kept<Tag> & { feature: ArrayLike<number> } => item.feature !== undefined && item.of === key);
  }

  /** Pictures that still have to be looked at. */
  get waiting(): number {
    const model = this.shown.model();
    return model ? this.left(keyOf(model)).length : 0;
  }

  /** Looks at what has no features of this network yet. */
  async look(): Promise<void> {
    while (this.working) await this.working.catch(() => undefined);
    this.working = this.work();
    try {
      await this.working;
    } finally {
      this.working = undefined;
    }
  }

  /** The network is another. */
  network(): void {
    this.changed();
    if (this.waiting) this.look().catch(sayError);
  }

  private left(key: string): Kept<Tag>[] {
    return this.items.filter((item) => item.source && item.of !== key);
  }

  private async work(): Promise<void> {
    const [bar, stop] = [element<HTMLProgressElement>(`${this.name}-progress`), element(`${this.name}-stop`)];
    const skipped: string[] = [];
    this.stopping = false;
    let [done, drawn] = [0, -Infinity];
    try {
      for (;;) {
        const model = this.shown.model();
        const key = model && keyOf(model);
        const [item, ...more] = key === undefined ? [] : this.left(key);
        if (!model || !item || this.stopping) break;
        [bar.hidden, stop.hidden, bar.max, bar.value] = [false, false, done + 1 + more.length, done];
        if (performance.now() - drawn > DRAW_EVERY_MS) {
          this.changed();
          drawn = performance.now();
        }
        const fine = await this.one(item, async (picture) => {
          item.thumbnail ??= squareThumbnail(picture);
          [item.feature, item.of] = [await model.features(picture), key];
        });
        // What went wrong may be that the network was replaced meanwhile; then the next one looks at it.
        if (fine === true) done += 1;
        else if (model === this.shown.model()) {
          if (!(fine instanceof OcelliError) || fine.code !== 'image') throw fine;
          skipped.push(item.name);
          this.items = this.items.filter((other) => other !== item);
        }
      }
    } finally {
      bar.hidden = stop.hidden = true;
      this.changed();
    }
    if (skipped.length) {
      const some = skipped.length > 3 ? `${skipped.slice(0, 3).join(', ')} and ${skipped.length - 3} more` : skipped.join(', ');
      throw new OcelliError('image', `left out, as no picture this browser and the network can read: ${some}`);
    }
  }

  /** Hands a picture over and gives its memory back; true, or what went wrong. */
  private async one(item: Kept<Tag>, use: (picture: ImageBitmap) => Promise<void>): Promise<unknown> {
    const { source } = item;
    let picture: ImageBitmap | undefined;
    try {
      picture = source instanceof Blob ? await readPicture(source).catch(() => undefined) : source;
      if (!picture) return new OcelliError('image', `${item.name} is no picture`);
      await use(picture);
      return true;
    } catch (error) {
      return error;
    } finally {
      if (picture && picture !== source) picture.close();
    }
  }
}
