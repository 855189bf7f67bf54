/** Plots of an experiment: cumulative regret, value per episode, share of baseline play, with intervals over seeds. */
import { basename, join } from "node:path";
import type { Experiment } from "../../exploration/experiment.ts";
import { toOwnUnits } from "../../exploration/mdp/mdp.ts";
import { byAlgorithm } from "../../exploration/summary.ts";
import type { Stretch, TrialResult } from "../../exploration/trial.ts";
import { writePlot } from "../plot.ts";

interface Point {
  readonly algorithm: string;
  readonly episode: number;
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

type Quantity = "regret" | "value" | "share";
const titles: Record<Quantity, string> = {
  regret: "cumulative regret",
  value: "value of the policy played",
  share: "share of baseline steps",
};

/** A quantity of one trial at increasing episodes; the value and share of an episode, the regret up to and with it. */
export function sample(
  stretches: readonly Stretch[],
  episodes: readonly number[],
  quantity: Quantity,
  best: number,
): number[] {
  let [i, before] = [0, 0];
  return episodes.map((episode) => {
    while (i + 1 < stretches.length && stretches[i + 1]!.episode < episode) {
      before += stretches[i]!.count * (best - stretches[i]!.value);
      i++;
    }
    const { value, baselineShare, episode: start } = stretches[i]!;
    if (quantity === "value") return value;
    return quantity === "share" ? baselineShare : before + (episode - start) * (best - value);
  });
}

/** Mean and the middle 90% over seeds, at about 120 episodes. */
export function curves(
  trials: readonly TrialResult[],
  { settings, optimalValue, mdp }: Experiment,
  quantity: Quantity,
): Point[] {
  const count = Math.min(120, settings.episodes);
  const episodes = Array.from({ length: count }, (_, i) => Math.round(((i + 1) * settings.episodes) / count));
  return [...byAlgorithm(trials)].flatMap(([algorithm, list]) => {
    const own = (value: number) => {
      if (quantity === "share") return value;
      return quantity === "value" ? toOwnUnits(mdp, value) : (mdp.units?.scale ?? 1) * value;
    };
    const rows = list.map(({ stretches }) => sample(stretches, episodes, quantity, optimalValue).map(own));
    return episodes.map((episode, i): Point => {
      const sorted = rows.map((row) => row[i]!).sort((a, b) => a - b);
      const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))]!;
      const mean = sorted.reduce((a, b) => a + b) / sorted.length;
      return { algorithm, episode, mean, low: at(0.05), high: at(0.95) };
    });
  });
}

/** Writes regret, value and share as SVG and PNG, and returns the file names. */
export async function writePlots(
  trials: readonly TrialResult[],
  experiment: Experiment,
  folder: string,
): Promise<string[]> {
  const files: string[] = [];
  for (const quantity of ["regret", "value", "share"] as const) {
    const x = { field: "episode", type: "quantitative" as const, title: "episode" };
    const y = (field: string) => ({
      field,
      type: "quantitative" as const,
      title: titles[quantity],
      scale: { zero: quantity !== "value" },
    });
    const color = {
      field: "algorithm",
      type: "nominal" as const,
      title: null,
      legend: { orient: "top" as const, symbolOpacity: 1 },
    };
    const lines = [
      { name: "optimum", value: experiment.own.optimum },
      { name: "baseline", value: experiment.own.baseline },
      { name: "threshold", value: experiment.own.threshold },
    ];
    const levels = {
      data: { values: lines },
      layer: [
        {
          mark: { type: "rule" as const, strokeDash: [4, 4], color: "#555" },
          encoding: { y: { field: "value", type: "quantitative" as const } },
        },
        {
          mark: { type: "text" as const, align: "left" as const, dx: 4, x: 520, color: "#555" },
          encoding: { y: { field: "value", type: "quantitative" as const }, text: { field: "name" } },
        },
      ],
    };
    const written = await writePlot(join(folder, quantity), {
      width: 520,
      height: 300,
      background: "white",
      config: { font: "DejaVu Sans, Arial, sans-serif" },
      data: { values: curves(trials, experiment, quantity) },
      layer: [
        { mark: { type: "area", opacity: 0.2 }, encoding: { x, y: y("low"), y2: { field: "high" }, color } },
        { mark: { type: "line" }, encoding: { x, y: y("mean"), color } },
        ...(quantity === "value" ? [levels] : []),
      ],
    });
    files.push(...written.map((file) => basename(file)));
  }
  return files;
}
