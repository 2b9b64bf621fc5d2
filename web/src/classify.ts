// Classes by a linear classifier that `ocelli eval linear` trained.

import { LinearHead, OcelliError, type OcelliModel } from '../ocelli/src/index';
import { drawBars, write } from './bars';
import { dropped, element, on } from './page';
import { Follow, type Panel, type Shown } from './shown';

/** Classes that are shown. */
const TOP = 5;

export class Classify implements Panel {
  private head: { head: LinearHead; name: string } | undefined;
  private readonly naming = new Follow(() => this.name());

  constructor(private readonly shown: Shown) {
    on(element('head'), 'change', (event) => {
      const input = event.target as HTMLInputElement;
      const file = input.files?.[0];
      // Or the same file could not be chosen a second time.
      input.value = '';
      return file && this.load(file);
    });
    dropped(element('classify'), ([file]) => this.load(file!), (files) => /\.(safetensors|pth|pt|tar)$/i.test(files[0]!.name));
  }

  seen(): void {
    this.naming.changed();
  }

  network(): void {
    this.naming.changed();
  }

  private async load(file: File): Promise<void> {
    const head = LinearHead.read(await file.arrayBuffer());
    this.head = { head, name: file.name };
    this.naming.changed();
  }

  private async name(): Promise<void> {
    const [model, list, out] = [this.shown.model(), element('classify-top'), element('classify-out')];
    if (!this.head || !model) return drawBars(list, []);
    const { head } = this.head;
    const asked = this.shown.picture();
    try {
      // Before the network is asked: a classifier of another one is told of without a picture, too.
      head.options(model.info);
      const found = asked ? await model.classify(await asked, head, TOP) : [];
      if (model !== this.shown.model()) return;
      drawBars(list, found.map(({ name, probability }) => ({ name, share: probability })));
      write(out, this.words(model, found[0]?.name));
    } catch (error) {
      // The network was replaced meanwhile, and the next one is asked.
      if (error instanceof OcelliError && error.code === 'disposed') return;
      drawBars(list, []);
      const text = error instanceof Error ? error.message : String(error);
      write(out, `${this.head.name} cannot be used with this network: ${text}.`, true);
    }
  }

  private words(model: OcelliModel, best: string | undefined): string {
    const { head, name } = this.head!;
    const told = head.metadata.accuracy ? `, ${head.metadata.accuracy}` : '';
    const other = head.fingerprint && head.fingerprint !== model.info.fingerprint;
    const warning = other ? ' It was trained on other weights than these: what it says may mean nothing.' : '';
    const nameless = head.names ? '' : ' The file has no names of its classes.';
    const seen = best ? `What is shown looks like ${best}. ` : '';
    return `${seen}${name}: ${head.classes} classes on ${head.options(model.info).kind}${told}.${warning}${nameless}`;
  }
}
