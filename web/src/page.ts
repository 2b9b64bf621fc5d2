// Small things about the page's elements.

import { OcelliError } from '../ocelli/src/index';

export function element<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as T;
}

export function say(text: string, isError = false): void {
  const status = element('status');
  status.textContent = text;
  status.classList.toggle('error', isError);
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
