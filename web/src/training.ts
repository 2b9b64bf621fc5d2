// Training in the tab: the panel around a session.

import { OcelliError, type ImageSource, type Ocelli, type StepFigures, type TrainingSession } from '../ocelli/src/index';
import { drawCurve, drawStage, heatmap, mean, thumbnail } from './draw';
import { download, element, ms, sayError } from './page';

/** Steps between pictures of what the teacher attends to. */
const MAP_EVERY = 10;

export class Training {
  private ocelli: Ocelli | undefined;
  private picture: (() => Promise<ImageBitmap | ImageData> | undefined) | undefined;
  private session: TrainingSession | undefined;
  private running: Promise<void> | undefined;
  private losses: number[] = [];
  private files: File[] = [];
  private start: File | undefined;
  private loaded: (() => string | Blob) | undefined;

  constructor(private readonly look: (weights: Uint8Array) => Promise<void>) {
    const on = (id: string, run: () => Promise<unknown> | undefined) =>
      element(id).addEventListener('click', () => run()?.catch((error: unknown) => this.fail(error)));
    on('train', () => this.toggle());
    on('download', () => this.download());
    on('use', async () => this.session && this.look(await this.session.weights()));
    const choice = element<HTMLSelectElement>('train-on');
    const input = element<HTMLInputElement>('train-files');
    choice.addEventListener('change', () => {
      input.hidden = choice.value !== 'files';
      this.drop();
    });
    input.addEventListener('change', () => {
      this.files = [...(input.files ?? [])];
      this.drop();
    });
    const from = element<HTMLSelectElement>('train-from');
    const start = element<HTMLInputElement>('train-weights');
    from.addEventListener('change', () => {
      start.hidden = from.value !== 'file';
      this.drop();
    });
    start.addEventListener('change', () => {
      this.start = start.files?.[0];
      this.drop();
    });
  }

  /** `loaded`: the weights of the network that the page looks with. */
  use(ocelli: Ocelli, picture: () => Promise<ImageBitmap | ImageData> | undefined, loaded: () => string | Blob): void {
    [this.ocelli, this.picture, this.loaded] = [ocelli, picture, loaded];
  }

  reset(): void {
    this.drop();
    this.ocelli = undefined;
  }

  /** Forgets the run; the next click starts another. */
  private drop(): void {
    this.session?.dispose();
    [this.session, this.running, this.losses] = [undefined, undefined, []];
    element('train').textContent = 'Train';
    for (const id of ['download', 'use']) element<HTMLButtonElement>(id).disabled = true;
  }

  private fail(error: unknown): void {
    sayError(error);
    element('train').textContent = 'Train';
    this.running = undefined;
  }

  private async toggle(): Promise<void> {
    const button = element('train');
    if (this.running) {
      this.session?.pause();
      await this.running;
      return;
    }
    if (!this.ocelli) return;
    this.session ??= await this.begin(this.ocelli);
    const session = this.session;
    button.textContent = 'Pause';
    this.running = this.go(session);
    await this.running;
    this.running = undefined;
    if (session === this.session) button.textContent = this.losses.length >= session.totalSteps ? 'Train anew' : 'Go on';
    if (session === this.session && this.losses.length >= session.totalSteps) this.session = undefined;
  }

  private async begin(ocelli: Ocelli): Promise<TrainingSession> {
    this.losses = [];
    const from = element<HTMLSelectElement>('train-from').value;
    const weights = from === 'loaded' ? this.loaded?.() : from === 'file' ? this.start : undefined;
    if (from === 'file' && !weights) throw new OcelliError('weights', 'choose the file to begin with first');
    const session = await ocelli.session({}, { weights, cache: false });
    if (element<HTMLSelectElement>('train-on').value === 'files') {
      for (const file of this.files) await session.addImage(file);
    } else {
      await session.addScenes(500, 64);
    }
    return session;
  }

  private async go(session: TrainingSession): Promise<void> {
    let before = performance.now();
    let maps: Promise<void> = Promise.resolve();
    await session.run((figures) => {
      if (session !== this.session) return session.pause();
      const now = performance.now();
      this.show(session, figures, now - before);
      before = now;
      for (const id of ['download', 'use']) element<HTMLButtonElement>(id).disabled = false;
      if (figures.step % MAP_EVERY === 0) maps = this.map(session);
    });
    await maps;
  }

  private show(session: TrainingSession, figures: StepFigures, took: number): void {
    this.losses.push(figures.loss);
    drawCurve(element<HTMLCanvasElement>('curve'), this.losses, figures.level, getComputedStyle(document.documentElement));
    const started = { nothing: '', backbone: ' Began with a loaded backbone.', checkpoint: ' Goes on from a checkpoint.' }[session.start];
    const sign = figures.sign ? ` The run has collapsed: ${figures.sign}.` : '';
    element('train-out').textContent =
      `Step ${figures.step + 1} of ${session.totalSteps}, ${ms(took)} a step. Loss ${figures.loss.toFixed(3)} (${figures.level_name} ${figures.level.toFixed(2)}), ` +
      `${figures.printed.join(', ')}, gradient ${figures.gradient_norm.toFixed(2)}.${started}${sign}`;
  }

  private async map(session: TrainingSession): Promise<void> {
    const picture = await this.picture?.();
    if (!picture) return;
    // The worker takes a bitmap for good; this one is drawn as well.
    const shown = picture instanceof ImageData ? thumbnail(picture) : await createImageBitmap(picture);
    const natural: [number, number] = [picture.width, picture.height];
    const view = await session.look(picture as ImageSource, { size: 96 });
    const found = await view.attention();
    const { rows, columns } = view;
    view.dispose();
    drawStage(
      element<HTMLCanvasElement>('train-map'),
      { picture: shown, natural, covered: [1, 1], overlay: heatmap(mean(found.values, found.heads), columns, undefined, true), opacity: 0.8, marks: [], grid: { rows, columns } },
      180,
    );
  }

  private async download(): Promise<void> {
    if (!this.session) return;
    const bytes = await this.session.weights();
    download(new Blob([bytes as BlobPart]), 'ocelli-tab.safetensors');
  }
}
