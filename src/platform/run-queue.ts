/** Calls of a pipeline, one at a time, until it is released. */
import { platform } from "#platform";
import { StateError } from "../errors.ts";
import { type OptionsOf, type OptionTable, readOptions } from "../options/options.ts";

/**
 * Runs one at a time, in the order in which they were asked for. Two at once would share the pipeline's threads and gain nothing,
 * and the second could release compiled parts that the first still needs.
 */
export class RunQueue {
  readonly #name: string;
  readonly #scope = platform.callScope();
  #last: Promise<unknown> = Promise.resolve();
  #closed: Promise<void> | null = null;
  #over = false;

  /** `name`: what messages call the pipeline. */
  constructor(name: string) {
    this.#name = name;
  }

  /**
   * Checks the options of a call against its table, then runs it in its turn. Throws ArgumentError for the options, and what `run`
   * throws.
   */
  async call<Options extends { signal?: AbortSignal }, T>(
    given: unknown,
    table: OptionTable<Options>,
    of: OptionsOf,
    start: (options: Options) => Promise<T>,
  ): Promise<T> {
    const options = readOptions(given, table, of);
    return this.run(() => start(this.guarded(options)), options.signal);
  }

  /**
   * Calls `start` when all runs before it are done, and gives what it gives. Rejects with the signal's reason as soon as that is
   * aborted, whatever the run is doing; the next one begins when this one has stopped. Rejects with StateError after `close`, and in
   * a callback of this pipeline: that run would wait for one that waits for the callback.
   */
  async run<T>(start: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    this.#refuse();
    signal?.throwIfAborted();
    const result = this.#last.then(() => {
      signal?.throwIfAborted();
      return start();
    });
    // A failure rejects only its own caller.
    this.#last = result.catch(() => undefined);
    return signal ? orAborted(result, signal) : result;
  }

  /** Calls `release` behind all other runs, and refuses later ones. A second call waits for the first. */
  async close(release: () => Promise<void>): Promise<void> {
    if (this.#closed) return this.#closed;
    this.#refuse();
    this.#closed = this.#last.then(() => {
      this.#over = true;
      return release();
    });
    return this.#closed;
  }

  /** Throws StateError once the pipeline is released: for what can be called outside of the queue. */
  checkOpen(): void {
    if (this.#over) throw this.#released();
  }

  /** Options whose functions, which a run calls, are known to be called within it. */
  guarded<Options extends object>(options: Options): Options {
    const guard = (value: unknown) =>
      typeof value === "function" ? (...args: unknown[]) => this.#scope.run(() => value(...args)) : value;
    return Object.fromEntries(Object.entries(options).map(([name, value]) => [name, guard(value)])) as Options;
  }

  #refuse(): void {
    if (this.#scope.isActive()) {
      throw new StateError(
        `${this.#name}: this was called within a callback (onStep, ...) of a call that is still running, and would wait for it ` +
          "for ever. Call it when that one is done; to stop that one, abort its signal.",
      );
    }
    if (this.#closed) throw this.#released();
  }

  #released(): StateError {
    return new StateError(`${this.#name}: it has been released; open it again with fromPretrained.`);
  }
}

function orAborted<T>(result: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    result.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
