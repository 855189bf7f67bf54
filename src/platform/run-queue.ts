/** Calls of a pipeline, one at a time, until it is released. */
import { platform } from "#platform";
import { StateError } from "../errors.ts";

/**
 * One at a time, in the order in which they were asked for. Two runs of one pipeline would share its threads and gain
 * nothing, and the second could let go of compiled parts that the first still needs.
 */
export class Turns {
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
   * Runs `work` when it is its turn, and gives what it gives. Rejects with the signal's reason as soon as that is aborted,
   * wherever the work is; the next in line begins when the work has stopped. Rejects with StateError after `close`, and in a callback
   * of this pipeline, which would wait for a turn that waits for the callback.
   */
  async take<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    this.#refuse();
    signal?.throwIfAborted();
    const turn = this.#last.then(() => {
      signal?.throwIfAborted();
      return work();
    });
    // A failure rejects only its own caller.
    this.#last = turn.catch(() => undefined);
    return signal ? orAborted(turn, signal) : turn;
  }

  /** Takes a turn behind all others, after which there are none. A second call waits for the first. */
  async close(work: () => Promise<void>): Promise<void> {
    if (this.#closed) return this.#closed;
    this.#refuse();
    this.#closed = this.#last.then(() => {
      this.#over = true;
      return work();
    });
    return this.#closed;
  }

  /** Throws StateError once the pipeline is released: for what can be called beside turns. */
  checkOpen(): void {
    if (this.#over) throw this.#released();
  }

  /** Options whose functions, which a turn calls, are known to run within it. */
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

function orAborted<T>(turn: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    turn.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
