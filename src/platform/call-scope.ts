/** Tells whether code runs within a callback that has not finished. */

export interface CallScope {
  /** Calls `callback`; until it is done, and its promise settled, what it does is within the scope. */
  run<T>(callback: () => T): T;
  /** Whether the caller was called, directly or later, by a callback that is still running. */
  isActive(): boolean;
}

/** What goes through to whatever a callback calls: Node's AsyncLocalStorage, or `Synchronous`. */
export interface Carrier {
  run<T>(value: Running, callback: () => T): T;
  getStore(): Running | undefined;
}

export interface Running {
  done: boolean;
}

export function callScope(carrier: Carrier): CallScope {
  return {
    run(callback) {
      const running: Running = { done: false };
      const finish = () => {
        running.done = true;
      };
      try {
        const result = carrier.run(running, callback);
        if (result instanceof Promise) result.then(finish, finish);
        else finish();
        return result;
      } catch (error) {
        finish();
        throw error;
      }
    },
    // A timer that a callback set may well ask for a turn when the callback is long done.
    isActive: () => carrier.getStore()?.done === false,
  };
}

/** Browsers do not say what an asynchronous function goes on with: here the scope ends at a callback's first `await`. */
export class Synchronous implements Carrier {
  #current: Running | undefined;

  run<T>(value: Running, callback: () => T): T {
    const before = this.#current;
    this.#current = value;
    try {
      return callback();
    } finally {
      this.#current = before;
    }
  }

  getStore(): Running | undefined {
    return this.#current;
  }
}
