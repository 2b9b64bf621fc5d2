/// <reference lib="esnext.disposable" preserve="true" />
// What lies in the worker and can be given back.

/** Browsers without `using` have no such symbols yet; the names are those their polyfills look for. */
export const DISPOSE: typeof Symbol.dispose = Symbol.dispose ?? Symbol.for('Symbol.dispose');
export const ASYNC_DISPOSE: typeof Symbol.asyncDispose = Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose');

/** Something that takes memory until it is disposed of: by `dispose()`, `using` or `await using`. */
export abstract class Resource implements Disposable, AsyncDisposable {
  private given: Promise<void> | undefined;

  /** Gives its memory back; a second time does nothing. */
  dispose(): void {
    void this[ASYNC_DISPOSE]();
  }

  [DISPOSE](): void {
    this.dispose();
  }

  /** Resolves when its memory is given back. */
  [ASYNC_DISPOSE](): Promise<void> {
    return (this.given ??= this.giveBack());
  }

  /** Done once; does not fail. */
  protected abstract giveBack(): Promise<void>;
}
