// A server for the built page and a headless browser that looks at it.
import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { chromium } from 'playwright-core';

const TYPES = {
  '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.mjs': 'text/javascript', '.css': 'text/css', '.wasm': 'application/wasm',
  '.json': 'application/json', '.png': 'image/png', '.svg': 'image/svg+xml', '.webp': 'image/webp', '.txt': 'text/plain; charset=utf-8',
};

/** Serves a folder, and what `memory` has by its path (bytes, or a function that answers), on a free port of this machine. */
export async function serve(folder, memory = new Map(), headers = {}) {
  const served = [];
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, 'http://x').pathname);
    served.push(path);
    const bytes = memory.get(path);
    if (typeof bytes === 'function') return void bytes(request, response);
    if (bytes) return void response.writeHead(200, { 'content-length': bytes.length, 'content-type': TYPES[extname(path)] ?? 'application/octet-stream', ...headers }).end(bytes);
    const file = join(folder, normalize(path === '/' ? '/index.html' : path));
    if (!file.startsWith(folder) || !existsSync(file) || !statSync(file).isFile()) return void response.writeHead(404).end();
    response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream', ...headers });
    createReadStream(file).pipe(response);
  });
  await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
  return { server, served, url: `http://127.0.0.1:${server.address().port}` };
}

const CANDIDATES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome', '/usr/bin/google-chrome-stable'];

const SOFTWARE = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];
/** Also what WebGPU draws on a canvas reaches the page. */
export const WITH_CANVAS = [
  ...SOFTWARE, '--enable-features=Vulkan,SkiaGraphite', '--use-vulkan=swiftshader', '--disable-vulkan-surface', '--use-angle=swiftshader',
];
/** As in a browser that has none. */
export const WITHOUT_WEBGPU = ['--disable-blink-features=WebGPU', '--disable-features=WebGPUService'];

/** Chromium with WebGPU computed on the CPU (and a webcam that shows a test picture). */
export async function launch(gpu = SOFTWARE) {
  const executablePath = process.env.OCELLI_CHROMIUM ?? CANDIDATES.find(existsSync);
  if (!executablePath) throw new Error('no Chromium: install it (on Debian: apt-get install chromium), or name it in OCELLI_CHROMIUM');
  return chromium.launch({
    executablePath,
    args: [
      '--headless=new', '--no-sandbox', ...gpu,
      '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream',
    ],
  });
}
