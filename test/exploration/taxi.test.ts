import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { mdpFromJson } from "../../src/exploration/mdp/environments/file.ts";
import type { GymnasiumTable } from "../../src/exploration/mdp/environments/gymnasium.ts";
import { optimalPlan } from "../../src/exploration/mdp/planning.ts";
import { explore } from "../support/explore.ts";

/** Taxi (Dietterich 2000) by its published rules: a 5 x 5 grid, walls to the right of these cells, four stands. */
const walls = new Set(["0,1", "1,1", "3,0", "4,0", "3,2", "4,2"]);
const stands = [[0, 0], [0, 4], [4, 0], [4, 3]] as const; // biome-ignore format: one row
const moves = [[1, 0], [-1, 0], [0, 1], [0, -1]] as const; // biome-ignore format: one row
const inTaxi = 4;

function move(row: number, column: number, direction: number): [number, number] {
  const [down, right] = moves[direction]!;
  const blocked = right === 1 ? walls.has(`${row},${column}`) : right === -1 && walls.has(`${row},${column - 1}`);
  const next: [number, number] = [row + down, column + right];
  return blocked || next.some((x) => x < 0 || x > 4) ? [row, column] : next;
}

const code = (row: number, column: number, passenger: number, target: number) =>
  ((row * 5 + column) * 5 + passenger) * 4 + target;

/** As Python writes `env.unwrapped.P` with json.dumps: numbers as keys become strings. */
function taxi(horizon: number): GymnasiumTable {
  const P: Record<string, Record<string, [number, number, number, boolean][]>> = {};
  const initial = new Array<number>(500).fill(0);
  for (let state = 0; state < 500; state++) {
    const target = state % 4;
    const passenger = Math.floor(state / 4) % 5;
    const [row, column] = [Math.floor(state / 100), Math.floor(state / 20) % 5];
    const here = stands.findIndex(([r, c]) => r === row && c === column);
    const driven = (direction: number): [number, number, number, boolean] => {
      const [r, c] = move(row, column, direction);
      return [1, code(r, c, passenger, target), -1, false];
    };
    const picked: [number, number, number, boolean] =
      passenger < inTaxi && here === passenger
        ? [1, code(row, column, inTaxi, target), -1, false]
        : [1, state, -10, false];
    let dropped: [number, number, number, boolean] = [1, state, -10, false];
    if (passenger === inTaxi && here === target) dropped = [1, code(row, column, target, target), 20, true];
    else if (passenger === inTaxi && here >= 0) dropped = [1, code(row, column, here, target), -1, false];
    P[state] = { 0: [driven(0)], 1: [driven(1)], 2: [driven(2)], 3: [driven(3)], 4: [picked], 5: [dropped] };
    if (passenger < inTaxi && passenger !== target) initial[state] = 1 / 300;
  }
  return { P, initial, horizon };
}

/** Length of the shortest way between two cells, breadth first. */
function distance(from: readonly [number, number], to: readonly [number, number]): number {
  const seen = new Map([[from.join(), 0]]);
  const queue: (readonly [number, number])[] = [from];
  for (const [row, column] of queue) {
    for (let direction = 0; direction < 4; direction++) {
      const next = move(row, column, direction);
      if (seen.has(next.join())) continue;
      seen.set(next.join(), seen.get(`${row},${column}`)! + 1);
      queue.push(next);
    }
  }
  return seen.get(to.join())!;
}

describe("Taxi, from a user's JSON", () => {
  it("is solved by the shortest way to the passenger and on to the target", () => {
    const horizon = 25;
    const table = taxi(horizon);
    const mdp = mdpFromJson(JSON.parse(JSON.stringify(table)));
    expect(mdp.states).toBe(501);
    let mean = 0;
    (table.initial as number[]).forEach((p, state) => {
      if (p === 0) return;
      const [target, passenger] = [stands[state % 4]!, stands[Math.floor(state / 4) % 5]!];
      const start = [Math.floor(state / 100), Math.floor(state / 20) % 5] as const;
      mean += p * (20 - distance(start, passenger) - 1 - distance(passenger, target));
    });
    // Rewards -10 .. 20 are moved to 0 .. 1 at each step.
    expect(optimalPlan(mdp).value * 30 - 10 * horizon).toBeCloseTo(mean, 8);
  });

  it("runs, with thresholds and values in its own units", async () => {
    const file = join(await mkdtemp(join(tmpdir(), "halfstep-")), "taxi.json");
    await writeFile(file, JSON.stringify(taxi(12)));
    const options = [
      "--episodes",
      "5",
      "--seeds",
      "1",
      "--workers",
      "0",
      "--algorithms",
      "stepmix,bpi-ucbvi",
      "--json",
    ];
    const summary = JSON.parse(await explore("run", "--env", file, "--threshold", "-40", ...options));
    expect(summary.threshold).toBe(-40);
    expect(summary.optimalValue).toBeCloseTo(optimalPlan(mdpFromJson(taxi(12))).value * 30 - 120, 9);
    expect(summary.baselineValue).toBeLessThan(summary.optimalValue);
    const [stepmix] = summary.algorithms;
    expect(stepmix.violations).toBe(0);
    expect(stepmix.finalValueMean).toBeCloseTo(summary.baselineValue, 9);
    expect(stepmix.regretMean).toBeCloseTo(5 * (summary.optimalValue - summary.baselineValue), 9);
  });

  it.each([
    [
      "a state that is missing",
      (table: GymnasiumTable) => delete (table.P as Record<string, unknown>)["7"],
      "P[7] is missing",
    ],
    [
      "probabilities that do not sum to one",
      (table: GymnasiumTable) => ((table.P["3"]!["2"]![0] as unknown as number[])[0] = 0.9),
      /P\[3\]\[2\] sum to 0.9|state 3, action 2 sum to 0.9/,
    ],
    [
      "a next state that is not there",
      (table: GymnasiumTable) => ((table.P["3"]!["2"]![0] as unknown as number[])[1] = 900),
      "P[3][2][0][1] must be a whole number from 0 to 499, not 900",
    ],
  ])("is refused with %s", (_, spoil, message) => {
    const table = taxi(5);
    spoil(table);
    expect(() => mdpFromJson(table)).toThrow(message);
  });
});
