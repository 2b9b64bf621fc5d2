// A network, a picture, and what the class token attends to in it.
import { load } from 'ocelli';

const find = (name) => document.querySelector(name);
const [input, button, bar, out, canvas] = ['input', 'button', 'progress', 'output', 'canvas'].map(find);

/** Draws one map, the mean of all heads, one pixel a patch; CSS makes it larger. */
function draw({ heads, rows, columns, values }) {
  const cells = rows * columns;
  const mean = Array.from({ length: cells }, (_, i) => {
    let sum = 0;
    for (let head = 0; head < heads; head++) sum += values[head * cells + i];
    return sum / heads;
  });
  const most = Math.max(...mean);
  const image = new ImageData(columns, rows);
  mean.forEach((share, i) => image.data.set([255 * (share / most), 180 * (share / most), 60, 255], 4 * i));
  [canvas.width, canvas.height] = [columns, rows];
  canvas.getContext('2d').putImageData(image, 0, 0);
  const best = mean.indexOf(most);
  out.textContent = `Most of it goes to the patch in row ${1 + Math.floor(best / columns)}, column ${1 + (best % columns)}.`;
}

let stop = new AbortController();

/** Looks at a picture; an earlier look that is still under way ends. */
async function look(model, picture) {
  stop.abort();
  const { signal } = (stop = new AbortController());
  button.disabled = false;
  out.textContent = 'Looking…';
  try {
    draw(await model.attention(picture, { size: 224, signal }));
  } catch (error) {
    if (signal.aborted) return;
    out.textContent = error.message;
  } finally {
    if (stop.signal === signal) button.disabled = true;
  }
}

try {
  const model = await load('./scenes.safetensors', {
    onProgress: ({ loaded, total }) => total && (bar.value = loaded / total),
  });
  bar.hidden = true;
  input.addEventListener('change', () => input.files[0] && look(model, input.files[0]));
  button.addEventListener('click', () => {
    stop.abort();
    out.textContent = 'Stopped.';
  });
  await look(model, await model.ocelli.scene(1, 224));
} catch (error) {
  out.textContent = error.message;
}
