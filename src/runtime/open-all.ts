/** Several things that hold memory or threads: opened one after the other, released together. */

/** What holds memory or threads until it is released. */
export interface Releasable {
  /** Gives them back; it cannot be used after that. */
  release(): Promise<void>;
}

/** Opens one for each of `all`, in order. If one cannot be opened, those that were are released, and its error is thrown. */
export async function openAll<From, Opened extends Releasable>(
  all: Iterable<From>,
  open: (from: From) => Promise<Opened>,
): Promise<Opened[]> {
  const opened: Opened[] = [];
  try {
    for (const from of all) opened.push(await open(from));
  } catch (error) {
    await releaseAll(opened);
    throw error;
  }
  return opened;
}

/** Releases all of them; those that were never there count as released. */
export async function releaseAll(all: Iterable<Releasable | null | undefined>): Promise<void> {
  await Promise.all(Array.from(all, (each) => each?.release()));
}
