/** Images of the embedded model: Inner Loop Feedback beside its rivals, and what `halfstep eval` says. */
import { commandBench, list, type Printed, pick } from "./command.ts";
import { idOf, type Row } from "./result.ts";
import { type Column, formatted, numbers, words } from "./table.ts";

const scores = ["fullSteps", "secondsPerImage", "speedup", "fdData", "fdReference", "psnr", "ssim", "alignment"];

/** "11 full steps" is another number after another run: it is always the row "fewer". */
function modeId(mode: string, i: number): string {
  if (i === 0) return "full";
  if (mode === "50 full steps") return "full-50";
  return /^\d+ full steps$/.test(mode) ? "fewer" : idOf(mode);
}

const methodNames: Readonly<Record<string, string>> = {
  ilf: "**Inner Loop Feedback**, 8 of 20 steps full",
  cache: "plain caching, on the same steps",
  "first-block": "first-block cache",
  easycache: "EasyCache",
  taylorseer: "TaylorSeer, order 4 as published",
  "taylorseer-order-1": "TaylorSeer, order 1",
  "ilf-fifiiiifiiiifiiiifii": "Inner Loop Feedback, 5 of 20 steps full",
};

/** Of all steps in full it is the largest value that the command gives, and says nothing. */
const psnr: Column = ["PSNR to 20 full steps", (row) => (row.id === "full" ? "" : `${formatted(row["psnr"], "1")} dB`)];
const speedup = numbers("speed-up", "speedup", "2", "x");

export const ilf = commandBench({
  name: "ilf",
  summary: "Inner Loop Feedback beside fewer steps and training-free caches, in the same time",
  time: "20 min",
  runs: [["bench", "ilf", "--also", "fifiiiifiiiifiiiifii"]],
  rows: (printed) =>
    list(printed, "rows").map((row, i) => ({
      id: modeId(String(row["mode"]), i),
      mode: row["mode"]!,
      ...pick(row, ...scores, "intervals", "settings"),
    })),
  tables: {
    all: {
      columns: [
        words("", "mode", methodNames),
        numbers("full steps", "fullSteps", "1"),
        speedup,
        psnr,
        numbers("Fréchet distance to the data", "fdData", "4"),
        numbers("to images of 50 steps", "fdReference", "5"),
        numbers("alignment", "alignment", "4"),
      ],
    },
  },
});

const networks: Readonly<Record<string, string>> = {
  "dit-xl-2": "DiT-XL/2 (256 pixels)",
  "pixart-xl-2-512": "PixArt-XL-2 (512 pixels, 120 tokens)",
};

/** These commands print one object each. */
const geometryRow = (printed: Printed, ...keys: string[]): Row[] => {
  const geometry = String(printed["geometry"]);
  return [{ id: idOf(geometry), geometry, ...pick(printed, ...keys) }];
};

export const ilfSizes = commandBench({
  name: "ilf-sizes",
  summary:
    "the time of full and inner steps at published sizes, with random weights (writes 3 GB to the temporary folder)",
  time: "10 min",
  runs: Object.keys(networks).map((name) => ["bench", "ilf", "--geometry", name]),
  rows: (printed) => geometryRow(printed, "steps", "fullSteps", "wholeMs", "fullMs", "innerMs", "speedup", "rounds"),
  tables: {
    all: {
      columns: [
        words("network", "geometry", networks),
        numbers("whole step", "wholeMs", "0,", " ms"),
        numbers("full step in parts", "fullMs", "0,", " ms"),
        numbers("inner step", "innerMs", "0,", " ms"),
        numbers("20 steps, 8 of them full", "speedup", "2", "x"),
      ],
    },
  },
});

export const ilfTraining = commandBench({
  name: "ilf-training",
  summary: "one update of a feedback module of DiT-XL/2's size: time and memory",
  time: "2 min",
  runs: [["bench", "ilf", "--geometry", "dit-xl-2", "--train"]],
  rows: (printed) => geometryRow(printed, "parameters", "milliseconds", "peakMemory"),
  tables: {
    all: {
      columns: [
        words("network", "geometry", networks),
        ["parameters that learn", ({ parameters }) => `${(Number(parameters) / 1e6).toFixed(1)} M`],
        numbers("one update, one image with guidance", "milliseconds", "2k", " s"),
        numbers("most memory", "peakMemory", "1G", " GB"),
      ],
    },
  },
});

const judged = ["fdData", "alignment", "retrievalTop1", "retrievalTop5"];
const judgedColumns: readonly Column[] = [
  numbers("fdData", "fdData", "3"),
  numbers("alignment", "alignment", "3"),
  numbers("retrieval top-1", "retrievalTop1", "3"),
  numbers("top-5", "retrievalTop5", "3"),
];

export const evaluation = commandBench({
  name: "eval",
  summary: "how good the embedded model's images are, beside real ones",
  time: "5 min",
  runs: [
    ["eval", "fluent-emoji"],
    ["eval", "fluent-emoji", "--guidance", "4.5"],
  ],
  rows: (printed, run) => {
    const row = (id: string, name: string, from: Printed): Row => ({ id, name, ...pick(from, ...judged) });
    const model = row(
      `guidance-${idOf(String(printed["guidanceScale"]))}`,
      `guidance ${printed["guidanceScale"]}`,
      printed,
    );
    if (run > 0) return [model];
    const ceilings = (["roundTrip", "real"] as const).map((key) =>
      row(idOf(key), key === "real" ? "real images" : "autoencoder round trip", printed[key] as Printed),
    );
    return [model, ...ceilings];
  },
  tables: {
    all: {
      columns: [
        words("", "name", {
          "guidance-3": "`fluent-emoji`, guidance scale 3 (its default)",
          "guidance-4-5": "`fluent-emoji`, guidance scale 4.5",
        }),
        ...judgedColumns,
      ],
    },
  },
});

const intervals = ["0:1", "0.05:1", "0.1:1", "0.15:1"];

export const guidance = commandBench({
  name: "guidance",
  summary: "what the embedded model's images gain where guidance begins later",
  time: "10 min",
  runs: intervals.map((interval) => ["eval", "fluent-emoji", "--guidance-interval", interval, "--seed", "10000"]),
  rows: (printed, run) => [{ id: idOf(intervals[run]!), interval: intervals[run]!, ...pick(printed, ...judged) }],
  tables: {
    all: {
      columns: [
        words("guidance in", "interval", { "0-1": "all steps (as it ships)" }),
        numbers("fdData", "fdData", "4"),
        numbers("alignment", "alignment", "4"),
        numbers("top-1", "retrievalTop1", "3"),
        numbers("top-5", "retrievalTop5", "3"),
      ],
    },
  },
});
