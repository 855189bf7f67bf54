/** Timing on a machine that does other things too: take turns, take many, take the median. */
import { setTimeout as sleep } from "node:timers/promises";

/** Milliseconds of one call. */
export async function timed(run: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await run();
  return performance.now() - start;
}

/**
 * Runs every contestant once a round, the order reversed every other round, and gives each one's milliseconds. A
 * contestant says itself how long it took. Between two there is a pause, in which the threads of the one before stop
 * spinning.
 */
export async function takeTurns<Name extends string>(
  contestants: Readonly<Record<Name, () => Promise<number>>>,
  { rounds, warmUps = 1, pause = 10 }: { rounds: number; warmUps?: number; pause?: number },
): Promise<Record<Name, number[]>> {
  const names = Object.keys(contestants) as Name[];
  const times = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let round = -warmUps; round < rounds; round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      await sleep(pause);
      const milliseconds = await contestants[name]();
      if (round >= 0) times[name].push(milliseconds);
    }
  }
  return times;
}
