// Photographs to begin with.

import { OcelliError } from '../ocelli/src/index';
import { element, on } from './page';

/** The photographs of public/samples, with whom they are by. */
const PHOTOS = {
  chelsea: 'Chelsea the cat, by Stefan van der Walt, CC0',
  coffee: 'A cup of coffee, by Rachel Michetti, CC0',
  astronaut: 'Eileen Collins, by NASA, public domain',
  rocket: 'A rocket’s launch, by SpaceX, public domain',
  camera: 'A photographer, by Lav Varshney, CC0',
};

/** Buttons for them; `shown` is told what was chosen, by what name. */
export function photos(shown: (picture: Blob, name: string) => Promise<void>): void {
  for (const [name, words] of Object.entries(PHOTOS)) {
    const button = document.createElement('button');
    const image = new Image();
    [button.type, button.title, image.src, image.alt] = ['button', words, `./samples/thumbs/${name}.webp`, ''];
    button.setAttribute('aria-label', `Photograph: ${words}`);
    button.append(image);
    on(button, 'click', async () => {
      // The photograph itself is only fetched by who wants it.
      const response = await fetch(`./samples/${name}.webp`);
      if (!response.ok) throw new OcelliError('network', `the photograph cannot be fetched: the server answers ${response.status}`);
      await shown(await response.blob(), name);
      element('credit').firstChild!.textContent = `${words}: `;
    });
    element('photos').append(button);
  }
}
