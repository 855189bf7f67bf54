import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import { readEpisodes } from "../../src/exploration/learners/vi-lcb.ts";
import { type MdpFile, mdpFromJson } from "../../src/exploration/mdp/environments/file.ts";
import type { GymnasiumTable } from "../../src/exploration/mdp/environments/gymnasium.ts";
import { environment } from "../../src/exploration/mdp/environments/named.ts";
import { chain, gridworld, randomMdp, riverSwim } from "../../src/exploration/mdp/environments/synthetic.ts";
import { fromOwnUnits, toOwnUnits } from "../../src/exploration/mdp/mdp.ts";
import { optimalPlan } from "../../src/exploration/mdp/planning.ts";
import { explore } from "../support/explore.ts";

const fixtures = fileURLToPath(new URL("../fixtures/exploration/", import.meta.url));
const hostile = `${fixtures}environments/`;
const names = readdirSync(hostile);
const short = ["--episodes", "20", "--seeds", "1", "--algorithms", "stepmix", "--workers", "0"];
/** env-deep.json has the same content as env-ok.json. */
const fine = new Set(["env-ok.json", "env-deep.json", "ep-ok.jsonl"]);

async function expectRefused(answer: Promise<string>, ...words: string[]): Promise<void> {
  const error = await answer.then(
    (text) => new Error(`answered ${text}`),
    (error: unknown) => error as Error,
  );
  expect(error).toBeInstanceOf(ArgumentError);
  expect(error.message).not.toContain("\n");
  for (const word of words) expect(error.message).toContain(word);
}

describe("a hostile environment", () => {
  it.each(names.filter((name) => name.startsWith("env-")))("%s runs, or is refused in one line", async (name) => {
    const answer = explore("run", "--env", hostile + name, ...short);
    if (fine.has(name)) expect(await answer).toContain("stepmix");
    else await expectRefused(answer, name);
  });

  it.each(names.filter((name) => name.startsWith("ep-")))("%s runs, or is refused in one line", async (name) => {
    for (const more of [[], ["--threshold", "0.5", "--bounds", "tight"]]) {
      const answer = explore("run", "--env", `${hostile}env-ok.json`, "--offline", hostile + name, ...more, ...short);
      if (fine.has(name)) expect(await answer).toContain("the data vouch");
      else await expectRefused(answer, name);
    }
  });

  it.each([
    "toString:a=1",
    "__proto__",
    "constructor",
    "hasOwnProperty:states=1",
    "random:__proto__=1",
    "random:toString=1",
    "random:states=1e9",
    "random:states=-1",
    "random:states=1.5",
    "random:states=0x10",
    "random:states= 5 ",
    "random:states=",
    "random:states=3,states=3",
    "random:states=3=4",
    "random:states=3:horizon=2",
    "random:",
    "random:seed=1e17",
    "random:horizon=1e12",
    "random:states=1e6,horizon=1e6",
    "riverswim:states=1e6,horizon=1e4",
    "streaming:levels=1e9",
    "chain:slip=2",
    "gridworld:map=5",
    "",
  ])("%j is refused in one line", async (env) => {
    await expectRefused(explore("run", "--env", env, ...short));
  });

  it.each<[string, () => unknown]>([
    ["states", () => randomMdp({ states: -1 })],
    ["states", () => riverSwim({ states: 1e9 })],
    ["horizon", () => chain({ horizon: 1e12 })],
    ["horizon", () => gridworld({ horizon: Number.NaN })],
    ["rows", () => randomMdp({ states: 1e5, actions: 100, horizon: 1 })],
    ["successors", () => randomMdp({ states: 5000, actions: 4, horizon: 1 })],
  ])("sizes are checked for callers of the library too (%s)", (name, create) => {
    expect(create).toThrow(ArgumentError);
    expect(create).toThrow(name);
  });

  it("deep JSON is refused before it is walked", async () => {
    const file = `${fixtures}environments/env-ok.json`;
    const deep = `${"[".repeat(1e5)}${"]".repeat(1e5)}`;
    const { transitions: _, ...rest } = JSON.parse(readFileSync(file, "utf8"));
    expect(() => mdpFromJson({ ...rest, transitions: JSON.parse(deep) })).toThrow(ArgumentError);
  });

  it("one changed value of a good file gives the file's MDP, or an ArgumentError", () => {
    const good = readFileSync(`${hostile}env-ok.json`, "utf8");
    const gym = readFileSync(`${fixtures}gymnasium/units.json`, "utf8");
    const value = fc.oneof(
      fc.constantFrom(null, "", "0.5", true, [], {}, [0.5], -1, 1e9, 1e308, 0.1, 2 ** 53, "__proto__"),
      fc.double(),
    );
    fc.assert(
      fc.property(fc.constantFrom(good, gym), fc.nat(1000), value, (text, at, wrong) => {
        const file = JSON.parse(text);
        // All places in the file, inner ones too.
        const places: [Record<string, unknown>, string][] = [];
        const walk = (node: unknown): void => {
          if (typeof node !== "object" || node === null) return;
          for (const key of Object.keys(node)) {
            places.push([node as Record<string, unknown>, key]);
            walk((node as Record<string, unknown>)[key]);
          }
        };
        walk(file);
        const [node, key] = places[at % places.length]!;
        node[key] = wrong;
        try {
          const mdp = mdpFromJson(file as MdpFile);
          expect(mdp.rewards.every((r) => r >= 0 && r <= 1)).toBe(true);
          expect(mdp.probabilities.every((p) => p > 0 && p <= 1 + 1e-9)).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(ArgumentError);
          expect((error as Error).message).not.toContain("\n");
        }
      }),
      { numRuns: 2000 },
    );
  });

  it.each([
    ["stationary", "yes"],
    ["rewardDraws", "none"],
    ["rewards", [[0, 1, 1], [0.5, 0.2, 1]]], // biome-ignore format: one row
    ["rewards", [[0, 1], [0.5, 0.2], [0, 0]]], // biome-ignore format: one row
    ["transitions", [[0, 0, 0, 1], [0, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1], [2, 0, 0, 1]]], // biome-ignore format: one row
  ])("%s of %j is not read over", (key, value) => {
    const file = JSON.parse(readFileSync(`${hostile}env-ok.json`, "utf8"));
    expect(() => mdpFromJson({ ...file, [key]: value })).toThrow(key);
  });

  it("options are read strictly", async () => {
    const env = ["--env", "random", ...short];
    for (const option of ["--episodes", "--seeds", "--workers", "--batch", "--lp-batch"]) {
      for (const value of ["0x10", " 5 ", "1e12", "-1", "2.5", ""]) {
        await expect(explore("run", ...env, option, value), `${option} ${value}`).rejects.toThrow(/whole number from/);
      }
    }
    await expectRefused(explore("run", ...env, "--baseline", `softmax:${"9".repeat(400)}`), "softmax:NUMBER");
    await expectRefused(explore("run", ...env, "--threshold", "0x1"), "0x1");
    await expectRefused(explore("run", ...env, "--threshold", "0x1xBASELINE"), "0x1xBASELINE");
    await expectRefused(explore("run", ...env, "--threshold=-1"), "between 0 and 3");
    await expect(explore("run", ...env, "--algorithms", "stepmix,stepmix")).rejects.toThrow(/there twice/);
  });
});

/** Value iteration on a Gymnasium table as it stands. */
function optimum({ P, initial, horizon }: GymnasiumTable): number {
  const states = Object.keys(P).length;
  let values = new Array<number>(states).fill(0);
  for (let h = 0; h < horizon!; h++) {
    values = values.map((_, s) =>
      Math.max(
        ...Object.values(P[s]!).map((list) => {
          const total = list.reduce((sum, [p]) => sum + p, 0);
          return list.reduce((sum, [p, next, r, done]) => sum + (p / total) * (r + (done ? 0 : values[next]!)), 0);
        }),
      ),
    );
  }
  return values[initial as number]!;
}

describe("a Gymnasium table", () => {
  const read = (name: string): GymnasiumTable => JSON.parse(readFileSync(`${fixtures}gymnasium/${name}.json`, "utf8"));
  const run = async (name: string, threshold: string) => {
    const args = ["--env", `${fixtures}gymnasium/${name}.json`, `--threshold=${threshold}`, ...short, "--json"];
    return JSON.parse(await explore("run", ...args));
  };

  it.each(["1", "3", "-7.5", "0.5xBASELINE"])("has the threshold %s and all values in its own units", async (given) => {
    const summary = await run("units", given);
    expect(optimum(read("units"))).toBeCloseTo(9.6875, 12);
    expect(summary.optimalValue).toBeCloseTo(9.6875, 9);
    // A share is of what the baseline earns above the least return, -50.
    const threshold = given.includes("x") ? -50 + 0.5 * (summary.baselineValue + 50) : Number(given);
    expect(summary.threshold).toBeCloseTo(threshold, 9);
    const [stepmix] = summary.algorithms;
    expect(stepmix.violations).toBe(0);
    expect(stepmix.regretMean).toBeCloseTo(20 * (9.6875 - summary.baselineValue), 6);
  });

  it("refuses thresholds that no return has, in its own units too", async () => {
    await expectRefused(run("units", "100.1"), "between -50 and 100");
    await expectRefused(run("units", "-50.1"), "between -50 and 100");
    await expectRefused(run("units", "9.7"), "below the threshold 9.7");
  });

  it("counts an episode below the bar as such, in its own units", async () => {
    const args = ["--env", `${fixtures}gymnasium/units.json`, "--episodes", "20", "--seeds", "1", "--workers", "0"];
    const more = ["--algorithms", "stepmix", "--threshold", "7", "--allow-unsafe-baseline", "--json"];
    const { algorithms, baselineValue } = JSON.parse(await explore("run", ...args, ...more));
    expect(baselineValue).toBeLessThan(7);
    expect(algorithms[0].violations).toBe(20);
  });

  it("converts both ways", () => {
    const mdp = mdpFromJson(read("units"));
    expect(toOwnUnits(mdp, optimalPlan(mdp).value)).toBeCloseTo(9.6875, 12);
    fc.assert(
      fc.property(fc.double({ min: -50, max: 100, noNaN: true }), (value) => {
        expect(toOwnUnits(mdp, fromOwnUnits(mdp, value))).toBeCloseTo(value, 9);
        expect(fromOwnUnits(mdp, value)).toBeCloseTo((value + 50) / 30, 9);
      }),
    );
  });

  it("may have probabilities rounded to float32: they are rescaled", async () => {
    const { P } = read("float32");
    const [[p], [q]] = P["0"]!["0"]! as unknown as [[number], [number]];
    expect(p + q).not.toBe(1);
    const mdp = mdpFromJson(read("float32"));
    // Both lead to state 0.
    expect(mdp.probabilities[0]).toBe(1);
    expect(mdp.rewards[0]).toBeCloseTo(q / (p + q), 15);
    const { optimalValue } = await run("float32", "1");
    expect(optimalValue).toBeCloseTo(optimum(read("float32")), 12);
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 1e-6, max: 1, noNaN: true }), { minLength: 1, maxLength: 50 }),
        (weights) => {
          const sum = weights.reduce((a, b) => a + b);
          const row = weights.map((w, i): [number, number, number, boolean] => [Math.fround(w / sum), i, 0, false]);
          const states = weights.map((_, i) => [String(i), { "0": i === 0 ? row : [[1, i, 0, false]] }]);
          const table = { P: Object.fromEntries(states), initial: 0, horizon: 1 } as GymnasiumTable;
          const { offsets, probabilities } = mdpFromJson(table);
          const total = probabilities.subarray(0, offsets[1]).reduce((a, b) => a + b, 0);
          expect(Math.abs(total - 1)).toBeLessThan(1e-9);
        },
      ),
    );
  });

  it("is refused if more than rounding is missing", () => {
    const table = read("float32");
    (table.P["0"]!["0"]![0] as unknown as number[])[0] = 0.099;
    expect(() => mdpFromJson(table)).toThrow(/P\[0\]\[0\] sum to|sum to 0.99/);
  });

  it("is refused if states differ in their actions", () => {
    const table = read("units") as { P: Record<string, Record<string, unknown>> };
    table.P["1"]!["2"] = [[1, 0, 0, false]];
    expect(() => mdpFromJson(table as unknown as GymnasiumTable)).toThrow("P[1] has 3 actions, but P[0] has 2");
  });

  it("reads data sets in its own units", () => {
    const mdp = mdpFromJson({ ...read("units"), horizon: 1 });
    const episode = (reward: number) => `{"states":[0,1],"actions":[0],"rewards":[${reward}]}`;
    const counts = readEpisodes(episode(-1), mdp);
    expect(counts.rewardSum[0]).toBeCloseTo((-1 + 10) / 30, 12);
    expect(() => readEpisodes(episode(-11), mdp)).toThrow("line 1: rewards[0] is -11");
  });
});

it("named environments are what their functions make", () => {
  expect(environment("riverswim:states=4,horizon=8")).toEqual(riverSwim({ states: 4, horizon: 8 }));
});
