/** What is compiled for one way of running a network, kept until it is asked for in another way. */
import { type Releasable, releaseAll } from "../runtime/open-all.ts";

/** One set of sessions at a time: a second copy of a network's weights would double the memory. */
export class SessionCache<Session extends Releasable> {
  #cached: { key: string; sessions: Promise<readonly Session[]> } | null = null;
  #released: Promise<void> = Promise.resolve();

  /**
   * The sessions that `compile` gave for this key, if it is the key of the last call. Otherwise the cached ones are released and
   * `compile` is called. Two runs at a time share the sessions if their keys are the same. What failed to compile is tried again
   * the next time.
   */
  get(key: string, compile: () => Promise<readonly Session[]>): Promise<readonly Session[]> {
    if (this.#cached?.key === key) return this.#cached.sessions;
    const cached = { key, sessions: this.release().then(compile) };
    this.#cached = cached;
    cached.sessions.catch(() => {
      if (this.#cached === cached) this.#cached = null;
    });
    return cached.sessions;
  }

  /** Waits for sessions that are still being compiled, and for an earlier release that is not done yet. */
  release(): Promise<void> {
    const cached = this.#cached;
    this.#cached = null;
    this.#released = this.#released.then(async () => {
      // A failure to compile was reported to the caller of `get`.
      const sessions = (await cached?.sessions.catch(() => [])) ?? [];
      await releaseAll(sessions);
    });
    return this.#released;
  }
}
