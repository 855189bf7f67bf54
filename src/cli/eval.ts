import { Command } from "commander";
import { platform } from "#platform";
import { type Evaluation, evaluate, type Scores } from "../metrics/evaluate.ts";
import { Judge } from "../metrics/judge.ts";
import { TextToImagePipeline } from "../pipelines/text-to-image.ts";
import { releaseAll } from "../runtime/open-all.ts";
import type { GuidanceInterval } from "../sampling/guidance.ts";
import { describeOwnScores, type JudgeOptions, OwnJudges, type OwnScores } from "./eval-judges.ts";
import { printResult } from "./json.ts";
import { countBetween } from "./numbers.ts";
import {
  addOptions,
  deviceOf,
  deviceOptions,
  guidanceIntervalOption,
  type LoadingOptions,
  loadingOf,
  outputOptions,
  type SamplerOptions,
  samplerOf,
  samplerOptions,
  solverSettings,
  stepCount,
} from "./options.ts";
import { interruptible, ProgressBar, print, showStatus } from "./terminal.ts";

interface EvalOptions extends JudgeOptions, Omit<LoadingOptions, "model">, SamplerOptions {
  samples: number;
  seed: number;
  guidanceInterval?: GuidanceInterval;
  batch: number;
  json?: boolean;
  quiet?: boolean;
}

export const distanceNote =
  "fdData is a Fréchet distance of emoji-align's features to those of all real pictures. It is not comparable with " +
  "published FIDs, which are of another network's features.";

export function evalCommand(): Command {
  const command = new Command("eval")
    .description("measure the pictures that a text-to-image model makes, beside the best that they could be")
    .argument("[model]", "embedded model, folder in diffusers' layout, or Hub id", "fluent-emoji")
    .option("--samples <n>", "pictures, each of another caption", countBetween(2, 100_000), 512);
  addOptions(command, samplerOptions(20, "how closely to follow the prompt; 1 turns guidance off (the model's own)", 0))
    .addOption(guidanceIntervalOption())
    .option("--batch <n>", "pictures that are made together", countBetween(1, 1024), 8)
    .option("--clip <name>", "CLIP score too, with this CLIPModel: folder or Hub id (openai/clip-vit-base-patch32)")
    .option("--inception <name>", "FID too: folder with pytorch-fid's weights as model.safetensors")
    .option("--real <folder>", "pictures that FID holds the model's against");
  return addOptions(command, [...deviceOptions(), ...outputOptions("the figures", { force: false })]).action(run);
}

async function run(model: string, options: EvalOptions): Promise<void> {
  await interruptible("not all pictures were made, so there are no figures.", (signal) =>
    evaluateModel(model, options, signal),
  );
}

async function evaluateModel(model: string, options: EvalOptions, signal: AbortSignal): Promise<void> {
  const started = performance.now();
  showStatus(`loading ${model}`);
  const { samples, seed, batch } = options;
  const session = deviceOf(options);
  const bar = new ProgressBar("{bar} {value}/{total} pictures, {eta_formatted} left");
  try {
    const own = await OwnJudges.open(options, session, signal);
    const pipe = await TextToImagePipeline.fromPretrained(model, { ...loadingOf(options), signal });
    const { guidance: guidanceScale = pipe.guidanceScale, guidanceInterval = pipe.guidanceInterval } = options;
    const judge = await Judge.open(await platform.resolveModel("emoji-align"), platform.runtime, session);
    const result = await evaluate(pipe, judge, {
      samples,
      ...samplerOf(options),
      ...{ guidanceScale, guidanceInterval, batch },
      signal,
      onProgress: ({ done, total }) => bar.show(done, total),
      onPictures: own.see,
    });
    bar.stop();
    const scores: OwnScores = own.scores();
    const seconds = +((performance.now() - started) / 1000).toFixed(1);
    if (options.json) {
      const settings = {
        model,
        ...solverSettings(options, pipe.schedulerConfig),
        guidanceScale,
        guidanceInterval,
        seed,
      };
      await printResult("eval", { ...result, ...scores, ...settings, seconds, note: distanceNote });
    } else {
      await print(table(model, result));
      await print(
        `\n${samples} pictures, ${stepCount(options, 0)} steps, guidance ${guidanceScale} in ${guidanceInterval.join(" to ")} of them, seed ${seed}, ${seconds} s.`,
      );
      await print([distanceNote, ...describeOwnScores(scores, samples)].join("\n"));
    }
    await releaseAll([pipe, judge, own]);
  } finally {
    bar.stop();
  }
}

/** The three rows, in columns. */
function table(model: string, { real, roundTrip, ...scores }: Evaluation): string {
  const digits = (value: number) => value.toFixed(4);
  const row = (name: string, { fdData, alignment, retrievalTop1, retrievalTop5 }: Scores) => [
    name,
    ...[fdData, alignment, retrievalTop1, retrievalTop5].map(digits),
  ];
  const lines = [
    ["", "fdData", "alignment", "retrievalTop1", "retrievalTop5"],
    row(model, scores),
    row("autoencoder round trip", roundTrip),
    row("real pictures", real),
  ];
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  return lines
    .map((line) => line.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  "))
    .join("\n");
}
