/** Timing on a machine that also does other work: sides take turns, many times, and medians are compared. */
import { setTimeout as sleep } from "node:timers/promises";

/** Milliseconds of one call. */
export async function timed(run: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await run();
  return performance.now() - start;
}

/**
 * Runs every contestant once a round, in reversed order every other round, and returns the milliseconds of each. A
 * contestant reports its own time. Between two of them is a pause, in which the threads of the one before stop
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
