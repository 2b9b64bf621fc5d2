// The two modules, of which a worker has one: the smaller looks, the larger trains as well.

import * as look from '../pkg/ocelli_web_look.js';
import * as train from '../pkg/ocelli_web_train.js';
import type { ModuleKind } from './protocol.js';

export type { Engine, Model, Overlay, Session, TracedPicture } from '../pkg/ocelli_web_train.js';

/** What a module has: one that looks has no sessions. */
export type Module = Omit<typeof train, 'Session'> & Partial<Pick<typeof train, 'Session'>>;

// Alike but for sessions; TypeScript tells their classes apart by name.
const MODULES: Record<ModuleKind, Module> = { look: look as unknown as Module, train };

export const moduleOf = (kind: ModuleKind): Module => MODULES[kind];

/** Where a module lies. Bundlers find both by these words. */
export const addressOf = (kind: ModuleKind): string =>
  (kind === 'look' ? new URL('../pkg/ocelli_web_look_bg.wasm', import.meta.url) : new URL('../pkg/ocelli_web_train_bg.wasm', import.meta.url)).href;
