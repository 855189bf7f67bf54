/** What is compiled for one way of running a network, kept until it is asked for in another way. */

interface Releasable {
  release(): Promise<void>;
}

/** One set of sessions at a time: a second copy of a network's weights would double the memory. */
export class KeptSessions<Session extends Releasable> {
  #kept: { key: string; sessions: Promise<readonly Session[]> } | null = null;
  #released: Promise<void> = Promise.resolve();

  /**
   * Those that `compile` gave for this key, if it was the last that was asked for; others are let go before it is called.
   * Two runs at a time share them if their keys are the same. What could not be compiled is tried anew the next time.
   */
  get(key: string, compile: () => Promise<readonly Session[]>): Promise<readonly Session[]> {
    if (this.#kept?.key === key) return this.#kept.sessions;
    const kept = { key, sessions: this.release().then(compile) };
    this.#kept = kept;
    kept.sessions.catch(() => {
      if (this.#kept === kept) this.#kept = null;
    });
    return kept.sessions;
  }

  /** Waits for those that are being compiled, and for what an earlier call is still letting go. */
  release(): Promise<void> {
    const kept = this.#kept;
    this.#kept = null;
    this.#released = this.#released.then(async () => {
      // What could not be compiled has told its caller so.
      const sessions = (await kept?.sessions.catch(() => [])) ?? [];
      await Promise.all(sessions.map((session) => session.release()));
    });
    return this.#released;
  }
}

/** Compiles one after the other; if one cannot be, the others are let go again. */
export async function compileAll<From, Session extends Releasable>(
  all: readonly From[],
  compile: (from: From) => Promise<Session>,
): Promise<Session[]> {
  const sessions: Session[] = [];
  try {
    for (const from of all) sessions.push(await compile(from));
  } catch (error) {
    await Promise.all(sessions.map((session) => session.release()));
    throw error;
  }
  return sessions;
}
