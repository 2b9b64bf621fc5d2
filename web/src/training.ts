// Training in the tab: the panel around a session.

import { OcelliError, type ImageSource, type MethodName, type Ocelli, type StepFigures, type TrainingSession } from '../ocelli/src/index';
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
  private file: File | undefined;
  private starting: AbortController | undefined;
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
    element('train-method').addEventListener('change', () => this.drop());
    const from = element<HTMLSelectElement>('train-from');
    const start = element<HTMLInputElement>('train-weights');
    from.addEventListener('change', () => {
      start.hidden = from.value !== 'file';
      this.drop();
    });
    start.addEventListener('change', () => {
      this.file = start.files?.[0];
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
    this.starting?.abort();
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
    if (this.isOver()) this.drop();
    const session = (this.session ??= await this.begin(this.ocelli));
    if (!session) return;
    button.textContent = 'Pause';
    this.running = this.go(session);
    await this.running;
    this.running = undefined;
    if (session === this.session) button.textContent = this.isOver() ? 'Train anew' : 'Go on';
  }

  /** Whether the last step is done. What was learnt can be looked at until the next run begins. */
  private isOver(): boolean {
    return this.session !== undefined && this.losses.length >= this.session.totalSteps;
  }

  /** A session with its pictures; none where something else was chosen while it began. */
  private async begin(ocelli: Ocelli): Promise<TrainingSession | undefined> {
    const button = element<HTMLButtonElement>('train');
    const { signal } = (this.starting = new AbortController());
    button.disabled = true;
    try {
      return await this.start(ocelli, signal);
    } catch (error) {
      element('train-out').textContent = 'Not started.';
      if (!signal.aborted) throw error;
      return undefined;
    } finally {
      button.disabled = false;
    }
  }

  private async start(ocelli: Ocelli, signal: AbortSignal): Promise<TrainingSession> {
    this.losses = [];
    const from = element<HTMLSelectElement>('train-from').value;
    const weights = from === 'loaded' ? this.loaded?.() : from === 'file' ? this.file : undefined;
    if (from === 'file' && !weights) throw new OcelliError('weights', 'choose the file to begin with first');
    const out = element('train-out');
    out.textContent = 'Loading what training needs…';
    const session = await ocelli.session({ method: element<HTMLSelectElement>('train-method').value as MethodName }, {
      weights,
      signal,
      cache: false,
      onProgress: ({ loaded, total }) => total && (out.textContent = `Loading what training needs: ${Math.round((100 * loaded) / total)} %`),
    });
    out.textContent = 'Starting…';
    try {
      if (element<HTMLSelectElement>('train-on').value === 'files') {
        for (const file of this.files) await session.addImage(file, { signal });
      } else {
        await session.addScenes(500, 64, { signal });
      }
      signal.throwIfAborted();
      return session;
    } catch (error) {
      session.dispose();
      throw error;
    }
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
    const drawn = figures.level_name ? { name: figures.level_name, value: figures.level } : undefined;
    drawCurve(element<HTMLCanvasElement>('curve'), this.losses, drawn, getComputedStyle(document.documentElement));
    const started = { nothing: '', backbone: ' Began with a loaded backbone.', checkpoint: ' Goes on from a checkpoint.' }[session.start];
    const level = drawn ? ` (${drawn.name} ${drawn.value.toFixed(2)})` : '';
    const sign = figures.sign ? ` The run has collapsed: ${figures.sign}.` : '';
    element('train-out').textContent =
      `Step ${figures.step + 1} of ${session.totalSteps}, ${ms(took)} a step. Loss ${figures.loss.toFixed(3)}${level}, ` +
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
