// Pictures and weights that are chosen, dropped on the page or pasted.

import { element, on, sayError } from './page';

/** What is done with them. */
export interface Incoming {
  picture(file: File, name: string): Promise<unknown>;
  /** The picture that the first is compared with. */
  second(file: File): Promise<unknown>;
  weights(file: File): Promise<unknown>;
}

export function incoming(take: Incoming): void {
  on(element('file'), 'change', (event) => {
    const file = (event.target as HTMLInputElement).files?.[0];
    return file && take.picture(file, file.name);
  });
  on(element('second'), 'change', (event) => {
    const file = (event.target as HTMLInputElement).files?.[0];
    return file && take.second(file);
  });
  const { body } = document;
  body.addEventListener('dragover', (event) => {
    event.preventDefault();
    body.classList.add('dropping');
  });
  body.addEventListener('dragleave', () => body.classList.remove('dropping'));
  body.addEventListener('drop', (event) => {
    body.classList.remove('dropping');
    // A panel has taken them.
    if (event.defaultPrevented) return;
    event.preventDefault();
    const file = event.dataTransfer?.files[0];
    if (!file) return;
    const isWeights = /\.(safetensors|pth|pt|tar)$/i.test(file.name);
    (isWeights ? take.weights(file) : take.picture(file, file.name)).catch(sayError);
  });
  document.addEventListener('paste', (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((f) => f.type.startsWith('image/'));
    if (file) take.picture(file, 'what was pasted').catch(sayError);
  });
}
