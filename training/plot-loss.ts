/**
 * The loss curve of the embedded model's training, from the logs that are kept in training/curves/.
 * `npx tsx training/plot-loss.ts`, after `cp training/runs/transformer/log.jsonl training/curves/transformer.jsonl`
 */
import { readFile, writeFile } from "node:fs/promises";
import * as vega from "vega";
import { compile, type TopLevelSpec } from "vega-lite";

interface Line {
  step: number;
  loss: number;
  /** The autoencoder's. */
  psnr?: number;
}

const read = async (file: string) =>
  (await readFile(`training/curves/${file}.jsonl`, "utf8"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);

async function plot(values: Line[], field: "loss" | "psnr", title: string, out: string): Promise<void> {
  const spec: TopLevelSpec = {
    title,
    width: 560,
    height: 220,
    background: "white",
    data: { values },
    mark: { type: "line", strokeWidth: 1.5 },
    encoding: {
      x: { field: "step", type: "quantitative" },
      y: { field, type: "quantitative", scale: { zero: false } },
      // A run that was taken back to an earlier step goes on as a line of its own.
      detail: { field: "run" },
      color: { field: "run", type: "nominal", legend: null },
    },
  };
  const view = new vega.View(vega.parse(compile(spec).spec), { renderer: "none" });
  await writeFile(out, await view.toSVG());
  view.finalize();
}

/** Numbers the stretches between which the step went back. */
function withRuns(lines: Line[]): (Line & { run: number })[] {
  let run = 0;
  return lines.map((line, i) => {
    if (i > 0 && line.step <= lines[i - 1]!.step) run++;
    return { ...line, run };
  });
}

await plot(
  withRuns(await read("transformer")),
  "loss",
  "Transformer: loss (from step 4,000 with more of the noisiest timesteps)",
  "docs/figures/training-transformer.svg",
);
await plot(
  withRuns(await read("vae")),
  "psnr",
  "Autoencoder: PSNR of augmented training pictures, dB",
  "docs/figures/training-vae.svg",
);
