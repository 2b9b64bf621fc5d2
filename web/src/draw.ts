// Maps and colours onto canvases.

/** Inferno at nine places, after matplotlib's table. */
const INFERNO = [0x000004, 0x1b0c41, 0x4a0c6b, 0x781c6d, 0xa52c60, 0xcf4446, 0xed6925, 0xfb9b06, 0xfcffa4];

export function colour(level: number): [number, number, number] {
  const at = Math.min(Math.max(level, 0), 1) * (INFERNO.length - 1);
  const low = Math.min(Math.floor(at), INFERNO.length - 2);
  const mix = (shift: number) => {
    const [a, b] = [(INFERNO[low]! >> shift) & 255, (INFERNO[low + 1]! >> shift) & 255];
    return Math.round(a + (b - a) * (at - low));
  };
  return [mix(16), mix(8), mix(0)];
}

/**
 * Values `[rows·columns]` as a picture of one pixel a patch; cells outside `mask` are see-through, and with `veil` low ones
 * nearly so, that the picture below stays to be seen.
 */
export function heatmap(values: ArrayLike<number>, columns: number, mask?: ArrayLike<number>, veil = false): ImageData {
  const rows = values.length / columns;
  let [low, high] = [Infinity, -Infinity];
  for (let i = 0; i < values.length; i++) {
    low = Math.min(low, values[i]!);
    high = Math.max(high, values[i]!);
  }
  const image = new ImageData(columns, rows);
  for (let i = 0; i < values.length; i++) {
    const level = high > low ? (values[i]! - low) / (high - low) : 0;
    const alpha = mask && !mask[i] ? 0 : veil ? Math.min(1, 0.15 + Math.sqrt(level)) : 1;
    image.data.set([...colour(level), 255 * alpha], i * 4);
  }
  return image;
}

/** `[rows·columns, 3]` bytes as a picture of one pixel a patch. */
export function patchColours(colours: Uint8Array, columns: number): ImageData {
  const image = new ImageData(columns, colours.length / 3 / columns);
  for (let i = 0; i < colours.length / 3; i++) image.data.set([colours[3 * i]!, colours[3 * i + 1]!, colours[3 * i + 2]!, 255], i * 4);
  return image;
}

/** Which cells hold the top share of a map. The rule of `ocelli attention --threshold`. */
export function massMask(values: Float32Array, mass: number): Uint8Array {
  const order = Array.from(values.keys()).sort((a, b) => values[a]! - values[b]! || a - b);
  const total = values.reduce((a, b) => a + b, 0);
  const keep = new Uint8Array(values.length);
  let running = 0;
  for (const cell of order) {
    running += values[cell]! / total;
    keep[cell] = running > 1 - mass ? 1 : 0;
  }
  return keep;
}

export function mean(values: Float32Array, heads: number): Float32Array {
  const cells = values.length / heads;
  return Float32Array.from({ length: cells }, (_, i) => {
    let sum = 0;
    for (let h = 0; h < heads; h++) sum += values[h * cells + i]!;
    return sum / heads;
  });
}

function small(image: ImageData): HTMLCanvasElement {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext('2d')!.putImageData(image, 0, 0);
  return canvas;
}

export interface Stage {
  picture: CanvasImageSource;
  /** Size of the picture as it is. */
  natural: [number, number];
  /** Part of the picture the patches cover, as shares of its sides. */
  covered: [number, number];
  overlay?: ImageData | undefined;
  /** The map lies over it on a canvas of its own. */
  dimmed?: boolean;
  opacity: number;
  smooth?: boolean;
  /** Patches to outline: row, column, colour. */
  marks: { row: number; column: number; colour: string }[];
  grid: { rows: number; columns: number };
}

/** The picture, what lies over it, and outlined patches; `width` pixels wide at most, and as high. */
export function drawStage(canvas: HTMLCanvasElement, stage: Stage, width = 448): void {
  const scale = width / Math.max(...stage.natural);
  const [w, h] = stage.natural.map((s) => Math.max(1, Math.round(s * scale))) as [number, number];
  if (canvas.width !== w) canvas.width = w;
  if (canvas.height !== h) canvas.height = h;
  const context = canvas.getContext('2d')!;
  context.globalAlpha = 1;
  context.imageSmoothingEnabled = true;
  context.drawImage(stage.picture, 0, 0, w, h);
  const [cw, ch] = [w * stage.covered[0], h * stage.covered[1]];
  if (stage.overlay || stage.dimmed) {
    // Dimmed first, so that what is not attended to steps back.
    context.globalAlpha = stage.opacity * 0.45;
    context.fillStyle = '#000';
    context.fillRect(0, 0, w, h);
    context.globalAlpha = 1;
  }
  if (stage.overlay) {
    context.globalAlpha = stage.opacity;
    context.imageSmoothingEnabled = stage.smooth ?? false;
    context.drawImage(small(stage.overlay), 0, 0, cw, ch);
    context.globalAlpha = 1;
  }
  const [pw, ph] = [cw / stage.grid.columns, ch / stage.grid.rows];
  for (const { row, column, colour } of stage.marks) {
    context.lineWidth = 4;
    context.strokeStyle = '#000a';
    context.strokeRect(column * pw, row * ph, pw, ph);
    context.lineWidth = 2;
    context.strokeStyle = colour;
    context.strokeRect(column * pw, row * ph, pw, ph);
  }
}

export function thumbnail(image: ImageData | CanvasImageSource): HTMLCanvasElement {
  if (image instanceof ImageData) return small(image);
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [64, 64];
  canvas.getContext('2d')!.drawImage(image, 0, 0, 64, 64);
  return canvas;
}

/** The middle square of a picture: what a network sees of it in an evaluation. */
export function squareThumbnail(image: ImageBitmap, side = 96): HTMLCanvasElement {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = side;
  const short = Math.min(image.width, image.height);
  const context = canvas.getContext('2d')!;
  context.imageSmoothingQuality = 'high';
  context.drawImage(image, (image.width - short) / 2, (image.height - short) / 2, short, short, 0, 0, side, side);
  return canvas;
}

/** Losses by step with ln K, the loss of a teacher that says nothing, as a line. */
export function drawCurve(canvas: HTMLCanvasElement, losses: number[], level: { name: string; value: number } | undefined, style: CSSStyleDeclaration): void {
  const context = canvas.getContext('2d')!;
  const { width, height } = canvas;
  context.clearRect(0, 0, width, height);
  if (losses.length === 0) return;
  const levels = level ? [level.value] : [];
  const high = Math.max(...levels, ...losses) * 1.02;
  const low = Math.min(...losses) * 0.98;
  const x = (i: number) => 44 + ((width - 54) * i) / Math.max(1, losses.length - 1);
  const y = (v: number) => 10 + ((height - 34) * (high - v)) / Math.max(1e-9, high - low);
  context.font = '12px system-ui, sans-serif';
  context.fillStyle = context.strokeStyle = style.getPropertyValue('--soft') || '#888';
  let highest = 0;
  if (level) {
    highest = y(level.value) + 20;
    context.setLineDash([4, 4]);
    context.beginPath();
    context.moveTo(44, y(level.value));
    context.lineTo(width - 10, y(level.value));
    context.stroke();
    context.setLineDash([]);
    context.fillText(level.name, 8, y(level.value) + 4);
  }
  context.fillText(losses[losses.length - 1]!.toFixed(2), 8, Math.min(height - 20, Math.max(highest, y(losses[losses.length - 1]!) + 4)));
  context.fillText(`step ${losses.length}`, width - 70, height - 6);
  context.strokeStyle = style.getPropertyValue('--accent') || '#06c';
  context.lineWidth = 2;
  context.beginPath();
  losses.forEach((v, i) => (i ? context.lineTo(x(i), y(v)) : context.moveTo(x(i), y(v))));
  context.stroke();
  context.lineWidth = 1;
}

/** Canvases side by side as one picture; over the first what another canvas shows on a share of its sides. */
export function beside(sides: HTMLCanvasElement[], over?: { canvas: HTMLCanvasElement; share: [number, number] }): HTMLCanvasElement {
  const canvas = document.createElement('canvas');
  canvas.width = sides.reduce((n, c) => n + c.width, 8 * (sides.length - 1));
  canvas.height = Math.max(...sides.map((c) => c.height));
  const context = canvas.getContext('2d')!;
  let x = 0;
  for (const side of sides) {
    context.drawImage(side, x, 0);
    if (over && x === 0) {
      context.globalAlpha = Number(over.canvas.style.opacity);
      context.imageSmoothingEnabled = false;
      context.drawImage(over.canvas, x, 0, side.width * over.share[0], side.height * over.share[1]);
      context.globalAlpha = 1;
    }
    x += side.width + 8;
  }
  return canvas;
}
