// Drawn scenes to look at without a picture of one's own.

import type { Ocelli } from '../ocelli/src/index';
import { thumbnail } from './draw';
import { element, on } from './page';
import { drawable, type Picture } from './picture';

const COUNT = 8;
const SIDE_PX = 224;

/** Offers them as buttons; returns the first. */
export async function scenes(ocelli: Ocelli, choose: (picture: Picture, name: string) => Promise<void>): Promise<Picture> {
  const pictures: Picture[] = [];
  for (let i = 0; i < COUNT; i++) {
    const image = await ocelli.scene(i, SIDE_PX);
    const button = document.createElement('button');
    button.type = 'button';
    button.setAttribute('aria-label', `Scene ${i + 1}`);
    button.append(thumbnail(drawable(image)));
    on(button, 'click', () => choose(image, `scene ${i + 1}`));
    element('scenes').append(button);
    pictures.push(image);
  }
  return pictures[0]!;
}
