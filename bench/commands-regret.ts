/** Exploration's experiments: `halfstep explore run`, environment by environment. */
import { type CommandBench, commandBench, list } from "./command.ts";
import { idOf, type Row } from "./result.ts";
import { type Column, formatted, numbers, type Table } from "./table.ts";

const algorithmNames: Readonly<Record<string, string>> = {
  stepmix: "StepMix",
  epsmix: "EpsMix",
  "bpi-ucbvi": "BPI-UCBVI",
  "conservative-ucbvi": "conservative UCBVI",
  "optpess-lp": "OptPess-LP",
  dope: "DOPE",
};

const environmentCell: Column = [
  "environment",
  (row, before) => {
    if (row["environment"] === before?.["environment"]) return "";
    const [threshold, baseline, optimum] = ["threshold", "baseline", "optimum"].map((key) => formatted(row[key], "4"));
    const scale = row["scale"] === 1 ? "" : `, scale ${row["scale"]}`;
    return `\`${row["environment"]}\`<br>threshold ${threshold}, baseline ${baseline}, optimum ${optimum}${scale}`;
  },
];

const algorithm: Column = ["algorithm", (row) => algorithmNames[String(row["algorithm"])]!];

const all: Table = {
  columns: [
    environmentCell,
    algorithm,
    ["regret (std)", (row) => `${formatted(row["regret"], "1,")} (${formatted(row["regretStd"], "1,")})`],
    numbers("beside BPI-UCBVI", "ratio", "2"),
    [
      "violations (seeds)",
      (row) => `${formatted(row["violations"], "0,")} (${row["violatingSeeds"]} of ${row["seeds"]})`,
    ],
    ["better", ({ better }) => (better === null ? "not in all" : formatted(better, "0,"))],
    numbers("final value", "finalValue", "4"),
  ],
};

interface Run {
  readonly env: string;
  readonly threshold?: string;
  readonly seeds: number;
  readonly scale?: string;
}

function regretBench(
  bench: Pick<CommandBench, "name" | "summary" | "time">,
  runs: readonly Run[],
  options: readonly string[],
  tables: Readonly<Record<string, Table>>,
) {
  return commandBench({
    ...bench,
    runs: runs.map(({ env, threshold = "0.95xBASELINE", seeds, scale }) => [
      ...["explore", "run", "--env", env, "--threshold", threshold, "--episodes", "20000", "--seeds", String(seeds)],
      ...(scale === undefined ? [] : ["--bonus-scale", scale]),
      ...options,
    ]),
    rows: (printed, i): Row[] => {
      const rows = list(printed, "algorithms");
      const least = rows.find((row) => row["algorithm"] === "bpi-ucbvi")!["regretMean"] as number;
      const environment = runs[i]!.env;
      return rows.map((row) => ({
        id: idOf(environment.split(":")[0]!, String(row["algorithm"])),
        environment,
        algorithm: row["algorithm"]!,
        threshold: printed["threshold"]!,
        baseline: printed["baselineValue"]!,
        optimum: printed["optimalValue"]!,
        scale: printed["bonusScale"]!,
        regret: row["regretMean"]!,
        regretStd: row["regretStd"]!,
        ratio: (row["regretMean"] as number) / least,
        violations: row["violations"]!,
        violatingSeeds: row["violatingSeeds"]!,
        seeds: row["seeds"]!,
        better: row["firstImprovedEpisode"] ?? null,
        finalValue: row["finalValueMean"]!,
      }));
    },
    tables,
  });
}

const riverswim = "riverswim:states=3,horizon=4";
const streaming = "streaming:horizon=5,levels=4";
const gridworld = { env: "gridworld:horizon=8", threshold: "0.8xBASELINE" };
const conservative = ["--algorithms", "stepmix,epsmix,bpi-ucbvi,conservative-ucbvi"];
const sixAlgorithms = [
  "--algorithms",
  "stepmix,epsmix,bpi-ucbvi,conservative-ucbvi,optpess-lp,dope",
  "--lp-batch",
  "1000",
];

export const regretTight = regretBench(
  {
    name: "regret",
    summary: "StepMix and EpsMix beside others with bounds tight at scale 1: regret, and episodes below the bar",
    time: "1 h",
  },
  [
    { env: "random", seeds: 400 },
    { env: riverswim, seeds: 100 },
    { env: streaming, seeds: 100 },
    { ...gridworld, seeds: 10 },
  ],
  ["--bounds", "tight", ...conservative],
  {
    all,
  },
);

export const regretPaper = regretBench(
  {
    name: "regret-paper",
    summary: "the same with the paper's bounds, at scales where the baseline is left",
    time: "1 h",
  },
  [
    { env: "random", seeds: 100, scale: "0.001" },
    { env: riverswim, seeds: 100, scale: "0.001" },
    { env: streaming, seeds: 100, scale: "0.003" },
  ],
  ["--bounds", "paper"],
  { all },
);

export const regretSix = regretBench(
  {
    name: "regret-six",
    summary: "all six algorithms, two of which solve a linear program for every policy (needs highs)",
    time: "3 h",
  },
  [
    { env: "random", seeds: 3, scale: "0.001" },
    { env: riverswim, seeds: 3, scale: "0.001" },
    { ...gridworld, seeds: 3, scale: "6e-05" },
  ],
  ["--bounds", "paper", ...sixAlgorithms],
  { all },
);
