/** Several things that hold memory or threads, opened one after the other. */

export interface Releasable {
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
    await Promise.all(opened.map((each) => each.release()));
    throw error;
  }
  return opened;
}
