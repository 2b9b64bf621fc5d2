// Small things about the page's elements.

import { OcelliError } from '../ocelli/src/index';

export function element<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as T;
}

/** What a slider or a list of numbers is set to. */
export const numberOf = (id: string) => Number(element<HTMLInputElement | HTMLSelectElement>(id).value);

/** Milliseconds that an error stays on the page while the live view has news at every picture. */
const ERROR_STAYS_MS = 6000;
let wentWrong = -Infinity;

export function say(text: string, isError = false): void {
  const status = element('status');
  status.textContent = text;
  status.classList.toggle('error', isError);
  wentWrong = isError ? performance.now() : -Infinity;
}

/** What the live view has to say, unless something went wrong just now. */
export function sayLive(text: string): void {
  if (performance.now() - wentWrong > ERROR_STAYS_MS) say(text);
}

export function sayError(error: unknown): void {
  // An answer about a picture that was replaced meanwhile.
  if (error instanceof OcelliError && error.code === 'disposed') return;
  const text = error instanceof Error ? error.message : String(error);
  say(`${text.charAt(0).toUpperCase()}${text.slice(1)}`, true);
}

const known = new Map<string, string>();
/** Adds or replaces rows of the table of numbers. */
export function facts(rows: Record<string, string>): void {
  for (const [name, value] of Object.entries(rows)) known.set(name, value);
  element('facts').replaceChildren(
    ...[...known].flatMap(([name, value]) => {
      const [dt, dd] = [document.createElement('dt'), document.createElement('dd')];
      [dt.textContent, dd.textContent] = [name, value];
      return [dt, dd];
    }),
  );
}

export const ms = (value: number) => (value >= 1000 ? `${(value / 1000).toFixed(2)} s` : `${value.toFixed(0)} ms`);

/** Runs what a control asks for; whatever goes wrong is said, and the page goes on. */
export function on<K extends keyof HTMLElementEventMap>(target: HTMLElement, kind: K, run: (event: HTMLElementEventMap[K]) => unknown): void {
  target.addEventListener(kind, (event) => {
    Promise.resolve().then(() => run(event)).catch(sayError);
  });
}

/** Files dropped on an element, where `mine` says that they are its own; the page leaves those alone. */
export function dropped(target: HTMLElement, take: (files: File[]) => unknown, mine: (files: File[]) => boolean = () => true): void {
  target.addEventListener('drop', (event) => {
    const files = [...(event.dataTransfer?.files ?? [])];
    if (event.defaultPrevented || files.length === 0 || !mine(files)) return;
    event.preventDefault();
    Promise.resolve().then(() => take(files)).catch(sayError);
  });
}

/** Saves what a page made as a file. */
export function download(blob: Blob, name: string): void {
  const link = document.createElement('a');
  [link.href, link.download] = [URL.createObjectURL(blob), name];
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
