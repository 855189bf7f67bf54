/**
 * One at a time, in the order in which they were asked for. Two runs of one pipeline would share its threads and gain
 * nothing, and the second could let go of compiled parts that the first still needs.
 */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  take<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work, work);
    // Whoever asked is told of a failure; the next in line is not concerned.
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}
