'use strict';
// A scatter of pictures that is moved, zoomed and read with a pointer or with keys.
const data = JSON.parse(document.getElementById('points').textContent);
const canvas = document.getElementById('map');
const card = document.getElementById('card');
const live = document.getElementById('live');
const legend = [...document.querySelectorAll('.legend button[data-class]')];
const dark = matchMedia('(prefers-color-scheme: dark)');
const count = data.x.length;
// At most so many small pictures are drawn in the place of dots.
const PICTURES = 140;
const hidden = new Set();
const images = new Map();
const view = {x: 0, y: 0, zoom: 1};
let width = 1, height = 1, hovered = -1, pinned = -1, lit = -1, queued = false, beside = 16, reach = 14;
let colours = [], ink = '', paper = '';

function coprime(n) {
  const divisor = (a, b) => b ? divisor(b, a % b) : a;
  let step = Math.max(1, Math.round(n * 0.382));
  while (divisor(n, step) > 1) step++;
  return step;
}

function readColours() {
  const style = getComputedStyle(document.documentElement);
  ink = style.getPropertyValue('--ink');
  paper = style.getPropertyValue('--card');
  const pale = style.getPropertyValue('--pale');
  const classes = data.classes.length;
  // The house's eight, or as many hues as there are classes, neighbours in the list far apart and in turns lighter and darker.
  const turn = classes > 24 ? 137.508 : 360 / classes * coprime(classes);
  const one = c => classes <= 8 ? style.getPropertyValue('--c' + c)
    : `hsl(${c * turn % 360} ${[80, 58][c % 2]}% ${(dark.matches ? [60, 74] : [44, 34])[c % 2]}%)`;
  colours = data.classes.map((_, c) => one(c));
  colours.push(classes ? pale : style.getPropertyValue('--c0'));
  for (const button of legend) button.querySelector('i').style.background = colours[button.dataset.class];
}

const extent = of => Math.max(1e-3, of.reduce((far, v) => Math.max(far, Math.abs(v)), 0) * 2);
const across = extent(data.x), down = extent(data.y);
const side = () => Math.min(width / across, height / down) * 0.9 * view.zoom;
const px = i => width / 2 + (data.x[i] - view.x) * side();
const py = i => height / 2 + (data.y[i] - view.y) * side();
const inside = (x, y) => x > -40 && y > -40 && x < width + 40 && y < height + 40;
const shown = i => !hidden.has(data.c[i]);

function image(i) {
  if (!data.t[i]) return null;
  if (!images.has(i)) {
    const loaded = new Image();
    loaded.onload = draw;
    loaded.src = 'data:image/jpeg;base64,' + data.t[i];
    images.set(i, loaded);
  }
  const found = images.get(i);
  return found.complete && found.naturalWidth ? found : null;
}

function paint() {
  queued = false;
  const ratio = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext('2d');
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const visible = [];
  for (let i = 0; i < count; i++) if (shown(i) && inside(px(i), py(i))) visible.push(i);
  const asPictures = visible.length <= PICTURES;
  const long = Math.max(34, Math.min(84, Math.sqrt(width * height / (visible.length + 1)) * 0.45));
  const room = Math.max(0.6, Math.min(1.2, Math.sqrt(width * height) / 800));
  const radius = Math.max(1.6, Math.min(6, (count > 4000 ? 2.4 : 3.6) * room * Math.sqrt(Math.sqrt(view.zoom))));
  const dot = i => {
    pen.beginPath();
    pen.arc(px(i), py(i), radius, 0, 2 * Math.PI);
    pen.fill();
  };
  const frame = (i, small, border) => {
    const factor = long / Math.max(small.naturalWidth, small.naturalHeight);
    const w = small.naturalWidth * factor, h = small.naturalHeight * factor;
    pen.fillRect(px(i) - w / 2 - border, py(i) - h / 2 - border, w + 2 * border, h + 2 * border);
    pen.drawImage(small, px(i) - w / 2, py(i) - h / 2, w, h);
  };
  for (const of of [false, true]) for (const i of visible) {
    // What is lit comes last, above the others.
    if ((lit === data.c[i]) !== of) continue;
    pen.globalAlpha = lit < 0 || lit === data.c[i] ? 0.85 : 0.1;
    pen.fillStyle = colours[data.c[i]];
    const small = asPictures ? image(i) : null;
    if (small) frame(i, small, 2);
    else dot(i);
  }
  pen.globalAlpha = 1;
  const at = current(), chosen = at >= 0 && asPictures ? image(at) : null;
  if (chosen) {
    pen.fillStyle = ink;
    frame(at, chosen, 4);
  } else if (at >= 0) {
    pen.lineWidth = 2.5;
    pen.strokeStyle = paper;
    pen.fillStyle = colours[data.c[at]];
    pen.beginPath();
    pen.arc(px(at), py(at), radius + 4, 0, 2 * Math.PI);
    pen.fill();
    pen.stroke();
    pen.strokeStyle = ink;
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.arc(px(at), py(at), radius + 5.5, 0, 2 * Math.PI);
    pen.stroke();
  }
  beside = chosen ? long / 2 + 10 : 16;
  reach = asPictures ? long / 2 : 14;
  place(at);
}
const draw = () => { if (!queued) { queued = true; requestAnimationFrame(paint); } };
const current = () => hovered >= 0 ? hovered : pinned;

// The card beside a point: picture, name, class.
function place(i) {
  card.hidden = i < 0;
  if (i < 0) return;
  if (card.dataset.point !== String(i)) {
    card.dataset.point = i;
    card.replaceChildren();
    if (data.t[i]) {
      const small = new Image();
      small.alt = '';
      small.onload = () => place(current());
      small.src = 'data:image/jpeg;base64,' + data.t[i];
      card.append(small);
    }
    const name = document.createElement('b');
    name.textContent = data.names[i];
    const kind = document.createElement('span');
    kind.textContent = className(i) + (data.t[i] ? '' : (className(i) ? ', ' : '') + 'no small picture in this page');
    card.append(name, kind);
  }
  const x = px(i), y = py(i), w = card.offsetWidth, h = card.offsetHeight;
  card.style.left = Math.max(6, x + beside + w > width - 6 ? x - beside - w : x + beside) + 'px';
  card.style.top = Math.max(6, Math.min(height - h - 6, y - h / 2)) + 'px';
}
const className = i => data.classes[data.c[i]] || (data.classes.length ? 'no class' : '');

function nearest(x, y, within) {
  let best = -1, least = within * within;
  for (let i = 0; i < count; i++) {
    if (!shown(i)) continue;
    const d = (px(i) - x) ** 2 + (py(i) - y) ** 2;
    if (d < least) { least = d; best = i; }
  }
  return best;
}

// The next point in a direction: near, and not far off to the side.
function next(from, dx, dy) {
  let best = -1, least = Infinity;
  for (let i = 0; i < count; i++) {
    if (i === from || !shown(i)) continue;
    const x = px(i) - px(from), y = py(i) - py(from);
    const along = x * dx + y * dy, beside = Math.abs(x * dy) + Math.abs(y * dx);
    if (along <= 0 || beside > along) continue;
    const d = along + 2 * beside;
    if (d < least) { least = d; best = i; }
  }
  return best;
}

function choose(i) {
  pinned = i;
  hovered = -1;
  if (i >= 0) {
    if (!(px(i) > 20 && py(i) > 20 && px(i) < width - 20 && py(i) < height - 20)) {
      view.x = data.x[i];
      view.y = data.y[i];
    }
    live.textContent = data.names[i] + (className(i) ? ', ' + className(i) : '');
  }
  draw();
}

function zoom(factor, x = width / 2, y = height / 2) {
  const before = side();
  view.zoom = Math.max(0.5, Math.min(4000, view.zoom * factor));
  const change = 1 / before - 1 / side();
  view.x += (x - width / 2) * change;
  view.y += (y - height / 2) * change;
  draw();
}
function move(dx, dy) {
  view.x -= dx / side();
  view.y -= dy / side();
  draw();
}
function reset() {
  Object.assign(view, {x: 0, y: 0, zoom: 1});
  draw();
}

const pointers = new Map();
let travelled = 0;
const at = e => { const box = canvas.getBoundingClientRect(); return [e.clientX - box.left, e.clientY - box.top]; };
canvas.addEventListener('pointerdown', e => {
  canvas.setPointerCapture(e.pointerId);
  pointers.set(e.pointerId, at(e));
  if (pointers.size === 1) travelled = 0;
});
canvas.addEventListener('pointermove', e => {
  const [x, y] = at(e), before = pointers.get(e.pointerId);
  if (!before) {
    const found = nearest(x, y, reach);
    if (found !== hovered) { hovered = found; draw(); }
    return;
  }
  const others = [...pointers].filter(([id]) => id !== e.pointerId).map(([, p]) => p);
  pointers.set(e.pointerId, [x, y]);
  travelled += Math.hypot(x - before[0], y - before[1]);
  canvas.classList.add('moving');
  hovered = -1;
  if (others.length === 0) return move(x - before[0], y - before[1]);
  const [ox, oy] = others[0];
  zoom(Math.hypot(x - ox, y - oy) / Math.max(1, Math.hypot(before[0] - ox, before[1] - oy)), (x + ox) / 2, (y + oy) / 2);
});
for (const kind of ['pointerup', 'pointercancel']) canvas.addEventListener(kind, e => {
  pointers.delete(e.pointerId);
  canvas.classList.remove('moving');
  // A click pins what is under it, and lets go of it elsewhere.
  if (kind === 'pointerup' && travelled < 5 && pointers.size === 0) choose(nearest(...at(e), reach));
});
canvas.addEventListener('pointerleave', () => { hovered = -1; draw(); });
canvas.addEventListener('wheel', e => {
  e.preventDefault();
  zoom(Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0016)), ...at(e));
}, {passive: false});
canvas.addEventListener('dblclick', e => zoom(2, ...at(e)));
canvas.addEventListener('focus', () => { if (pinned < 0 && canvas.matches(':focus-visible')) choose(nearest(width / 2, height / 2, Infinity)); });
canvas.addEventListener('keydown', e => {
  const [dx, dy] = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[e.key] || [0, 0];
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  if (dx || dy) {
    if (e.shiftKey) move(-60 * dx, -60 * dy);
    else {
      const from = current() < 0 ? nearest(width / 2, height / 2, Infinity) : current();
      const to = current() < 0 ? from : next(from, dx, dy);
      if (to >= 0) choose(to);
    }
  } else if (e.key === '+' || e.key === '=') zoom(1.5, ...(current() >= 0 ? [px(current()), py(current())] : []));
  else if (e.key === '-') zoom(1 / 1.5, ...(current() >= 0 ? [px(current()), py(current())] : []));
  else if (e.key === '0') reset();
  else if (e.key === 'Escape') choose(-1);
  else return;
  e.preventDefault();
});
document.getElementById('in').addEventListener('click', () => zoom(1.5));
document.getElementById('out').addEventListener('click', () => zoom(1 / 1.5));
document.getElementById('whole').addEventListener('click', reset);
for (const button of legend) {
  const c = +button.dataset.class;
  button.addEventListener('click', () => {
    if (!hidden.delete(c)) hidden.add(c);
    button.setAttribute('aria-pressed', !hidden.has(c));
    if (pinned >= 0 && !shown(pinned)) pinned = -1;
    draw();
  });
  for (const kind of ['pointerenter', 'focus']) button.addEventListener(kind, () => { lit = c; draw(); });
  for (const kind of ['pointerleave', 'blur']) button.addEventListener(kind, () => { lit = -1; draw(); });
}
const all = document.getElementById('all');
if (all) all.addEventListener('click', () => {
  // One click shows all of them; when all are shown, none, to choose a few.
  const none = hidden.size === 0;
  hidden.clear();
  for (const button of legend) {
    if (none) hidden.add(+button.dataset.class);
    button.setAttribute('aria-pressed', !none);
  }
  draw();
});
dark.addEventListener('change', () => { readColours(); draw(); });
new ResizeObserver(() => {
  width = canvas.clientWidth;
  height = canvas.clientHeight;
  draw();
}).observe(canvas);
readColours();
