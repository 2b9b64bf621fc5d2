// Search within pictures: which of them are most similar to one.

import { OcelliError, ranked } from '../ocelli/src/index';
import { write } from './bars';
import { Gallery, type Kept } from './gallery';
import { dropped, element, on } from './page';
import type { Panel, Shown } from './shown';

/** Pictures of the set, and one that is only asked about. */
type Role = 'set' | 'asked';
type Picture = Kept<Role>;

export class Search implements Panel {
  private readonly gallery: Gallery<Role>;
  private asked: Picture | undefined;
  /** Which picture a button is. */
  private readonly drawn = new WeakMap<object, Picture>();

  constructor(private readonly shown: Shown) {
    this.gallery = new Gallery(shown, 'search', () => this.draw());
    const chosen = (event: Event) => {
      const input = event.target as HTMLInputElement;
      const files = [...(input.files ?? [])];
      // Or the same pictures could not be chosen a second time.
      input.value = '';
      return files;
    };
    on(element('search-files'), 'change', (event) => this.add(chosen(event)));
    on(element('search-other'), 'change', (event) => {
      const [file] = chosen(event);
      return file && this.ask(file.name, file);
    });
    on(element('search-shown'), 'click', async () => {
      const picture = await this.shown.picture();
      if (!picture) throw new OcelliError('image', 'expected a picture above, or the camera, found none');
      await this.ask('the picture above', picture);
    });
    on(element('search-clear'), 'click', () => {
      this.asked = undefined;
      this.gallery.drop(() => true);
      element('search-files').focus();
    });
    // The first pictures make the set; of a single one after that the likes are looked for.
    dropped(element('search'), (files) => {
      const [first, ...more] = files;
      const begun = this.gallery.items.some((item) => item.tag === 'set');
      return begun && first && more.length === 0 ? this.ask(first.name, first) : this.add(files);
    });
    this.draw();
  }

  seen(): void {
    // What is above is only asked about when somebody wants it.
  }

  network(): void {
    this.gallery.network();
  }

  private add(files: readonly File[]): Promise<void> {
    return this.gallery.add(files.map((file) => ({ name: file.name, source: file })), 'set');
  }

  /** Looks for the likes of a picture that is none of the set. */
  private async ask(name: string, source: Blob | ImageBitmap | ImageData): Promise<void> {
    const before = this.gallery.items.filter((item) => item.tag === 'asked');
    try {
      await this.gallery.add([{ name, source }], 'asked');
    } finally {
      const found = this.gallery.items.find((item) => item.tag === 'asked' && !before.includes(item));
      if (found) {
        this.asked = found;
        this.gallery.drop((item) => before.includes(item));
      }
    }
  }

  private draw(): void {
    const { items, ready, waiting } = this.gallery;
    if (this.asked && !items.includes(this.asked)) this.asked = undefined;
    const { asked } = this;
    const set = ready.filter((item) => item.tag === 'set' && item !== asked);
    const feature = ready.find((item) => item === asked)?.feature;
    const rows: { item: Picture; similarity?: number }[] = feature
      ? ranked(feature, set.map((item) => item.feature)).map(({ index, similarity }) => ({ item: set[index]!, similarity }))
      : set.map((item) => ({ item }));
    const buttons = rows.map(({ item, similarity }) => this.button(item, similarity));
    if (asked && feature) buttons.unshift(this.button(asked));
    const list = element('found');
    // Whoever is at a picture stays there, wherever it goes.
    const focused = document.activeElement ? this.drawn.get(document.activeElement) : undefined;
    list.replaceChildren(...buttons);
    if (focused) buttons.find((button) => this.drawn.get(button) === focused)?.focus();
    element<HTMLButtonElement>('search-clear').disabled = items.length === 0;
    const out = element('search-out');
    const more = waiting ? ` Looking at ${waiting} more…` : '';
    if (!rows[0]) write(out, more.trim() || 'Add some pictures to search in.');
    else if (!asked || !feature) write(out, `${rows.length} pictures. Choose one to order the others by it.${more}`);
    else write(out, `Most like ${asked.name}: ${rows[0].item.name} (cosine ${rows[0].similarity?.toFixed(3)}).${more}`);
  }

  private button(item: Picture, similarity?: number): HTMLButtonElement {
    const button = document.createElement('button');
    const caption = document.createElement('span');
    const pressed = item === this.asked;
    [button.type, button.title] = ['button', item.name];
    caption.textContent = pressed ? 'Asked' : similarity === undefined ? item.name : similarity.toFixed(3);
    button.append(item.thumbnail ?? '…', caption);
    button.setAttribute('aria-pressed', String(pressed));
    button.setAttribute('aria-label', `${item.name}${similarity === undefined ? '' : `, cosine ${similarity.toFixed(3)}`}`);
    this.drawn.set(button, item);
    on(button, 'click', () => {
      this.asked = item;
      this.draw();
    });
    return button;
  }
}
