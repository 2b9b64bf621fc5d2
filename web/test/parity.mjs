// The methods' whole training steps in a real browser: the tests of tests/parity_methods as a module, on the CPU's path.
// `node test/parity.mjs [words of a test's name]`; `cargo xtask browser` builds the module and names its folder.
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { launch, serve } from './browser.mjs';
import { finish } from './each.mjs';

const built = process.env.OCELLI_BROWSER_TESTS;
if (!built) throw new Error('OCELLI_BROWSER_TESTS names no folder of the module: run `cargo xtask browser`');
const golden = process.env.OCELLI_GOLDEN ?? join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), 'tests/golden');

const memory = new Map([['/index.html', Buffer.from('<!doctype html><meta charset="utf-8"><title>parity</title>')]]);
for (const file of ['ocelli_browser_tests.js', 'ocelli_browser_tests_bg.wasm']) memory.set(`/${file}`, readFileSync(join(built, file)));
const fixtures = readdirSync(golden).filter((file) => /^(loss_|.*_train)/.test(file));
for (const file of fixtures) memory.set(`/golden/${file}`, readFileSync(join(golden, file)));
const { server, url } = await serve(built, memory);
const browser = await launch([]);

/** Hands every fixture to a new instance of the module; a test that fails ends its instance. */
async function start() {
  const page = await browser.newPage();
  const said = [];
  page.on('console', (message) => said.push(message.text()));
  await page.goto(`${url}/index.html`);
  const names = await page.evaluate(async (fixtures) => {
    window.module = await import('/ocelli_browser_tests.js');
    await window.module.default();
    for (const file of fixtures) window.module.add(file, new Uint8Array(await (await fetch(`/golden/${file}`)).arrayBuffer()));
    return window.module.names();
  }, fixtures);
  return { page, said, names };
}

const words = process.argv.slice(2);
let at = await start();
const chosen = at.names.filter((name) => words.every((word) => name.includes(word)));
if (chosen.length === 0) throw new Error(`no test's name has ${words.join(' ')}`);
const failed = [];
const began = Date.now();
for (const name of chosen) {
  const from = Date.now();
  try {
    await at.page.evaluate((name) => window.module.run(name), name);
    console.log(`ok    ${name} (${((Date.now() - from) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed.push(name);
    console.log(`FAIL  ${name}\n      ${at.said.join('\n      ') || error.message}`);
    await at.page.close();
    at = await start();
  }
}
await browser.close();
server.close();
finish('tests of methods in a browser', { count: chosen.length, failed }, began);
