// The page: one picture, one network, and what can be asked of the two.

import { Ocelli, OcelliError, type Attention, type DeviceChoice, type OcelliModel, type OcelliOverlay, type OcelliView } from '../ocelli/src/index';
import { Classify } from './classify';
import { beside, drawStage, heatmap, massMask, mean, patchColours, thumbnail } from './draw';
import { download, element, facts, ms, numberOf, on, say, sayError, sayLive } from './page';
import { incoming } from './incoming';
import { photos } from './photos';
import { copy, drawable, readPicture, share, sizeOf, type Picture } from './picture';
import { LiveTimes } from './live';
import { ARROWS, place, said, stepped, type Show } from './readout';
import { scenes } from './scenes';
import { Search } from './search';
import { Segment } from './segment';
import type { Panel, Shown } from './shown';
import { Teach } from './teach';
import { Training } from './training';

const stage = element<HTMLCanvasElement>('stage');
const other = element<HTMLCanvasElement>('other');

let ocelli: Ocelli | undefined;
let model: OcelliModel | undefined;
let view: OcelliView | undefined;
let picture: Picture | undefined;
let second: { picture: Picture; view: OcelliView } | undefined;
let attention: Attention | undefined;
let colours: Uint8Array | undefined;
let matches: Awaited<ReturnType<OcelliView['match']>> | undefined;
let show: Show = 'attention';
let query: number | 'cls' = 'cls';
let head = -1; // -1: their mean
let camera: MediaStream | undefined;
/** A canvas over the picture that the GPU draws the live map on, where there is one. */
let overlayed: { canvas: HTMLCanvasElement; overlay: OcelliOverlay } | undefined;
let weights: string | Blob = './models/scenes.safetensors';
const times: number[] = [];

const shown: Shown = {
  model: () => model,
  picture: () => picture && copy(picture),
  seen: () => picture && view && { view, ...placed(picture, view) },
};
const panels: Panel[] = [new Teach(shown), new Classify(shown), new Segment(shown, useFile), new Search(shown)];

async function open(choice: DeviceChoice): Promise<void> {
  say('Opening the device…');
  training.reset();
  ocelli?.dispose();
  uncover();
  ocelli = model = view = undefined;
  second = matches = undefined;
  const began = performance.now();
  ocelli = await Ocelli.open(choice);
  ocelli.onLost = (error) => {
    sayError(error);
    say(`${error.message}. Choose a device to go on.`, true);
    uncover();
    ocelli = model = view = undefined;
  };
  const { device } = ocelli;
  facts({
    Device: device.kind === 'webgpu' ? `WebGPU: ${device.name}${device.software ? ' (software: slow)' : ''}` : device.name,
    ...(device.reason ? { Why: device.reason } : {}),
    Opened: ms(performance.now() - began),
    ...Object.fromEntries(Object.entries(device.limits).map(([k, v]) => [k.replace('max', 'Max '), v.toLocaleString('en')])),
  });
  training.use(ocelli, () => (picture ? copy(picture) : undefined), () => weights);
}

/** What is shown for a choice of network. */
function offer(choice: string): void {
  element('url-form').hidden = choice !== 'url';
  element('weights').hidden = choice !== 'file';
}

/** Loads weights that came another way than by the list of networks; the list then says so. */
async function useFile(file: Blob): Promise<OcelliModel | undefined> {
  weights = file;
  offer((element<HTMLSelectElement>('model').value = 'file'));
  return loadModel();
}

/** Loads the chosen network, looks with it, and returns it; by then it may have given way to another. */
async function loadModel(): Promise<OcelliModel | undefined> {
  if (!ocelli) return undefined;
  const bar = element<HTMLProgressElement>('progress');
  const began = performance.now();
  let loaded: OcelliModel;
  say('Loading the network…');
  try {
    loaded = await ocelli.load(weights, {
      // The file of an address may be another one tomorrow, and the browser's own cache knows that.
      cache: false,
      onProgress: ({ loaded: n, total }) => {
        bar.hidden = false;
        if (total) bar.value = n / total;
        else bar.removeAttribute('value');
      },
    });
    model?.dispose();
    model = loaded;
    panels.forEach((panel) => panel.network());
  } finally {
    bar.hidden = true;
  }
  const { info } = loaded;
  const read = [`${info.arch}, ${(info.parameters / 1e6).toFixed(1)} M values (${info.format})`, ...info.notes];
  facts({ Network: read.join('; '), Loaded: ms(performance.now() - began) });
  const layer = element<HTMLInputElement>('layer');
  layer.max = layer.value = String(info.depth);
  head = -1;
  times.length = 0;
  await lookAgain();
  return loaded;
}

/** Once through the network, then whatever is shown. */
async function lookAgain(): Promise<void> {
  if (!model || !picture) return;
  const began = performance.now();
  const size = numberOf('size');
  const seen = await model.look(await copy(picture), { size });
  // The patch that is looked at stays, as long as there is one: the live view follows the pointer.
  if (seen.rows !== view?.rows || seen.columns !== view.columns) query = 'cls';
  view?.dispose();
  second?.view.dispose();
  [view, attention, colours, matches] = [seen, undefined, undefined, undefined];
  if (second) second.view = await model.look(await copy(second.picture), { size });
  await refresh();
  times.push(performance.now() - began);
  const sorted = [...times.slice(1)].sort((a, b) => a - b);
  facts({
    'First result': ms(times[0]!),
    'Median after it': sorted.length ? ms(sorted[sorted.length >> 1]!) : '–',
    Seen: `${view.width} × ${view.height} px, ${view.rows} × ${view.columns} patches`,
  });
  say('Ready.');
  panels.forEach((panel) => panel.seen());
}

let asked = 0;
/** Fetches what the current view needs, calls `asking` meanwhile, and draws it. Answers to older questions are dropped. */
async function refresh(asking?: () => void, times?: LiveTimes): Promise<void> {
  if (!view || !model) return;
  // The next picture of the live view brings it.
  if (overlayed && show === 'attention') return;
  if (overlayed) uncover();
  const [now, current] = [++asked, view];
  let answer: Promise<() => void> | undefined;
  if (show === 'attention') {
    const layer = numberOf('layer') - 1;
    answer = current.attention({ layer, query }).then((found) => () => (attention = found));
  } else if (show === 'colours') {
    if (!colours) answer = current.colours().then((found) => () => (colours = found));
  } else if (second && !matches) {
    answer = current.match(second.view).then((found) => () => (matches = found));
  }
  asking?.();
  const take = await answer;
  if (now !== asked || current !== view) return;
  take?.();
  const both = () => {
    drawHeads();
    draw();
  };
  if (times) times.draw(both);
  else both();
}

function overlay(): ImageData | undefined {
  if (!view) return undefined;
  if (show === 'colours') return colours && patchColours(colours, view.columns);
  if (show === 'match' || !attention || overlayed) return undefined;
  const values = headValues(head);
  const mass = numberOf('mass') / 100;
  return heatmap(values, view.columns, mass < 1 ? massMask(values, mass) : undefined, true);
}

const covered = (p: Picture, v: OcelliView) => share(p, v, numberOf('size'));
const placed = (p: Picture, v: OcelliView) => ({ picture: drawable(p), natural: sizeOf(p), covered: covered(p, v) });

function headValues(index: number): Float32Array {
  const { values, heads, rows, columns } = attention!;
  return index < 0 ? mean(values, heads) : values.subarray(index * rows * columns, (index + 1) * rows * columns);
}

function draw(): void {
  if (!picture || !view) return;
  const opacity = numberOf('opacity') / 100;
  const frame = (p: Picture, v: OcelliView) => ({ ...placed(p, v), opacity, grid: { rows: v.rows, columns: v.columns } });
  const marks = query === 'cls' ? [] : [{ ...place(query, view.columns), colour: '#fff' }];
  drawStage(stage, { ...frame(picture, view), overlay: overlay(), dimmed: overlayed !== undefined, marks });
  other.hidden = !(show === 'match' && second);
  if (!second || show !== 'match') return;
  const found = matches && query !== 'cls' ? [{ ...place(matches.best[query]!, second.view.columns), colour: matches.mutual[query] ? '#7dff9a' : '#ffd24a' }] : [];
  drawStage(other, { ...frame(second.picture, second.view), marks: found });
}

function drawHeads(): void {
  const list = element('heads');
  list.hidden = show !== 'attention';
  if (!attention || list.hidden) return;
  const { heads, columns } = attention;
  if (list.childElementCount !== heads + 1) {
    list.replaceChildren(
      ...Array.from({ length: heads + 1 }, (_, i) => {
        const button = document.createElement('button');
        button.type = 'button';
        button.dataset.head = String(i - 1);
        button.addEventListener('click', () => {
          head = i - 1;
          drawHeads();
          draw();
        });
        return button;
      }),
    );
  }
  for (const button of list.querySelectorAll('button')) {
    const index = Number(button.dataset.head);
    const name = index < 0 ? 'Mean' : `Head ${index + 1}`;
    button.replaceChildren(thumbnail(heatmap(headValues(index), columns)), name);
    button.setAttribute('aria-pressed', String(index === head));
  }
}

function readout(): void {
  if (!view) return;
  const weights = attention && headValues(head);
  const words = said({ show, query, view, second: second?.view, matches, weights, onGpu: overlayed !== undefined });
  if (words) element('readout').textContent = words;
}

let busy = false;
let wanted: number | 'cls' | undefined;
/** Follows the pointer: the latest patch asked for, one question at a time. */
async function choose(patch: number | 'cls'): Promise<void> {
  wanted = patch;
  if (busy) return;
  busy = true;
  try {
    while (wanted !== undefined && wanted !== query) {
      query = wanted;
      wanted = undefined;
      if (show !== 'match') await refresh();
      else draw();
      readout();
    }
    wanted = undefined;
  } catch (error) {
    sayError(error);
  } finally {
    busy = false;
  }
}

function patchAt(event: PointerEvent): number | undefined {
  if (!view) return undefined;
  const box = stage.getBoundingClientRect();
  const column = Math.floor(((event.clientX - box.left) / box.width) * view.columns);
  const row = Math.floor(((event.clientY - box.top) / box.height) * view.rows);
  return row >= 0 && row < view.rows && column >= 0 && column < view.columns ? row * view.columns + column : undefined;
}

async function setPicture(next: Picture | Blob, name: string): Promise<void> {
  let ready: Picture;
  try {
    ready = next instanceof Blob ? await readPicture(next) : next;
  } catch {
    throw new OcelliError('image', `${name} is no picture this browser can read`);
  }
  picture = ready;
  await lookAgain();
  readout();
}

async function setSecond(file: Blob): Promise<void> {
  if (!model) return;
  const ready = await readPicture(file).catch(() => {
    throw new OcelliError('image', 'this is no picture the browser can read');
  });
  second?.view.dispose();
  second = { picture: ready, view: await model.look(await copy(ready), { size: numberOf('size') }) };
  matches = undefined;
  await refresh();
  readout();
}

async function toggleCamera(): Promise<void> {
  const button = element('webcam');
  if (camera) {
    camera.getTracks().forEach((track) => track.stop());
    camera = undefined;
    button.setAttribute('aria-pressed', 'false');
    if (picture instanceof HTMLVideoElement) picture = await createImageBitmap(picture);
    return;
  }
  try {
    camera = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
  } catch (error) {
    throw new OcelliError('image', `the camera cannot be used: ${error instanceof Error ? error.message : error}`);
  }
  button.setAttribute('aria-pressed', 'true');
  const video = document.createElement('video');
  [video.muted, video.playsInline, video.srcObject] = [true, true, camera];
  await video.play();
  picture = video;
  const mine = camera;
  try {
    // Another network or device ends it, and it goes on with that.
    while (camera === mine) {
      if (model) await live(video, () => camera === mine);
      else await new Promise((later) => setTimeout(later, 50));
    }
  } finally {
    uncover();
  }
  // The last picture is looked at like any other.
  if (camera !== mine && picture && !(picture instanceof HTMLVideoElement)) await lookAgain();
}

/**
 * Looks at the video until `on` says no, or the network is replaced. While the worker is busy with one picture, what it found in
 * the one before is drawn and the next is fetched.
 */
async function live(video: HTMLVideoElement, on: () => boolean): Promise<void> {
  const times = new LiveTimes();
  const [using, by] = [ocelli!, model!];
  const fetched = () => ({ data: times.capture(video, numberOf('size')), size: numberOf('size') });
  const lookAt = (next: { data: ImageData; size: number }) => {
    const seen = by.look(next.data, { size: next.size, quick: true });
    // Who awaits it is told what goes wrong; until then it is nobody's, which the browser would report by itself.
    seen.catch(() => undefined);
    return seen;
  };
  let looking: Promise<OcelliView> | undefined = lookAt(fetched());
  let next = fetched();
  try {
    while (on() && model === by) {
      const started = times.start(using.times);
      const seen: OcelliView = await looking!;
      looking = undefined;
      if (!on() || model !== by) return seen.dispose();
      if (seen.rows !== view?.rows || seen.columns !== view.columns) query = 'cls';
      view?.dispose();
      [view, colours, matches] = [seen, undefined, undefined];
      if (second) {
        second.view.dispose();
        second.view = await by.look(await copy(second.picture), { size: numberOf('size') });
      }
      const goOn = () => {
        if (on() && model === by) looking = lookAt(next);
      };
      // The next picture waits in the worker behind what is asked about this one.
      if (using.device.kind === 'webgpu' && show === 'attention') {
        const painting = paint(using, seen);
        goOn();
        if (await painting) times.draw(draw);
        else await refresh(undefined, times);
      } else {
        await refresh(goOn, times);
        if (!looking) goOn();
      }
      next = fetched();
      times.end(started, using.times);
      sayLive(times.words());
      facts(times.facts());
      panels.forEach((panel) => panel.seen());
      await times.pace();
    }
  } catch (error) {
    if (model === by || !(error instanceof OcelliError)) throw error;
  } finally {
    // What is still under way is of no more use, nor is what goes wrong with it.
    await looking?.then((seen) => seen.dispose(), () => undefined);
  }
}

/** Draws the map of the live view on the GPU's own canvas: nothing is read back. False where that canvas cannot be had. */
async function paint(using: Ocelli, seen: OcelliView): Promise<boolean> {
  if (!overlayed) {
    const canvas = document.createElement('canvas');
    canvas.className = 'overlay';
    try {
      overlayed = { canvas, overlay: await using.overlay(canvas) };
    } catch {
      return false;
    }
    stage.after(canvas);
    readout();
  }
  const [layer, mass] = [numberOf('layer') - 1, numberOf('mass') / 100];
  await seen.paint(overlayed.overlay, { layer, query, head: head < 0 ? undefined : head, mass });
  const { canvas } = overlayed;
  const [width, height] = covered(picture!, seen);
  canvas.style.width = `${100 * width}%`;
  canvas.style.height = `${100 * height}%`;
  canvas.style.opacity = String(numberOf('opacity') / 100);
  return true;
}

/** Takes the GPU's canvas off the picture. */
function uncover(): void {
  overlayed?.overlay.dispose();
  overlayed?.canvas.remove();
  overlayed = undefined;
}

function save(): void {
  const over = overlayed && picture && view && { canvas: overlayed.canvas, share: covered(picture, view) };
  const canvas = beside(show === 'match' && second ? [stage, other] : [stage], over);
  canvas.toBlob((blob) => {
    if (blob) download(blob, `ocelli-${show}.png`);
  }, 'image/png');
}

const training = new Training(async (bytes) => {
  await useFile(new Blob([bytes as BlobPart]));
  readout();
});

function connect(): void {
  incoming({ picture: setPicture, second: setSecond, weights: useFile });
  on(element('webcam'), 'click', toggleCamera);
  on(element('save'), 'click', save);
  on(element('size'), 'change', lookAgain);
  on(element('device'), 'change', async () => {
    await open(element<HTMLSelectElement>('device').value as DeviceChoice);
    await loadModel();
  });
  on(element('model'), 'change', () => {
    const choice = element<HTMLSelectElement>('model').value;
    offer(choice);
    if (choice !== 'scenes') return undefined;
    weights = './models/scenes.safetensors';
    return loadModel();
  });
  on(element('weights'), 'change', (event) => {
    const input = event.target as HTMLInputElement;
    const file = input.files?.[0];
    if (!file) return undefined;
    // Or the same file could not be chosen a second time.
    input.value = '';
    weights = file;
    return loadModel();
  });
  on(element('url-form'), 'submit', (event) => {
    event.preventDefault();
    weights = element<HTMLInputElement>('url').value;
    return loadModel();
  });
  on(element('layer'), 'input', async () => {
    element('layer-out').textContent = element<HTMLInputElement>('layer').value;
    await refresh();
    readout();
  });
  for (const [id, unit] of [['mass', '%'], ['opacity', '%']] as const) {
    on(element(id), 'input', () => {
      const { value } = element<HTMLInputElement>(id);
      element(`${id}-out`).textContent = id === 'mass' && value === '100' ? 'all' : `${value} ${unit}`;
      draw();
    });
  }
  for (const radio of document.querySelectorAll<HTMLInputElement>('input[name=show]')) {
    on(radio, 'change', async () => {
      show = radio.value as Show;
      element('map-title').textContent = { attention: 'Attention', colours: 'Features', match: 'Matching' }[show];
      element('second-label').hidden = show !== 'match';
      await refresh();
      readout();
    });
  }
  on(stage, 'pointermove', (event) => choose(patchAt(event) ?? 'cls'));
  on(stage, 'pointerdown', (event) => choose(patchAt(event) ?? 'cls'));
  on(stage, 'pointerleave', () => choose('cls'));
  stage.addEventListener('keydown', (event) => {
    if (!view || !(event.key === 'Escape' || event.key in ARROWS)) return;
    event.preventDefault();
    void choose(event.key === 'Escape' ? 'cls' : stepped(query, event.key as keyof typeof ARROWS, view));
  });
}

async function start(): Promise<void> {
  connect();
  photos(setPicture);
  try {
    await open('auto');
  } catch (error) {
    sayError(error);
    await open('cpu');
  }
  const first = await scenes(ocelli!, setPicture);
  picture ??= first;
  await loadModel();
  element('layer-out').textContent = element<HTMLInputElement>('layer').value;
  readout();
}

start().catch(sayError);
