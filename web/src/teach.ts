// Teaching by example: some pictures of each class, and what is looked at is named by the most similar ones.

import { KnnClassifier, OcelliError } from '../ocelli/src/index';
import { drawBars, write } from './bars';
import { Gallery, type Kept } from './gallery';
import { download, dropped, element, on } from './page';
import { Follow, keyOf, type Panel, type Shown } from './shown';

/** A class: its name, and where it is drawn. */
interface Class {
  name: string;
  readonly box: HTMLElement;
  readonly count: HTMLElement;
  readonly examples: HTMLElement;
}

export class Teach implements Panel {
  private readonly classes: Class[] = [];
  private readonly gallery: Gallery<Class>;
  private readonly naming = new Follow(() => this.name());

  constructor(private readonly shown: Shown) {
    this.gallery = new Gallery(shown, 'teach', () => this.draw());
    for (const name of ['A', 'B']) this.addClass(name);
    on(element('add-class'), 'click', () => this.addClass(this.freeName()).box.querySelector('input')!.select());
    on(element('teach-save'), 'click', () => this.save());
    on(element('teach-load'), 'change', (event) => {
      const input = event.target as HTMLInputElement;
      const file = input.files?.[0];
      input.value = '';
      return file && this.load(file);
    });
    dropped(element('teach'), ([file]) => this.load(file!), (files) => /\.json$/i.test(files[0]!.name));
    this.draw();
  }

  seen(): void {
    this.naming.changed();
  }

  network(): void {
    this.gallery.network();
  }

  /** The next letter that is no class's name. */
  private freeName(): string {
    const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';
    return [...letters].find((l) => !this.named(l)) ?? `Class ${this.classes.length + 1}`;
  }

  private named(name: string): Class | undefined {
    return this.classes.find((c) => c.name === name);
  }

  private addClass(name: string): Class {
    const box = element<HTMLTemplateElement>('class-box').content.firstElementChild!.cloneNode(true) as HTMLElement;
    const part = <T extends HTMLElement>(selector: string) => box.querySelector<T>(selector)!;
    const made: Class = { name, box, count: part('.count'), examples: part('.thumbs') };
    const input = part<HTMLInputElement>('input[type=text]');
    input.value = name;
    box.setAttribute('aria-label', `Class ${name}`);
    on(input, 'change', () => this.rename(made, input));
    on(part('input[type=file]'), 'change', (event) => {
      const files = event.target as HTMLInputElement;
      const chosen = [...(files.files ?? [])];
      // Or the same pictures could not be chosen a second time.
      files.value = '';
      return this.add(made, chosen);
    });
    on(part('.add-shown'), 'click', () => this.addShown(made));
    on(part('.remove'), 'click', () => this.removeClass(made));
    dropped(box, (files) => this.add(made, files), (files) => !/\.json$/i.test(files[0]!.name));
    this.classes.push(made);
    element('classes').append(box);
    this.draw();
    return made;
  }

  private rename(made: Class, input: HTMLInputElement): void {
    const name = input.value.trim();
    const taken = name !== made.name && this.named(name);
    if (!name || taken) {
      input.value = made.name;
      throw new OcelliError('argument', name ? `there is a class called ${name} already` : 'a class: expected a name, found nothing');
    }
    made.name = input.value = name;
    made.box.setAttribute('aria-label', `Class ${name}`);
    this.draw();
  }

  private removeClass(made: Class): void {
    this.classes.splice(this.classes.indexOf(made), 1);
    made.box.remove();
    this.gallery.drop((item) => item.tag === made);
    element('add-class').focus();
  }

  private add(to: Class, files: readonly File[]): Promise<void> {
    return this.gallery.add(files.map((file) => ({ name: file.name, source: file })), to);
  }

  private async addShown(to: Class): Promise<void> {
    const picture = await this.shown.picture();
    if (!picture) throw new OcelliError('image', 'expected a picture above, or the camera, found none');
    await this.gallery.add([{ name: 'what was shown', source: picture }], to);
  }

  /** The examples as a classifier; nothing without a network. */
  private knn(): KnnClassifier | undefined {
    const model = this.shown.model();
    if (!model) return undefined;
    const knn = new KnnClassifier(model.featureSource());
    for (const { name } of this.classes) knn.addClass(name);
    for (const { tag, feature } of this.gallery.ready) knn.add(tag.name, feature);
    return knn;
  }

  /** Names what is looked at. */
  private async name(): Promise<void> {
    const [model, knn] = [this.shown.model(), this.knn()];
    const taught = knn?.classes.filter((c) => c.examples > 0).length ?? 0;
    const asked = taught > 1 ? this.shown.picture() : undefined;
    if (!model || !knn || !asked) {
      drawBars(element('teach-votes'), []);
      write(element('teach-out'), this.hint(taught));
      return;
    }
    const votes = knn.classify(await model.features(await asked));
    if (model !== this.shown.model()) return;
    const most = votes.reduce((a, b) => (b.share > a.share ? b : a));
    const of = Math.min(knn.k, knn.examples);
    drawBars(element('teach-votes'), votes.map(({ name, share, neighbours }) => ({ name, share, note: `${neighbours} of ${of} nearest` })));
    write(element('teach-out'), `What is shown looks like ${most.name}.${this.words()}`);
  }

  private hint(taught: number): string {
    if (this.gallery.waiting) return this.words().trim();
    if (taught === 0) return `Add a few pictures to each class.${this.words()}`;
    return taught === 1 ? `Add pictures to another class, too.${this.words()}` : 'Choose a picture above.';
  }

  /** What else there is to say. */
  private words(): string {
    const { waiting, items, ready } = this.gallery;
    if (waiting) return ` Looking at ${waiting} more…`;
    const others = items.length - ready.length;
    return others && this.shown.model() ? ` ${others} examples are of another network and count with that one alone.` : '';
  }

  private draw(): void {
    const { items } = this.gallery;
    for (const made of this.classes) {
      const own = items.filter((item) => item.tag === made);
      made.count.textContent = own.length === 1 ? '1 example' : `${own.length} examples`;
      const focused = [...made.examples.children].indexOf(document.activeElement as Element);
      made.examples.replaceChildren(...own.map((item, i) => this.example(made, item, i)));
      // A button that was pressed is gone; the next one takes its place.
      const next = made.examples.children[focused] ?? made.examples.lastElementChild ?? made.box.querySelector('.add-shown');
      if (focused >= 0) (next as HTMLElement).focus();
    }
    element<HTMLButtonElement>('teach-save').disabled = this.gallery.ready.length === 0;
    this.naming.changed();
  }

  private example(made: Class, item: Kept<Class>, i: number): HTMLButtonElement {
    const button = document.createElement('button');
    [button.type, button.title] = ['button', `${item.name}: take it away`];
    button.setAttribute('aria-label', `Take example ${i + 1} of ${made.name} away`);
    button.append(item.thumbnail ?? (item.source ? '…' : `No. ${i + 1}`));
    on(button, 'click', () => this.gallery.drop((other) => other === item));
    return button;
  }

  private save(): void {
    const knn = this.knn();
    if (knn) download(new Blob([JSON.stringify(knn)], { type: 'application/json' }), 'ocelli-examples.json');
  }

  /** Adds a file's examples to the classes there are; classes without any make way. */
  private async load(file: Blob): Promise<void> {
    const model = this.shown.model();
    if (!model) throw new OcelliError('device', 'no network is loaded');
    const knn = KnnClassifier.parse(await file.text(), model.featureSource());
    for (const made of [...this.classes]) {
      const empty = !this.gallery.items.some((item) => item.tag === made);
      if (!empty || knn.classes.some((c) => c.name === made.name)) continue;
      this.classes.splice(this.classes.indexOf(made), 1);
      made.box.remove();
    }
    for (const { name } of knn.classes) {
      const tag = this.named(name) ?? this.addClass(name);
      for (const feature of knn.features(name)) this.gallery.items.push({ name: 'from a file', tag, feature, of: keyOf(model) });
    }
    this.draw();
  }
}
