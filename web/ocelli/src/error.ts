// What goes wrong, with a code a program can rely on.

import type { ErrorCode } from './protocol.js';

/** An error with a code a program can rely on; the message is for people. */
export class OcelliError extends Error {
  constructor(readonly code: ErrorCode, message: string) {
    super(message);
    this.name = 'OcelliError';
  }
}

/** What was thrown, in words. */
export const wordsOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
