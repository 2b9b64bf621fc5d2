// The picture in the colours of its classes, by a head that `ocelli finetune segmentation` trained.

import { OcelliError, SegmentationHead, type OcelliModel, type SegmentedClass } from '../ocelli/src/index';
import { drawBars, write } from './bars';
import { dropped, element, facts, ms, on } from './page';
import { Follow, type Panel, type Seen, type Shown } from './shown';

type Rgb = [number, number, number];

/** Long side of the coloured picture, pixels. */
const LONG_PX = 448;
/** How much of a class's colour lies over the picture: that of `ocelli segment`. */
const TINT = 0.55;
/** Classes in the legend. */
const MOST_LISTED = 12;

interface Loaded {
  head: SegmentationHead;
  name: string;
  /** Of the network it belongs to. */
  fingerprint: string;
}

export class Segment implements Panel {
  private loaded: Loaded | undefined;
  private readonly segmenting = new Follow(() => this.segment());
  /** Read back at every picture, so better in the processor's memory. */
  private readonly context = document.createElement('canvas').getContext('2d', { willReadFrequently: true })!;

  /** `use` makes the network in a file the page's. */
  constructor(private readonly shown: Shown, private readonly use: (file: Blob) => Promise<OcelliModel | undefined>) {
    on(element('segmenter'), 'change', (event) => {
      const input = event.target as HTMLInputElement;
      const file = input.files?.[0];
      // Or the same file could not be chosen a second time.
      input.value = '';
      return file && this.load(file);
    });
    dropped(element('segment'), ([file]) => this.load(file!), (files) => /\.(safetensors|pth|pt|tar)$/i.test(files[0]!.name));
  }

  seen(): void {
    if (this.loaded) this.segmenting.changed();
  }

  network(): void {
    this.seen();
  }

  private async load(file: File): Promise<void> {
    const head = SegmentationHead.read(await file.arrayBuffer());
    this.loaded = undefined;
    this.hide('Loading the network…');
    // The file's own network, whatever the page has moved on to by the time it is loaded.
    const model = head.hasBackbone ? await this.use(file) : this.shown.model();
    if (!model) throw new OcelliError('device', 'no network is loaded');
    this.loaded = { head, name: file.name, fingerprint: model.info.fingerprint };
    this.segmenting.changed();
  }

  private async segment(): Promise<void> {
    const [model, seen, loaded] = [this.shown.model(), this.shown.seen(), this.loaded];
    if (!loaded) return;
    try {
      this.check(loaded, model);
      if (!seen) return this.hide('Choose a picture above.');
      const began = performance.now();
      const image = this.picture(seen);
      const { labels } = await seen.view.segment(loaded.head, image);
      // Another picture, network or head meanwhile: that one is asked about next.
      if (loaded !== this.loaded || model !== this.shown.model()) return;
      const present = loaded.head.present(labels);
      const colours = coloursOf(loaded.head);
      this.draw(tinted(image, labels, colours, backgroundOf(loaded.head)));
      this.legend(present, colours);
      facts({ Segmented: `${ms(performance.now() - began)}, ${seen.view.rows} × ${seen.view.columns} patches` });
      write(element('segment-out'), this.words(loaded, present));
    } catch (error) {
      // The network was replaced meanwhile, and the next one is asked.
      if (error instanceof OcelliError && error.code === 'disposed') return;
      this.hide(`${loaded.name} cannot be used: ${error instanceof Error ? error.message : error}.`, true);
    }
  }

  /** That the network is the head's own: another one's patches would mean nothing to it. */
  private check({ head, fingerprint }: Loaded, model: OcelliModel | undefined): void {
    if (!model) throw new OcelliError('device', 'no network is loaded');
    head.check(model.info);
    if (model.info.fingerprint !== fingerprint) {
      throw new OcelliError('argument', 'it belongs to another network than the one that is loaded now. Load it again to go on');
    }
  }

  /** The part of the picture that its patches cover, as it is now. */
  private picture({ picture, natural, covered }: Seen): ImageData {
    const part = natural.map((side, i) => Math.max(1, side * covered[i]!)) as [number, number];
    const scale = LONG_PX / Math.max(...part);
    const [width, height] = part.map((side) => Math.max(1, Math.round(side * scale))) as [number, number];
    const { canvas } = this.context;
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    this.context.drawImage(picture, 0, 0, ...part, 0, 0, width, height);
    return this.context.getImageData(0, 0, width, height);
  }

  private draw(image: ImageData): void {
    const canvas = element<HTMLCanvasElement>('segment-map');
    if (canvas.width !== image.width) canvas.width = image.width;
    if (canvas.height !== image.height) canvas.height = image.height;
    canvas.getContext('2d')!.putImageData(image, 0, 0);
    canvas.hidden = false;
  }

  private legend(present: SegmentedClass[], colours: Rgb[]): void {
    const [list, listed] = [element('segment-legend'), present.slice(0, MOST_LISTED)];
    drawBars(list, listed);
    listed.forEach(({ index }, i) => (list.children[i] as HTMLElement).style.setProperty('--swatch', `rgb(${colours[index]!.join(' ')})`));
  }

  private hide(words: string, isError = false): void {
    element('segment-map').hidden = true;
    drawBars(element('segment-legend'), []);
    write(element('segment-out'), words, isError);
  }

  private words({ head, name }: Loaded, present: SegmentedClass[]): string {
    const told = head.metadata.accuracy ? `, ${head.metadata.accuracy}` : '';
    const more = present.length > MOST_LISTED ? ` ${present.length - MOST_LISTED} more classes are in it.` : '';
    const nameless = head.names ? '' : ' The file has no names of its classes.';
    return `${name}: ${head.classes} classes, ${head.kind === 'conv' ? 'a convolution' : 'linear'}${told}.${more}${nameless}`;
  }
}

/** A palette made brighter by one factor: PASCAL VOC's colours are too dark to be seen on a picture. */
function coloursOf({ palette }: SegmentationHead): Rgb[] {
  const largest = Math.max(1, ...palette.flat());
  return palette.map((colour) => colour.map((level) => Math.floor((level * 255) / largest)) as Rgb);
}

/** What is everything else than the classes one looks for is not painted over. */
const backgroundOf = (head: SegmentationHead) => head.names?.findIndex((name) => name.toLowerCase() === 'background') ?? -1;

/** The picture, every pixel tinted in its class's colour, borders in full; pixels of class `untinted` stay as they are. */
function tinted(image: ImageData, labels: Uint8Array, colours: readonly Rgb[], untinted: number): ImageData {
  const { data, width, height } = image;
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const label = labels[at]!;
      if (label === untinted) continue;
      const border =
        (x > 0 && labels[at - 1] !== label) || (x + 1 < width && labels[at + 1] !== label) ||
        (y > 0 && labels[at - width] !== label) || (y + 1 < height && labels[at + width] !== label);
      const [share, colour] = [border ? 1 : TINT, colours[label]!];
      for (let c = 0; c < 3; c++) data[4 * at + c]! += share * (colour[c]! - data[4 * at + c]!);
    }
  }
  return image;
}
